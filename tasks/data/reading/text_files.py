"""Text files: opening, decompressing (gzip, xz) and decoding UTF-8 (RFC 3629).

A line ends at LF. Other line separators in a text (a single CR, U+2028, ...) are kept.
"""

import difflib
import gzip
import io
import lzma
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ....core.errors import HeadwayError
from ..places import shorten

GZIP_MAGIC = b"\x1f\x8b"
XZ_MAGIC = b"\xfd7zXZ\x00"
COMPRESSED_SUFFIXES = (".gz", ".xz")

# (magic number, what the file is, how to get text out of it) of binary files that are often passed by mistake.
BINARY_FILES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a spreadsheet or zip archive", "Save the sheet as CSV (UTF-8), or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save it as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file", "Rename it so that its name ends in .parquet"),
    (b"%PDF", "a PDF", "Copy its text into a CSV file"),
    (b"\x89PNG", "a PNG image", "Give a file that contains text"),
    (b"\xff\xd8\xff", "a JPEG image", "Give a file that contains text"),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV"),
    (b"\xff\xfe", "text in UTF-16", "Save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
    (b"\xfe\xff", "text in UTF-16", "Save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
)

# The sample from which formats, headers and columns are inferred.
SAMPLE_LINES = 1000
SAMPLE_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The first lines of a file, without line breaks."""

    lines: list[str]
    whole: bool  # whether the file has no further lines

    @property
    def filled_lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.lines if line.strip()]


def uncompressed_suffix(path: Path) -> str:
    """The suffix of a file name in lower case, without .gz or .xz: ".csv" for "train.CSV.gz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def require_file(path: Path) -> None:
    """Checks that a path is a regular file.

    Raises:
        HeadwayError: It is not; the message suggests the file with the most similar name.
    """
    if path.is_file():
        return
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        content = f"The folder contains {shorten(', '.join(names), 120)}." if names else "The folder is empty."
        raise HeadwayError(f"{path}: a folder that is not a saved data set. Give a file. {content}")
    if path.exists():
        raise HeadwayError(f"{path}: not a regular file. Save the data to a file and give its name.")
    folder = path.parent
    if not folder.is_dir():
        raise HeadwayError(f"{path}: no such file: there is no folder {folder}. Check the path.")
    similar = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    if similar:
        raise HeadwayError(f"{path}: no such file. Did you mean {folder / similar[0]}?")
    hub = "" if path.suffix else f" For a data set of the Hugging Face Hub, write hub:{path}."
    raise HeadwayError(f"{path}: no such file. Check the path.{hub}")


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file for reading; its first bytes, not its name, tell whether it is compressed."""
    try:
        with path.open("rb") as file:
            head = file.read(len(XZ_MAGIC))
    except PermissionError as error:
        raise HeadwayError(f"{path}: cannot be read ({error.strerror}). Change the file's permissions.") from error
    opener = gzip.open if head.startswith(GZIP_MAGIC) else lzma.open if head == XZ_MAGIC else open
    try:
        with opener(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise HeadwayError(
            f"{path}: the compressed file is corrupt or truncated ({error}). Download or compress it again."
        ) from error


def require_text(path: Path) -> None:
    """Checks the first bytes of a file.

    Raises:
        HeadwayError: The file is binary or empty.
    """
    with open_bytes(path) as file:
        head = file.read(1 << 13)
    if not head.removeprefix(b"\xef\xbb\xbf").strip() and not any(line.strip() for line in read_lines(path)):
        raise HeadwayError(f"{path}: the file is empty. Give a file with at least one row.")
    for magic, what, fix in BINARY_FILES:
        if head.startswith(magic):
            raise HeadwayError(f"{path}: this is {what}, not a text file. {fix}.")
    if b"\0" in head:
        line = head[: head.index(b"\0")].count(b"\n") + 1
        raise _binary_error(path, line)


def _binary_error(path: Path, line: int) -> HeadwayError:
    return HeadwayError(
        f"{path}, line {line}: a NUL byte, so this is not a text file (or it is in UTF-16 or UTF-32). "
        "Save it as CSV or as plain text, in UTF-8."
    )


def read_lines(path: Path) -> Generator[str, None, None]:
    """The lines of a UTF-8 file, each with its line break, without the byte-order mark.

    Raises:
        HeadwayError: A line is not UTF-8 or contains a NUL byte, or the compressed file is corrupt.
    """
    with open_bytes(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise HeadwayError(
                    f"{path}, line {number}: not UTF-8 (byte 0x{raw[error.start]:02X} at byte {error.start + 1} "
                    'of the line). Save the file as UTF-8 ("CSV UTF-8" in a spreadsheet), for example with: '
                    f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > new-{path.name} (Chinese: -f GB18030)"
                ) from error
            if "\0" in line:
                raise _binary_error(path, number)
            yield line.removeprefix("\ufeff") if number == 1 else line


def read_sample(path: Path) -> Sample:
    """The first lines of a text file: at most SAMPLE_LINES, and no further line after SAMPLE_CHARACTERS."""
    sample: list[str] = []
    characters = 0
    with closing(read_lines(path)) as lines:
        for line in islice(lines, SAMPLE_LINES):
            sample.append(line.rstrip("\r\n"))
            characters += len(line)
            if characters > SAMPLE_CHARACTERS:
                break
        whole = next(lines, None) is None
    return Sample(sample, whole)

"""Text files: opening, decompressing (gzip, xz) and decoding.

A line ends at LF. Other line separators in a text (a single CR, U+2028, ...) are kept.
"""

import codecs
import difflib
import gzip
import io
import lzma
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ....core.errors import HeadwayError
from ..places import shorten
from .encodings import NAMES, Encoding, detect_encoding, given_encoding
from .limits import LimitedReader, check_line, limited_lines

GZIP_MAGIC = b"\x1f\x8b"
XZ_MAGIC = b"\xfd7zXZ\x00"
COMPRESSED_SUFFIXES = (".gz", ".xz")

# (magic number, what the file is, how to get text out of it) of binary files that are often passed by mistake.
BINARY_FILES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive or another spreadsheet than .xlsx", "Unpack it, or save the sheet as .xlsx or CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file, or one with a password", "Save it as .xlsx or CSV"),
    (b"PAR1", "a Parquet file", "Rename it so that its name ends in .parquet"),
    (b"%PDF", "a PDF", "Copy its text into a CSV file"),
    (b"\x89PNG", "a PNG image", "Give a file that contains text"),
    (b"\xff\xd8\xff", "a JPEG image", "Give a file that contains text"),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV"),
)

# The sample from which formats, headers and columns are inferred.
HEAD_BYTES = 1 << 24  # read to detect the encoding
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
    hub = "" if path.suffix else f" For a data set of the Hugging Face Hub, write hub:{path.as_posix()}."
    raise HeadwayError(f"{path}: no such file. Check the path.{hub}")


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file for reading; its first bytes, not its name, tell whether it is compressed.

    Raises:
        HeadwayError: It may not be read, is corrupt, or expands to far more than text would.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(XZ_MAGIC))
    except PermissionError as error:
        raise HeadwayError(f"{path}: cannot be read ({error.strerror}). Change the file's permissions.") from error
    opener = gzip.open if head.startswith(GZIP_MAGIC) else lzma.open if head == XZ_MAGIC else None
    try:
        if opener is None:
            with path.open("rb") as file:
                yield file
        else:
            with opener(path, "rb") as file:
                yield io.BufferedReader(LimitedReader(path, path.stat().st_size, file), 1 << 16)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise HeadwayError(
            f"{path}: the compressed file is corrupt or truncated ({error}). Download or compress it again."
        ) from error


def find_encoding(path: Path, given: str | None) -> Encoding:
    """The encoding of a text file, from its first HEAD_BYTES.

    Args:
        path: The file.
        given: The encoding that the user chose; None to detect it.

    Raises:
        HeadwayError: The file is binary or empty, in an unknown encoding, or there is no encoding called `given`.
    """
    with open_bytes(path) as file:
        head = file.read(HEAD_BYTES)
        whole = not file.read(1)
    if not whole:
        head = head[: head.rindex(b"\n") + 1] if b"\n" in head else head.rstrip(bytes(range(0x80, 0x100)))
    if given is None:
        for magic, what, fix in BINARY_FILES:
            if head.startswith(magic):
                raise HeadwayError(f"{path}: this is {what}, not a text file. {fix}.")
    encoding = detect_encoding(head) if given is None else given_encoding(given)
    if encoding is None and b"\0" in head:
        raise _binary_error(path, head[: head.index(b"\0")].count(b"\n") + 1)
    if encoding is None:
        raise HeadwayError(f"{path}: the character encoding is not recognized. Give it with --encoding NAME.")
    if not head.strip() or not any(line.strip() for line in read_lines(path, encoding)):
        raise HeadwayError(f"{path}: the file is empty. Give a file with at least one row.")
    return encoding


def _binary_error(path: Path, line: int) -> HeadwayError:
    return HeadwayError(
        f"{path}, line {line}: a NUL byte, so this is not a text file. Save it as CSV or as plain text, in UTF-8."
    )


def read_lines(path: Path, encoding: Encoding) -> Generator[str, None, None]:
    """The lines of a text file, each with its line break, without the byte-order mark.

    Raises:
        HeadwayError: A line is too long, is not in this encoding or contains a NUL byte, or the compressed file is
            corrupt.
    """
    with open_bytes(path) as file:
        lines = _wide_lines if encoding.is_wide else _decoded_lines
        for number, line in enumerate(lines(path, file, encoding.name), start=1):
            if "\0" in line:
                raise _binary_error(path, number)
            yield line.removeprefix("\ufeff") if number == 1 else line


def _decoded_lines(path: Path, file: io.BufferedIOBase, encoding: str) -> Iterator[str]:
    """Lines of an encoding in which the byte of LF is always a line break."""
    encoding = encoding.removesuffix("-sig")
    for number, raw in enumerate(limited_lines(path, file), start=1):
        try:
            yield raw.decode(encoding)
        except UnicodeDecodeError as error:
            where = f"byte 0x{raw[error.start]:02X} at byte {error.start + 1} of the line"
            raise _decode_error(path, number, encoding, where) from error


def _wide_lines(path: Path, file: io.BufferedIOBase, encoding: str) -> Iterator[str]:
    """Lines of UTF-16 or UTF-32."""
    decoder = codecs.getincrementaldecoder(encoding)()
    number, rest, last = 0, "", False
    while not last:
        raw = file.read(1 << 16)
        last = not raw
        try:
            *lines, rest = (rest + decoder.decode(raw, last)).split("\n")
        except UnicodeDecodeError as error:
            raise _decode_error(path, number + 1, encoding, f"{error.reason}, here or below") from error
        for line in lines:
            yield f"{line}\n"
        number += len(lines)
        check_line(path, number + 1, len(rest))
    if rest:
        yield rest


def _decode_error(path: Path, line: int, encoding: str, what: str) -> HeadwayError:
    name = NAMES.get(encoding, encoding.upper())
    return HeadwayError(
        f"{path}, line {line}: not {name} ({what}). Correct the line, or give the encoding of the file: "
        "--encoding cp1252 for Western European text from Windows, gb18030 for Chinese, ..."
    )


def read_sample(lines: Generator[str, None, None]) -> Sample:
    """The first lines of a text file: SAMPLE_LINES from the first one that is not blank, up to SAMPLE_CHARACTERS."""
    sample: list[str] = []
    number = characters = 0
    with closing(lines):
        for line in lines:
            sample.append(line.rstrip("\r\n"))
            number += bool(number or line.strip())
            characters += len(line)
            if number == SAMPLE_LINES or characters > SAMPLE_CHARACTERS:
                break
        whole = next(lines, None) is None
    return Sample(sample, whole)

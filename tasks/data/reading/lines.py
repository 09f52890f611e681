"""A person's file as bytes -> its lines as text: found, opened, decompressed, decoded as UTF-8 (RFC 3629).

Whatever stops that (no such file, a spreadsheet, an image, another encoding, a broken archive) is said once, with
the place and the way out. Lines end at LF; what else a text holds (a lone CR, U+2028, ...) stays in it untouched.
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

GZIP = b"\x1f\x8b"
XZ = b"\xfd7zXZ\x00"

# How the files begin that people give by mistake, what they are, and how to get text out of them.
MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a spreadsheet or zip archive", "Save the sheet as CSV (UTF-8), or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save it as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file", "Let its name end in .parquet"),
    (b"%PDF", "a PDF", "Copy its text into a CSV file"),
    (b"\x89PNG", "a PNG image", "Give a file that holds text"),
    (b"\xff\xd8\xff", "a JPEG image", "Give a file that holds text"),
    (b"SQLite format 3", "an SQLite data base", "Export the table as CSV"),
    (b"\xff\xfe", "text in UTF-16", "Save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
    (b"\xfe\xff", "text in UTF-16", "Save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
)

# A sample is what formats, headers and columns are told from: enough to see, little enough to hold in memory.
SAMPLE_LINES = 1000
SAMPLE_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The first lines of a file, without their line breaks, and whether these are all."""

    lines: list[str]
    whole: bool


def find_file(path: Path) -> None:
    """Raises HeadwayError unless `path` is a file, with the nearest name in its folder as a suggestion."""
    if path.is_file():
        return
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        holds = f"It holds {shorten(', '.join(names), 120)}: name one of them." if names else "It is empty."
        raise HeadwayError(f"{path}: a folder that is no data set. Give a file. {holds}")
    if path.exists():
        raise HeadwayError(f"{path}: not a regular file. Save the data as a file and give its name.")
    folder = path.parent
    if not folder.is_dir():
        raise HeadwayError(f"{path}: no such file, and no folder {folder} either. Check the path.")
    near = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    if near:
        raise HeadwayError(f"{path}: no such file. Did you mean {folder / near[0]}?")
    hub = "" if path.suffix else f" A data set of the Hugging Face Hub is written hub:{path}."
    raise HeadwayError(f"{path}: no such file. Check the path.{hub}")


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file for reading, through gzip or xz where its first bytes say so, whatever its name."""
    try:
        with path.open("rb") as file:
            head = file.read(len(XZ))
    except PermissionError as error:
        raise HeadwayError(f"{path}: may not be read ({error.strerror}). Change its permissions.") from error
    opener = gzip.open if head.startswith(GZIP) else lzma.open if head == XZ else open
    try:
        with opener(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise HeadwayError(
            f"{path}: the compressed file is broken or cut short ({error}). Fetch or compress it again."
        ) from error


def refuse_binary(path: Path) -> None:
    """Raises HeadwayError if the first bytes are not those of a text file that holds something."""
    with open_bytes(path) as file:
        head = file.read(1 << 13)
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        rest_is_blank = not any(line.strip() for line in read_lines(path))
        if rest_is_blank:
            raise HeadwayError(f"{path}: the file is empty. Give a file with at least one row.")
    for magic, what, mend in MAGIC:
        if head.startswith(magic):
            raise HeadwayError(f"{path}: this is {what}, not text that can be read as it is. {mend}.")
    if b"\0" in head:
        line = head[: head.index(b"\0")].count(b"\n") + 1
        raise binary_error(path, line)


def binary_error(path: Path, line: int) -> HeadwayError:
    """The error for a NUL byte, which no text holds."""
    return HeadwayError(
        f"{path}, line {line}: a NUL byte, so this is no text file (or text in UTF-16 or UTF-32). "
        "Save it as CSV or as text, in UTF-8."
    )


def read_lines(path: Path) -> Generator[str, None, None]:
    """The lines of a UTF-8 text file one by one, each with its line break; a byte-order mark is taken off.

    Raises:
        HeadwayError: a line is not UTF-8 or holds a NUL byte, or the file is a broken archive.
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
                raise binary_error(path, number)
            yield line.removeprefix("\ufeff") if number == 1 else line


def take_sample(path: Path) -> Sample:
    """The first lines of a text file, at most SAMPLE_LINES of them and little more than SAMPLE_CHARACTERS."""
    taken: list[str] = []
    characters = 0
    with closing(read_lines(path)) as lines:
        for line in islice(lines, SAMPLE_LINES):
            taken.append(line.rstrip("\r\n"))
            characters += len(line)
            if characters > SAMPLE_CHARACTERS:
                break
        whole = next(lines, None) is None
    return Sample(taken, whole)

"""What a file format provides: how to recognize a file, and how to read its rows."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..read_options import INFER, ReadOptions
from ..rows import RowStream
from .encodings import Encoding
from .text_files import Sample, find_encoding, read_lines, read_sample, uncompressed_suffix


@dataclass(frozen=True)
class SourceFile:
    """A file or folder to read rows from.

    Args:
        path: The file or folder.
        options: What the user says about it; a format reads those it lists in `FileFormat.options`.
    """

    path: Path
    options: ReadOptions = INFER

    @cached_property
    def suffix(self) -> str:
        """The suffix of the name in lower case, without .gz or .xz."""
        return uncompressed_suffix(self.path)

    @cached_property
    def encoding(self) -> Encoding:
        """The encoding of a text file; its `notes` belong into the notes of the rows.

        Raises:
            HeadwayError: The file is binary or empty, or its encoding is unknown.
        """
        return find_encoding(self.path, self.options.encoding)

    @cached_property
    def sample(self) -> Sample:
        """The first lines of a text file."""
        return read_sample(self.lines())

    def lines(self) -> Generator[str, None, None]:
        """All lines of a text file, each with its line break."""
        return read_lines(self.path, self.encoding)


@dataclass(frozen=True)
class FileFormat:
    """A format of files or folders.

    Args:
        matches: Whether a file has this format, judged by its suffix or its sample.
        open: Opens a file of this format as a stream of rows.
        options: Names of the `ReadOptions` that it uses; the others are refused.
        title: Its name in the guide.
        files: Which files have it, and what becomes of them, in Markdown for the guide.
    """

    matches: Callable[[SourceFile], bool]
    open: Callable[[SourceFile], RowStream]
    options: frozenset[str] = frozenset({"encoding", "decimal"})
    title: str = field(kw_only=True)
    files: str = field(kw_only=True)

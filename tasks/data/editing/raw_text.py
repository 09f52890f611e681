"""The text of a file with all its characters, and its bytes again."""

import codecs
import gzip
import lzma
from collections.abc import Iterable
from dataclasses import dataclass

from ....core.errors import HeadwayError
from ..reading.encodings import MARKS
from ..reading.file_format import SourceFile
from ..reading.text_files import GZIP_MAGIC, XZ_MAGIC, open_bytes


@dataclass(frozen=True)
class RawText:
    """How a text becomes the bytes of a file.

    Args:
        file: the file.
        lines: all lines with their line breaks, without a byte-order mark.
        mark: the byte-order mark.
        codec: the name of Python's codec, which writes no byte-order mark.
    """

    file: SourceFile
    lines: list[str]
    mark: bytes
    codec: str

    @classmethod
    def read(cls, file: SourceFile) -> "RawText":
        """Reads a whole file.

        Raises:
            HeadwayError: its bytes cannot be restored from its text.
        """
        with open_bytes(file.path) as opened:
            raw = opened.read()
        codec = codecs.lookup(file.encoding.name.removesuffix("-sig")).name
        mark = next((one for one, name in MARKS if raw.startswith(one) and name.startswith(codec)), b"")
        if codec in ("utf-16", "utf-32"):
            codec += "-be" if mark in (codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE) else "-le"
        found = cls(file, list(file.lines()), mark, codec)
        if found._encode("".join(found.lines)) != raw:
            raise HeadwayError(
                f"{file.path}: its bytes cannot be restored exactly ({codec}). Save it in UTF-8 and search again."
            )
        return found

    def _encode(self, text: str) -> bytes:
        return self.mark + text.encode(self.codec)

    def to_bytes(self, lines: Iterable[str]) -> bytes:
        """The content of the file with other lines, compressed as before.

        Raises:
            HeadwayError: a character does not exist in the encoding.
        """
        try:
            content = self._encode("".join(lines))
        except UnicodeEncodeError as error:
            wrong = error.object[error.start : error.end]
            raise HeadwayError(
                f"{self.file.path}: {wrong!r} of a new label does not exist in the encoding of the file "
                f"({self.codec}). Save it in UTF-8, or use another label."
            ) from error
        with self.file.path.open("rb") as opened:
            head = opened.read(len(XZ_MAGIC))
        if head.startswith(GZIP_MAGIC):
            return gzip.compress(content)
        return lzma.compress(content) if head == XZ_MAGIC else content

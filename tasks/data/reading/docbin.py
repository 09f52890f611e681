"""Files of spaCy's DocBin (.spacy), by the extra `spacy`. https://spacy.io/api/docbin"""

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ....core.errors import HeadwayError
from ....core.extras import require
from ..places import shorten
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile
from .spacy_json import MIN_SCORE, named_categories

if TYPE_CHECKING:
    from spacy.tokens import Doc

SUFFIX = ".spacy"
SPANS_KEY = "sc"  # of the spans of spaCy's span categorizer
MAX_BYTES = 2**30  # of the decompressed file
CHUNK_BYTES = 2**20
# What spaCy raises for bytes that are not a DocBin.
MALFORMED = (KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError)


def _open(file: SourceFile) -> RowStream:
    rows = named_categories(list(_rows(file)))
    if not rows:
        raise HeadwayError(f"{file.path}: there are no documents in it. Give a file with at least one.")

    def read() -> Rows:
        yield from enumerate(rows, start=1)

    return RowStream(str(file.path), "spaCy DocBin", tuple(rows[0]), True, read, "document")


def _rows(file: SourceFile) -> Iterator[dict[str, Any]]:
    require("spacy", f"{file.path}: reading this format")
    import spacy
    from spacy.tokens import DocBin

    content = file.path.read_bytes()
    try:
        _check_size(file, content)
        for doc in DocBin().from_bytes(content).get_docs(spacy.blank("xx").vocab):
            yield _row(doc)
    except (*MALFORMED, zlib.error) as error:
        raise HeadwayError(
            f"{file.path}: not a DocBin that spaCy can read ({type(error).__name__}: {shorten(error, 200)}). Save it "
            "again with DocBin.to_disk, by spaCy 3."
        ) from error


def _check_size(file: SourceFile, content: bytes) -> None:
    decompressor = zlib.decompressobj()
    size = len(decompressor.decompress(content, CHUNK_BYTES))
    while decompressor.unconsumed_tail:
        size += len(decompressor.decompress(decompressor.unconsumed_tail, CHUNK_BYTES))
        if size > MAX_BYTES:
            raise HeadwayError(f"{file.path}: more than {MAX_BYTES:,} bytes when decompressed. Divide it.")


def _row(doc: "Doc") -> dict[str, Any]:
    """The text, the entities (else the categorized spans) and the categories of a document."""
    spans = doc.ents or doc.spans.get(SPANS_KEY, ())
    annotated = bool(spans) or doc.has_annotation("ENT_IOB")
    found = [
        {"start": span.start_char, "end": span.end_char, "label": span.label_, "text": span.text} for span in spans
    ]
    cats = [name for name, score in doc.cats.items() if score >= MIN_SCORE] if doc.cats else None
    return {"text": doc.text, "spans": found if annotated else None, "cats": cats}


DOCBIN = FileFormat(
    lambda file: file.suffix == SUFFIX,
    _open,
    frozenset(),
    title="spaCy DocBin",
    files="`.spacy`; texts with entities, spans and categories (extra `spacy`)",
)

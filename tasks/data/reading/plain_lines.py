"""Plain text files with one text per line."""

from ..column_names import KNOWN_COLUMNS, normalize_name
from ..rows import Rows, RowStream
from .csv_files import describe_table
from .file_format import FileFormat, SourceFile


def _open(file: SourceFile) -> RowStream:
    texts = [line.strip() for line in file.sample.filled_lines]
    header = file.options.header
    if header is None:
        header = len(texts) > 1 and normalize_name(texts[0]) in KNOWN_COLUMNS and texts[0] not in texts[1:]
    column = texts[0] if header else "text"

    def read() -> Rows:
        filled = ((number, line) for number, line in enumerate(file.lines(), start=1) if line.strip())
        if header:
            next(filled)
        for number, line in filled:
            yield number, {column: line.rstrip("\r\n")}

    return RowStream(str(file.path), "lines", (column,), header, read, notes=describe_table(file))


PLAIN_LINES = FileFormat(
    lambda _: True,
    _open,
    frozenset({"header", "encoding"}),
    title="Lines",
    files="Every other text file; a row is a line that is not empty",
)

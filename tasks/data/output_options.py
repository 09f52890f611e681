"""How rows with predictions are written to a file."""

from dataclasses import dataclass, replace

from ...core.options import option
from .read_options import read_separator


@dataclass(frozen=True)
class OutputOptions:
    """Options for writing a file of rows."""

    for_excel: bool = option(
        False,
        "Write a .csv or .tsv for Excel: with a byte-order mark, and an apostrophe before texts that Excel would "
        "compute as formulas (=, +, -, @). Without it such texts are written unchanged. An .xlsx needs neither.",
    )
    output_delimiter: str | None = option(
        None,
        "Column separator of a .csv output: one character, or comma, semicolon, tab, ... Default: a comma, or with "
        "--for-excel the semicolon of an input that has semicolons. With a semicolon and --for-excel, scores have a "
        "decimal comma, as Excel expects where it separates by semicolons.",
    )
    entity_rows: bool = option(
        False, "Named entities: write one row per entity, with its text, label, start, end and score."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_delimiter", read_separator("--output-delimiter", self.output_delimiter))

    def like(self, delimiter: str | None) -> "OutputOptions":
        """For Excel, the semicolon of the file that was read: where Excel writes it, it expects no commas."""
        excel = self.for_excel and self.output_delimiter is None and delimiter == ";"
        return replace(self, output_delimiter=delimiter) if excel else self

    @property
    def decimal(self) -> str:
        """The decimal mark of scores."""
        return "," if self.for_excel and self.output_delimiter == ";" else "."


DEFAULT_OUTPUT = OutputOptions()

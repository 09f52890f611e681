"""How a file of rows is read where the inference is wrong: header, encoding, separator, decimal mark, sheet."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...core.errors import HeadwayError
from ...core.options import check_option, option

# Names of separators that are awkward to type in a shell or in YAML.
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "space": " "}
ANNOTATIONS = ("first", "last", "agreeing", "each")  # of a text with several
# Options that concern the rows, whatever format they come from.
FOR_ALL_FORMATS = frozenset({"decode_html", "join_words", "left_out", "strict"})


def read_separator(flag: str, given: str | None) -> str | None:
    """The character of a column separator, which may be given by its name.

    Raises:
        HeadwayError: It is neither one character nor a known name; the message names the option `flag`.
    """
    if given is None:
        return None
    separator = SEPARATORS.get(given.lower(), given)
    if len(separator) != 1 or separator in '"\r\n':
        names = ", ".join(SEPARATORS)
        raise HeadwayError(f"{flag} {given!r} is invalid; it must be one character, or one of {names}.")
    return separator


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a file; None: inferred from the file."""

    header: bool | None = option(
        None, "Whether the first row holds the column names. Default: inferred from the data."
    )
    encoding: str | None = option(
        None, "Character encoding of a text file: utf-8, cp1252, utf-16, gb18030, ... Default: detected."
    )
    delimiter: str | None = option(
        None,
        f"Column separator of a CSV file: one character, or {', '.join(n for n in SEPARATORS if n.isalpha())}. "
        "Default: inferred from the data.",
    )
    decimal: str | None = option(
        None, 'Decimal mark of numeric labels: "." or ",". Default: inferred from the labels.'
    )
    sheet: str | None = option(
        None, "Sheet of an Excel workbook: its name, or its number starting at 1. Default: the only one with rows."
    )
    strict: bool | None = option(
        None,
        "Refuse rows that are rejected or cancelled by an annotator, or have no text or no label. Default: they are "
        "left out and counted.",
    )
    left_out: str | None = option(
        None, "File to write that lists the rows that are left out, with the reasons (CSV). Default: none."
    )
    annotations: str | None = option(
        None,
        "Which annotation of a text with several is read, in an export of Label Studio. agreeing: texts whose "
        "annotations differ are left out; each: every annotation is a row. Default: first.",
        choices=ANNOTATIONS,
    )
    decode_html: bool | None = option(
        None, 'Replace HTML entities in texts ("&amp;", "&#39;") by their characters. Default: texts are unchanged.'
    )
    join_words: bool | None = option(
        None,
        "Whether each row of a table is a word, and the rows of a sentence are joined. Default: inferred from the "
        "columns.",
    )

    def __post_init__(self) -> None:
        check_option(self, "decimal", self.decimal in (".", ","), '"." or ","', optional=True)
        choices = f"one of {', '.join(ANNOTATIONS)}"
        check_option(self, "annotations", self.annotations in ANNOTATIONS, choices, optional=True)
        object.__setattr__(self, "delimiter", read_separator("--delimiter", self.delimiter))

    @property
    def given(self) -> dict[str, Any]:
        """The options that have a value."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def refuse_for_prediction(self) -> None:
        """Raises HeadwayError if an option is about labelled rows: all rows are predicted."""
        if self.strict is not None or self.left_out is not None:
            raise HeadwayError(
                "--strict and --left-out have no meaning for prediction: every row is predicted. Omit them."
            )

    def refuse_unused(self, source: str, kind: str, used: frozenset[str]) -> None:
        """Checks that every option with a value has an effect.

        Args:
            source: Name of the source, for messages.
            kind: Name of its format.
            used: Names of the options that the format uses.

        Raises:
            HeadwayError: An option has no meaning for this format.
        """
        for name in self.given:
            if name not in used | FOR_ALL_FORMATS:
                raise HeadwayError(f"{source}: --{name.replace('_', '-')} has no meaning for {kind}. Omit it.")


INFER = ReadOptions()


def take_read_options(given: Mapping[str, Any]) -> tuple[ReadOptions, dict[str, Any]]:
    """Divides keyword arguments into options for reading and the others."""
    names = {field.name for field in fields(ReadOptions)}
    reading = {name: value for name, value in given.items() if name in names}
    return ReadOptions(**reading), {name: value for name, value in given.items() if name not in names}

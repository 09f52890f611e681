"""Names of places in a file, for messages."""

from collections.abc import Sequence
from itertools import groupby


def format_place(source: str, kind: str, place: int) -> str:
    """Where a row stands, as messages say it: "train.tsv, line 12"; JSON and Parquet have records, not lines."""
    unit = {"rows": "row", "Parquet": "record", "JSON": "record", "SQuAD JSON": "record"}.get(kind, "line")
    return f"{source}, {unit} {place}"


def shorten(value: object, width: int = 60) -> str:
    """A value as a message shows it: on one line, its end cut off where it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def format_places(places: Sequence[str], most: int = 5) -> str:
    """The first of some places, in one phrase: "train.tsv, lines 12, 40 and 77"."""
    named = []
    for head, members in groupby(places[:most], key=lambda place: place.rpartition(" ")[0]):
        numbers = [place.rpartition(" ")[2] for place in members]
        *first, last = numbers
        more = len(places) > most
        listed = ", ".join(numbers) if more or not first else f"{', '.join(first)} and {last}"
        named.append(f"{head}{'s' if first else ''} {listed}")
    return "; ".join(named) + (f" and {len(places) - most} more" if len(places) > most else "")

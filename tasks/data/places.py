"""Locations of rows in their source, and values, as messages show them."""

from collections.abc import Sequence
from itertools import groupby

MAX_SHOWN = 5  # locations in a phrase


def format_place(source: str, unit: str, place: int) -> str:
    """The location of a row: "train.tsv, line 12"."""
    return f"{source}, {unit} {place}"


def format_places(places: Sequence[str], limit: int = MAX_SHOWN, *, omitted: int = 0) -> str:
    """The first `limit` locations in one phrase: "train.tsv, lines 12, 40 and 77".

    Args:
        places: Locations, in order.
        limit: Number of those that are shown.
        omitted: Number of locations that are not in `places`.
    """
    phrases = []
    omitted += len(places) - limit
    for source_and_unit, members in groupby(places[:limit], key=lambda place: place.rpartition(" ")[0]):
        *first, last = [place.rpartition(" ")[2] for place in members]
        numbers = ", ".join([*first, last]) if omitted > 0 or not first else f"{', '.join(first)} and {last}"
        phrases.append(f"{source_and_unit}{'s' if first else ''} {numbers}")
    return "; ".join(phrases) + (f" and {omitted} more" if omitted > 0 else "")


def shorten(value: object, width: int = 60) -> str:
    """A value on one line of at most `width` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"

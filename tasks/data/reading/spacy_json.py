"""The two JSON formats of spaCy: version 2's pairs of a text and its annotations, and its training documents.

https://v2.spacy.io/usage/training#training-simple-style and https://spacy.io/api/data-formats#json-input
"""

from typing import Any

from ....core.errors import HeadwayError
from ..features import IGNORE_INDEX
from ..places import format_place, shorten

PAIR_KEYS = frozenset({"entities", "cats", "words", "tags", "heads", "deps", "links", "spans", "sent_starts"})
UNKNOWN_TAG = "-"  # of a token whose annotation is missing
MIN_SCORE = 0.5  # of a category that applies


def annotator_pairs(document: Any) -> Any:
    """The pairs in {"classes": [...], "annotations": [...]}, the export of NER Annotator; else the document itself."""
    if isinstance(document, dict) and document.keys() == {"classes", "annotations"}:
        pairs = document["annotations"]
        if isinstance(pairs, list):
            return [pair for pair in pairs if pair is not None]  # a text that was skipped
    return document


def is_spacy_pairs(records: list[Any]) -> bool:
    """Whether all records are a text and its annotations."""
    return all(
        isinstance(record, list)
        and len(record) == 2
        and isinstance(record[0], str)
        and isinstance(record[1], dict)
        and record[1].keys() <= PAIR_KEYS
        for record in records
    )


def spacy_pair_rows(source: str, records: list[Any]) -> list[dict[str, Any]]:
    """One row per text with its entities as `spans` and its categories."""
    rows: list[dict[str, Any]] = []
    for place, (text, found) in enumerate(records, start=1):
        where = format_place(source, "record", place)
        rows.append({"text": text, "spans": found.get("entities"), "cats": _categories(where, found.get("cats"))})
    return named_categories(rows)


def named_categories(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the lists of categories in `cats` as `label`, or as `labels` if a row has several.

    The columns of entities and of categories are left out where no row has them.
    """
    columns = [name for name in ("spans", "cats") if any(row[name] is not None for row in rows)]
    several = any(len(row["cats"] or ()) > 1 for row in rows)
    named: list[dict[str, Any]] = []
    for row in rows:
        cells = {name: value for name, value in row.items() if name not in ("spans", "cats")}
        if "spans" in columns:
            cells["spans"] = row["spans"]
        if "cats" in columns and several:
            cells["labels"] = row["cats"]
        elif "cats" in columns:
            cells["label"] = row["cats"][0] if row["cats"] else None
        named.append(cells)
    return named


def _categories(where: str, cats: Any) -> list[str] | None:
    """The categories that apply, of an object with the score of each."""
    if cats is None:
        return None
    if not isinstance(cats, dict) or not all(isinstance(score, int | float) for score in cats.values()):
        raise HeadwayError(
            f'{where}: "cats" is {shorten(cats, 40)}, not an object such as {{"GOOD": 1.0, "BAD": 0.0}}. Correct it.'
        )
    return [name for name, score in cats.items() if score >= MIN_SCORE]


def is_spacy_training(records: list[Any]) -> bool:
    """Whether all records are documents of paragraphs of sentences of tokens."""
    paragraphs = [record["paragraphs"] for record in records if isinstance(record, dict) and "paragraphs" in record]
    return len(paragraphs) == len(records) and all(
        isinstance(some, list) and all(isinstance(one, dict) and "sentences" in one for one in some)
        for some in paragraphs
    )


def spacy_training_rows(source: str, records: list[Any]) -> list[dict[str, Any]]:
    """One row per sentence: its tokens, their entity tags, and their parts of speech if there are any."""
    rows = [
        _sentence_row(f"{format_place(source, 'record', place)}, paragraph {i}, sentence {j}", sentence)
        for place, record in enumerate(records, start=1)
        for i, paragraph in enumerate(record["paragraphs"], start=1)
        for j, sentence in enumerate(_list(source, place, paragraph["sentences"]), start=1)
    ]
    columns = [name for name in ("tokens", "ner_tags", "pos") if any(any(row[name] or ()) for row in rows)]
    return [{name: row[name] for name in columns} for row in rows]


def _list(source: str, place: int, sentences: Any) -> list[Any]:
    if not isinstance(sentences, list):
        where = format_place(source, "record", place)
        raise HeadwayError(f'{where}: "sentences" is {shorten(sentences, 40)}, not a list. Correct it.')
    return sentences


def _sentence_row(where: str, sentence: Any) -> dict[str, Any]:
    tokens = sentence.get("tokens") if isinstance(sentence, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(one, dict) and "orth" in one for one in tokens):
        raise HeadwayError(f'{where}: no list "tokens" of objects with "orth". Correct it.')
    tags = [one.get("ner") for one in tokens]
    if all(tag in (None, UNKNOWN_TAG) for tag in tags):
        tags = None
    else:
        tags = [str(IGNORE_INDEX) if tag in (None, UNKNOWN_TAG) else tag for tag in tags]
    return {"tokens": [one["orth"] for one in tokens], "ner_tags": tags, "pos": [one.get("tag") for one in tokens]}

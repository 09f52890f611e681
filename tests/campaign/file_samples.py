"""A small file of each format that is read, with the task that reads it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import spacy
from headway.tasks.base.task import Task
from headway.tasks.classification.classification import TextClassification
from headway.tasks.embedding.similarity import SentenceSimilarity
from headway.tasks.language_modeling.fill_mask import FillMask
from headway.tasks.question_answering.question_answering import QuestionAnswering
from headway.tasks.tagging.tag_schemes import WordSpan, spans_to_tags
from headway.tasks.tagging.tagging import TokenClassification

WORDS = [["Ada", "met", "Bo", "in", "New", "York", "."], ["It", "rained", "all", "day", "."], ["Bo", "sleeps", "."]]
SPANS = [[WordSpan(0, 1, "PER"), WordSpan(2, 3, "PER"), WordSpan(4, 6, "LOC")], [], [WordSpan(0, 1, "PER")]]
TEXTS = [" ".join(words) for words in WORDS]
TAGS = [spans_to_tags(spans, len(words), "IOB2") for words, spans in zip(WORDS, SPANS, strict=True)]
LABELS = ["good", "bad", "good"]
REPEATED = 4  # times that the sentences occur in a file


def _character_spans(i: int) -> list[tuple[int, int, str]]:
    starts = [len(" ".join(WORDS[i][:word])) + (word > 0) for word in range(len(WORDS[i]))]
    return [(starts[s.start], starts[s.stop - 1] + len(WORDS[i][s.stop - 1]), s.label) for s in SPANS[i]]


def _rows(row: Callable[[int], Any]) -> list[Any]:
    return [row(i) for _ in range(REPEATED) for i in range(len(TEXTS))]


def _table(separator: str, header: list[str], row: Callable[[int], list[str]]) -> str:
    return "".join(separator.join(cells) + "\n" for cells in [header, *_rows(row)])


def _json_lines(row: Callable[[int], Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in _rows(row))


def _conll(line: Callable[[int, int], str], before: str = "") -> str:
    blocks = _rows(lambda i: before + "".join(line(i, word) + "\n" for word in range(len(WORDS[i]))))
    return "\n".join(blocks)


def _annotation(i: int) -> dict[str, Any]:
    regions = [
        {"type": "labels", "value": {"start": a, "end": b, "labels": [kind], "text": TEXTS[i][a:b]}}
        for a, b, kind in _character_spans(i)
    ]
    return {"result": regions, "was_cancelled": False}


def _webanno(i: int) -> str:
    lines = []
    for word, token in enumerate(WORDS[i]):
        tag = TAGS[i][word].partition("-")[2]
        start = len(" ".join(WORDS[i][:word]))
        lines.append(f"1-{word + 1}\t{start}-{start + len(token)}\t{token}\t{'*' if tag else '_'}\t{tag or '_'}\t\n")
    return f"\n#Text={TEXTS[i]}\n{''.join(lines)}"


def _spacy_tokens(i: int) -> list[dict[str, Any]]:
    return [{"orth": word, "tag": "X", "ner": tag} for word, tag in zip(WORDS[i], TAGS[i], strict=True)]


def _article(i: int) -> dict[str, Any]:
    question = {"id": f"q{i}", "question": "Who?", "answers": [{"text": "Bo", "answer_start": 0}]}
    return {"title": "t", "paragraphs": [{"context": TEXTS[i], "qas": [question]}]}


def _words_of(number: int) -> str:
    words, tags = WORDS[number % 3], TAGS[number % 3]
    starts = [f"Sentence: {number}", *[""] * (len(words) - 1)]
    return "".join(f"{start},{word},{tag}\n" for start, word, tag in zip(starts, words, tags, strict=True))


def _by_type(i: int) -> dict[str, dict[str, list[list[int]]]]:
    found: dict[str, dict[str, list[list[int]]]] = {}
    for start, end, kind in _character_spans(i):
        found.setdefault(kind, {})[TEXTS[i][start:end]] = [[start, end - 1]]
    return found


CLASSES, SPAN_TASK = TextClassification(), TokenClassification()
TEXT_FILES: dict[str, tuple[Task[Any, Any], Callable[[], str]]] = {
    "classes.csv": (CLASSES, lambda: _table(",", ["text", "label"], lambda i: [f'"{TEXTS[i]}"', LABELS[i]])),
    "numbers.csv": (CLASSES, lambda: _table(";", ["text", "score"], lambda i: [TEXTS[i], f"{i}.5"])),
    "several.csv": (CLASSES, lambda: _table(",", ["text", "labels"], lambda i: [TEXTS[i], "a;b" if i else "a"])),
    "lists.csv": (CLASSES, lambda: _table("|", ["text", "labels"], lambda i: [TEXTS[i], "['a', 'b']" if i else ""])),
    "pairs.tsv": (
        SentenceSimilarity(),
        lambda: _table("\t", ["sentence1", "sentence2", "score"], lambda i: [TEXTS[i], TEXTS[0], str(i)]),
    ),
    "classes.json": (CLASSES, lambda: json.dumps(_rows(lambda i: {"text": TEXTS[i], "label": LABELS[i]}))),
    "columns.json": (CLASSES, lambda: json.dumps({"text": TEXTS * REPEATED, "label": LABELS * REPEATED})),
    "fasttext.txt": (CLASSES, lambda: "".join(_rows(lambda i: f"__label__{LABELS[i]} {TEXTS[i]}\n"))),
    "lines.txt": (FillMask(), lambda: "\n".join(TEXTS * REPEATED)),
    "squad.json": (QuestionAnswering(), lambda: json.dumps({"data": [_article(i) for i in (0, 2)]})),
    "answers.jsonl": (
        QuestionAnswering(),
        lambda: _json_lines(
            lambda i: {"question": "Who?", "context": TEXTS[i], "answers": {"text": ["Bo"], "answer_start": [i]}}
        ),
    ),
    "tags.conll": (SPAN_TASK, lambda: _conll(lambda i, word: f"{WORDS[i][word]} X {TAGS[i][word]}")),
    "counted.txt": (SPAN_TASK, lambda: _conll(lambda i, word: f"{word + 1}\t{WORDS[i][word]}\t{TAGS[i][word]}")),
    "misc.conllu": (
        SPAN_TASK,
        lambda: _conll(
            lambda i, word: f"{word + 1}\t{WORDS[i][word]}\t_\tX\t_\t_\t0\t_\t_\t{TAGS[i][word].replace('O', '_')}",
            "# text = Some words of a comment\n",
        ),
    ),
    "words.csv": (SPAN_TASK, lambda: "Sentence #,Word,Tag\n" + "".join(_words_of(n) for n in range(9))),
    "webanno.tsv": (
        SPAN_TASK,
        lambda: "#FORMAT=WebAnno TSV 3.3\n#T_SP=my.NamedEntity|identifier|value\n\n" + "\n".join(_rows(_webanno)),
    ),
    "doccano.jsonl": (SPAN_TASK, lambda: _json_lines(lambda i: {"text": TEXTS[i], "label": _character_spans(i)})),
    "prodigy.jsonl": (
        SPAN_TASK,
        lambda: _json_lines(
            lambda i: {
                "text": TEXTS[i],
                "spans": [{"start": a, "end": b, "label": kind} for a, b, kind in _character_spans(i)],
                "answer": "accept",
            }
        ),
    ),
    "cluener.jsonl": (SPAN_TASK, lambda: _json_lines(lambda i: {"text": TEXTS[i], "label": _by_type(i)})),
    "gliner.json": (
        SPAN_TASK,
        lambda: json.dumps(
            _rows(lambda i: {"tokenized_text": WORDS[i], "ner": [[s.start, s.stop - 1, s.label] for s in SPANS[i]]})
        ),
    ),
    "label-studio.json": (
        SPAN_TASK,
        lambda: json.dumps(_rows(lambda i: {"id": i, "data": {"text": TEXTS[i]}, "annotations": [_annotation(i)]})),
    ),
    "choices.json": (
        CLASSES,
        lambda: json.dumps(
            _rows(
                lambda i: {
                    "data": {"text": TEXTS[i]},
                    "annotations": [{"result": [{"value": {"choices": [LABELS[i]]}}]}],
                }
            )
        ),
    ),
    "spacy-pairs.json": (
        SPAN_TASK,
        lambda: json.dumps(_rows(lambda i: [TEXTS[i], {"entities": _character_spans(i)}])),
    ),
    "spacy-training.json": (
        SPAN_TASK,
        lambda: json.dumps(_rows(lambda i: {"paragraphs": [{"sentences": [{"tokens": _spacy_tokens(i)}]}]})),
    ),
}


def _write_brat(folder: Path) -> None:
    folder.mkdir()
    for i, text in enumerate(TEXTS):
        lines = [f"T{n}\t{kind} {a} {b}\t{text[a:b]}\n" for n, (a, b, kind) in enumerate(_character_spans(i), 1)]
        (folder / f"text{i}.txt").write_text(text)
        (folder / f"text{i}.ann").write_text("".join(lines))


def _write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS * REPEATED, "label": LABELS * REPEATED}), path)


def _write_excel(path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [["text", "label"], *_rows(lambda i: [TEXTS[i], LABELS[i]])]:
        sheet.append(row)
    book.save(path)


def _write_docbin(path: Path) -> None:
    nlp = spacy.blank("en")
    docs = []
    for i, text in enumerate(TEXTS):
        doc = nlp(text)
        doc.set_ents([doc.char_span(a, b, kind) for a, b, kind in _character_spans(i)])
        docs.append(doc)
    spacy.tokens.DocBin(docs=docs).to_disk(path)


OTHERS: dict[str, tuple[Task[Any, Any], Callable[[Path], None]]] = {
    "brat": (SPAN_TASK, _write_brat),
    "classes.parquet": (CLASSES, _write_parquet),
    "classes.xlsx": (CLASSES, _write_excel),
    "entities.spacy": (SPAN_TASK, _write_docbin),
}


def write_samples(folder: Path) -> dict[str, Task[Any, Any]]:
    """Writes a file of each format; returns the task of each."""
    for name, (_, content) in TEXT_FILES.items():
        (folder / name).write_text(content())
    for name, (_, write) in OTHERS.items():
        write(folder / name)
    return {name: task for name, (task, _) in (TEXT_FILES | OTHERS).items()}

"""Real tagged files are read completely, and predictions for their words are at the right offsets."""

import random
import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks.data.read import read_table
from headway.tasks.tagging.predictions import EntitiesPrediction
from headway.tasks.tagging.tag_schemes import tags_to_spans
from headway.tasks.tagging.tagging import TokenClassification
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

pytestmark = pytest.mark.realdata

# file -> options, number of entity types, and the units that raw text is divided into
FILES = {
    "wnut17/train.conll": (TokenClassification(), 6, "words"),
    "wnut17/test.conll": (TokenClassification(), 6, "words"),
    "weibo_ner/train.conll": (TokenClassification(strip_digits=True), 8, "characters"),
    "weibo_ner/dev.conll": (TokenClassification(strip_digits=True), 8, "characters"),
}


def sentences(path: Path) -> list[list[list[str]]]:
    """Sentences of (word, tag), parsed independently."""
    parts = re.split(r"\n[ \t]*\n", path.read_text(encoding="utf-8").strip("\n"))
    return [[line.split("\t") for line in part.split("\n")] for part in parts]


def read(path: Path, task: TokenClassification):
    table = read_table(path)
    columns = task.columns(table, {}, need_label=True)
    inferred, notes = task.infer_labels(table, columns)
    return inferred, notes, inferred.examples(table, columns)


@pytest.fixture(scope="module", params=FILES)
def corpus(request, data_folder):
    task, types, units = FILES[request.param]
    path = data_folder / request.param
    return path, types, units, *read(path, task)


def test_every_word_and_every_entity_is_read(corpus):
    path, types, units, task, notes, examples = corpus
    expected = sentences(path)
    assert [list(one.words) for one in examples] == [
        [word[:-1] if task.strip_digits and len(word) > 1 else word for word, _ in sentence] for sentence in expected
    ]
    assert task.scheme == "IOB2"
    assert len(task.types) == types
    assert task.units == units
    entities = Counter(kind for sentence in expected for kind, *_ in get_entities([tag for _, tag in sentence]))
    assert Counter(label for one in examples for label in one.labels) == entities
    assert any(note.startswith(f"IOB2 tags, {entities.total():,} entities") for note in notes)
    begins = sum(tag.startswith("B-") for sentence in expected for _, tag in sentence)
    assert any("not follow the rules of IOB2" in note for note in notes) == (begins != entities.total())
    gap = "" if units == "characters" else " "
    for one in examples:
        for span in one.spans:
            start, end = one.offsets(span)
            assert one.text[start:end] == gap.join(one.words[span.start : span.stop])


def test_the_digits_in_weibos_words_are_reported_without_strip_digits(data_folder):
    _, notes, _ = read(data_folder / "weibo_ner/dev.conll", TokenClassification())
    assert any("--strip-digits removes them" in note for note in notes)


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-cased", "bert-base-chinese", "gpt2"])
@pytest.mark.parametrize("limit", [24, 512])
def test_a_perfect_model_predicts_the_gold_entities(corpus, tokenizers_folder, name, limit):
    """Through tokens and windows: only words without tokens are lost."""
    *_, task, _, examples = corpus
    examples = examples[:400]
    tokenizer = Tokenizer.load(tokenizers_folder / name)
    features = task.encode(examples, tokenizer, limit)
    assert all(len(one.input_ids) <= limit for one in features)
    outputs = []
    for one in features:
        logits = torch.zeros(len(one.input_ids), len(task.labels))
        logits[one.metadata.positions, one.target] = 20.0
        outputs.append(logits)
    predictions = task.decode(outputs, features)
    shown = Counter(word for one in features for word in product([one.example], one.metadata.words))
    assert set(shown.values()) == {1}
    lost = 0
    for i, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        unseen = [word for word in range(len(example.words)) if (i, word) not in shown]
        lost += len(unseen)
        if not unseen:
            assert tags_to_spans(prediction.tags) == list(example.spans)
        for entity in prediction.entities:
            assert example.text[entity.start : entity.end] == entity.text
            assert entity.score > 0.99
    assert lost < 0.005 * sum(len(one.words) for one in examples)


def test_the_scores_on_real_tags_equal_seqevals(corpus):
    """Gold tags against gold tags with one word in twenty changed."""
    *_, task, _, examples = corpus
    chance = random.Random(0)
    gold, guesses, predictions = [], [], []
    for one in examples:
        tags = ["O"] * len(one.words)
        for span in one.spans:
            tags[span.start : span.stop] = [f"B-{span.label}"] + [f"I-{span.label}"] * (span.stop - span.start - 1)
        changed = [chance.choice(task.labels) if chance.random() < 0.05 else tag for tag in tags]
        gold.append(tags)
        guesses.append(changed)
        predictions.append(EntitiesPrediction((), one.words, tuple(changed), (1.0,) * len(tags)))
    scores = task.score(predictions, examples)
    assert scores["precision"] == pytest.approx(precision_score(gold, guesses))
    assert scores["recall"] == pytest.approx(recall_score(gold, guesses))
    assert scores["f1"] == pytest.approx(f1_score(gold, guesses))
    right = [a == b for ours, theirs in zip(gold, guesses, strict=True) for a, b in zip(ours, theirs, strict=True)]
    assert scores["accuracy"] == pytest.approx(sum(right) / len(right))

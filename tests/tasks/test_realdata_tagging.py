"""Real tagged files are read as they are, and whatever a model says about their words ends up where it belongs."""

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

# file -> options, entity types, and the units that raw text is cut into
FILES = {
    "wnut17/train.conll": (TokenClassification(), 6, "words"),
    "wnut17/test.conll": (TokenClassification(), 6, "words"),
    "weibo_ner/train.conll": (TokenClassification(strip_digits=True), 8, "characters"),
    "weibo_ner/dev.conll": (TokenClassification(strip_digits=True), 8, "characters"),
}


def sentences(path: Path) -> list[list[list[str]]]:
    """Sentences of (word, tag), read by hand."""
    parts = re.split(r"\n[ \t]*\n", path.read_text(encoding="utf-8").strip("\n"))
    return [[line.split("\t") for line in part.split("\n")] for part in parts]


def read(path: Path, task: TokenClassification):
    table = read_table(path)
    columns = task.columns(table, {}, need_label=True)
    learnt, notes = task.infer_labels(table, columns)
    return learnt, notes, learnt.examples(table, columns)


@pytest.fixture(scope="module", params=FILES)
def corpus(request, data_folder):
    task, types, units = FILES[request.param]
    path = data_folder / request.param
    return path, types, units, *read(path, task)


def test_every_word_and_every_entity_is_read(corpus):
    path, types, units, task, notes, examples = corpus
    by_hand = sentences(path)
    assert [list(one.words) for one in examples] == [
        [word[:-1] if task.strip_digits and len(word) > 1 else word for word, _ in sentence] for sentence in by_hand
    ]
    assert task.scheme == "IOB2"
    assert len(task.types) == types
    assert task.units == units
    entities = Counter(kind for sentence in by_hand for kind, *_ in get_entities([tag for _, tag in sentence]))
    assert Counter(label for one in examples for label in one.labels) == entities
    assert any(note.startswith(f"IOB2 tags, {entities.total():,} entities") for note in notes)
    begins = sum(tag.startswith("B-") for sentence in by_hand for _, tag in sentence)
    assert any("break the rules of IOB2" in note for note in notes) == (begins != entities.total())
    gap = "" if units == "characters" else " "
    for one in examples:
        for chunk in one.chunks:
            start, end = one.place(chunk)
            assert one.text[start:end] == gap.join(one.words[chunk.start : chunk.stop])


def test_weibos_digits_are_noticed_where_nobody_asked_to_take_them_off(data_folder):
    _, notes, _ = read(data_folder / "weibo_ner/dev.conll", TokenClassification())
    assert any("--strip-digits takes them off" in note for note in notes)


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-cased", "bert-base-chinese", "gpt2"])
@pytest.mark.parametrize("limit", [24, 512])
def test_what_a_perfect_model_says_is_the_gold(corpus, tokenizers_folder, name, limit):
    """Through tokens, windows and back: only words that the vocabulary shows nothing of are lost."""
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
            assert tags_to_spans(prediction.tags) == list(example.chunks)
        for entity in prediction.entities:
            assert example.text[entity.start : entity.end] == entity.text
            assert entity.score > 0.99
    assert lost < 0.005 * sum(len(one.words) for one in examples)


def test_the_figures_on_real_tags_are_those_of_seqeval(corpus):
    """Gold against gold in which one word in twenty has another tag."""
    *_, task, _, examples = corpus
    chance = random.Random(0)
    gold, guesses, predictions = [], [], []
    for one in examples:
        tags = ["O"] * len(one.words)
        for chunk in one.chunks:
            tags[chunk.start : chunk.stop] = [f"B-{chunk.label}"] + [f"I-{chunk.label}"] * (
                chunk.stop - chunk.start - 1
            )
        changed = [chance.choice(task.labels) if chance.random() < 0.05 else tag for tag in tags]
        gold.append(tags)
        guesses.append(changed)
        predictions.append(EntitiesPrediction((), one.words, tuple(changed), (1.0,) * len(tags)))
    figures = task.score(predictions, examples)
    assert figures["precision"] == pytest.approx(precision_score(gold, guesses))
    assert figures["recall"] == pytest.approx(recall_score(gold, guesses))
    assert figures["f1"] == pytest.approx(f1_score(gold, guesses))
    right = [a == b for ours, theirs in zip(gold, guesses, strict=True) for a, b in zip(ours, theirs, strict=True)]
    assert figures["accuracy"] == pytest.approx(sum(right) / len(right))

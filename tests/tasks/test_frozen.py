"""Logistic regression on frozen features: the classifier is scikit-learn's, the model folder is like any other."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.models.heads import SequenceHead
from headway.core.models.mean_block import averages
from headway.core.models.packing import PackedBatch
from headway.core.training.training_events import Note
from headway.tasks import TextClassification, TokenClassification, load, read_table
from headway.tasks.classification import text_vectors
from headway.tasks.classification.logistic_regression import (
    INVERSE_REGULARIZATION,
    RIDGE_STRENGTHS,
    Problem,
    leave_one_out_error,
)
from headway.tasks.classification.text_vectors import POOLER_STD, head_vectors
from headway.tasks.data.features import pack
from headway.tasks.embedding.pooling import Pooling
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression, Ridge

THINGS = ["cat", "dog", "parcel", "money", "card", "mat", "program", "fox"]
STARTS = ["the", "my", "where is the", "send the", "please send my", "the quick brown", "a lazy", "your"]
ROWS = [
    {"text": f"{start} {thing}", "label": "animal" if thing in ("cat", "dog", "fox") else "thing"}
    for start in STARTS
    for thing in THINGS
]
LONG = "the cat sat on the mat " * 30


def fit(folder: Path, output: Path, rows=None, **options):
    """A model trained with `frozen`, and its events."""
    model = TextClassification(frozen=True, **options).on(folder)
    before = {name: value.clone() for name, value in model.network.backbone.state_dict().items()}
    events = list(model.train(rows or ROWS, output=output, eval_fraction=0, device="cpu"))
    backbone = model.network.backbone
    added = f"blocks.{len(backbone.blocks) - 1}." if averages(backbone) else "nothing"
    for name, value in backbone.state_dict().items():
        assert name.startswith(added) or torch.equal(value, before[name]), name
    return model, events


def test_the_classifier_is_trained_and_the_backbone_stays_unchanged(tiny_model, tmp_path):
    model, events = fit(tiny_model, tmp_path / "model")
    chosen = ["Note"] * model.network.config.family.startswith("bert")
    names = [type(event).__name__ for event in events]
    assert names == ["Prepared", "Started", *chosen, "Step", "Finished", "Trained"]
    assert model.evaluate(ROWS).metrics["accuracy"] > 0.85
    texts = [row["text"] for row in ROWS[:5]]
    assert load(tmp_path / "model").predict(texts) == model.predict(texts)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_the_pooler_passes_on_the_standardized_vector(bert_folder, tmp_path):
    model, _ = fit(bert_folder, tmp_path / "model", pooling="cls")
    head = model.network.head
    assert isinstance(head, SequenceHead)
    windows_by_example = encode(model, ROWS)
    with torch.no_grad():
        cls, pooled = [], []
        for (one,) in windows_by_example:
            batch = model.task.pack([one])
            hidden = model.network.backbone(batch)
            cls.append(hidden[0])
            pooled.append(head.pooler(hidden, batch)[0])
    cls, pooled = torch.stack(cls), torch.stack(pooled)
    standardized = (cls - cls.mean(0)) / cls.std(0, correction=0)
    torch.testing.assert_close(pooled, torch.tanh(POOLER_STD * standardized), atol=1e-4, rtol=1e-3)


def encode(model, rows):
    """The features of each row."""
    table = read_table(rows)
    columns = model.task.columns(table, {}, need_label=True)
    return model.encoder.encode(model.task, model.task.examples(table, columns))


@pytest.mark.parametrize("labels", [2, 3])
def test_the_classifier_predicts_the_probabilities_of_scikit_learn(bert_folder, tmp_path, labels):
    rows = [{**row, "label": f"{THINGS.index(row['text'].split()[-1]) % labels}"} for row in ROWS]
    model, _ = fit(bert_folder, tmp_path / "model", rows, pooling="cls")
    windows_by_example = encode(model, rows)
    head = model.network.head
    assert isinstance(head, SequenceHead)
    with torch.no_grad():
        batches = [model.task.pack(group) for group in windows_by_example]
        inputs = torch.cat([head.pooler(model.network.backbone(batch), batch) for batch in batches]).numpy()
        found = torch.cat([model.network(batch) for batch in batches]).softmax(-1).numpy()
    standardized = (inputs - inputs.mean(0)) / inputs.std(0)
    gold = [row["label"] for row in rows]
    errors = []
    for c in INVERSE_REGULARIZATION:
        expected = LogisticRegression(C=c, max_iter=20000).fit(standardized, gold).predict_proba(standardized)
        errors.append(np.abs(expected - found).max() / expected.std())
    assert min(errors) < 0.05


DATA = {
    "several labels": [
        {"text": row["text"], "labels": [t for t in ("cat", "my", "the") if t in row["text"]]} for row in ROWS
    ],
    "a number": [{"text": row["text"], "label": len(row["text"]) / 4} for row in ROWS],
    "pairs": [{"sentence1": r["text"], "sentence2": "the cat", "label": r["label"]} for r in ROWS],
    "long texts": [{"text": LONG + row["text"], "label": row["label"]} for row in ROWS[:24]],
}


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_of_target_is_learned(tiny_model, tmp_path, kind):
    rows = DATA[kind]
    model, _ = fit(tiny_model, tmp_path / "model", rows)
    scores = model.evaluate(rows).metrics
    assert next(iter(scores.values())) > (0.4 if kind == "several labels" else 0.5)
    texts = [tuple(row[name] for name in ("sentence1", "sentence2") if name in row) or row["text"] for row in rows[:3]]
    assert load(tmp_path / "model").predict(texts) == model.predict(texts)


@pytest.mark.parametrize("kind", ["minilm", "gpt2_folder"])
def test_the_folder_opens_in_transformers_with_equal_outputs(request, tmp_path, kind):
    model, _ = fit(request.getfixturevalue(kind), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    theirs = getattr(transformers, config["architectures"][0]).from_pretrained(tmp_path / "model").eval()
    for windows in encode(model, ROWS[:6]):
        batch = model.task.pack(windows)
        with torch.no_grad():
            torch.testing.assert_close(
                model.network(batch), theirs(input_ids=batch.input_ids[None]).logits, atol=1e-5, rtol=1e-5
            )


def test_a_sentence_encoder_is_read_by_the_pooling_of_its_folder(minilm, tmp_path):
    model, events = fit(minilm, tmp_path / "model")
    assert (model.task.pooling, model.task.max_length) == ("mean", 256)
    assert "the mean of its tokens' vectors" in next(event.note for event in events if isinstance(event, Note))
    texts = [row["text"] for row in ROWS[:9]]
    sequences = [windows[0] for windows in encode(model, ROWS[:9])]
    found = head_vectors(model.network, sequences)
    expected = SentenceTransformer(str(minilm), device="cpu").encode(texts)
    centred = expected - expected.mean(1, keepdims=True)
    np.testing.assert_allclose(found, centred / centred.std(1, keepdims=True), atol=0.02)
    cosines = (found * centred).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(centred, axis=1)
    assert cosines.min() > 0.99999


def test_several_kinds_of_vectors_are_compared_and_the_best_is_taken(bert_folder, tmp_path, monkeypatch):
    asked = []

    def errors(_, vectors) -> float:
        asked.append(vectors)
        return float(len(asked) != best)

    monkeypatch.setattr(text_vectors, "leave_one_out_error", errors)
    notes = []
    for best, layers in ((1, 3), (2, 2), (3, 2)):  # the means of the two layers, and [CLS]
        asked.clear()
        model, events = fit(bert_folder, tmp_path / f"model{best}")
        notes.append(next(event.note for event in events if isinstance(event, Note)))
        assert len(asked) == 3
        assert len(model.network.backbone.blocks) == layers
        assert averages(model.network.backbone) == (best < 3)
    assert "layer 1 of 2" in notes[1]
    assert "represented by [CLS]" in notes[2]
    mean = load(tmp_path / "model2").network.backbone
    assert averages(mean)
    sequences = [windows[0] for windows in encode(model, ROWS[:9])]
    vectors = text_vectors.head_vectors(load(tmp_path / "model2").network, sequences)
    states = torch.stack([pool_layer(model.network.backbone, one) for one in sequences]).numpy()
    centred = states - states.mean(1, keepdims=True)
    np.testing.assert_allclose(vectors, centred / centred.std(1, keepdims=True), atol=0.02)


@torch.no_grad()
def pool_layer(backbone, features):
    batch = pack([features])
    return Pooling(layers=(1,)).pool(Pooling(layers=(1,)).hidden(backbone, batch), batch)[0]


def test_leave_one_out_errors_are_those_of_models_fitted_without_the_example():
    chance = np.random.default_rng(0)
    vectors, targets = chance.normal(size=(12, 5)), chance.integers(0, 3, 12)
    problem = Problem("single_label_classification", targets, range(12), 3, seed=0)
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    gold = np.eye(3)[targets] - np.eye(3)[targets].mean(0)
    errors = []
    for strength in RIDGE_STRENGTHS:
        fitted = (
            Ridge(alpha=strength * 5, fit_intercept=False).fit(np.delete(scaled, i, 0), np.delete(gold, i, 0))
            for i in range(12)
        )
        errors.append(np.mean([(one.predict(scaled[i : i + 1])[0] - gold[i]) ** 2 for i, one in enumerate(fitted)]))
    assert leave_one_out_error(problem, vectors) == pytest.approx(min(errors), rel=1e-6)


def test_a_pooling_that_has_no_effect_or_cannot_be_computed_is_refused(gpt2_folder, albert_folder, tmp_path):
    with pytest.raises(HeadwayError, match="--pooling is only for --frozen"):
        TextClassification(pooling="mean")
    for folder in (gpt2_folder, albert_folder):
        with pytest.raises(HeadwayError, match="no layer for it"):
            fit(folder, tmp_path / "model", pooling="mean")
        assert not averages(fit(folder, tmp_path / folder.name)[0].network.backbone)


def test_tasks_on_single_tokens_refuse_a_model_whose_last_layer_averages_them(bert_folder, tmp_path):
    fit(bert_folder, tmp_path / "model", pooling="mean")
    assert "mean of its tokens' vectors" in (tmp_path / "model/README.md").read_text()
    again, _ = fit(tmp_path / "model", tmp_path / "again", [{**row, "label": row["text"][:3]} for row in ROWS])
    assert len(again.network.backbone.blocks) == 3  # the layer is not added twice
    rows = [{"tokens": ["the", "cat"], "tags": ["O", "B-ANIMAL"]}] * 8
    with pytest.raises(HeadwayError, match="averages the vectors of the tokens"):
        TokenClassification().on(tmp_path / "model").fit(rows, output=tmp_path / "tags", eval_fraction=0)


def test_a_repeated_text_is_encoded_once(bert_folder, tmp_path, monkeypatch):
    seen = []

    def counted(features) -> PackedBatch:
        seen.extend(features)
        return pack(features)

    monkeypatch.setattr(text_vectors, "pack", counted)
    fit(bert_folder, tmp_path / "model", ROWS * 3, pooling="mean")
    assert len(seen) == len(ROWS)


def test_balanced_weights_raise_the_probability_of_a_rare_label(bert_folder, tmp_path):
    rows = [{"text": f"{start} {thing}", "label": "rare" if thing == "cat" else "common"}
            for start in STARTS for thing in THINGS]  # fmt: skip
    plain, _ = fit(bert_folder, tmp_path / "plain", rows)
    balanced, _ = fit(bert_folder, tmp_path / "balanced", rows, class_weight="balanced")
    rare = [
        [one.scores["rare"] for one in model.predict([row["text"] for row in rows])] for model in (plain, balanced)
    ]
    assert math.fsum(rare[1]) > math.fsum(rare[0])


def test_a_label_without_examples_is_refused(bert_folder, tmp_path):
    with pytest.raises(HeadwayError, match="no example has the label 'plant'"):
        fit(bert_folder, tmp_path / "model", labels=("animal", "thing", "plant"))
    rows = [{"text": row["text"], "labels": ["text", row["label"]]} for row in ROWS]
    with pytest.raises(HeadwayError, match="every example has the label 'text'"):
        fit(bert_folder, tmp_path / "model", rows)
    assert not (tmp_path / "model").exists()


def test_the_same_seed_gives_the_same_classifier(bert_folder, tmp_path):
    fit(bert_folder, tmp_path / "one")
    fit(bert_folder, tmp_path / "two")
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def test_the_whole_model_can_be_trained_further(bert_folder, tmp_path):
    fit(bert_folder, tmp_path / "model")
    further = TextClassification().on(tmp_path / "model")
    trained = further.fit(ROWS, output=tmp_path / "further", eval_fraction=0, max_steps=2, precision="fp32")
    assert trained.steps == 2
    assert not further.task.frozen


def test_the_card_says_what_was_fitted(bert_folder, tmp_path):
    fit(bert_folder, tmp_path / "model")
    card = (tmp_path / "model/README.md").read_text()
    assert "Only the classifier was fitted" in card
    assert "learning rate" not in card


def test_examples_with_equal_tokens_are_fitted(bert_folder: Path, tmp_path: Path):
    rows = [{"text": f"the cat {i}", "label": "ab"[i % 2]} for i in range(60)]  # no number is in the vocabulary
    trained = TextClassification(frozen=True).on(bert_folder).fit(rows, output=tmp_path / "out", eval_fraction=0)
    assert trained.examples == 60

"""Text classification: one label, several labels, a number, and pairs of texts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.tasks.classification.encoding import join_windows
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, NumberPrediction, TextExample
from headway.tasks.data.features import group_windows
from headway.tasks.data.labels import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from headway.tasks.data.read import read_table
from headway.tasks.data.windows import sliding_windows
from torch.nn import functional as F

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu", save_steps=1000)


def inferred(rows: Any, task: TextClassification | None = None, **chosen: Any) -> TextClassification:
    table = read_table(rows)
    task = task or TextClassification()
    return task.infer_labels(table, task.columns(table, chosen, need_label=True))[0]


def examples(rows: Any, task: TextClassification, *, labelled: bool = True, **chosen: Any) -> list[TextExample]:
    table = read_table(rows)
    return task.examples(table, task.columns(table, chosen, need_label=labelled), labelled=labelled)


def rows(labels: list[Any], **more: list[Any]) -> list[dict[str, Any]]:
    """A row with a text for each label."""
    return [
        {"text": f"text {i}", "label": label, **{name: column[i] for name, column in more.items()}}
        for i, label in enumerate(labels)
    ]


# Inference from data


def test_the_problem_type_is_inferred_shown_and_stored():
    table = read_table(rows(["a", "b", "a"]))
    task, notes = TextClassification().infer_labels(table, TextClassification().columns(table, {}, need_label=True))
    assert (task.problem_type, task.labels, task.paired) == (SINGLE_LABEL, ("a", "b"), False)
    assert notes == ["each text has one label: the column has 2 different values"]


def test_the_problem_type_can_be_given():
    assert inferred(rows([1, 2, 3]), TextClassification(problem_type=REGRESSION)).target_mean == 2
    assert inferred(rows(["a", "b", "a"]), TextClassification(problem_type=MULTI_LABEL)).problem_type == MULTI_LABEL
    assert inferred(rows([0.5, 1.5, 0.5]), TextClassification(problem_type=SINGLE_LABEL)).labels == ("0.5", "1.5")


def test_with_given_label_names_labels_may_be_names_or_indices():
    named = TextClassification(labels=("sad", "glad", "mad"))
    task = inferred(rows(["1", "0", "glad"]), named)
    assert (task.labels, task.numbered) == (("sad", "glad", "mad"), True)
    assert [one.label for one in examples(rows(["1", "0", "glad", 2]), task)] == ["glad", "sad", "glad", "mad"]
    several = inferred(rows(["1", "0,2", "0", "2", "2,0"]), named)
    assert several.problem_type == MULTI_LABEL
    assert examples(rows(["0,2"]), several)[0].label == ("sad", "mad")


def test_many_indices_of_given_label_names_are_labels_and_not_numbers():
    names = tuple(f"intent {i}" for i in range(40))
    assert inferred(rows([*range(40), 3]), TextClassification(labels=names)).problem_type == SINGLE_LABEL


def test_0_1_columns_are_labels_in_the_order_of_the_columns():
    data = [{"text": f"text {i}", "rude": i % 2, "angry": i % 3 == 0, "never": 0} for i in range(6)]
    task = inferred(data, label=["rude", "angry", "never"])
    assert (task.problem_type, task.labels) == (MULTI_LABEL, ("rude", "angry", "never"))
    assert [one.label for one in examples(data, task, label=["rude", "angry", "never"])][:2] == [("angry",), ("rude",)]


def test_pairs_are_read_if_there_are_two_text_columns():
    data = [{"premise": f"a {i}", "hypothesis": f"b {i}", "label": "xy"[i % 2]} for i in range(4)]
    task = inferred(data)
    assert task.paired
    assert examples(data, task)[1].texts == ("a 1", "b 1")
    assert [field.required for field in task.fields] == [True, True]
    with pytest.raises(HeadwayError, match="pair"):
        examples([{"text": "alone", "label": "x"}], task)


def test_a_new_head_for_several_labels_predicts_each_label_with_its_share_of_the_rows():
    bert = Bert(BertConfig(vocab_size=9, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8))
    data = rows([["a"], ["a", "b"], ["a"], [], ["a"], ["a"], [], [], []])
    task = inferred(data)
    assert task.shares == pytest.approx((5.5 / 10, 1.5 / 10))
    bias = task.head(bert).classifier.bias
    assert bias.sigmoid().tolist() == pytest.approx(task.shares)
    # No constant prediction is better, weighted or not: the gradient of the loss is almost zero.
    for options in ({}, {"class_weight": "balanced"}):
        task = inferred(data * 100, TextClassification(**options))
        bias = task.head(bert).classifier.bias
        targets = [row.label for row in examples(data * 100, task)]
        loss, count = task.loss(bias.expand(len(targets), -1), task.targets(features_of(task, targets)))
        (slope,) = torch.autograd.grad(loss / count, bias)
        assert slope.abs().max() < 1e-3
    gpt2 = GPT2(GPT2Config(vocab_size=9, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8))
    assert task.head(gpt2).classifier.bias is None


def test_a_model_of_single_texts_ignores_a_second_text_column():
    task = inferred(rows(["a", "b"]))
    assert examples([{"text": "t", "sentence2": "u", "label": "a"}], task)[0].texts == ("t",)
    with pytest.raises(HeadwayError, match="--pair"):
        examples([{"text": "t", "sentence2": "u", "label": "a"}], task, pair="sentence2")


def test_balanced_weights_compensate_for_imbalance():
    task = inferred(rows(["a"] * 6 + ["b"] * 2), TextClassification(class_weight="balanced"))
    assert task.weights == pytest.approx((8 / 12, 8 / 4))
    several = inferred(rows([["a"], ["a", "b"], ["a"], []]), TextClassification(class_weight="balanced"))
    assert several.weights == pytest.approx((1 / 3, 3.0))  # negatives over positives
    with pytest.raises(HeadwayError, match="cannot be used where the label is a number"):
        inferred(rows([0.5, 1.5]), TextClassification(class_weight="balanced"))


def test_a_balanced_label_of_one_row_in_100_000_trains_to_a_small_probability(bert_folder: Path):
    data = [{"text": TEXTS[i % 3], "label": ["always"] + ["rare"] * (i == 0)} for i in range(100_000)]
    model = TextClassification(class_weight="balanced").on(bert_folder)
    model.fit(data, config=replace(FAST, max_steps=5), eval_fraction=0, progress=False)
    assert model.task.weights == (0.01, 100.0)
    for prediction in model.predict(TEXTS):
        assert 0 < prediction.scores["rare"] < 0.01
        assert 0.9 < prediction.scores["always"] < 1


def test_balanced_weights_of_rare_labels_are_bounded_by_100_times_those_of_frequent_ones():
    task = inferred(rows(["a"] * 10_000 + ["b"] * 10 + ["c"] * 1000), TextClassification(class_weight="balanced"))
    often, rare, seldom = task.weights
    assert (rare / often, seldom / often) == pytest.approx((100, 10))
    assert 10_000 * often + 10 * rare + 1000 * seldom == pytest.approx(11_010)  # the mean over the rows is 1


def test_numbers_are_scaled_by_their_mean_and_standard_deviation():
    task = inferred(rows([1.5, 2.5, 5.0]))
    assert task.problem_type == REGRESSION
    assert (task.target_mean, task.target_std) == pytest.approx((3.0, math.sqrt((2.25 + 0.25 + 4) / 3)))


@pytest.mark.parametrize(
    ("data", "task", "parts"),
    [
        (rows(["a", "a", "a"]), TextClassification(), ["every row has the label 'a'", "--label"]),
        (rows(["-1", "-1"]), TextClassification(), ["'-1'", "unlabelled"]),
        (rows([None, "", " "]), TextClassification(), ['column "label" is empty', "--label"]),
        (rows([2.5, 2.5]), TextClassification(problem_type=REGRESSION), ["every label is 2.5"]),
        (rows(["x", "y"]), TextClassification(problem_type=REGRESSION), ["no label is a number", "'x'"]),
        (rows([[], []]), TextClassification(), ["no row has a label"]),
        (rows([f"v{i}" for i in range(60)]), TextClassification(), ["60 different values", "--label"]),
    ],
)
def test_labels_from_which_nothing_can_be_learned_are_refused(data: Any, task: TextClassification, parts: list[str]):
    with pytest.raises(HeadwayError) as caught:
        inferred(data, task, label="label")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (rows(["a", None, "b", ""]), ["rows 2 and 4", "no label", "delete the row"]),
        ([*rows(["a", "b"]), {"text": "", "label": "a"}], ["row 3", 'column "text" is empty', "Fill it in"]),
        ([*rows(["a", "b"]), {"text": " \t ", "label": "a"}], ["row 3", "only spaces"]),
        ([*rows(["a", "b"]), {"text": None, "label": "a"}], ["row 3", "is empty"]),
        ([*rows(["a", "b"]), {"text": ["x"], "label": "a"}], ["row 3", "list", "--text"]),
        (rows(["a", "b", float("nan")]), ["row 3", "no label"]),
        (rows([0.5, 1.5, "nan", 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]), ["row 3", "'nan'", "not a finite number"]),
        (rows([0.5, 1.5, None]), ["row 3", "no label"]),
    ],
)
def test_unusable_rows_are_named_with_a_way_to_fix_them(data: Any, parts: list[str]):
    with pytest.raises(HeadwayError) as caught:
        examples(data, inferred(data, label="label"), label="label")
    for part in parts:
        assert part in str(caught.value)


def test_a_message_says_if_rows_have_several_kinds_of_problems():
    data = [*rows(["a", None, "b"]), {"text": "", "label": "a"}]
    with pytest.raises(HeadwayError, match=r"row 2: there is no label.*2 kinds of errors.*headway check"):
        examples(data, inferred(data))


def test_a_label_unseen_in_training_is_named_with_its_rows_and_the_ways_to_fix_it():
    task = inferred(rows(["a", "b"]))
    with pytest.raises(HeadwayError) as caught:
        examples(rows(["a", "c", "b", "c"]), task)
    for part in ("rows 2 and 4", "'c'", "(a, b)", "Correct it", "delete", "train"):
        assert part in str(caught.value)


def test_texts_to_predict_may_be_empty_and_need_no_labels():
    task = inferred(rows(["a", "b"]))
    found = examples([{"text": ""}, {"text": None}, {"text": " "}], task, labelled=False)
    assert [one.text for one in found] == ["", "", " "]


# Sequences


@pytest.fixture
def wordpiece(wordpiece_folder: Path) -> Tokenizer:
    return Tokenizer.load(wordpiece_folder)


WORDS = "the quick brown fox jumps over the lazy dog where my parcel has not arrived"


@pytest.mark.parametrize("long_texts", ["windows", "cut"])
def test_a_long_text_is_windowed_or_cut_and_its_full_length_is_kept(wordpiece: Tokenizer, long_texts: str):
    task = TextClassification(labels=("a", "b"), problem_type=SINGLE_LABEL, long_texts=long_texts, overlap=3)
    ids = wordpiece.encode(WORDS).ids
    features = task.encode([TextExample(0, "row 1", WORDS, None, "b")], wordpiece, 10)
    inner = [one.input_ids[1:-1] for one in features]
    parts = sliding_windows(len(ids), 8, 3) if long_texts == "windows" else [range(8)]
    assert inner == [ids[part.start : part.stop] for part in parts]
    assert {(one.example, one.target, one.length) for one in features} == {(0, 1, len(ids) + 2)}


@pytest.mark.parametrize(
    ("first", "second"),
    [(WORDS, "the fox"), ("the fox", WORDS), (WORDS, WORDS), ("", WORDS), (WORDS, ""), ("", "")],
)
@pytest.mark.parametrize("kind", ["wordpiece_folder", "byte_level_folder"])
def test_every_token_of_a_long_pair_is_in_some_window(
    request: pytest.FixtureRequest, kind: str, first: str, second: str
):
    tokenizer = Tokenizer.load(request.getfixturevalue(kind))
    task = TextClassification(labels=("a", "b"), problem_type=SINGLE_LABEL)
    a, b = tokenizer.encode(first).ids, tokenizer.encode(second).ids
    features = task.encode([TextExample(0, "row 1", first, second)], tokenizer, 12)
    assert all(len(one.input_ids) <= 12 for one in features)
    for part, position in ((a, 0), (b, 1)):
        sides = [
            [token for token, segment in zip(one.input_ids, one.segment_ids, strict=True) if segment == position]
            for one in features
        ]
        assert set(part) <= {token for side in sides for token in side}


def test_the_windows_of_two_long_texts_advance_together(wordpiece: Tokenizer):
    task = TextClassification(labels=("a", "b"), problem_type=SINGLE_LABEL)
    first, second = WORDS * 40, WORDS * 20
    features = task.encode([TextExample(0, "row 1", first, second)], wordpiece, 67)
    room = (67 - 3) // 2
    a, b = (wordpiece.encode(text).ids for text in (first, second))
    parts_a, parts_b = sliding_windows(len(a), room, room // 8), sliding_windows(len(b), room, room // 8)
    assert len(features) == len(parts_a) > len(parts_b) > 1
    pairs = [tuple(one.input_ids[1:-1]) for one in features]
    assert pairs[0] == (*a[:room], wordpiece.sep_id, *b[:room])
    assert pairs[-1] == (*a[-room:], wordpiece.sep_id, *b[-room:])
    assert {pair[room + 1 :] for pair in pairs} == {tuple(b[part.start : part.stop]) for part in parts_b}


def test_the_outputs_of_a_texts_windows_are_averaged():
    task = TextClassification(labels=("a", "b"), problem_type=SINGLE_LABEL, long_texts="windows")
    texts = [TextExample(0, "", "x y z w v u t s r q", None, "a"), TextExample(1, "", "x", None, "b")]
    features = task.encode(texts, _Letters(), 8)  # pyright: ignore[reportArgumentType]
    counts = [len(group) for group in group_windows(features)]
    assert counts == [2, 1]
    outputs = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 6.0]])
    joined = join_windows(outputs, features)
    assert joined.tolist() == [[2.0, 2.0], [5.0, 6.0]]
    loss, count = task.loss(outputs, task.targets(features))
    assert (loss.item(), count) == (
        pytest.approx(F.cross_entropy(joined, torch.tensor([0, 1]), reduction="sum").item()),
        2,
    )
    found = task.decode(list(outputs), features)
    assert found[0].scores == pytest.approx({"a": 0.5, "b": 0.5})


class _Letters:
    """A tokenizer with one token per word."""

    def encode_ids(self, texts: list[str]) -> list[list[int]]:
        return [[ord(word) for word in text.split()] for text in texts]

    def num_special(self, pair: bool) -> int:  # noqa: ARG002
        return 2

    def join(self, first: list[int], second: None) -> tuple[list[int], list[int]]:  # noqa: ARG002
        ids = [1, *first, 2]
        return ids, [0] * len(ids)


# Losses and predictions


def features_of(task: TextClassification, labels: list[Any]) -> list[Any]:
    texts = [TextExample(i, "", "x", None, label) for i, label in enumerate(labels)]
    return task.encode(texts, _Letters(), 8)  # pyright: ignore[reportArgumentType]


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]])


def test_one_label_is_trained_with_cross_entropy_and_predicted_with_softmax():
    task = TextClassification(labels=("a", "b", "c"), problem_type=SINGLE_LABEL, weights=(1.0, 2.0, 0.5))
    loss, count = task.loss(LOGITS, task.targets(features_of(task, ["c", "b"])))
    expected = -(0.5 * LOGITS[0].log_softmax(-1)[2] + 2.0 * LOGITS[1].log_softmax(-1)[1])
    assert (loss.item(), count) == (pytest.approx(expected.item()), 2)
    cooled = replace(task, temperature=2.0)
    for one, row in zip(cooled.decode(list(LOGITS), features_of(task, [None, None])), LOGITS, strict=True):
        assert list(one.scores.values()) == pytest.approx((row / 2).softmax(-1).tolist())
        assert one.label == task.labels[int(row.argmax())]
        assert one.score == one.scores[one.label] == max(one.scores.values())


def test_several_labels_are_trained_with_binary_cross_entropy_and_predicted_with_thresholds():
    task = TextClassification(labels=("a", "b", "c"), problem_type=MULTI_LABEL, weights=(1.0, 3.0, 1.0))
    loss, count = task.loss(LOGITS, task.targets(features_of(task, [("a", "c"), ()])))
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    probability = LOGITS.sigmoid()
    expected = -(
        truth * probability.log() * torch.tensor([1.0, 3.0, 1.0]) + (1 - truth) * (1 - probability).log()
    ).sum()
    assert (loss.item(), count) == (pytest.approx(expected.item(), rel=1e-5), 6)
    found = task.decode(list(LOGITS), features_of(task, [None, None]))
    assert [one.labels for one in found] == [("a", "c"), ("a", "b")]
    strict = replace(task, thresholds=(0.9, 0.5, 0.6))
    assert [one.labels for one in strict.decode(list(LOGITS), features_of(task, [None, None]))] == [("c",), ("b",)]


def test_a_number_is_trained_with_the_squared_error_and_predicted_on_its_own_scale():
    task = TextClassification(problem_type=REGRESSION, target_mean=10.0, target_std=2.0)
    outputs = torch.tensor([[0.5], [-1.0]])
    loss, count = task.loss(outputs, task.targets(features_of(task, [11.0, 6.0])))
    assert (loss.item(), count) == (pytest.approx((0.5 - 0.5) ** 2 + (-1 + 2) ** 2), 2)
    assert [one.value for one in task.decode(list(outputs), features_of(task, [None, None]))] == [11.0, 8.0]


def test_predictions_are_plain_json():
    one = LabelPrediction("a", 0.75, {"a": 0.75, "b": 0.25})
    several = LabelsPrediction(("a",), {"a": 0.75, "b": 0.25})
    for prediction in (one, several, NumberPrediction(1.5)):
        assert json.loads(json.dumps(prediction.to_json()))
    assert one.to_json() == {"label": "a", "score": 0.75, "scores": {"a": 0.75, "b": 0.25}}


# Calibration on held-out data


def one_label(probabilities: list[float], gold: list[str]) -> tuple[list[Any], list[TextExample]]:
    predictions = [
        LabelPrediction("a" if p >= 0.5 else "b", max(p, 1 - p), {"a": p, "b": 1 - p}) for p in probabilities
    ]
    return predictions, [TextExample(i, "", "x", None, label) for i, label in enumerate(gold)]


def test_the_temperature_reduces_overconfidence():
    task = TextClassification(labels=("a", "b"), problem_type=SINGLE_LABEL)
    predictions, gold = one_label([0.99] * 100, ["a"] * 80 + ["b"] * 20)  # correct in 80 %
    calibrated = task.calibrate(predictions, gold)
    cooled = task.recalibrate(predictions, calibrated)
    assert calibrated.temperature > 2
    assert cooled[0].score == pytest.approx(0.8, abs=0.02)
    assert [one.label for one in cooled] == [one.label for one in predictions]
    assert task.score(cooled, gold)["calibration_error"] < task.score(predictions, gold)["calibration_error"]
    logits = [torch.tensor([math.log(0.99), math.log(0.01)])]
    assert calibrated.decode(logits, features_of(task, [None]))[0].score == pytest.approx(cooled[0].score)


@pytest.mark.parametrize(("examples", "errors"), [(20, 10), (100, 0)], ids=["too few examples", "too few errors"])
def test_no_temperature_is_fitted_to_few_examples_or_errors(examples: int, errors: int):
    task = TextClassification(labels=("a", "b"), problem_type=SINGLE_LABEL)
    predictions, gold = one_label([0.9] * examples, ["b"] * errors + ["a"] * (examples - errors))
    assert task.calibrate(predictions, gold) == task
    assert task.recalibrate(predictions, task) == predictions


# Published models

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def publish(kind: str, folder: Path, tokenizer: Tokenizer, **options: Any) -> torch.nn.Module:
    """A tiny model saved by transformers, with our tokenizer."""
    torch.manual_seed(1)
    if kind == "bert":
        config = transformers.BertConfig(vocab_size=tokenizer.vocab_size, **SIZES, **options)
        model = transformers.BertForSequenceClassification(config)
    else:
        config = transformers.GPT2Config(
            vocab_size=tokenizer.vocab_size, n_embd=32, n_layer=2, n_head=2, n_positions=64, pad_token_id=0, **options
        )
        model = transformers.GPT2ForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return model.eval()


@pytest.fixture(params=["bert", "gpt2"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tokenizer(kind: str, wordpiece_folder: Path, byte_level_folder: Path) -> Tokenizer:
    return Tokenizer.load(wordpiece_folder if kind == "bert" else byte_level_folder)


def logits_of(theirs: torch.nn.Module, tokenizer: Tokenizer, text: str) -> torch.Tensor:
    ids, _ = tokenizer.join(tokenizer.encode(text).ids)
    with torch.no_grad():
        return theirs(input_ids=torch.tensor([ids])).logits[0]


TEXTS = ["my parcel has not arrived", "Ada Lovelace", "the quick brown fox jumps over the lazy dog"]


def test_a_published_model_predicts_with_its_own_labels(kind: str, tokenizer: Tokenizer, tmp_path: Path):
    names = {0: "sad", 1: "glad", 2: "so-so"}
    theirs = publish(kind, tmp_path, tokenizer, id2label=names, label2id={name: i for i, name in names.items()})
    model = load(tmp_path)
    assert (model.task.labels, model.task.problem_type) == (("sad", "glad", "so-so"), SINGLE_LABEL)
    for text, one in zip(TEXTS, model.predict(TEXTS), strict=True):
        expected = logits_of(theirs, tokenizer, text).softmax(-1)
        assert list(one.scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert one.label == names[int(expected.argmax())]
    found = [one.label for one in model.predict(TEXTS[:2])]
    index = str(model.task.labels.index(found[1]))
    evaluation = model.evaluate([{"text": TEXTS[0], "label": found[0]}, {"text": TEXTS[1], "label": index}])
    assert evaluation.metrics["accuracy"] == 1.0
    assert [one.label for one in evaluation.examples] == found


def test_a_published_multi_label_model_uses_sigmoids(kind: str, tokenizer: Tokenizer, tmp_path: Path):
    theirs = publish(kind, tmp_path, tokenizer, num_labels=3, problem_type="multi_label_classification")
    model = load(tmp_path)
    found = model.predict(TEXTS[0])
    expected = logits_of(theirs, tokenizer, TEXTS[0]).sigmoid()
    assert list(found.scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert found.labels == tuple(f"LABEL_{i}" for i, p in enumerate(expected.tolist()) if p >= 0.5)


def test_a_published_model_with_a_single_output_predicts_a_number(kind: str, tokenizer: Tokenizer, tmp_path: Path):
    theirs = publish(kind, tmp_path, tokenizer, num_labels=1)
    model = load(tmp_path)
    assert model.task.problem_type == REGRESSION
    assert model.predict(TEXTS[0]).value == pytest.approx(logits_of(theirs, tokenizer, TEXTS[0]).item(), abs=1e-5)


def test_a_published_model_reads_texts_and_pairs(kind: str, tokenizer: Tokenizer, tmp_path: Path):
    publish(kind, tmp_path, tokenizer, num_labels=2)
    model = load(tmp_path)
    text, pair = model.predict(["my parcel", ("my parcel", "has arrived")])
    assert model.predict("my parcel").scores == pytest.approx(text.scores, abs=1e-5)
    assert model.predict(("my parcel", "has arrived")).scores == pytest.approx(pair.scores, abs=1e-5)
    assert text.scores != pytest.approx(pair.scores, abs=1e-3)


def test_gpt2_reads_the_last_token_even_if_the_text_contains_the_end_of_text_token(
    byte_level_folder: Path, tmp_path: Path
):
    """In transformers, a pad token inside the text changes which token is read."""
    tokenizer = Tokenizer.load(byte_level_folder)
    publish("gpt2", tmp_path, tokenizer, num_labels=2)
    model = load(tmp_path)
    end = tokenizer.end_of_text_id
    ids = [*tokenizer.encode("my parcel").ids, end, *tokenizer.encode(" has arrived").ids, end]
    batch = PackedBatch.pack([ids])
    with torch.no_grad():
        hidden = model.network.backbone(batch)
        last = model.network.head.classifier(hidden[-1])
        torch.testing.assert_close(model.network(batch)[0], last)
    spelt = model.predict("my parcel<|endoftext|> has arrived<|endoftext|>")
    assert spelt.scores != pytest.approx(model.predict("my parcel").scores, abs=1e-4)


# Training


def number_rows() -> list[dict[str, Any]]:
    return [{"text": text, "label": 50 + 3.5 * i} for i, text in enumerate(TEXTS)]


def test_moving_the_scale_into_the_head_changes_no_prediction(tiny_model: Path, tmp_path: Path):
    model = TextClassification().on(tiny_model)
    model.fit(number_rows(), output=tmp_path / "out", config=FAST)
    before = [one.value for one in model.predict(TEXTS)]
    weight = model.network.get_parameter("head.classifier.weight").clone()
    model.task = replace(model.task, target_mean=48.0, target_std=7.0).before_training(model.task, model.network)
    torch.testing.assert_close(model.network.get_parameter("head.classifier.weight"), weight / 7)
    assert [one.value for one in model.predict(TEXTS)] == pytest.approx(before, rel=1e-5)
    model.task = model.task.after_training(model.network)
    assert model.task.target_std == 1.0
    assert [one.value for one in model.predict(TEXTS)] == pytest.approx(before, rel=1e-5)


def test_plain_transformers_predicts_a_number_on_its_own_scale(bert_folder: Path, tmp_path: Path):
    model = TextClassification().on(bert_folder)
    model.fit(number_rows(), output=tmp_path / "out", config=FAST)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert theirs.config.problem_type == "regression"
    for text in TEXTS:
        expected = logits_of(theirs, model.tokenizer, text).item()
        assert model.predict(text).value == pytest.approx(expected, rel=1e-5)
        assert 40 < expected < 70


def test_with_gpt2_the_mean_of_numbers_stays_with_the_task(gpt2_folder: Path, tmp_path: Path):
    model = TextClassification().on(gpt2_folder)
    model.fit(number_rows(), output=tmp_path / "out", config=FAST)
    assert (model.task.target_mean, model.task.target_std) == (pytest.approx(53.5), 1.0)
    theirs = transformers.GPT2ForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    expected = logits_of(theirs, model.tokenizer, TEXTS[0]).item() + 53.5
    assert load(tmp_path / "out").predict(TEXTS[0]).value == pytest.approx(expected, rel=1e-5)


def test_a_head_that_has_the_labels_is_trained_further(tiny_model: Path, tmp_path: Path):
    data = [{"text": text, "label": label} for text, label in zip(TEXTS * 2, "abcabc", strict=True)]
    TextClassification().on(tiny_model).fit(data, output=tmp_path / "first", config=FAST)
    again = TextClassification().on(tmp_path / "first")
    (prepared, *_) = again.train(data[:2] + data[3:5], output=tmp_path / "second", config=FAST)
    assert "trained further" in prepared.notes[-1]
    assert again.task.labels == ("a", "b", "c")  # "c" stays although the new data does not have it
    loaded = load(tmp_path / "first")
    (prepared, *_) = loaded.train(data, output=tmp_path / "third", config=FAST)
    assert "trained further" in prepared.notes[-1]


@pytest.mark.parametrize("start", ["on", "load"])
def test_training_on_other_labels_creates_a_new_head(tiny_model: Path, tmp_path: Path, start: str):
    data = [{"text": text, "label": label} for text, label in zip(TEXTS * 2, "abcabc", strict=True)]
    TextClassification().on(tiny_model).fit(data, output=tmp_path / "first", config=FAST)
    model = load(tmp_path / "first") if start == "load" else TextClassification().on(tmp_path / "first")
    other = [{"text": text, "label": label} for text, label in zip(TEXTS * 2, "xyxyxy", strict=True)]
    (prepared, *_) = model.train(other, output=tmp_path / "second", config=FAST)
    assert "new text classification head" in prepared.notes[-1]
    assert load(tmp_path / "second").task.labels == ("x", "y")
    (prepared, *_) = model.train(number_rows(), output=tmp_path / "third", config=FAST)
    assert load(tmp_path / "third").task.problem_type == REGRESSION


def test_further_training_on_numbers_starts_from_the_same_predictions(tiny_model: Path, tmp_path: Path):
    TextClassification().on(tiny_model).fit(number_rows(), output=tmp_path / "first", config=FAST)
    before = load(tmp_path / "first").predict(TEXTS)
    model = load(tmp_path / "first")
    model.fit(number_rows(), output=tmp_path / "second", config=FAST, learning_rate=1e-12)
    after = load(tmp_path / "second").predict(TEXTS)
    assert [one.value for one in after] == pytest.approx([one.value for one in before], rel=1e-4)


def test_a_new_head_keeps_the_pooler_of_the_checkpoint(wordpiece_folder: Path, tmp_path: Path):
    theirs = publish("bert", tmp_path / "base", Tokenizer.load(wordpiece_folder), num_labels=2)
    model = TextClassification().on(tmp_path / "base")
    data = [{"text": text, "label": label} for text, label in zip(TEXTS, "xyz", strict=True)]
    events = model.train(data, output=tmp_path / "out", config=FAST)
    assert "(2 tensors)" in next(events).notes[-1]  # the classifier alone
    torch.testing.assert_close(model.network.head.pooler.dense.weight, theirs.bert.pooler.dense.weight)


def test_balanced_weights_raise_the_probability_of_a_rare_label(bert_folder: Path, tmp_path: Path):
    data = [{"text": text, "label": label} for text, label in zip(TEXTS * 2, "aaaaab", strict=True)]
    for name in (None, "balanced"):
        TextClassification(class_weight=name).on(bert_folder).fit(data, output=tmp_path / str(name), config=FAST)
    assert load(tmp_path / "balanced").task.weights == pytest.approx((6 / 10, 6 / 2))
    assert (tmp_path / "None/model.safetensors").read_bytes() != (tmp_path / "balanced/model.safetensors").read_bytes()
    weights = load(tmp_path / "balanced").predict("x"), load(tmp_path / "None").predict("x")
    assert weights[0].scores["b"] > weights[1].scores["b"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"problem_type": "many"}, "problem_type='many'"),
        ({"class_weight": "yes"}, "class_weight='yes'.*one of balanced or none"),
        ({"long_texts": "skip"}, "long_texts='skip'"),
        ({"max_length": 3}, "--max-length 3"),
        ({"overlap": -1}, "--overlap -1"),
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, Any], part: str):
    with pytest.raises(HeadwayError, match=part):
        TextClassification(**options)


@pytest.mark.parametrize(
    ("options", "part"), [({"max_length": 4000}, "at most 48"), ({"max_length": 20, "overlap": 11}, "at most half")]
)
def test_an_option_that_does_not_fit_the_model_is_refused_before_data_is_read(
    bert_folder: Path, options: dict[str, Any], part: str
):
    with pytest.raises(HeadwayError, match=part):
        TextClassification(**options).on(bert_folder)


def test_options_are_the_same_after_saving_and_loading():
    task = TextClassification(
        max_length=32,
        labels=("a", "b"),
        problem_type=MULTI_LABEL,
        thresholds=(0.25, 0.5),
        weights=(1.0, 2.0),
        paired=True,
    )
    assert TextClassification.from_json(json.loads(json.dumps(task.to_json()))) == task
    with pytest.raises(HeadwayError, match="colour"):
        TextClassification.from_json({"colour": "red"})


def test_merged_labels_take_the_most_frequent_spelling_and_a_stored_task_reads_all_spellings():
    labels = ["Billing", "Billing", "BILLING ", "praise"]
    table = read_table([{"text": f"text {i}", "label": label} for i, label in enumerate(labels)])
    task = TextClassification(merge_labels=True)
    columns = task.columns(table, {}, need_label=True)
    trained, notes = task.infer_labels(table, columns)
    assert trained.labels == ("Billing", "praise")
    assert notes[1] == "labels merged (--merge-labels): 'BILLING' (1) become 'Billing' (2)"
    stored = TextClassification.from_json(trained.to_json())
    evaluated = read_table([{"text": "a", "label": " biLLing"}, {"text": "b", "label": "PRAISE"}])
    assert [example.label for example in stored.examples(evaluated, columns)] == ["Billing", "praise"]
    assert trained.reset().merge_labels
    table = read_table([{"text": "a", "label": ["x", "Y"]}, {"text": "b", "label": ["Y", "y"]}])
    assert task.infer_labels(table, columns)[0].labels == ("Y", "x")

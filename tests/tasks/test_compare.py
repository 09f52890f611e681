"""Comparisons of models: tests that keep their level, the same rows for all, and what the models differ on."""

import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headway.core.checkpoints.hub import BUILT_IN
from headway.core.checkpoints.joining import join_models
from headway.core.errors import HeadwayError
from headway.tasks import Prompt, SavedPrompt, TextClassification, TextToText, compare, load
from headway.tasks.data.read import read_table
from headway.tasks.evaluation.compare import row_parts
from headway.tasks.evaluation.divisions import ColumnDivision, Divisions, Quarters
from headway.tasks.evaluation.paired_tests import holm, mcnemar_p, paired_tests, permutation_p
from headway.tasks.evaluation.sides import Predicted
from headway.tasks.intervals import Bootstrap
from headway.tasks.tallies import Tally, tally_means, tally_numbers
from scipy.stats import binomtest
from test_contract import CASES
from tiny_gpt2 import make_gpt2

FAST = {"max_steps": 2, "precision": "fp32", "device": "cpu", "eval_fraction": 0, "progress": False}
SUBJECTS = ["my parcel", "the cat", "my card", "the dog", "Ada", "the mat", "the fox", "the money"]
ENDS = ["has not arrived", "sat on the mat", "jumps", "lived in London", "is quick"]
ROWS = [
    {"text": f"{subject} {end}", "label": "post" if subject.startswith("my") else "other", "from": end.split()[0]}
    for subject, end in product(SUBJECTS, ENDS)
]


def right_or_wrong(right: np.ndarray) -> Tally:
    return tally_means({"accuracy": right}, of_01=["accuracy"])


def two_models(rng: np.random.Generator, size: int, better: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Whether two models are right: hard examples are hard for both."""
    chance = 0.95 - 0.5 * rng.random(size)
    return rng.random(size) < chance, rng.random(size) < chance + better


# The tests


def test_without_a_difference_mcnemars_test_finds_one_in_about_5_percent_of_the_cases():
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        first, other = two_models(rng, 1000)
        found.append(mcnemar_p(int((first & ~other).sum()), int((other & ~first).sum())) < 0.05)
    assert 0.03 <= np.mean(found) <= 0.07


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_without_a_difference_permutations_find_one_in_about_5_percent_of_the_cases(metric):
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        if metric == "accuracy":
            pair = [right_or_wrong(right) for right in two_models(rng, 200)]
        else:  # numbers on another scale
            gold = rng.normal(size=100)
            pair = [tally_numbers(scale * (gold + rng.normal(size=100)) + 3, gold) for scale in (1, 5)]
        found.append(permutation_p(*pair, permutations=400)[metric] < 0.05)
    assert 0.03 <= np.mean(found) <= 0.07


def test_without_a_difference_the_interval_leaves_out_zero_in_about_5_percent_of_the_cases():
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        bootstraps = []
        for right in two_models(rng, 200):
            bootstraps.append(Bootstrap(replicates=400))
            bootstraps[-1].add(right_or_wrong(right))
        one = bootstraps[0].differences(bootstraps[1])["accuracy"]
        found.append(not one.low <= 0 <= one.high)
    assert 0.03 <= np.mean(found) <= 0.07


def test_a_fixed_difference_is_found():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        tests = paired_tests(*(right_or_wrong(right) for right in two_models(rng, 1000, better=0.08)))["accuracy"]
        found.append(tests.p < 0.05)
    assert np.mean(found) > 0.9
    assert tests.name == "McNemar"


@pytest.mark.parametrize(("first", "other"), [(0, 0), (3, 0), (2, 9), (9, 2), (40, 61)])
def test_mcnemars_p_is_that_of_the_binomial_test(first, other):
    expected = binomtest(first, first + other).pvalue if first + other else 1
    assert mcnemar_p(first, other) == pytest.approx(expected)


def test_permutations_approach_the_share_among_all_exchanges():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 9))
    observed = abs(values[0].mean() - values[1].mean())
    signs = np.array(list(product([1, -1], repeat=9)))
    exact = (np.abs((signs * (values[0] - values[1])).mean(1)) >= observed - 1e-12).mean()
    found = permutation_p(*(tally_means({"f1": one}) for one in values), permutations=20_000)["f1"]
    assert found == pytest.approx(exact, abs=0.012)


def test_groups_are_exchanged_together():
    rng = np.random.default_rng(0)
    first, other = (right.repeat(20) for right in two_models(rng, 30, better=0.2))
    pair = right_or_wrong(first), right_or_wrong(other)
    grouped = paired_tests(*pair, np.arange(30).repeat(20))["accuracy"]
    assert grouped.name == "permutation"
    assert paired_tests(*pair)["accuracy"].p < 1e-3 < 0.01 < grouped.p


def test_holm_multiplies_the_smallest_p_by_their_number_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []


# Models


@pytest.fixture(scope="module")
def models(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that has learnt the rows, and one that has not."""
    folder = tmp_path_factory.mktemp("models")
    for name, steps in (("good", 60), ("new", 1)):
        options = {**FAST, "max_steps": steps, "learning_rate": 5e-3}
        TextClassification().on(bert_folder).fit(ROWS, output=folder / name, **options)
    return folder / "good", folder / "new"


@pytest.fixture(scope="module")
def found(models):
    return compare(*models, data=ROWS, slices=["from"])


def test_the_metrics_are_those_of_evaluate(models, found):
    for path, one in zip(models, found.models, strict=True):
        model = load(path)
        expected = model.evaluate(ROWS)
        assert {name: value.value for name, value in one.metrics.items()} == pytest.approx(
            {name: value for name, value in expected.metrics.items() if name in one.metrics}
        )
        assert one.metrics["accuracy"] == expected.intervals["accuracy"]
        assert one.parameters == sum(parameter.numel() for parameter in model.network.parameters())
        assert one.megabytes == pytest.approx(one.parameters * 4 / 1e6)
        assert one.rows_per_second > 0


def test_the_better_model_is_found_with_the_rows_that_show_it(models, found):
    difference = next(one for one in found.differences if one.metric == "accuracy")
    scores = [one.metrics["accuracy"].value for one in found.models]
    assert difference.value.value == pytest.approx(scores[1] - scores[0])
    assert difference.value.low <= difference.value.value <= difference.value.high < 0
    assert difference.significant
    assert found.verdict[0].startswith(f"{models[0]} is better than {models[1]}")
    only_first = [one for one in found.rows if one.right == [str(models[0])]]
    assert list(found.rows[: len(only_first)]) == only_first
    assert len(only_first) >= len(ROWS) * (scores[0] - scores[1])
    differences = [one.difference for one in only_first]
    assert differences == sorted(differences, reverse=True)


def test_a_model_does_not_differ_from_itself(models):
    found = compare(models[0], load(models[0]), data=ROWS)
    assert {(one.value.low, one.value.high, one.p) for one in found.differences} == {(0, 0, 1)}
    assert not found.rows
    assert not any(one.turns for one in found.slices)
    assert found.verdict[0].startswith("No difference")


def test_the_slices_are_those_of_lengths_labels_and_the_named_column(found):
    assert {one.slice.partition(":")[0] for one in found.slices} <= {"length", "label", "column from"}
    assert next(one for one in found.slices if one.slice == "label: other").rows == 30
    json.dumps(found.to_json(), allow_nan=False)


def test_the_parts_of_a_column_are_its_values_or_quarters_of_its_numbers():
    table = read_table([{**row, "age": i, "label": row["label"]} for i, row in enumerate(ROWS * 3)])
    task, _ = TextClassification().infer_labels(table, TextClassification().columns(table, {}, need_label=True))
    examples = task.examples(table, task.columns(table, {}, need_label=True))
    side = Predicted(task, examples, [None] * len(examples), 1.0)
    parts = row_parts(side, Divisions(table, ["from", "age", "label"], "label"))
    assert {len(rows) for name, rows in parts.items() if name.startswith("column from")} == {len(SUBJECTS) * 3}
    assert not any(name.startswith("column label") for name in parts)  # the labels are parts already
    ages = {name: rows for name, rows in parts.items() if name.startswith("column age")}
    assert [name.removeprefix("column age: ") for name in ages] == [
        "up to 29", "more than 29, up to 59", "more than 59, up to 89", "more than 89"
    ]  # fmt: skip
    assert sorted(np.concatenate(list(ages.values()))) == list(range(len(table)))
    lengths = np.array([len(row["text"]) for row in table.rows])
    ranges = sorted((lengths[rows].min(), lengths[rows].max()) for name, rows in parts.items() if "characters" in name)
    assert len(ranges) > 1
    assert all(one[1] < other[0] for one, other in pairwise(ranges))
    with pytest.raises(HeadwayError, match=r"--slice nothing: .* has no such column"):
        Divisions(table, ["nothing"])


def test_cells_without_a_number_are_a_part_of_their_own():
    cells = [*range(100), None, ""]
    division = ColumnDivision.of(read_table([{"text": "a", "price": cell} for cell in cells]), "price")
    assert [division.name(cell) for cell in (0, 24, 25, 99, None, "", "7.5")] == [
        "up to 24", "up to 24", "more than 24, up to 49", "more than 74", "empty", "empty", "up to 24"
    ]  # fmt: skip
    mixed = ColumnDivision.of(
        read_table([{"text": "a", "price": cell} for cell in [*map(str, range(100)), "free"]]), "price"
    )
    assert (mixed.name("7"), mixed.name("free")) == ("7", "free")
    constant = Quarters.of(np.array([5.0] * 40))
    assert constant.name(5.0) == "all numbers"


def test_rows_that_a_model_cannot_read_are_named_and_left_out_for_all(models):
    rows = [*ROWS, {"text": "", "label": "post"}, {"text": "the cat", "label": None}, {"text": "a", "label": ["x"]}]
    found = compare(*models, data=rows)
    assert found.num_rows == len(ROWS)
    assert [one.where.rpartition(" ")[2] for one in found.left_out] == ["41", "42", "43"]
    assert any("1 row of 43 not compared: without a text" in note for note in found.notes)


def test_labels_that_one_model_does_not_know_count_as_its_errors(models, bert_folder, tmp_path):
    rows = [{**row, "label": row["from"]} for row in ROWS]
    options = {**FAST, "max_steps": 60, "learning_rate": 5e-3}
    TextClassification().on(bert_folder).fit(rows, output=tmp_path / "other", **options)
    found = compare(models[0], tmp_path / "other", data=rows)
    assert found.models[0].metrics["accuracy"].value == 0
    assert found.models[1].metrics["accuracy"].value > 0.5
    assert {one.test for one in found.differences} == {"McNemar", "permutation"}
    assert any("40 of 40 rows have labels that the model does not know" in note for note in found.notes)


def test_with_several_models_all_are_compared_with_the_first_and_the_p_are_corrected(models):
    pair = compare(*models, data=ROWS)
    three = compare(models[0], models[1], models[1], data=ROWS)
    assert {one.model for one in three.differences} == {str(models[1]), f"{models[1]} (3)"}
    p = {(one.model, one.metric): one.p for one in three.differences}
    single = next(one.p for one in pair.differences if one.metric == "accuracy")
    assert p[str(models[1]), "accuracy"] == pytest.approx(min(1, 2 * single))


@pytest.mark.parametrize("name", list(CASES))
def test_models_of_every_task_can_be_compared(name, bert_folder, gpt2_folder, tmp_path):
    case = CASES[name]
    folder = bert_folder if "bert" in case.task.models else gpt2_folder
    for output, seed in (("one", 0), ("two", 1)):
        torch.manual_seed(seed)
        case.task.on(folder).fit(case.rows, output=tmp_path / output, seed=seed, **FAST)
    found = compare(tmp_path / "one", tmp_path / "two", data=case.rows)
    assert [one.name for one in found.models] == [str(tmp_path / "one"), str(tmp_path / "two")]
    expected = load(tmp_path / "one").evaluate(case.rows).metrics
    values = {name: value.value for name, value in found.models[0].metrics.items()}
    assert values == pytest.approx({name: expected[name] for name in values}, rel=1e-4, abs=1e-6)
    assert found.metric in values
    json.dumps(found.to_json())


def test_a_decoder_and_an_encoder_decoder_that_write_the_same_tokens_are_compared(tmp_path):
    (tmp_path / "joined").mkdir()
    join_models(BUILT_IN["mini-bert"], BUILT_IN["mini-gpt2"], tmp_path / "joined")
    rows = [{"input": f"the {word}", "output": f"my {word}"} for word in ("cat", "dog", "fox", "mat")]
    for output, model in (("one", "mini-gpt2"), ("two", tmp_path / "joined")):
        TextToText(max_new_tokens=2).on(model).fit(rows, output=tmp_path / output, **{**FAST, "max_steps": 1})
    found = compare(tmp_path / "one", tmp_path / "two", data=rows)
    assert (found.metric, list(found.models[1].metrics)[:2]) == ("loss", ["loss", "perplexity"])
    few = compare(load(tmp_path / "one", eval_outputs=2), tmp_path / "two", data=rows)
    assert sum("for 2 of 4 inputs (--eval-outputs)" in note for note in few.notes) == 2
    scores = {one.metric: one for one in found.differences}
    assert scores["chrf"].test == "permutation"
    for name, model in (("one", found.models[0]), ("two", found.models[1])):
        evaluated = load(tmp_path / name).evaluate(rows).metrics
        assert {metric: model.metrics[metric].value for metric in evaluated} == pytest.approx(evaluated)
        assert model.metrics["chrf"].low <= evaluated["chrf"] <= model.metrics["chrf"].high


def test_models_with_different_tokens_are_compared_by_what_does_not_depend_on_them(
    gpt2_folder, byte_level_folder, bert_folder, tmp_path
):
    rows = [{"text": row["text"]} for row in ROWS]
    options = {**FAST, "max_steps": 1}
    tasks = {name: CASES[name].task for name in ("text-generation", "fill-mask")}
    tasks["text-generation"].on(gpt2_folder).fit(rows, output=tmp_path / "a", **options)
    tokenizer = json.loads((tmp_path / "a/tokenizer.json").read_text(encoding="utf-8"))
    assert compare(tmp_path / "a", tmp_path / "a", data=rows).metric == "loss"
    loaded = load(tmp_path / "a")
    loaded.tokenizer.__dict__["vocabulary"] = ["other", *loaded.tokenizer.vocabulary[1:]]
    found = compare(tmp_path / "a", loaded, data=rows)
    assert (found.metric, list(found.models[0].metrics)) == ("bits_per_byte", ["bits_per_byte"])
    assert any("different tokens" in note for note in found.notes)
    assert tokenizer["model"]


def test_what_cannot_be_compared_is_refused(models, bert_folder, tmp_path):
    numbers = [{**row, "label": len(row["text"]) / 4} for row in ROWS]
    TextClassification().on(bert_folder).fit(numbers, output=tmp_path / "numbers", **FAST)
    case = CASES["token-classification"]
    case.task.on(bert_folder).fit(case.rows, output=tmp_path / "entities", **FAST)
    with pytest.raises(HeadwayError, match="Models for different tasks"):
        compare(models[0], tmp_path / "entities", data=ROWS)
    with pytest.raises(HeadwayError, match="at least two"):
        compare(models[0], data=ROWS)
    with pytest.raises(HeadwayError, match=r"that .*numbers cannot read"):
        compare(models[0], tmp_path / "numbers", data=ROWS)
    renamed = [{"text": row["text"], "label": row["label"], "kind": row["from"]} for row in ROWS]
    other = tmp_path / "kind"
    TextClassification().on(bert_folder).fit(renamed, output=other, columns={"label": "kind"}, **FAST)
    with pytest.raises(HeadwayError, match=r"different columns .*Name it with --label"):
        compare(models[0], other, data=renamed)


# Prompts


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "few.csv"
    path.write_text("text,label\nthank you,other\nmy card here,post\nwhere is it,other\nmy money,post\n")
    return path


@pytest.fixture(scope="module")
def writer(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gpt2(byte_level_folder, tmp_path_factory.mktemp("gpt2"))


def test_a_saved_prompt_is_the_same_prompt(examples, writer, tmp_path):
    options: dict[str, Any] = {"template": "{text}\nKind: {label}", "shots": 2, "labels": ("post", "other"), "seed": 3}
    saved = SavedPrompt(Prompt(**options), str(writer), examples=str(examples), columns={"text": "text"})
    saved.save(tmp_path / "prompt.yaml")
    again = SavedPrompt.load(tmp_path / "prompt.yaml")
    assert again.prompt == saved.prompt
    assert (again.model, again.examples, again.columns) == (str(writer), str(examples), {"text": "text"})
    assert again.fingerprint == read_table(examples).fingerprint()
    assert "examples: few.csv" in (tmp_path / "prompt.yaml").read_text(encoding="utf-8").splitlines()


def test_a_folder_beside_a_saved_prompt_is_found_from_everywhere(byte_level_folder, tmp_path, monkeypatch):
    (tmp_path / "place/gpt2").mkdir(parents=True)
    make_gpt2(byte_level_folder, tmp_path / "place/gpt2")
    monkeypatch.chdir(tmp_path / "place")
    SavedPrompt(Prompt(labels=["a", "b"]), "gpt2").save("prompt.yaml")
    monkeypatch.chdir(tmp_path)
    again = SavedPrompt.load("place/prompt.yaml")
    assert Path(again.model).samefile(tmp_path / "place/gpt2")
    assert again.open("fp32").base == again.model


def test_a_prompt_that_generates_its_answers_is_not_compared(models, writer):
    with pytest.raises(HeadwayError, match="a prompt that generates its answers cannot be compared"):
        compare(models[0], SavedPrompt(Prompt(write=True), str(writer)), data=ROWS)


@pytest.mark.parametrize("scoring", ["direct", "channel", "knn", "pmi"])
def test_a_prompt_is_compared_with_a_model(models, examples, writer, tmp_path, scoring):
    asked = Prompt(shots=2, scoring=scoring)
    SavedPrompt(asked, str(writer), examples=str(examples)).save(tmp_path / "prompt.yaml")
    found = compare(models[0], tmp_path / "prompt.yaml", data=ROWS)
    model, prompt = found.models
    predictions = asked.on(writer).predict([row["text"] for row in ROWS], str(examples))
    right = np.mean([one.label == row["label"] for one, row in zip(predictions, ROWS, strict=True)])
    assert prompt.metrics["accuracy"].value == pytest.approx(right)
    assert prompt.parameters > 0
    assert (found.verdict[0].split()[0], model.name) == (str(models[0]),) * 2


def test_examples_that_changed_since_the_prompt_was_saved_are_refused(models, examples, writer, tmp_path):
    SavedPrompt(Prompt(), str(writer), examples=str(examples)).save(tmp_path / "prompt.yaml")
    with examples.open("a") as file:
        file.write("the fox,other\n")
    with pytest.raises(HeadwayError, match=r"few\.csv has changed since the prompt was saved"):
        compare(models[0], tmp_path / "prompt.yaml", data=ROWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "does not hold a prompt"),
        ("model: gpt2\nepochs: 3\n", "epochs is not an option of a prompt"),
        ("model: [\n", "no prompt can be read"),
        ("model: gpt2\nshots: -1\n", "--shots -1"),
    ],
)
def test_a_file_that_holds_no_prompt_is_refused(content, message, tmp_path):
    (tmp_path / "prompt.yaml").write_text(content)
    with pytest.raises(HeadwayError, match=message):
        SavedPrompt.load(tmp_path / "prompt.yaml")


def test_a_model_with_other_options_shares_the_network_and_leaves_the_first_one_alone(gpt2_folder):
    model = TextToText(eval_outputs=3, max_new_tokens=3).on(gpt2_folder)
    other = model.with_options(eval_outputs=7)
    assert (model.task.eval_outputs, other.task.eval_outputs) == (3, 7)
    assert other._network is model._network

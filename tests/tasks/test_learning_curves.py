"""Learning curves: draws, the power law, the advice, the time they may take, and resumed runs."""

import json
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import learning_curve, load
from headway.tasks.learning_curves.advice import advise
from headway.tasks.learning_curves.draws import draw_order
from headway.tasks.learning_curves.options import FEW_SHOT, FINE_TUNE, FROZEN, PROMPT, ZERO_SHOT, CurveOptions
from headway.tasks.learning_curves.power_law import fit_power_law
from headway.tasks.learning_curves.runs import (
    FinishedRun,
    OutOfTime,
    Run,
    RunStore,
    estimate_seconds,
    follow_runs,
    plan_runs,
)
from headway.tasks.learning_curves.summary import fit_laws, summarize

SIZES = np.repeat([8.0, 16, 32, 64, 128, 256], 5)
NOUNS = ("cat", "dog", "fox", "mat", "parcel", "money", "card", "program", "weather", "café")
STARTS = ("the {}", "my {}", "where is the {}", "send the {}", "please, the {}", "{} and program")


def rows(names=("animal", "thing"), starts=STARTS):
    """Texts about nouns, whose label is one of the names by noun."""
    return [
        {"text": start.format(noun), "label": names[place % len(names)]}
        for start in starts
        for place, noun in enumerate(NOUNS)
    ]


def measured(scores, method=FROZEN, seconds=1.0):
    """Runs with these scores by size, each a list of draws."""
    return [
        FinishedRun(Run(method, size, draw), {"accuracy": score}, seconds)
        for size, draws in scores.items()
        for draw, score in enumerate(draws, 1)
    ]


def advice(*runs, baseline=0.1):
    found = [one for some in runs for one in some]
    points = summarize(found, "accuracy")
    return advise(points, fit_laws(found, "accuracy", points), ("A", baseline), "accuracy")


def curve(law, spread=0.01):
    """Scores of three draws of each size; the law is a function of the size, or a score."""
    scores = {size: law(size) if callable(law) else law for size in (8, 16, 32, 64, 128)}
    return {size: [score - spread, score, score + spread] for size, score in scores.items()}


# -- draws


def test_draws_are_nested_and_stratified_and_have_every_label():
    strata = np.array([0] * 60 + [1] * 30 + [2] * 9 + [3])
    for seed in range(5):
        order = draw_order(strata, seed)
        assert sorted(order) == list(range(100))
        assert set(strata[order[:4]]) == {0, 1, 2, 3}
        for size in (20, 40, 80):
            counts = Counter(strata[order[:size]].tolist())
            assert all(abs(counts[label] - size * (strata == label).mean()) <= 2 for label in range(4))
    assert draw_order(strata, 1).tolist() == draw_order(strata, 1).tolist() != draw_order(strata, 2).tolist()


# -- the power law


def test_a_known_power_law_is_recovered_and_its_intervals_cover():
    limit, amount, exponent = 0.9, 1.2, 0.5
    gain = amount * (256**-exponent - 512**-exponent)
    covered, fitted = Counter(), []
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(size=len(SIZES)) * 0.05 * (8 / SIZES) ** 0.25
        law = fit_power_law(SIZES, limit - amount * SIZES**-exponent + noise)
        fitted.append((law.limit.value, law.exponent.value, law.gain(256, 512).value))
        for name, found, true in (
            ("limit", law.limit, limit),
            ("exponent", law.exponent, exponent),
            ("score", law.score(512), limit - amount * 512**-exponent),
            ("gain", law.gain(256, 512), gain),
        ):
            covered[name] += found.low <= true <= found.high
    assert np.median(fitted, axis=0) == pytest.approx([limit, exponent, gain], rel=0.15)
    assert min(covered.values()) >= 53  # 57 expected


def test_a_law_needs_three_sizes_and_equal_scores_fit():
    assert fit_power_law(np.array([8, 8, 16, 16]), np.array([0.5, 0.6, 0.6, 0.7])) is None
    assert fit_power_law(np.array([8, 16, 32]), np.array([0.5, 0.6, 0.7])) is None
    law = fit_power_law(SIZES, np.ones(len(SIZES)))
    assert law.gain(256, 512).high < 0.01
    assert 0.99 < law.score(512).value <= 1


# -- advice


def test_a_rising_curve_advises_to_label_more():
    said = advice(measured(curve(lambda size: 0.95 - 1.5 * size**-0.4)))
    assert said.startswith("Use frozen, which has accuracy 0.735 with 128 labelled rows: label more")
    assert "+0.0" in said
    assert said.count(". ") == 0


def test_a_flat_curve_advises_against_more_labels():
    assert "more rows are hardly worth it" in advice(measured(curve(0.7, spread=0.003)))


def test_a_falling_curve_advises_to_check_the_labels():
    said = advice(measured(curve(lambda size: 0.8 - 0.03 * np.log2(size / 8), spread=0.004)))
    assert "falls with more rows" in said
    assert "check the labels" in said


def test_a_noisy_curve_says_that_it_is_open():
    assert "is open" in advice(measured({size: [0.4, 0.6, 0.8] for size in (8, 16, 32)}))


def test_two_sizes_say_nothing_about_more_rows():
    assert "with 3 sizes or more" in advice(measured({8: [0.5, 0.6], 16: [0.6, 0.7]}))


def test_methods_are_compared_by_score_and_time_and_size():
    slow = measured(curve(lambda size: 0.9 - 2 * size**-0.5), FINE_TUNE, seconds=60)
    quick = measured(curve(lambda size: 0.8 - 0.7 * size**-0.5), FROZEN, seconds=2)
    said = advice(slow, quick)
    assert "Use frozen" in said
    slow = measured(curve(lambda size: 0.96 - 2 * size**-0.5), FINE_TUNE, seconds=60)
    said = advice(slow, quick)
    assert "Use fine-tune" in said
    assert "(with 32 rows, frozen is better)" in said
    assert "is better" not in advice(slow, measured({32: [0.9]}))  # a single draw is no proof
    near = measured(curve(lambda size: 0.957 - 2 * size**-0.5), FEW_SHOT, seconds=6)
    assert "(or few-shot, which is as good in 10% of the time)" in advice(slow, near)


def test_methods_that_learn_nothing_are_said_to_be_no_better_than_one_label():
    assert advice(measured(curve(0.5)), baseline=0.5).startswith("No method is better than always answer")
    zero = [FinishedRun(Run(ZERO_SHOT, 0, 1), {"accuracy": 0.8}, 1.0)]
    assert advice(zero, measured(curve(0.7))).startswith("zero-shot needs no labels and is as good")
    assert "compare it with a method" in advice(zero)


# -- runs and their time


def test_small_sizes_come_first_and_zero_shot_runs_once():
    runs = plan_runs((PROMPT, ZERO_SHOT, FROZEN), (8, 16), 4)
    assert runs[0] == Run(ZERO_SHOT, 0, 1)
    assert len(runs) == 1 + 2 * 2 * 4 == len(set(runs))
    assert [(one.size, one.draw) for one in runs if one.method == FROZEN] == [
        *((8, 1), (8, 2), (8, 3)),
        *((8, 4), (16, 1), (16, 2), (16, 3)),
        (16, 4),
    ]


def test_the_time_of_a_run_is_estimated_from_those_before():
    known = measured({8: [0, 0]}, seconds=10.0)
    assert estimate_seconds(Run(FROZEN, 8, 3), known) == 10
    assert estimate_seconds(Run(FROZEN, 16, 1), known) == 20
    assert estimate_seconds(Run(FROZEN, 64, 1), [*known, *measured({16: [0]}, seconds=14.0)]) == 14 + 48 * 0.5
    assert estimate_seconds(Run(FINE_TUNE, 8, 1), known) == 0


class FakeTime:
    """A clock that runs take time on: rows seconds with fine-tuning, one second without."""

    def __init__(self, fail_at: int | None = None, slow: float = 1.0) -> None:
        self.now, self.calls, self.fail_at, self.slow = 0.0, count(1), fail_at, slow

    def measure(self, run: Run, is_over) -> dict[str, float]:
        if next(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        for _ in range(run.size if run.method == FINE_TUNE else 1):
            if is_over() and run.method == FINE_TUNE:
                raise OutOfTime
            self.now += self.slow
        return {"accuracy": 1 - 1 / (run.size + run.draw)}

    def follow(self, folder: Path, minutes: float | None = None, *, resume: bool = False) -> list[FinishedRun]:
        store = RunStore(folder, {"data": "x"})
        store.open(resume=resume, overwrite=False)
        planned = plan_runs((FROZEN, FINE_TUNE), (8, 16, 32, 64), 5)
        return list(follow_runs(planned, store, self.measure, minutes=minutes, clock=lambda: self.now))


def test_the_time_is_kept_and_shared_by_the_methods(tmp_path):
    whole = FakeTime().follow(tmp_path / "whole")
    assert len(whole) == 40
    for minutes in (1, 3, 6):
        clock = FakeTime()
        found = clock.follow(tmp_path / f"{minutes}", minutes)
        assert 0.5 * 60 * minutes < clock.now <= 60 * minutes
        assert sum(one.run.method == FROZEN for one in found) == 20  # the quick one has all of its runs
        again = FakeTime()
        repeated = again.follow(tmp_path / f"{minutes}", minutes, resume=True)
        assert {one.run for one in repeated} == {one.run for one in found}
        assert again.now == 0
    before = {path.name for path in (tmp_path / "1/runs").iterdir()}
    more = FakeTime()
    assert len(more.follow(tmp_path / "1", resume=True)) == 40
    assert more.now == sum(one.seconds for one in whole if one.run.name not in before)


def test_a_run_that_is_longer_than_the_time_is_stopped(tmp_path):
    clock = FakeTime(slow=30)
    found = clock.follow(tmp_path / "curve", 2)
    assert clock.now == 120
    assert {one.run.method for one in found} == {FROZEN}


@pytest.mark.parametrize("fail_at", [1, 7, 40])
def test_a_resumed_curve_has_the_results_of_an_uninterrupted_one(tmp_path, fail_at):
    whole = FakeTime().follow(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        FakeTime(fail_at).follow(tmp_path / "part")
    assert len(list((tmp_path / "part/runs").iterdir())) == fail_at - 1
    resumed = FakeTime().follow(tmp_path / "part", resume=True)
    assert [replace(one, before=False) for one in resumed] == whole
    assert sum(one.before for one in resumed) == fail_at - 1


def test_a_folder_of_something_else_is_refused(tmp_path):
    store = RunStore(tmp_path / "curve", {"data": "x"})
    store.open(resume=False, overwrite=False)
    with pytest.raises(HeadwayError, match="--resume to continue it"):
        store.open(resume=False, overwrite=False)
    with pytest.raises(HeadwayError, match=r"other data or options \(data\)"):
        RunStore(tmp_path / "curve", {"data": "y"}).open(resume=True, overwrite=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(HeadwayError, match="is no learning curve"):
            RunStore(tmp_path / "mine", {}).open(resume=False, overwrite=overwrite)
    assert (tmp_path / "mine/letter.txt").exists()


# -- with models


QUICK = CurveOptions(methods=(FROZEN,), sizes=(8, 16, 24), seeds=2)


def measure(folder, data, test=None, options=QUICK, **more):
    config = TrainConfig(max_steps=2, precision="fp32")
    return learning_curve(data, test, options=replace(options, model=str(folder)), config=config, device="cpu", **more)


def test_a_resumed_curve_of_a_model_is_that_of_an_uninterrupted_one(bert_folder, tmp_path):
    whole = measure(bert_folder, rows(), output=tmp_path / "whole")

    def stop_after_three(one, number, total):
        assert total == 6
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(bert_folder, rows(), output=tmp_path / "part", follow=stop_after_three)
    resumed = measure(bert_folder, rows(), output=tmp_path / "part", resume=True)
    assert [one.before for one in resumed.runs] == [True] * 3 + [False] * 3
    assert [one.metrics for one in resumed.runs] == [one.metrics for one in whole.runs]
    assert [one["accuracy"] for one in resumed.table] == [one["accuracy"] for one in whole.table]
    assert resumed.advice == whole.advice
    assert json.loads(json.dumps(whole.to_json()))["points"]["frozen"][0]["size"] == 8


def test_every_method_runs_and_has_its_minutes(bert_folder, gpt2_folder):
    options = CurveOptions(methods="zero-shot,prompt,frozen,few-shot,fine-tune", sizes="8,16", seeds=1, shots=2)
    found = measure(bert_folder, rows(), options=replace(options, prompt_model=str(gpt2_folder)))
    assert list(found.points) == ["zero-shot", "prompt", "frozen", "few-shot", "fine-tune"]
    assert [point.size for point in found.points["fine-tune"]] == [8, 16]
    assert [point.size for point in found.points["zero-shot"]] == [0]
    assert all(row["minutes in total"] > 0 for row in found.methods)
    assert [name.split()[0] for name, _ in found.chart.levels] == ["zero-shot", "always"]


@pytest.fixture(scope="module")
def mnli(bert_folder, tmp_path_factory):
    """A published classifier for natural language inference with random weights."""
    torch.manual_seed(3)
    names = dict(enumerate(("entailment", "neutral", "contradiction")))
    model = transformers.BertForSequenceClassification.from_pretrained(
        bert_folder, id2label=names, label2id={name: i for i, name in names.items()}
    )
    folder = tmp_path_factory.mktemp("nli")
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["one", "several"])
def test_zero_shot_by_entailment_has_the_score_of_its_model(bert_folder, mnli, kind):
    data, test = rows()[:20], rows()[20:]
    if kind == "several":
        for row in data + test:
            row["label"] = [row["label"], "thing"]
    words = {"animal": "a living being", "thing": "an object"}
    asked = {"labels": ("animal", "thing"), "verbalize": words, "hypothesis": "It is {label}."}
    asked["problem_type"] = "single_label_classification" if kind == "one" else "multi_label_classification"
    expected = load(mnli, device="cpu", **asked).evaluate(test).metrics
    options = CurveOptions(
        "zero-shot", zero_shot_model=str(mnli), hypothesis="It is {label}.",
        verbalize="animal=a living being,thing=an object", prompt_model="missing",
    )  # fmt: skip
    found = measure(bert_folder, data, test, options=options)
    assert found.runs[0].metrics == expected
    assert any(f"zero-shot answers by entailment with {mnli}" in note for note in found.notes)


def test_prompts_are_scored_as_asked(gpt2_folder):
    scores = {}
    for scoring in ("direct", "knn", "channel"):
        options = CurveOptions(methods="zero-shot,prompt", sizes=16, seeds=1, shots=2, scoring=scoring)
        found = measure(gpt2_folder, rows(), options=replace(options, prompt_model=str(gpt2_folder)))
        scores[scoring] = [one.metrics["calibration_error"] for one in found.runs]
    assert scores["direct"][0] == scores["knn"][0] != scores["channel"][0]
    assert len({one[1] for one in scores.values()}) == 3


@pytest.mark.parametrize("kind", ["several", "pairs"])
def test_every_kind_of_labels_has_a_curve(bert_folder, kind):
    data = rows()
    if kind == "several":
        data = [
            {"text": row["text"], "labels": [word for word in ("cat", "the", "my") if word in row["text"]]}
            for row in data
        ]
    else:
        data = [{"sentence1": row["text"], "sentence2": "a cat", "label": row["label"]} for row in data]
    found = measure(bert_folder, data)
    assert found.metric == ("f1" if kind == "several" else "accuracy")
    assert len(found.runs) == 6


def test_test_rows_are_never_drawn_and_a_part_is_held_out_without_them(bert_folder):
    data = rows()
    found = measure(bert_folder, data, data[:10])
    assert found.test == 10
    assert any(note.startswith("10 rows are not drawn") for note in found.notes)
    found = measure(bert_folder, data)
    assert found.test == 15
    assert any(note.startswith("15 of 60 rows are held out for the test") for note in found.notes)
    found = measure(bert_folder, data, test_rows=5)
    assert found.test == 5
    with pytest.raises(HeadwayError, match="All rows of --data are also in --test-data"):
        measure(bert_folder, data, data)


def test_unknown_labels_of_the_test_count_as_wrong(bert_folder):
    test = [{"text": f"{row['text']} today", "label": row["label"]} for row in rows()]
    score = measure(bert_folder, rows(), test).points[FROZEN][-1].mean
    new = [{**row, "label": "new"} for row in test]
    assert measure(bert_folder, rows(), new).points[FROZEN][-1].mean == 0 < score


def test_hostile_labels_are_names_like_others(bert_folder):
    names = ("<script>alert(1)</script>", "a,b;c")
    found = measure(bert_folder, rows(names), options=replace(QUICK, sizes=(8,)))
    assert found.baseline[0] in names
    assert 0 <= found.points[FROZEN][0].mean <= 1


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (rows(("only",)), {}, "every row has the label 'only'"),
        ([{"text": f"the cat {i}", "label": i / 7} for i in range(40)], {}, "has numbers"),
        (rows()[:12], {}, "too few to hold some of them out"),
        (rows(), {"sizes": "500"}, "there are 45 rows to draw from"),
        (rows(), {"sizes": "8,x"}, "--sizes x: a whole number"),
        (rows(), {"methods": "frozen,svm"}, "--methods svm: one or several of"),
        (rows(), {"seeds": 0}, "--seeds 0"),
        (rows(), {"minutes": -1}, "--minutes -1"),
        (rows(), {"scoring": "best"}, "scoring=.best. is invalid"),
        (rows(), {"metric": "loss"}, "--metric loss: one of accuracy, f1"),
        (rows(), {"methods": "prompt"}, "prompt with 8 rows: .*--prompt-model"),
        (rows(), {"methods": "zero-shot", "zero_shot_model": "mini-bert"}, "zero-shot: .*--zero-shot-model"),
        (rows(), {"hypothesis": "It is {label}."}, "--hypothesis is the sentence of --zero-shot-model"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_message(bert_folder, tmp_path, data, options, message):
    with pytest.raises(HeadwayError, match=message):
        measure(bert_folder, data, prompt_model=str(tmp_path / "missing"), **options)


def test_sizes_that_cannot_be_drawn_are_left_out_and_said(bert_folder):
    found = measure(bert_folder, rows(("a", "b", "c")), sizes="2,8,100")
    assert {one.run.size for one in found.runs} == {8}
    assert any(note.startswith("--sizes 2, 100 are left out: there are") for note in found.notes)

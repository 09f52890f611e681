"""Wrong labels are found by confident learning on out-of-fold probabilities."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.tasks import QuestionAnswering, TextClassification
from headway.tasks.base.results import Prepared, RepeatFinished, Trained
from headway.tasks.evaluation.checked_labels import mean_prediction
from headway.tasks.evaluation.confident_learning import (
    class_thresholds,
    confident_joint,
    estimate_joint,
    likely_labels,
    prune_by_noise_rate,
)
from headway.tasks.evaluation.frozen_vectors import out_of_fold_numbers, out_of_fold_probabilities
from headway.tasks.evaluation.label_errors import find_label_errors

CATS, DOGS = ("cat", "mat", "fox"), ("money", "card", "program")


def noisy_probabilities(size: int = 600, wrong: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that mostly know the true labels, given labels, and which of these were changed."""
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 3, size)
    logits = chance.normal(0, 1, (size, 3))
    logits[np.arange(size), truth] += 4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given, changed = truth.copy(), np.zeros(size, dtype=bool)
    changed[chance.permutation(size)[:wrong]] = True
    given[changed] = (truth[changed] + 1) % 3
    return probabilities, given, changed


# The method.


def test_the_example_of_the_equations():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.4, 0.6], [0.3, 0.7]])
    given = np.array([0, 0, 0, 1, 1, 1])
    assert class_thresholds(probabilities, given) == pytest.approx([0.6, 2.2 / 3])
    # Confidently in class 0: rows 0 and 1; in class 1: rows 2 and 3. Rows 4 and 5 reach no threshold.
    joint = confident_joint(probabilities, given)
    assert joint.tolist() == [[2, 1], [0, 1]]
    assert estimate_joint(joint, np.array([3, 3])) == pytest.approx(np.array([[2, 1], [0, 3]]) / 6)
    assert np.flatnonzero(prune_by_noise_rate(probabilities, given)).tolist() == [2]
    assert likely_labels(probabilities, given).tolist() == [1, 1, 1, 0, 0, 0]


def test_the_joint_has_the_noise_that_was_added():
    probabilities, given, _ = noisy_probabilities()
    joint = estimate_joint(confident_joint(probabilities, given), np.bincount(given))
    assert joint.sum() == pytest.approx(1)
    assert joint.sum(1) == pytest.approx(np.bincount(given) / len(given))
    assert 1 - np.trace(joint) == pytest.approx(30 / 600, abs=0.02)
    assert joint[1, 0] + joint[2, 1] + joint[0, 2] > 0.8 * (1 - np.trace(joint))  # label 0 became 1, 1 became 2, ...


def test_changed_labels_are_pruned():
    probabilities, given, changed = noisy_probabilities()
    wrong = prune_by_noise_rate(probabilities, given)
    assert (wrong & changed).sum() >= 27
    assert (wrong & ~changed).sum() <= 6


def test_right_labels_of_a_good_model_are_not_pruned():
    probabilities, given, changed = noisy_probabilities(wrong=0)
    certain = probabilities[np.arange(len(given)), given] > 0.5
    assert not prune_by_noise_rate(probabilities[certain], given[certain]).any()
    assert not changed.any()


def test_a_class_without_rows_is_never_likely():
    probabilities, given, _ = noisy_probabilities()
    more = np.column_stack([probabilities * 0.5, np.full(len(given), 0.5)])
    assert confident_joint(more, given)[:, 3].sum() == 0
    assert estimate_joint(confident_joint(more, given), np.bincount(given, minlength=4)).sum() == pytest.approx(1)


def test_out_of_fold_predictions_do_not_depend_on_the_label_of_their_own_row():
    chance = np.random.default_rng(0)
    vectors, folds = chance.normal(size=(60, 8)), np.arange(60) % 3
    classes = chance.integers(0, 2, 60)
    found = out_of_fold_probabilities(vectors, classes, folds, 2)
    other = classes.copy()
    other[folds == 2] = 1 - other[folds == 2]
    assert (out_of_fold_probabilities(vectors, other, folds, 2)[folds == 2] == found[folds == 2]).all()
    assert abs((found.argmax(1) == classes).mean() - 0.5) < 0.2  # random labels are predicted by chance
    numbers = vectors @ chance.normal(size=8)
    assert np.corrcoef(out_of_fold_numbers(vectors, numbers, folds), numbers)[0, 1] > 0.95
    kept = np.where(np.arange(60) == 7, -1, folds)
    assert np.isnan(out_of_fold_probabilities(vectors, classes, kept, 2)[7]).all()


# Data of every kind, with the model that comes with the package.


def sentence(i: int, about: tuple[str, ...]) -> str:
    chance = random.Random(i)
    return f"the {chance.choice(about)} and the {chance.choice(about)} number {i}"


def one_label(size: int = 120) -> list[dict[str, Any]]:
    return [{"text": sentence(i, (CATS, DOGS)[i % 2]), "label": ("animal", "thing")[i % 2]} for i in range(size)]


def test_a_changed_label_is_first_and_its_neighbours_have_the_likely_label():
    rows = one_label()
    for i in (17, 40):
        rows[i]["label"] = ("thing", "animal")[i % 2]
    found = find_label_errors(rows)
    assert found.task == "text-classification"
    assert found.checked == 120
    assert {one.place for one in found.suspects[:2]} == {18, 41}
    assert {tuple(one) for one in found.ranking[:2].tolist()} == {(17, 0), (40, 0)}
    first = next(one for one in found.suspects if one.place == 18)
    assert (first.given, first.likely) == ("animal", "thing")
    assert first.given_probability is not None
    assert first.likely_probability is not None
    assert first.given_probability < first.likely_probability
    assert first.suspicion == pytest.approx(1 - first.given_probability)
    assert len(first.neighbours) == 3
    assert all(one.label == "thing" for one in first.neighbours)
    cosines = [one.cosine for one in first.neighbours]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] <= 1.0001


def test_right_labels_are_not_suspected():
    assert len(find_label_errors(one_label()).suspects) <= 1


def test_each_of_several_labels_is_checked():
    rows = [
        {
            "text": sentence(i, (CATS, DOGS, CATS + DOGS)[i % 3]),
            "label": [["animal"], ["thing"], ["animal", "thing"]][i % 3],
        }
        for i in range(150)
    ]
    rows[30]["label"] = ["thing"]  # about animals
    found = find_label_errors(rows, task=TextClassification(problem_type="multi_label_classification"))
    assert found.checked == 300
    first = {(one.place, one.item, one.given, one.likely) for one in found.suspects if one.place == 31}
    assert first == {(31, "animal", "no", "yes"), (31, "thing", "yes", "no")}


def test_each_word_of_entities_is_checked():
    rows = [
        {
            "tokens": ["the", (CATS, DOGS)[i % 2][i % 3], "number", str(i)],
            "tags": ["O", ("B-A", "B-T")[i % 2], "O", "O"],
        }
        for i in range(120)
    ]
    rows[50]["tags"] = ["O", "O", "O", "O"]
    rows[51]["tags"] = ["O", "B-A", "O", "O"]
    found = find_label_errors(rows)
    assert found.task == "token-classification"
    assert found.checked == 480
    first = {(one.place, one.item, one.given, one.likely) for one in found.suspects[:2]}
    assert first == {(51, CATS[2], "O", "A"), (52, DOGS[0], "A", "T")}
    assert {tuple(one) for one in found.ranking[:2].tolist()} == {(50, 1), (51, 1)}


def test_a_number_far_from_the_predicted_one_is_suspected():
    chance = random.Random(0)
    rows = [
        {"text": sentence(i, (CATS, DOGS)[i % 2]), "label": 3.0 * (i % 2) + chance.gauss(0, 0.2)} for i in range(120)
    ]
    rows[60]["label"] = 9.0
    found = find_label_errors(rows, task=TextClassification(problem_type="regression"))
    assert found.suspects[0].place == 61
    assert found.suspects[0].given == "9"
    assert found.suspects[0].given_probability is None
    assert found.suspects[0].suspicion > 3
    assert "correlation" in found.quality


def test_a_row_with_a_label_of_its_own_is_not_checked():
    found = find_label_errors([*one_label(), {"text": "something else", "label": "other"}])
    assert (found.checked, found.unchecked) == (120, 1)


def test_other_tasks_are_refused():
    rows = [{"question": f"who {i}?", "context": "Ada came", "answers": "Ada"} for i in range(20)]
    assert_error(lambda: find_label_errors(rows, task=QuestionAnswering()), "question-answering", "--task")


# Out-of-fold predictions of fine-tuned models.

QUICK = TrainConfig(max_steps=4, batch_size=8, device="cpu", precision="fp32")


def test_the_predictions_of_a_model_trained_with_folds_are_used(tmp_path: Path):
    rows = one_label(40)
    model = tmp_path / "model"
    list(TextClassification(frozen=True).on("mini-bert").train(rows, output=model, folds=4))
    stored = [json.loads(line) for line in (model / "out_of_fold.jsonl").read_text().splitlines()]
    found = find_label_errors(rows, model=model)
    assert found.checked == 40
    order = sorted(range(40), key=lambda i: stored[i]["probabilities"][stored[i]["gold"]])
    suspects = [one.place - 1 for one in found.suspects]
    assert found.ranking[len(suspects) :, 0].tolist() == [i for i in order if i not in suspects]
    changed = [*rows[:-1], {**rows[-1], "text": "another text"}]
    assert_error(lambda: find_label_errors(changed, model=model), "out_of_fold.jsonl", "other data")


@pytest.mark.parametrize("kind", ["one label", "entities"])
def test_a_model_is_fine_tuned_with_folds_where_this_is_asked_for(bert_folder: Path, kind: str):
    words = [{"tokens": ["Ada", f"x{i}"], "tags": ["B-PER", "O"]} for i in range(20)]
    rows, checked = (one_label(20), 20) if kind == "one label" else (words, 40)
    events: list[Any] = []
    found = find_label_errors(rows, model=bert_folder, folds=2, repeats=2, config=QUICK, follow=events.extend)
    assert found.checked == checked
    assert "fine-tuned with 2 folds, 2 times, and by linear models" in found.notes[-1]
    # Two trainings each time, and none on all rows.
    assert [one.number for one in events if isinstance(one, RepeatFinished)] == [1, 2, 1, 2]
    assert not [one for one in events if isinstance(one, Trained)]
    splits = [note for one in events if isinstance(one, Prepared) for note in one.notes if "fold 1 of 2" in note]
    assert len(splits) == 2
    assert splits[0] != splits[1]


def test_predictions_are_averaged():
    first, second = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.1, 0.9], [0.8, 0.2]])
    found = mean_prediction([first, second])
    assert found[0] == pytest.approx([0.5, 0.5])
    assert found[1] == pytest.approx([2 / 3, 1 / 3])
    assert mean_prediction([np.array([1.0, 2.0]), np.array([3.0, 2.0])]) == pytest.approx([2, 2])
    unknown = mean_prediction([np.array([[np.nan, np.nan]]), np.array([[0.5, 0.5]])])
    assert np.isnan(unknown).all()

"""Texts that have none of a model's labels: the distance from the training texts, the rule, and how it is stored."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import assert_error
from headway.core.models.packing import PackedBatch
from headway.core.training.training_config import TrainConfig
from headway.tasks import (
    RuleOptions,
    TextClassification,
    TokenClassification,
    compare,
    fit_rules,
    load,
    measure_rules,
    save_rules,
)
from headway.tasks.base.card_rules import rules_section, with_rules
from headway.tasks.base.decision_rules import DecisionRules
from headway.tasks.base.model import TaskModel
from headway.tasks.base.text_distance import NetworkWithDistance, TextDistance
from headway.tasks.evaluation import evaluate_with_report
from headway.tasks.evaluation.conformal import quantile_rank
from headway.tasks.evaluation.out_of_scope import fit_distance

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")
WORDS = ["good", "fine", "great", "bad", "poor", "sad"]
THINGS = ["film", "book", "song", "play", "show", "meal", "room", "trip"]


def rows(first: int, last: int) -> list[tuple[str, str]]:
    return [
        (
            f"a {WORDS[i % 6]} {THINGS[i * 7 % 8]} and a {THINGS[i * 3 % 8]} number {i}",
            "plus" if i % 6 < 3 else "minus",
        )
        for i in range(first, last)
    ]


TRAIN, HELD_OUT, OTHERS = rows(0, 120), rows(120, 300), rows(300, 500)
FAR = ["Z" * 50, "%$ & %$ & %$ &" * 9, "\u202e\u0000<script>alert(1)</script>" * 4, "東京 " * 30]


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two labels, without rules."""
    output = tmp_path_factory.mktemp("scope") / "model"
    TextClassification().on(bert_folder).fit(TRAIN, config=FAST, output=output, eval_fraction=0, progress=False)
    return output


@pytest.fixture(scope="module")
def ruled(folder: Path) -> Path:
    """The same model with all three rules."""
    copied = Path(shutil.copytree(folder, folder.with_name("ruled")))
    model = load(copied, device="cpu")
    found = model.evaluate(HELD_OUT)
    fit_rules(model, found, RuleOptions(coverage=0.5, conformal=0.9, none_of_these=0.95), TRAIN)
    save_rules(model)
    return copied


@pytest.fixture
def model(folder: Path) -> TaskModel:
    return load(folder, device="cpu")


# The distance and the rule.


def test_the_rule_accepts_its_share_of_new_rows_on_average_over_held_out_samples():
    random = np.random.default_rng(0)
    for share, size in ((0.95, 19), (0.95, 200), (0.8, 50)):
        rank = quantile_rank(size, share, "--none-of-these")
        accepted = [
            (random.chisquare(5, 400) <= np.sort(random.chisquare(5, size))[rank - 1]).mean() for _ in range(1500)
        ]
        assert share - 0.005 <= np.mean(accepted) <= share + 1 / (size + 1) + 0.005


def test_the_distance_is_that_of_mahalanobis_and_about_1_for_the_texts_themselves(model: TaskModel):
    fitted = fit_distance(model, TRAIN)
    distance = fitted.distance
    assert len(fitted.texts) == len(TRAIN)
    covariance = np.linalg.inv((distance.factor @ distance.factor.T).double().numpy())
    vectors = torch.randn(7, len(distance.mean), generator=torch.Generator().manual_seed(0))
    apart = (vectors - distance.mean).double().numpy()
    expected = np.sqrt(np.einsum("bi,ij,bj->b", apart, np.linalg.inv(covariance), apart) / len(distance.mean))
    assert distance(vectors)[:, 0].numpy() == pytest.approx(expected, rel=1e-3)
    found = fit_rules(model, model.evaluate(OTHERS), RuleOptions(none_of_these=0.9), TRAIN)
    assert found.none_of_these is not None
    own = [one.certainty.distance for one in model.predict([text for text, _ in TRAIN])]
    assert 0.3 < np.median(own) < 1.5


def test_the_vectors_are_those_of_a_layer_and_the_labels_do_not_change(model: TaskModel):
    network = model._for_inference
    extended = NetworkWithDistance(network, torch.nn.Identity())
    batch = PackedBatch.pack([[2, 5, 6, 3], [2, 7, 3]])
    with torch.inference_mode():
        outputs, plain = extended(batch), network(batch)
        hidden = network.backbone.blocks[0](network.backbone.embed(batch), batch)
    assert torch.allclose(outputs[:, :2], plain)
    assert torch.allclose(outputs[0, 2:], hidden[:4].mean(0), atol=1e-5)
    assert torch.allclose(outputs[1, 2:], hidden[4:7].mean(0), atol=1e-5)
    assert not network.backbone.blocks[0]._forward_hooks


def test_texts_far_from_the_training_texts_have_none_of_the_labels(ruled: Path):
    model = load(ruled, device="cpu")
    assert all(one.none_of_these for one in model.predict(FAR))
    near = np.mean([not one.none_of_these for one in model.predict([text for text, _ in OTHERS])])
    assert near > 0.8
    one = model.predict(FAR[0])
    assert one.to_json()["none_of_these"] is True
    assert one.summary.startswith("none of these: ")
    assert "unlike all texts" in one.certainty.warning
    assert one.label in ("plus", "minus")  # the label is still there, for those who want it


def test_predictions_are_the_same_with_the_rule_as_without_it(folder: Path, ruled: Path):
    texts = [*(text for text, _ in OTHERS[:40]), *FAR, "", "good " * 400]
    plain, other = (load(one, device="cpu").predict(texts) for one in (folder, ruled))
    assert [one.label for one in plain] == [one.label for one in other]
    assert [one.score for one in plain] == pytest.approx([one.score for one in other], abs=1e-5)


def test_long_texts_and_windows_of_a_server_give_the_same_answer(ruled: Path):
    model = load(ruled, device="cpu")
    texts = ["a good film and a fine book " * 60, *FAR[:2], "a good film and a book number 7"]
    windows = model.windows(texts)
    assert len(windows[0]) > 1
    found = model.join_windows(windows, model.predict_windows([one for part in windows for one in part]))
    assert [one.none_of_these for one in found] == [one.none_of_these for one in model.predict(texts)]


def test_other_predictions_in_the_pauses_of_a_long_one_do_not_change_its_distance(ruled: Path):
    model = load(ruled, device="cpu")
    texts = ["a good film and a fine book " * 20, *FAR]
    expected = [one.certainty.distance for one in model.predict(texts)]
    windows = model.windows(texts)
    flat = [one for part in windows for one in part]
    found = model.join_windows(windows, model.predict_windows(flat, pause=lambda: model.predict(FAR[1])))
    assert [one.certainty.distance for one in found] == pytest.approx(expected, rel=1e-4)
    shared: list[list[float]] = []

    def ask() -> None:
        shared.append([one.certainty.distance for one in model.predict(texts)])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(shared) == 4
    assert all(one == pytest.approx(expected, rel=1e-4) for one in shared)


def test_pairs_and_several_labels_have_the_rule(bert_folder: Path):
    pairs = [((text, f"{other} as well"), label) for (text, label), (other, _) in zip(TRAIN, OTHERS, strict=False)]
    paired = TextClassification().on(bert_folder)
    paired.fit(
        [pair for pair, _ in pairs], [label for _, label in pairs], config=FAST, eval_fraction=0, progress=False
    )
    held_out = [{"text": a, "pair": b, "label": c} for (a, c), (b, _) in zip(HELD_OUT, OTHERS, strict=False)]
    known = [{"text": a, "pair": b} for (a, b), _ in pairs]
    fit_rules(paired, paired.evaluate(held_out), RuleOptions(none_of_these=0.9), known)
    assert paired.predict((FAR[0], FAR[1])).none_of_these

    several = TextClassification().on(bert_folder)
    lists = [(text, [label, "long"] if i % 2 else [label]) for i, (text, label) in enumerate(TRAIN)]
    several.fit(lists, config=FAST, eval_fraction=0, progress=False)
    scores = fit_rules(
        several, several.evaluate([(text, [label]) for text, label in HELD_OUT]), RuleOptions(none_of_these=0.9), TRAIN
    )
    assert scores.none_of_these is not None
    assert scores.none_of_these.accepted.value >= 0.9
    assert several.predict(FAR[0]).none_of_these


# What cannot be.


def test_what_has_no_labels_is_refused(bert_folder: Path, model: TaskModel):
    number = TextClassification().on(bert_folder)
    numbers = [(text, float(i)) for i, (text, _) in enumerate(TRAIN)]
    number.fit(numbers, config=FAST, eval_fraction=0, progress=False)
    rule = RuleOptions(none_of_these=0.9)
    assert_error(lambda: fit_rules(number, number.evaluate(numbers), rule, TRAIN), "not for a number")
    tagger = TokenClassification().on(bert_folder)
    words = [["a", "good", "film"], ["where", "is", "Ada"]] * 4
    tags = [["O", "O", "B-X"], ["O", "O", "B-PER"]] * 4
    tagger.fit(words, tags, config=FAST, eval_fraction=0, progress=False)
    assert_error(lambda: fit_rules(tagger, tagger.evaluate(words, tags), rule, words), "only for models that give")
    found = model.evaluate(HELD_OUT)
    assert_error(lambda: fit_rules(model, found, rule), "--reference")
    assert_error(lambda: fit_rules(model, found, rule, TRAIN[:5]), "too few")
    assert_error(lambda: fit_rules(model, found, rule, [TRAIN[0]] * 40), "all texts are the same")
    assert_error(lambda: fit_rules(model, found, rule, HELD_OUT), "have texts of --reference")
    few = model.evaluate(HELD_OUT[:10])
    assert_error(lambda: fit_rules(model, few, RuleOptions(none_of_these=0.95), TRAIN), "needs at least 19")
    assert_error(lambda: RuleOptions(none_of_these=1.0), "none_of_these", "such as 0.9")
    assert model.rules.none_of_these is None
    assert model.distance is None


# The model folder.


def test_a_folder_keeps_the_rule_and_its_distance(ruled: Path, folder: Path, tmp_path: Path):
    assert {path.name for path in ruled.iterdir()} - {path.name for path in folder.iterdir()} == {
        load(ruled, device="cpu").rules.none_of_these.file
    }
    texts = [*(text for text, _ in OTHERS), *FAR]
    expected = [one.certainty for one in load(ruled, device="cpu").predict(texts)]
    load(ruled, device="cpu").save(tmp_path / "again")
    again = load(tmp_path / "again", device="cpu")
    assert [one.certainty for one in again.predict(texts)] == expected
    assert {path.name for path in (tmp_path / "again").iterdir()} >= {again.rules.none_of_these.file}
    plain = load(folder, device="cpu")
    assert plain.distance is None
    assert "none_of_these" not in plain.predict(texts[0]).to_json()


def test_a_new_rule_replaces_the_file_of_the_old_one_and_a_stored_one_can_be_fitted_again(ruled: Path, tmp_path: Path):
    copied = Path(shutil.copytree(ruled, tmp_path / "model"))
    model = load(copied, device="cpu")
    before = model.rules.none_of_these
    scores = fit_rules(model, model.evaluate(OTHERS), RuleOptions(none_of_these=0.8))  # with the distance that it has
    save_rules(model)
    assert scores.none_of_these is not None
    assert 0.8 <= scores.none_of_these.accepted.value < 0.9  # texts of equal distance are all accepted
    assert model.rules.none_of_these.file == before.file
    fit_rules(model, model.evaluate(OTHERS), RuleOptions(none_of_these=0.8), TRAIN[:60])
    save_rules(model)
    files = [path.name for path in copied.iterdir() if TextDistance.is_name(path.name)]
    assert files == [model.rules.none_of_these.file] != [before.file]
    assert load(copied, device="cpu").rules == model.rules


def test_a_full_disk_leaves_the_rules_as_they_were(ruled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copied = Path(shutil.copytree(ruled, tmp_path / "model"))
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    model = load(copied, device="cpu")
    fit_rules(model, model.evaluate(OTHERS), RuleOptions(none_of_these=0.8), TRAIN[:60])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headway.tasks.base.model_folder._write_text", full)
    assert_error(lambda: save_rules(model), "the disk is full")
    after = {path.name: path.read_bytes() for path in copied.iterdir()}
    assert {name: after[name] for name in before} == before
    assert load(copied, device="cpu").rules.none_of_these.accepted == 0.95


@pytest.mark.parametrize("how", ["missing", "cut", "other", "path"])
def test_a_damaged_distance_is_refused_when_the_model_is_opened(ruled: Path, tmp_path: Path, how: str):
    copied = Path(shutil.copytree(ruled, tmp_path / "model"))
    info = json.loads((copied / "headway.json").read_text())
    file = copied / info["decision_rules"]["none_of_these"]["file"]
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif how == "other":
        file.write_bytes(TextDistance(torch.zeros(3), torch.eye(3)).content)
    else:
        info["decision_rules"]["none_of_these"]["file"] = "../model.safetensors"
        (copied / "headway.json").write_text(json.dumps(info))
    assert_error(lambda: load(copied, device="cpu"), "headway.json", "Copy the")


def test_a_model_that_is_trained_again_has_no_rules(ruled: Path):
    model = load(ruled, device="cpu")
    model.fit(TRAIN, config=FAST, eval_fraction=0, progress=False)
    assert model.distance is None
    assert model.predict(FAR[0]).certainty.to_json() == {}


# Cards, reports, comparisons.


def test_the_card_names_the_stored_rules_and_keeps_what_was_written_into_it(ruled: Path, tmp_path: Path):
    copied = Path(shutil.copytree(ruled, tmp_path / "model"))
    card = (copied / "README.md").read_text(encoding="utf-8")
    for name in ("`abstained`", "`label_set`", "`none_of_these`"):
        assert card.count(name) == 1
    assert card.index("## Decision rules") < card.index("## Limits")
    (copied / "README.md").write_text(card.replace("## Limits", "My own words.\n\n## Limits"), encoding="utf-8")
    model = load(copied, device="cpu")
    model.save(tmp_path / "again")
    again = (tmp_path / "again" / "README.md").read_text(encoding="utf-8")
    section = rules_section(model.rules)
    assert section in card
    assert section in again
    fit_rules(model, model.evaluate(OTHERS), RuleOptions(coverage=0.7))
    save_rules(model)
    changed = (copied / "README.md").read_text(encoding="utf-8")
    expected = card.replace(section, "").replace(
        "## Limits", f"My own words.\n\n{rules_section(model.rules)}\n\n## Limits"
    )
    assert changed.split() == expected.split()
    assert rules_section(model.rules) != section
    assert "Decision rules" not in with_rules(changed, DecisionRules())
    assert with_rules("Only this.\n", model.rules).startswith("Only this.\n\n## Decision rules\n")


def test_models_with_stored_rules_are_reported_and_compared(folder: Path, ruled: Path):
    found = compare(str(folder), str(ruled), data=OTHERS)
    assert {(one.value.low, one.value.high, one.p) for one in found.differences} == {(0, 0, 1)}
    assert not found.rows
    json.dumps(found.to_json(), allow_nan=False)
    model = load(ruled, device="cpu")
    evaluation, report = evaluate_with_report(model, OTHERS)
    json.dumps(report.to_json(), allow_nan=False)
    scores = measure_rules(model, evaluation)
    assert scores.none_of_these is not None
    assert scores.none_of_these.accepted.value > 0.8
    assert any("near enough to the training texts" in sentence for sentence in scores.sentences())
    assert scores.to_json()["none_of_these"]["fitted"] is False

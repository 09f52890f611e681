"""Before many labels are learnt by fine-tuning, frozen features are measured on the same held-out rows."""

import pytest
from headway.tasks import TextClassification
from headway.tasks.base.results import Prepared
from headway.tasks.base.rival import Rival
from headway.tasks.classification import frozen_comparison

TEXT = "cat dog parcel money card mat program fox where here sat wrote first over jumps lazy quick brown London please"
WORDS = TEXT.split()
ROWS = [{"text": f"the {word} {other}", "label": f"about {word}"} for word in WORDS for other in WORDS[:10]]
OPTIONS = {"device": "cpu", "precision": "bf16", "eval_fraction": 0.2, "max_steps": 3, "batch_size": 8}


def train(folder, output, rows=ROWS, task=None, **options):
    events = list((task or TextClassification()).on(folder).train(rows, output=output, **{**OPTIONS, **options}))
    notes = next(event.notes for event in events if isinstance(event, Prepared))
    return [note for note in notes if "--frozen" in note], events[-1]


@pytest.mark.parametrize("quick_from", [frozen_comparison.QUICK_FROM, 0])
def test_the_measured_accuracy_is_told_before_and_proposed_after(bert_folder, tmp_path, monkeypatch, quick_from):
    monkeypatch.setattr(frozen_comparison, "QUICK_FROM", quick_from)
    (note,), trained = train(bert_folder, tmp_path / "out")
    assert trained.proposal is not None
    assert "Train with --frozen" in trained.proposal
    frozen = TextClassification(frozen=True).on(bert_folder).fit(ROWS, output=tmp_path / "frozen", eval_fraction=0.2)
    measured = float(note.split("accuracy ")[1].split()[0])
    assert measured == pytest.approx(frozen.metrics["accuracy"], abs=0.01 if quick_from else 0.3)
    assert f"{measured:.3f} instead of {trained.metrics['accuracy']:.3f}" in trained.proposal
    assert trained.to_json()["proposal"] == trained.proposal


def test_training_is_the_same_with_and_without_the_measurement(bert_folder, tmp_path, monkeypatch):
    measured, _ = train(bert_folder, tmp_path / "measured")
    monkeypatch.setattr(frozen_comparison, "MANY_LABELS", 1000)
    unmeasured, trained = train(bert_folder, tmp_path / "unmeasured")
    assert measured
    assert not unmeasured
    assert trained.proposal is None
    for name in ("model.safetensors", "log.jsonl"):
        assert (tmp_path / "measured" / name).read_bytes() == (tmp_path / "unmeasured" / name).read_bytes()


def test_few_labels_very_many_rows_and_frozen_training_measure_nothing(bert_folder, tmp_path, monkeypatch):
    few = [row for row in ROWS if row["label"] in ("about cat", "about dog")]
    assert train(bert_folder, tmp_path / "few", few)[0] == []
    notes, _ = train(bert_folder, tmp_path / "frozen", task=TextClassification(frozen=True))
    assert not [note for note in notes if "accuracy" in note]
    assert train(bert_folder, tmp_path / "all", eval_fraction=0)[0] == []
    monkeypatch.setattr(frozen_comparison, "MAX_ROWS", 100)
    assert train(bert_folder, tmp_path / "large")[0] == []


def test_labels_that_only_the_evaluation_data_would_have_do_not_stop_training(bert_folder, tmp_path):
    names = tuple(sorted({row["label"] for row in ROWS}))
    task = TextClassification(labels=(*names, "about nothing"), problem_type="single_label_classification")
    notes, trained = train(bert_folder, tmp_path / "out", task=task)
    assert (notes, trained.proposal) == ([], None)


def test_a_small_difference_is_no_reason_for_a_proposal():
    rival = Rival("--frozen", "logistic regression", "accuracy", 0.80, 3.2)
    assert rival.proposal(0.795) is None
    assert rival.proposal(0.9) is None
    assert "0.800 instead of 0.450" in (rival.proposal(0.45) or "")
    assert "after 3 seconds" in rival.note

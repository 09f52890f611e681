"""Which weights a run keeps: by the first metric, the metric that the user names, and the held-out loss."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Evaluated, Step
from headway.tasks import TextClassification, load
from headway.ui.terminal import screen
from headway.ui.training_view import TrainingView

FAST = TrainConfig(max_steps=6, eval_steps=1, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu")


def rows(*, number: bool = False) -> list[dict[str, Any]]:
    chance = random.Random(0)
    texts = [f"the {chance.choice(['cat', 'dog', 'fox'])} {chance.choice(['sat', 'jumps'])} {i}" for i in range(60)]
    return [{"text": text, "label": len(text) + 0.5 if number else "dog" if "dog" in text else "no"} for text in texts]


def evaluations(
    folder: Path, output: Path, *, number: bool = False, **options: Any
) -> tuple[list[dict[str, float]], Any]:
    events = list(TextClassification().on(folder).train(rows(number=number), output=output, config=FAST, **options))
    return [event.metrics for event in events if isinstance(event, Evaluated)], events[-1]


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("f1", max), ("calibration_error", min)])
def test_the_metric_that_the_user_names_selects_the_weights(bert_folder: Path, tmp_path: Path, metric: str, best: Any):
    seen, trained = evaluations(bert_folder, tmp_path / "out", metric=metric)
    assert all(next(iter(metrics)) == metric for metrics in seen)
    wanted = best(metrics[metric] for metrics in seen)
    assert seen[trained.best_step - 1][metric] == wanted
    assert trained.metrics[metric] == pytest.approx(wanted, abs=1e-6)


def test_a_number_is_selected_by_its_smallest_error_and_its_loss_is_the_squared_error(
    bert_folder: Path, tmp_path: Path
):
    seen, trained = evaluations(bert_folder, tmp_path / "out", number=True, metric="mae")
    assert seen[trained.best_step - 1]["mae"] == min(metrics["mae"] for metrics in seen)
    for metrics in (*seen, trained.metrics, load(tmp_path / "out").evaluate(rows(number=True)).metrics):
        assert metrics["loss"] == pytest.approx(metrics["rmse"] ** 2, rel=1e-4)


def test_an_unknown_metric_is_refused_before_the_first_step(bert_folder: Path, tmp_path: Path):
    events = TextClassification().on(bert_folder).train(rows(), output=tmp_path / "out", config=FAST, metric="bleu")
    seen = []
    with pytest.raises(HeadwayError, match=r"--metric bleu: .*accuracy, f1, .*, loss"):
        seen += events
    assert not any(isinstance(event, Step) for event in seen)


def test_a_metric_without_held_out_data_is_refused(bert_folder: Path, tmp_path: Path):
    model = TextClassification().on(bert_folder)
    with pytest.raises(HeadwayError, match=r"--metric needs data to evaluate on"):
        model.fit(rows(), output=tmp_path / "out", eval_fraction=0, config=FAST, metric="f1")


def test_the_best_step_is_not_shown_where_the_last_weights_are_kept(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shown = {}
    for keep in ("best", "last"):
        model = TextClassification().on(bert_folder)
        config = replace(FAST, keep=keep, learning_rate=0.3)  # too high, so that the last weights are not the best
        with TrainingView(screen()) as view:
            trained = view.follow(model.train(rows(), output=tmp_path / keep, config=config))
        shown[keep] = capsys.readouterr().out
        assert (trained.best_step is None) == (keep == "last")
    assert "best weights from step" in shown["best"]
    assert "best weights from step" not in shown["last"]
    assert shown["last"].count("   loss ") > 6  # one on the line of each evaluation

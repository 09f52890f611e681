"""What a training run shows on a terminal."""

import io

from headway.core.training.training_events import Evaluated, Started
from headway.ui.training_view import TrainingView
from rich.console import Console


def test_ties_of_a_long_run_are_not_shown_one_by_one():
    out = io.StringIO()
    view = TrainingView(Console(file=out, width=100))
    view.show(Started(2000, 0, 1e-3, 64, 100, "cpu", "fp32", 1, 0, None))
    for epoch in range(1, 101):
        accuracy = min(1.0, 0.5 + epoch / 10)
        view.show(Evaluated(20 * epoch, float(epoch), {"accuracy": accuracy, "loss": 1 / epoch}, True))
    lines = [line for line in out.getvalue().splitlines() if "epoch" in line]
    assert [line.split()[1] for line in lines[:5]] == [f"{epoch}.00" for epoch in range(1, 6)]  # each is better
    assert len(lines) == 24  # then every fifth
    assert lines[-1].split()[1] == "100.00"

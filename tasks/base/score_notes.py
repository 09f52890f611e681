"""What is said about metrics: on which rows they were measured, and what was chosen on these rows."""

from collections.abc import Iterator

# What headway.json says of metrics.
TEST, CROSS_FITTED, HELD_OUT, OUT_OF_FOLD = "test", "cross-fitted", "held-out", "out-of-fold"
ADVICE = "--test-fraction 0.1 or --test-data measures them on rows that choose nothing."


def describe_scored(metrics_from: str | None, size: int) -> str:
    """The examples on which metrics were measured: "500 test rows that chose nothing"."""
    if metrics_from == TEST:
        return f"{size:,} test rows that chose nothing"
    if metrics_from == OUT_OF_FOLD:
        return f"{size:,} out-of-fold rows"
    return f"{size:,} held-out rows{', cross-fitted' * (metrics_from == CROSS_FITTED)}"


def score_notes(metrics_from: str | None, calibrated: str, best_step: int | None, steps: int) -> Iterator[str]:
    """What was chosen on the examples on which metrics were measured, a sentence or two each.

    Args:
        metrics_from: as in headway.json; None: it does not say.
        calibrated: what was fitted to the examples for evaluation (`Task.calibrated`).
        best_step: whose weights were kept; None: the last ones.
        steps: of the run.
    """
    if metrics_from == CROSS_FITTED:
        yield (
            f"The metrics are cross-fitted: each row was scored with {calibrated or 'the calibration'} fitted to "
            "other held-out rows. The model has what was fitted to all of them."
        )
    if metrics_from == OUT_OF_FOLD and best_step is not None:
        yield (
            "The best step of each fold was chosen on the rows that it holds out, so the metrics may be slightly too "
            "high."
        )
    if metrics_from in (CROSS_FITTED, HELD_OUT) and best_step is not None:
        yield (
            f"The best step ({best_step:,} of {steps:,}) was chosen on the same rows, so the metrics may be slightly "
            "too high."
        )

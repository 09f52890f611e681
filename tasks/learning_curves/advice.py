"""What a learning curve says to do, in one sentence."""

from collections.abc import Mapping, Sequence

from ..data.places import shorten
from ..intervals import Interval
from .options import ZERO_SHOT
from .power_law import PowerLaw
from .runs import FIRST_DRAWS
from .summary import Point, largest

WORTH = 0.01  # a smaller difference is no reason to label or to train longer
MUCH_FASTER = 0.5  # of the time


def advise(
    points: Mapping[str, Sequence[Point]],
    laws: Mapping[str, PowerLaw | None],
    baseline: tuple[str, float],
    metric: str,
) -> str:
    """Which method to take, and whether more labelled rows are worth it.

    Args:
        points: of each method, by size.
        laws: of each method.
        baseline: the most common label, and the score of always answering it.
        metric: in words.
    """
    trained = {method: found for method, found in points.items() if method != ZERO_SHOT}
    if not trained:
        return _zero_shot_alone(points[ZERO_SHOT][0], baseline, metric)
    ends = {method: largest(found) for method, found in trained.items()}
    best = max(ends, key=lambda method: (ends[method].mean, -ends[method].seconds))
    last, law = ends[best], laws[best]
    zero = points[ZERO_SHOT][0].mean if ZERO_SHOT in points else 0.0
    score = f"{metric} {last.mean:.3f} with {last.size:,} labelled rows"
    if last.mean <= baseline[1]:
        label, constant = shorten(baseline[0]), f"{baseline[1]:.3f}"
        lead = f"No method is better than always answering {label} ({constant}; {best} has {score})"
    elif zero >= last.mean - WORTH:
        lead = f"zero-shot needs no labels and is as good ({zero:.3f}) as {best}, which has {score}"
    else:
        lead = f"Use {best}, which has {score}{_faster(best, last, trained)}{_better_below(best, last, trained)}"
    gain = None if law is None else law.gain(last.size, 2 * last.size)
    return f"{lead}: {_about_more(gain)}."


def _zero_shot_alone(found: Point, baseline: tuple[str, float], metric: str) -> str:
    better = found.mean > baseline[1]
    compared = "better" if better else "no better"
    return (
        f"zero-shot has {metric} {found.mean:.3f}, {compared} than always answering {shorten(baseline[0])} "
        f"({baseline[1]:.3f}): compare it with a method that uses labelled rows (--methods)."
    )


def _faster(best: str, last: Point, trained: Mapping[str, Sequence[Point]]) -> str:
    """Another method that is as good with the same rows and much faster."""
    others = [
        (one.seconds, method)
        for method, found in trained.items()
        for one in found
        if method != best and one.size == last.size and one.mean >= last.mean - WORTH
    ]
    seconds, method = min(others, default=(last.seconds, best))
    if seconds > MUCH_FASTER * last.seconds:
        return ""
    return f" (or {method}, which is as good in {seconds / last.seconds:.0%} of the time)"


def _better_below(best: str, last: Point, trained: Mapping[str, Sequence[Point]]) -> str:
    """Another method that is better with few rows."""
    enough = min(FIRST_DRAWS, last.draws)
    own = {one.size: one.mean for one in trained[best] if one.size < last.size and one.draws >= enough}
    better = [
        (one.size, one.mean - own[one.size], method)
        for method, found in trained.items()
        for one in found
        if method != best and one.draws >= enough and one.size in own and one.mean > own[one.size] + WORTH
    ]
    if not better:
        return ""
    size, _, method = max(better)
    return f" (with {size:,} rows, {method} is better)"


def _about_more(gain: Interval | None) -> str:
    """What twice as many rows would bring."""
    if gain is None:
        return "with 3 sizes or more, it could be said what more rows would bring"
    bounds = f"{gain.low:+.3f} to {gain.high:+.3f}"
    if gain.high < 0:
        return f"its score falls with more rows ({gain.value:+.3f} with twice as many, {bounds}), so check the labels"
    if gain.low > 0 and gain.value >= WORTH:
        return f"label more, since twice as many rows would probably bring {gain.value:+.3f} ({bounds})"
    if gain.value < WORTH and gain.high < 2 * WORTH:
        return f"more rows are hardly worth it, since twice as many would bring {gain.value:+.3f} ({bounds})"
    return (
        f"whether more rows are worth it is open, since twice as many would bring {gain.value:+.3f} ({bounds}); more "
        "draws (--seeds) or sizes would tell"
    )

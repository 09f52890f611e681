"""Decision rules: fitted to an evaluation on held-out rows, and measured in an evaluation on any labelled rows.

Whether a prediction is right is decided by the task: everything in it must be (every label, every entity).
The threshold of confidence follows from the confidences alone, so the accuracy of the answered rows is not fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import HeadwayError
from ...core.options import check_choices, check_option, is_number, option
from ..base.decision_rules import LAC, METHODS, STORED_AS, Abstention, DecisionRules
from ..base.model_folder import update_rules
from ..base.results import Evaluation
from ..base.text_distance import TextDistance
from ..data.examples import Example
from ..data.groups import group_hashes
from ..intervals import Bootstrap, Interval
from ..tallies import tally_means
from .conformal import fit_sets
from .out_of_scope import check_scope, fit_distance, fit_none_of_these, refuse_same_texts
from .risk_coverage import RiskCoverage, confidence_at, risk_coverage
from .rule_rows import RuleRows

if TYPE_CHECKING:
    from ..base.predictor import Predictor

AT_ONCE = 2**16  # rows that are counted together
NO_ROWS = "Decision rules are fitted to rows with labels; this model is evaluated on plain text. Omit them."


@dataclass(frozen=True)
class RuleOptions:
    """Which decision rules are fitted to the rows of an evaluation."""

    coverage: float | None = option(
        None,
        "Fit a threshold of confidence, so that this share of the rows is answered, for example 0.9; predictions "
        "below it say that they are unsure.",
    )
    conformal: float | None = option(
        None,
        "Fit conformal prediction sets that have the right label of this share of new rows, for example 0.95. The "
        "rows must not have trained the model.",
    )
    conformal_method: str = option(
        LAC,
        "lac: the smallest sets on average; aps: sets that grow with the difficulty of the text.",
        choices=METHODS,
    )
    none_of_these: float | None = option(
        None,
        "Fit a distance from the training texts (--reference) beyond which a text has none of the labels, so that "
        "this share of the rows is nearer, for example 0.95. The rows must not have trained the model.",
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("coverage", "conformal", "none_of_these"):
            value = getattr(self, name)
            valid = is_number(value) and 0 < value <= 1 and (value < 1 or name == "coverage")
            check_option(self, name, valid, "a share above 0, such as 0.9", optional=True)

    @property
    def any(self) -> bool:
        """Whether a rule is fitted."""
        return any(one is not None for one in (self.coverage, self.conformal, self.none_of_these))


@dataclass(frozen=True)
class SelectiveScores:
    """What abstaining gives on some rows."""

    min_confidence: float
    answered: Interval  # share of the rows
    accuracy: Interval | None  # share of the answered rows whose prediction is right; None: none is answered
    accuracy_of_all: Interval  # without abstaining
    curve: RiskCoverage


@dataclass(frozen=True)
class SetScores:
    """What conformal prediction sets give on some rows."""

    wanted: float
    covered: Interval  # share of the rows whose set has the right label
    mean_size: float  # labels
    sizes: dict[int, int]  # number of sets by their size


@dataclass(frozen=True)
class ScopeScores:
    """How many rows, all of which have labels, are taken for texts with none of them."""

    wanted: float
    max_distance: float
    accepted: Interval  # share of the rows that are not


@dataclass(frozen=True)
class RuleScores:
    """What the decision rules of a model give on some rows; a field is None if it has no such rule."""

    abstention: SelectiveScores | None = None
    conformal: SetScores | None = None
    none_of_these: ScopeScores | None = None
    fitted: frozenset[str] = field(default=frozenset())  # the rules that were fitted to the same rows
    seen: bool = False  # whether the rules were fitted to rows that the model was trained on
    sample: str = ""  # which of the rows are measured, if not all are

    def to_json(self) -> dict[str, Any]:
        """The scores as plain JSON types."""
        found: dict[str, Any] = {"abstention": None, "conformal": None, "none_of_these": None}
        if self.sample:
            found["sample"] = self.sample
        if one := self.abstention:
            found["abstention"] = {
                "min_confidence": one.min_confidence,
                "answered": one.answered.to_json(),
                "accuracy": one.accuracy and one.accuracy.to_json(),
                "accuracy_of_all": one.accuracy_of_all.to_json(),
                "risk_coverage": one.curve.to_json(),
                "fitted": "abstention" in self.fitted,
            }
        if one := self.conformal:
            found["conformal"] = {
                "wanted": one.wanted,
                "covered": one.covered.to_json(),
                "mean_size": one.mean_size,
                "sizes": {str(size): count for size, count in one.sizes.items()},
                "fitted": "conformal" in self.fitted,
            }
        if one := self.none_of_these:
            found["none_of_these"] = {
                "wanted": one.wanted,
                "max_distance": one.max_distance,
                "accepted": one.accepted.to_json(),
                "fitted": "none_of_these" in self.fitted,
            }
        return found

    def sentences(self) -> list[str]:
        """The scores in words, for terminals and pages."""
        found = []
        if one := self.abstention:
            right = "none" if one.accuracy is None else f"{_percent(one.accuracy)} of them right"
            found += [
                f"From a confidence of {one.min_confidence:.3f}, {_percent(one.answered)} of the rows are answered, "
                f"{right}; of all rows {_percent(one.accuracy_of_all)} are right",
                f"Area under the risk-coverage curve: {one.curve.area:.4f} (0 is best; with these errors "
                f"{one.curve.best_area:.4f})",
            ]
        if one := self.conformal:
            rows = " (the rows that they are fitted to)" if "conformal" in self.fitted else ""
            found.append(
                f"Prediction sets for {one.wanted:.1%}: {_percent(one.covered)} have the right label{rows}; "
                f"{one.mean_size:.2f} labels on average"
            )
        if one := self.none_of_these:
            rows = " (the rows that the distance is fitted to)" if "none_of_these" in self.fitted else ""
            found.append(
                f"None of these: {_percent(one.accepted)} of the rows are near enough to the training texts; wanted "
                f"for rows like those that the distance was fitted to: {one.wanted:.1%}{rows}"
            )
        if found and self.sample:
            found.append(self.sample)
        if self.seen:
            found.append(
                "The model was trained on some of these rows, so the rules promise too much: fit them to other rows"
            )
        return found


@dataclass(frozen=True)
class ProposedRules:
    """Rules that a model does not have yet."""

    rules: DecisionRules
    distance: TextDistance | None  # of texts from the training texts, for `none_of_these`
    scores: RuleScores


def rows_for_rules(
    model: "Predictor",
    options: RuleOptions | None = None,
    reference: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    **reading: Any,
) -> RuleRows:
    """Collects what the rules of a model, and those that are fitted, need of an evaluation: `evaluate(observe=...)`.

    With it, `evaluate` does not have to keep the predictions. The arguments are those of `fit_rules`.

    Raises:
        HeadwayError: the task has no such rule, or the reference is missing or cannot be read.
    """
    options = options or RuleOptions()
    if options.any and model.task.self_supervised:
        raise HeadwayError(NO_ROWS)
    method = model.rules.conformal and model.rules.conformal.method
    method = method if options.conformal is None else options.conformal_method
    confident = options.coverage is not None or model.rules.abstention is not None
    if options.none_of_these is None:
        return RuleRows(method, confident=confident, far=model.rules.none_of_these is not None)
    check_scope(model, reference)
    fitted = None if reference is None else fit_distance(model, reference, columns=columns, **reading)
    return RuleRows(method, confident=confident, far=True, fitted=fitted)


def fit_rules(
    model: "Predictor",
    found: Evaluation,
    options: RuleOptions,
    reference: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    rows: RuleRows | None = None,
    **reading: Any,
) -> RuleScores:
    """Fits decision rules to an evaluation on held-out rows; the model's predictions follow them from now on.

    Nothing is written: `save_rules` stores them in the model folder.

    Args:
        model: whose `evaluate` returned the evaluation.
        found: on rows that did not train the model.
        options: the rules. The model keeps its others.
        reference: the rows that the model was trained on, for `none_of_these`: anything that `train` takes, or a list
            of texts. Default: the distance that the model has is kept.
        columns: of the reference: field name -> column, where the inferred one is wrong.
        rows: what `rows_for_rules` collected in this evaluation, with the same reference; None: the evaluation has all
            its predictions.
        **reading: fields of ReadOptions: header, encoding, ...

    Returns:
        What all rules of the model give on the same rows.

    Raises:
        HeadwayError: the task has no such rule, there are too few rows, or the reference is missing or cannot be read.
    """
    proposed = propose_rules(model, found, options, reference, columns=columns, rows=rows, **reading)
    model.info[STORED_AS], model.distance = proposed.rules.to_json(), proposed.distance
    return proposed.scores


def propose_rules(
    model: "Predictor",
    found: Evaluation,
    options: RuleOptions,
    reference: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    rows: RuleRows | None = None,
    **reading: Any,
) -> ProposedRules:
    """As `fit_rules`, but the model keeps the rules that it has."""
    rules, fitted, distance = model.rules, set(), model.distance
    if rows is None:
        rows = _from_predictions(model, found, rows_for_rules(model, options, reference, columns=columns, **reading))
    _check_rows(found)
    if options.coverage is not None:
        least = confidence_at(rows.confidence, options.coverage)
        rules = replace(rules, abstention=Abstention(least, options.coverage, len(rows)))
        fitted.add("abstention")
    if options.conformal is not None:
        sets = fit_sets(rows.gold_scores, options.conformal, options.conformal_method)
        rules = replace(rules, conformal=sets)
        fitted.add("conformal")
    if options.none_of_these is not None:
        if rows.fitted is not None:
            distance = rows.fitted.distance
            refuse_same_texts(rows.num_known, rows.sample.number)
        assert distance is not None
        rules = replace(rules, none_of_these=fit_none_of_these(rows.distances, distance, options.none_of_these))
        fitted.add("none_of_these")
    scores = _measure(rows, rules)
    return ProposedRules(rules, distance, replace(scores, fitted=frozenset(fitted), seen=found.seen is not None))


def save_rules(model: "Predictor") -> None:
    """Stores the decision rules of a model in its folder: in headway.json, the model card, and a file for distances.

    Raises:
        HeadwayError: the model was not opened from a folder that Headway saved, or it cannot be written.
    """
    if why := model.task.cannot_store_rules:
        raise HeadwayError(f"--save: {model.base} {why}. Omit it.")
    update_rules(model.base, model.rules, model.distance)


def measure_rules(model: "Predictor", found: Evaluation, rows: RuleRows | None = None) -> RuleScores:
    """What the decision rules of a model give on the rows of an evaluation; empty if it has none.

    Args:
        model: whose `evaluate` returned the evaluation.
        found: on labelled rows.
        rows: as for `fit_rules`.
    """
    if model.rules == DecisionRules():
        return RuleScores()
    _check_rows(found)
    return _measure(_from_predictions(model, found, rows_for_rules(model)) if rows is None else rows, model.rules)


def _check_rows(found: Evaluation) -> None:
    if not len(found.examples) or not isinstance(found.examples[0], Example):
        raise HeadwayError(NO_ROWS)


def _from_predictions(model: "Predictor", found: Evaluation, rows: RuleRows) -> RuleRows:
    """The rows, with the predictions of an evaluation that has all."""
    _check_rows(found)
    if found.number is not None:
        raise HeadwayError("Decision rules need all predictions: evaluate with keep_predictions=True, or give rows=.")
    rows.add_all(model.task, found.predictions, found.examples, group_hashes(found.examples))
    return rows


def _measure(rows: RuleRows, rules: DecisionRules) -> RuleScores:
    scores = RuleScores(sample=rows.sample.describe("Rules are fitted to and measured on"))
    if rules.abstention is not None:
        scores = replace(scores, abstention=_selective(rows, rules.abstention))
    if rules.conformal is not None:
        covered, sizes = rows.covered(rules.conformal.quantile), rows.set_sizes(rules.conformal.quantile)
        mean = sum(size * count for size, count in sizes.items()) / rows.sample.number
        conformal = SetScores(rules.conformal.coverage, share(covered, rows.groups), mean, sizes)
        scores = replace(scores, conformal=conformal)
    if one := rules.none_of_these:
        accepted = share(rows.distances <= one.max_distance, rows.groups)
        scores = replace(scores, none_of_these=ScopeScores(one.accepted, one.max_distance, accepted))
    return scores


def _selective(rows: RuleRows, rule: Abstention) -> SelectiveScores:
    confidence, right, groups = rows.confidence, ~rows.wrong, rows.groups
    answered = confidence >= rule.min_confidence
    return SelectiveScores(
        rule.min_confidence,
        share(answered, groups),
        share(right[answered], groups[answered]) if answered.any() else None,
        share(right, groups),
        risk_coverage(confidence, rows.wrong),
    )


def share(hits: np.ndarray, groups: np.ndarray) -> Interval:
    """The share of rows, (E,) bool, with its 95 % interval; rows of the same group, (E,), are drawn together."""
    bootstrap = Bootstrap()
    for start in range(0, len(hits), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        bootstrap.add(tally_means({"share": hits[rows]}, of_01=["share"]), groups[rows])
    return bootstrap.intervals()["share"]


def _percent(one: Interval) -> str:
    return f"{one.value:.1%} (95 % interval {one.low:.1%} to {one.high:.1%})"

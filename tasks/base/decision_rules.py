"""Decision rules that are fitted to held-out rows and stored with a model: when it abstains, its prediction sets, and
which texts have none of its labels.

They are fitted in tasks/evaluation; predictions follow them without it.

- Abstention: the model answers if its confidence reaches a threshold (Chow 1970; El-Yaniv and Wiener 2010).
- Conformal sets: the labels whose nonconformity score is at most a quantile of the scores of the right labels of
  held-out rows (Vovk et al. 2005). LAC: one minus the probability (Sadinle et al. 2019, https://doi.org/10.1080/
  01621459.2017.1395341), the smallest sets on average. APS: the probability of all labels that are more probable
  (Romano et al. 2020, https://arxiv.org/abs/2006.02544, without randomization), sets that grow with the difficulty
  of the text.
- None of these: a text whose distance from the training texts (text_distance.py) is above that of a chosen share of
  held-out texts.

Shapes: E examples, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from ...core.errors import HeadwayError
from ...core.options import is_integer, is_number
from .predictions import Prediction
from .text_distance import TextDistance

PredictionT = TypeVar("PredictionT", bound=Prediction)
STORED_AS = "decision_rules"  # in headway.json
LAC, APS = METHODS = ("lac", "aps")


def nonconformity(probabilities: np.ndarray, method: str) -> np.ndarray:
    """How little each label agrees with a prediction, (E, L).

    Args:
        probabilities: of the labels, (E, L); rows sum to 1.
        method: one of METHODS.
    """
    if method == LAC:
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, np.cumsum(ranked, axis=1) - ranked, axis=1)
    return scores


@dataclass(frozen=True)
class Abstention:
    """The confidence from which the model answers."""

    min_confidence: float
    coverage: float | None = None  # the share of the held-out rows that it was fitted to answer; None: chosen by hand
    num_examples: int = 0  # held-out rows that it was fitted to


@dataclass(frozen=True)
class ConformalSets:
    """The nonconformity score up to which a label is in the set, with its origin."""

    method: str
    quantile: float
    coverage: float  # the share of rows whose set has the right label
    num_examples: int  # held-out rows that it was fitted to

    def label_sets(self, probabilities: Sequence[Mapping[str, float]]) -> list[tuple[str, ...]]:
        """The set of each prediction, the most probable label first; that label is always in it."""
        if not probabilities:
            return []
        labels = list(probabilities[0])
        table = np.array([[one[label] for label in labels] for one in probabilities])
        included = nonconformity(table, self.method) <= self.quantile
        order = np.argsort(-table, axis=1, kind="stable")
        return [
            tuple(labels[i] for rank, i in enumerate(ranked) if rank == 0 or row[i])
            for ranked, row in zip(order.tolist(), included, strict=True)
        ]


@dataclass(frozen=True)
class NoneOfThese:
    """The distance from the training texts up to which a text has one of the labels."""

    max_distance: float
    accepted: float  # the share of held-out rows that it was fitted to accept
    num_examples: int  # held-out rows that it was fitted to
    file: str  # in the model folder, from which the distance is computed


@dataclass(frozen=True)
class DecisionRules:
    """The rules of a model; None where it has none."""

    abstention: Abstention | None = None
    conformal: ConformalSets | None = None
    none_of_these: NoneOfThese | None = None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Self:
        """The rules in headway.json.

        Raises:
            HeadwayError: they are damaged, or of a later version.
        """
        stored = info.get(STORED_AS) or {}
        kinds = {"abstention": Abstention, "conformal": ConformalSets, "none_of_these": NoneOfThese}
        try:
            found = cls(**{name: kinds[name](**fields) for name, fields in stored.items()})
            valid = found._is_valid()
        except (KeyError, TypeError):
            valid, found = False, cls()
        if not valid:
            raise HeadwayError(
                f"headway.json: {STORED_AS} is {repr(stored)[:99]}, which cannot be. Copy the file again, or update "
                "Headway."
            )
        return found

    def _is_valid(self) -> bool:
        checks = [True]
        if one := self.abstention:
            checks += [_is_share(one.min_confidence), one.coverage is None or _is_share(one.coverage)]
            checks += [is_integer(one.num_examples, 0)]
        if one := self.conformal:
            checks += [one.method in METHODS, is_number(one.quantile), _is_share(one.coverage)]
            checks += [is_integer(one.num_examples, 0)]
        if one := self.none_of_these:
            checks += [is_number(one.max_distance), _is_share(one.accepted), is_integer(one.num_examples, 0)]
            checks += [isinstance(one.file, str) and TextDistance.is_name(one.file)]
        return all(checks)

    def to_json(self) -> dict[str, Any]:
        """The rules that there are, as in headway.json."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def read_distance(self, folder: Path, size: int) -> TextDistance | None:
        """The distance that `none_of_these` needs, from a model folder; None without such a rule.

        Args:
            folder: with the rules.
            size: the hidden size of the model.

        Raises:
            HeadwayError: its file is missing or damaged.
        """
        return self.none_of_these and TextDistance.read(folder / self.none_of_these.file, size)

    def with_min_confidence(self, given: float | None) -> Self:
        """A copy that answers from this confidence on; 0: always. None: no change.

        Raises:
            HeadwayError: it is not a probability.
        """
        if given is None:
            return self
        if not _is_share(given):
            raise HeadwayError(f"--min-confidence {given}: a number from 0 (answer always) to 1.")
        return replace(self, abstention=Abstention(float(given)))

    def apply(self, predictions: Sequence[PredictionT]) -> list[PredictionT]:
        """The predictions with what the rules say about them.

        Raises:
            HeadwayError: they have no confidence or distance, or the sets are for a model that predicts one label.
        """
        found = list(predictions)
        if self.abstention is not None:
            unsure = confidences(found, "--min-confidence") < self.abstention.min_confidence
            pairs = zip(found, unsure.tolist(), strict=True)
            found = [replace(one, certainty=replace(one.certainty, abstained=below)) for one, below in pairs]
        if self.conformal is not None:
            pairs = zip(found, self.conformal.label_sets(label_table(found)), strict=True)
            found = [replace(one, certainty=replace(one.certainty, label_set=labels)) for one, labels in pairs]
        if self.none_of_these is not None:
            far = distances(found) > self.none_of_these.max_distance
            pairs = zip(found, far.tolist(), strict=True)
            found = [replace(one, certainty=replace(one.certainty, none_of_these=above)) for one, above in pairs]
        return found


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def label_table(predictions: Sequence[Prediction]) -> list[Mapping[str, float]]:
    """The probability of every label of each prediction.

    Raises:
        HeadwayError: the predictions are not of one label.
    """
    found = [one.label_probabilities for one in predictions]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise HeadwayError("--conformal is only for models that predict exactly one label. Omit it.")
    return known


def confidences(predictions: Sequence[Prediction], what: str) -> np.ndarray:
    """The confidence of each prediction, (E,).

    Raises:
        HeadwayError: they have none; `what` cannot be had.
    """
    found = [one.confidence for one in predictions]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise HeadwayError(
            f"{what} needs predictions with a probability: labels, entities, answers, choices. Omit it for this task."
        )
    return np.array(known)


def distances(predictions: Sequence[Prediction]) -> np.ndarray:
    """The distance of each text from the training texts, (E,).

    Raises:
        HeadwayError: it was not computed.
    """
    found = [one.certainty.distance for one in predictions]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise HeadwayError("These predictions have no distance from the training texts. Evaluate the model again.")
    return np.array(known)

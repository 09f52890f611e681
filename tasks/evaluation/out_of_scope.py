"""Texts that have none of a model's labels: the distance of texts from the training texts, fitted to vectors of these.

Shapes: N texts, C hidden size, L outputs of the classifier.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ..base.decision_rules import NoneOfThese
from ..base.inference import in_parts
from ..base.inputs import as_list, name_rows
from ..base.task import outputs_of
from ..base.text_distance import NetworkWithDistance, TextDistance
from ..classification.encoding import join_windows
from ..data.groups import text_key
from ..data.read import read_table
from ..data.read_options import ReadOptions
from .conformal import quantile_rank

if TYPE_CHECKING:
    from ..base.predictor import Predictor

FEWEST_TEXTS = 20
MOST_TEXTS = 20_000  # drawn at random from more: enough for the covariance of 1,024 components


def check_scope(model: "Predictor", reference: Any) -> None:
    """Raises HeadwayError if the model does not predict labels of texts, or what its training texts are is unknown."""
    if why := model.task.cannot_be_none_of_these:
        raise HeadwayError(f"--none-of-these {why}. Omit it.")
    if reference is None and model.distance is None:
        raise HeadwayError("--none-of-these needs the texts that the model was trained on. Give them as --reference.")


def fit_distance(
    model: "Predictor", reference: Any, *, columns: Mapping[str, Any] | None = None, **reading: Any
) -> "FittedDistance":
    """The distance from the texts that a model was trained on.

    Args:
        model: a trained one, which `check_scope` has accepted.
        reference: anything that `train` takes, or a list of texts; labels are not read.
        columns: field name -> column, where the inferred one is wrong.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the rows cannot be read or are too few, or all texts are the same.
    """
    task = model.task
    chosen = {name: column for name, column in (columns or {}).items() if name not in ("label", "group")}
    kept = {name: value for name, value in reading.items() if name not in ("left_out", "strict")}
    rows = as_list(reference)
    texts_only = isinstance(rows, list | tuple) and all(isinstance(one, str) for one in rows)
    table = read_table(name_rows(task, rows, labelled=not texts_only), ReadOptions(**kept))
    mapping = model.columns(table, chosen)
    if len(table) > MOST_TEXTS:
        table = table.select(np.sort(np.random.default_rng(0).permutation(len(table))[:MOST_TEXTS]))
    examples = task.examples(table, mapping, labelled=False)
    outputs = _outputs(model, NetworkWithDistance(model._for_inference, nn.Identity()), examples)
    vectors = outputs[:, -model.config.hidden_size :].double().numpy()  # after the outputs of the head
    return FittedDistance(model, _fit(vectors, table.source), {text_key(one) for one in examples})


def fit_none_of_these(measured: np.ndarray, distance: TextDistance, accepted: float) -> NoneOfThese:
    """The largest distance of a share of held-out rows, as a conformal quantile.

    Args:
        measured: the distance of each held-out row, (E,).
        distance: from the training texts.
        accepted: the share of rows with one of the labels that must not be taken for others.

    Raises:
        HeadwayError: there are too few rows.
    """
    rank = quantile_rank(len(measured), accepted, "--none-of-these")
    return NoneOfThese(float(np.sort(measured)[rank - 1]), accepted, len(measured), distance.file)


@dataclass(frozen=True)
class FittedDistance:
    """A distance that a model does not have yet."""

    model: "Predictor"
    distance: TextDistance
    texts: Collection[tuple[str, ...]]  # of the reference

    def measure(self, examples: Sequence[Any]) -> np.ndarray:
        """The distance of each example, (E,)."""
        return _outputs(self.model, NetworkWithDistance(self.model._for_inference, self.distance), examples)[
            :, -1
        ].numpy()

    def count_known(self, examples: Sequence[Any]) -> int:
        """How many examples have texts of the reference."""
        return sum(text_key(example) in self.texts for example in examples)


def refuse_same_texts(known: int, number: int) -> None:
    """Raises HeadwayError if most rows of an evaluation are among the training texts, so that none of them is far."""
    if 2 * known > number:
        raise HeadwayError(
            f"--none-of-these: {known:,} of {number:,} rows of --data have texts of --reference, so "
            "their distances say nothing about new texts. Give rows that the model was not trained on as --data."
        )


def _outputs(model: "Predictor", network: NetworkWithDistance, examples: Sequence[Any]) -> Tensor:
    """What a network computes for each text, (N, L + outputs of its distance)."""
    found = []
    for part in in_parts(examples):
        features = [one for windows in model.encoder.encode(model.task, part) for one in windows]
        order = sorted(range(len(features)), key=lambda i, features=features: -len(features[i].input_ids))
        outputs = torch.stack(outputs_of(network, [features[i] for i in order], model.task))
        found.append(join_windows(outputs[torch.tensor(order).argsort()], features))
    return torch.cat(found)


def _fit(vectors: np.ndarray, source: str) -> TextDistance:
    """The mean of vectors, (N, C), and a factor of the inverse of their covariance, shrunk (Ledoit and Wolf 2004).

    Raises:
        HeadwayError: the texts are too few, or all the same.
    """
    from sklearn.covariance import ledoit_wolf

    if len(vectors) < FEWEST_TEXTS:
        raise HeadwayError(f"{source}: {len(vectors)} texts are too few for --none-of-these; give {FEWEST_TEXTS}.")
    mean = vectors.mean(0)
    covariance, _ = ledoit_wolf(vectors - mean, assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    if not variances.min() > 0:
        raise HeadwayError(
            f"{source}: all texts are the same, so --none-of-these cannot measure distances from them. Use others."
        )
    return TextDistance(torch.from_numpy(mean).float(), torch.from_numpy(directions / np.sqrt(variances)).float())

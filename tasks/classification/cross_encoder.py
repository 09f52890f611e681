"""Cross-encoders of sentence-transformers: classifiers of pairs of texts, most of them with one output.

https://sbert.net/docs/cross_encoder/usage/usage.html. Their folders name the function that makes scores of outputs.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.model_files import read_json
from ...core.errors import HeadwayError
from ..base.ranking_hooks import RankingHooks
from ..data.labels import REGRESSION

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint

FILE = "config_sentence_transformers.json"
PATHS = {"torch.nn.modules.linear.Identity": False, "torch.nn.modules.activation.Sigmoid": True}


class PairScore(RankingHooks):
    """Ranking by the number that a classifier predicts for a pair of texts."""

    problem_type: str | None
    paired: bool | None
    target_mean: float
    sigmoid: bool

    @property
    def ranks(self) -> bool:
        """Whether a number is predicted, and not for single texts."""
        return self.problem_type == REGRESSION and self.paired is not False

    def relevance(self, answer: Mapping[str, Any], *, raw: bool = False) -> float:
        """The number."""
        value = answer["value"]
        return logit(value) if raw and self.sigmoid else value

    @property
    def score_fields(self) -> dict[str, Any]:
        """The fields of config.json that tell sentence-transformers how the score of a pair is made of the output."""
        if not (self.ranks and self.paired) or self.target_mean:
            return {}
        path = next(path for path, sigmoid in PATHS.items() if sigmoid == self.sigmoid)
        return {"sentence_transformers": {"activation_fn": path}}


def published_fields(checkpoint: "Checkpoint", problem_type: str) -> dict[str, Any]:
    """The fields of the task of a published classifier: its labels, or how a cross-encoder's score is made.

    Raises:
        HeadwayError: the score is neither the output nor its sigmoid.
    """
    if problem_type != REGRESSION:
        return {"labels": checkpoint.labels or ()}
    path = _activation(checkpoint.folder, checkpoint.config)
    if path is None:
        return {}
    kinds = {kind.rpartition(".")[2]: sigmoid for kind, sigmoid in PATHS.items()}
    kind = str(path).rpartition(".")[2]
    if not str(path).startswith("torch.") or kind not in kinds:
        raise HeadwayError(
            f"{checkpoint.folder}: the scores of this cross-encoder are {path!r} of its outputs; Headway supports "
            f"{' and '.join(kinds)} only. Choose another model."
        )
    return {"paired": True, "sigmoid": kinds[kind]}


def logit(score: float) -> float:
    """The output whose sigmoid is a score; finite for 0 and 1 as well."""
    bounded = min(max(score, math.ulp(0.0)), 1 - math.ulp(0.5))
    return math.log(bounded) - math.log1p(-bounded)


def _activation(folder: Path, config: Mapping[str, Any]) -> Any:
    """The import path of the function, in the places where the versions of the library write it, newest first."""
    own = read_json(folder / FILE) if (folder / FILE).exists() else {}
    if own.get("model_type") == "CrossEncoder" and own.get("activation_fn") is not None:
        return own["activation_fn"]
    section = config.get("sentence_transformers")
    if isinstance(section, Mapping) and section.get("activation_fn") is not None:
        return section["activation_fn"]
    return config.get("sbert_ce_default_activation_function")

"""Next-sentence prediction: whether the second of two texts follows the first (Devlin et al. 2019, section 3.1).

BERT and ERNIE are published with a head for it, which is also where training starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import nn

from ...core.checkpoints.families.registry import architecture_of, family_of
from ...core.errors import HeadwayError
from ...core.models.bert import BertConfig
from ...core.models.heads import NextSentenceHead
from ..base.card_text import CardText, generic_card
from ..data.columns import ColumnMapping
from ..data.examples import PAIR, TEXT, Field
from ..data.labels import SINGLE_LABEL
from ..data.rows import Table
from .classification import TextClassification
from .target import LabelColumn

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network

IS_NEXT, IS_NOT_NEXT = LABELS = ("is next", "is not next")  # in the order of the published outputs


@dataclass(frozen=True)
class NextSentencePrediction(TextClassification):
    """Classifies a pair of texts with the two labels of BERT's pretraining, which cannot be changed."""

    labels: tuple[str, ...] = LABELS
    problem_type: str | None = SINGLE_LABEL
    numbered: bool = True
    paired: bool | None = True
    merge_labels: bool = True
    threshold: str | None = None
    frozen: bool = False
    few_shot: bool = False
    prompt_template: str | None = None
    verbalize: str | None = None
    pooling: str | None = None

    name: ClassVar[str] = "next-sentence-prediction"
    title: ClassVar[str] = "Next sentence"
    inputs: ClassVar[tuple[Field, ...]] = (TEXT, replace(PAIR, required=True))
    architecture: ClassVar[str] = "ForNextSentencePrediction"
    models: ClassVar[tuple[str, ...]] = ("bert",)

    @property
    def sample(self) -> str:
        """Pairs of sentences, half of which belong together."""
        return "sentences.csv"

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Checks that there are pairs with both labels, and infers their weights."""
        column = LabelColumn.of(table, columns, merge=self.merge_labels)
        if unknown := column.unknown_labels(SINGLE_LABEL, LABELS, numbered=True):
            raise HeadwayError(
                f'{table.source}: the labels of {self.name} are "{IS_NEXT}" and "{IS_NOT_NEXT}", or 0 and 1, not '
                f"{unknown[0]!r}. Correct them, or train text-classification, which takes any labels."
            )
        task, _ = super().infer_labels(table, columns)
        return task, [
            f'as in BERT\'s pretraining, the label 0 or "{IS_NEXT}" means that the second text follows the first, and '
            f'1 or "{IS_NOT_NEXT}" that it does not'
        ]

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on the summary of a sequence; its weights are those of the pretraining, if they are there."""
        assert isinstance(backbone.config, BertConfig)
        head = NextSentenceHead(backbone.config)
        if architecture_of(backbone.config, head) is None:
            kind = family_of(backbone.config).with_article
            raise HeadwayError(f"{self.name}: {kind} has no such head. Use a BERT, or train text-classification.")
        return head

    @property
    def ranks(self) -> bool:
        """Texts can be ranked by how probably they follow."""
        return True

    def relevance(self, answer: Mapping[str, Any], *, raw: bool = False) -> float:  # noqa: ARG002
        """The probability that the second text follows the first."""
        return answer["scores"][IS_NEXT]

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:  # noqa: ARG003
        """The same for every checkpoint."""
        return cls()

    @property
    def published(self) -> dict[str, Any]:
        """Published folders do not name the two labels."""
        return {"labels": None, "problem_type": None}

    def card(self, network: "Network", name: str) -> CardText:
        """Labels and usage."""
        return generic_card(self, network, name)

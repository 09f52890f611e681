"""Fine-tuning through the head for masked tokens: the hooks of text classification for `prompt_template`.

Gao et al. 2021 (LM-BFF, https://arxiv.org/abs/2012.15723, section 4): the logits of the labels are the scores of their
words at the masks of a template (cloze.py), and the loss is the cross-entropy over the labels. No parameter is new.

Shapes: B sequences, K masks in each, L labels, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from ...core.checkpoints.families.registry import family_of, titles_of
from ...core.errors import HeadwayError
from ...core.models.bert import Bert
from ...core.models.heads import language_model_head
from ...core.models.packing import PackedBatch
from ...core.options import option
from ..data.features import Features, pack
from ..data.labels import REGRESSION, SINGLE_LABEL
from ..data.windows import Windowing
from .cloze import ClozeEncoder, ClozeTemplate, LabelIds, label_log_likelihoods
from .encoding import encode_texts
from .predictions import TextExample

if TYPE_CHECKING:
    from ...core.models.heads import Backbone
    from ...core.tokenizers.tokenizer import Tokenizer
    from .target import Target


class _Classifier:
    """What the hooks read of the task."""

    architecture: ClassVar[Any]
    labels: tuple[str, ...]
    problem_type: str | None
    long_texts: str
    overlap: int | None

    @property
    def uses_training_loop(self) -> bool:
        """Whether the training loop trains it."""
        raise NotImplementedError

    @property
    def target(self) -> "Target":
        """What is predicted."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClozeTraining(_Classifier):
    """Classification by a masked language model.

    Args:
        label_tokens: the tokens of each label, once the model is known.
    """

    prompt_template: str | None = option(
        None,
        'Fine-tune a masked language model through its own head: a text with {text}, {label} where the words of the '
        'labels are predicted, and {pair} for the second text of a pair, as in "{text} It was {label}."',
    )  # fmt: skip
    verbalize: str | None = option(
        None, "With --prompt-template: how the template spells labels: 0=negative,1=positive. Default: as they are."
    )
    label_tokens: LabelIds = ()

    def check_cloze(self) -> None:
        """Completes and checks the options; the template says whether there are pairs.

        Raises:
            HeadwayError: they contradict each other, or the kind of label.
        """
        if isinstance(self.verbalize, Mapping):
            pairs = ",".join(f"{label}={word}" for label, word in self.verbalize.items())
            object.__setattr__(self, "verbalize", pairs)
        if self.prompt_template is None:
            if self.verbalize:
                raise HeadwayError("--verbalize spells the labels of --prompt-template. Add it, or omit --verbalize.")
            return
        object.__setattr__(self, "paired", ClozeTemplate.parse(self.prompt_template).paired)
        if not self.uses_training_loop:
            raise HeadwayError(
                "--prompt-template trains the head for masked tokens, --frozen and --few-shot a classifier. Give one "
                "of them."
            )
        if self.problem_type not in (None, SINGLE_LABEL):
            raise HeadwayError(
                "--prompt-template is for exactly one label per text, and the data has several labels or numbers. "
                "Omit it, or name another column with --label."
            )
        if self.labels:
            _ = self.label_words

    @property
    def label_words(self) -> dict[str, str]:
        """How the template spells each label.

        Raises:
            HeadwayError: `verbalize` has an unknown label, or one without a word.
        """
        words = {label: label for label in self.labels}
        for one in (self.verbalize or "").split(",") if self.verbalize else ():
            label, _, word = (part.strip() for part in one.partition("="))
            if not word:
                raise HeadwayError(f"--verbalize {one}: write LABEL=WORD, as in 0=negative,1=positive.")
            if label not in words:
                raise HeadwayError(f"--verbalize {one}: there is no label {label!r}, only {', '.join(words)}.")
            words[label] = word
        return words

    @property
    def head_class(self) -> str | tuple[str, ...]:
        """The published class of a masked language model, or that of the classifier."""
        return "ForMaskedLM" if self.prompt_template else self.architecture

    @property
    def cannot_be_none_of_these(self) -> str:
        """Numbers have no labels, and with a template the text is among other words."""
        if self.problem_type == REGRESSION:
            return "is only for models that give texts labels, not for a number"
        return "is not for models that were trained with --prompt-template" if self.prompt_template else ""

    @property
    def explains(self) -> bool:
        """Not with a template, whose words are not those of the text."""
        return not self.prompt_template

    def masked_head(self, backbone: "Backbone") -> nn.Module:
        """The head for masked tokens.

        Raises:
            HeadwayError: the model is not an encoder.
        """
        if not isinstance(backbone, Bert):
            kind = family_of(backbone.config).with_article
            raise HeadwayError(
                f"--prompt-template needs a masked language model, and this is {kind}. Name a {titles_of('bert')}."
            )
        return language_model_head(backbone)

    def with_new_head(self, new: Sequence[str], tokenizer: "Tokenizer", model: str) -> Self:
        """With the tokens of the labels.

        Raises:
            HeadwayError: the model has no head for masked tokens or no mask token, or a label cannot be spelled.
        """
        if not self.prompt_template:
            return self
        if new:
            raise HeadwayError(
                f"--prompt-template: {model} has no head for masked tokens. Name a masked language model, such as "
                "bert-base-uncased or mini-bert."
            )
        return replace(self, label_tokens=self._cloze(tokenizer).label_ids)

    def _cloze(self, tokenizer: "Tokenizer") -> ClozeEncoder:
        assert self.prompt_template is not None
        return ClozeEncoder(tokenizer, ClozeTemplate.parse(self.prompt_template), self.label_words)

    def encode(self, examples: Sequence[TextExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence per example, or one per window if it is too long; each in the template if there is one."""
        target = self.target
        targets = [None if example.label is None else target.encode(example.label) for example in examples]
        if not self.prompt_template:
            return encode_texts(examples, targets, tokenizer, Windowing(limit, self.overlap, self.long_texts))
        special, start = tokenizer.num_special(pair=False), len(tokenizer.framing.before)
        windowing = Windowing(limit - special, self.overlap, self.long_texts)
        features = []
        encoded = self._cloze(tokenizer).encode(examples, windowing)
        for i, (windows, target) in enumerate(zip(encoded, targets, strict=True)):
            for one in windows:
                masks = [start + position for position in one.masks]
                ids, segments = tokenizer.join(one.input_ids)
                features.append(Features(i, ids, segments, one.length + special, target, masks))
        return features

    def pack(self, features: Sequence[Features]) -> PackedBatch:
        """The sequences, with their masks selected if there are some."""
        batch = pack(features)
        return batch.select([one.metadata for one in features]) if self.prompt_template else batch

    def pool(self, outputs: Any, batch: PackedBatch) -> Tensor:  # noqa: ARG002 - a hook
        """The log-likelihoods of the labels, (B, L), of logits at the masks, (B * K, V)."""
        return label_log_likelihoods(outputs, self.label_tokens) if self.prompt_template else outputs

"""Text to text: a model reads an input and writes an output (a summary, a translation, an answer, a rewrite).

On GPT-2, both are one sequence in a template, and the loss is that of the output alone (Radford et al. 2019, section
3; Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 3.2.1, "language model" with a prefix). The model
learns to end the output with the end-of-text token.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.generation.generation import generate_ids
from ...core.generation.generation_config import GenerationConfig
from ...core.models.encoder_decoder import EncoderDecoderConfig
from ...core.models.heads import language_model_head, smooth_labels
from ...core.models.transformer import TransformerConfig
from ...core.options import check_option, is_integer, is_number, option, option_of, options_of
from ...core.tokenizers.vocabulary import Model
from ..base.card_text import CardText
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.examples import ExampleWarning, Field
from ..data.features import Features, group_windows, pack
from ..data.findings import Finding, count
from ..data.labels import map_valid
from ..data.rows import RowStream, Table
from ..language_modeling.published import write_generation_config
from ..language_modeling.targets import select_targets, sequence_losses, token_batches
from . import chat
from .card import text_to_text_card
from .encoding import PairEncoder
from .evaluation import OutputEvaluation
from .generation_options import GENERATION, overrule
from .instructions import find_pipeline
from .output_findings import output_findings
from .pair_columns import (
    CONTEXT,
    INPUT,
    OUTPUT_NAMES,
    chat_column,
    infer_pair,
    is_clear,
    named_pair,
    pair_reader,
    unanswered_checker,
    with_notes,
)
from .predictions import GeneratedText, OutputLoss, PairExample, PromptSource
from .template import DEFAULT, PairTemplate

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Config, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets

OUTPUT_CUT = "the output does not fit, so only its beginning is learned: "
DIVIDE = "divide the row into several: the model reads no more"


@dataclass(frozen=True)
class TextToText(OutputEvaluation, Task[PairExample, GeneratedText | OutputLoss]):
    """Writes an output for an input.

    Args:
        reads_context: whether inputs have a second text; None until it is inferred from the training data.
        source_limit: tokens that the encoder of an encoder-decoder reads; None for a decoder alone.
        start_id, end_id: the tokens between which an encoder-decoder writes.
        position_limit: tokens that a decoder alone reads and writes at most; None for an encoder-decoder.
    """

    template: str = option(
        DEFAULT,
        r'What the model reads: {input}, then {output} at its end, as in "{input}\nTL;DR: {output}". Or the name '
        "of an instruction: summarize, answer, or 'translate A to B' for any two languages.",
    )
    cut_side: str = option(
        "end", "Where inputs that are too long are cut. Outputs are not cut.", choices=("end", "start"), when="always"
    )
    eval_outputs: int = option(
        100,
        "Number of held-out inputs whose outputs are generated and scored after training and by headway evaluate; 0: "
        "none.",
        when="always",
    )
    label_smoothing: float = option(
        0.0,
        "Share of the target probability that training spreads over all tokens; the Transformer was trained with 0.1.",
    )
    max_new_tokens: int = option(128, "Maximum number of tokens that predictions generate.", when="always")
    num_beams: int = option_of(GenerationConfig, "num_beams", when="always")
    length_penalty: float = option_of(GenerationConfig, "length_penalty", when="always")
    temperature: float | None = option_of(GenerationConfig, "temperature", when="always")
    top_k: int | None = option_of(GenerationConfig, "top_k", when="always")
    top_p: float | None = option_of(GenerationConfig, "top_p", when="always")
    repetition_penalty: float = option_of(GenerationConfig, "repetition_penalty", when="always")
    no_repeat_ngram_size: int | None = option_of(GenerationConfig, "no_repeat_ngram_size", when="always")
    seed: int = option_of(GenerationConfig, "seed", when="after")
    reads_context: bool | None = None
    source_limit: int | None = None
    start_id: int | None = None
    end_id: int | None = None
    position_limit: int | None = None

    name: ClassVar[str] = "text-to-text"
    title: ClassVar[str] = "Text to text"
    inputs: ClassVar[tuple[Field, ...]] = (INPUT, CONTEXT)
    label_columns: ClassVar[tuple[str, ...]] = OUTPUT_NAMES
    architecture: ClassVar[tuple[str, ...]] = ("GPT2LMHeadModel", "EncoderDecoderModel", "MarianMTModel")
    models: ClassVar[tuple[str, ...]] = ("gpt2", "encoder-decoder")
    per_token: ClassVar[bool] = True
    divides: ClassVar[bool] = False  # a part of a long input is not read
    undivided: ClassVar[str] = "cut"
    scores_loss: ClassVar[bool] = True
    request_options: ClassVar[tuple[str, ...]] = GENERATION
    higher_is_better: ClassVar[bool] = False
    new_model: ClassVar[Model | None] = "encoder-decoder"  # the Transformer, for which this task was made

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap is not None or self.long_texts != "windows":
            raise HeadwayError(f"--overlap and --long-texts have no effect in {self.name}. Use --cut-side.")
        check_option(self, "eval_outputs", is_integer(self.eval_outputs, 0), "an integer, 0 or more")
        valid = is_number(self.label_smoothing) and 0 <= self.label_smoothing < 1
        check_option(self, "label_smoothing", valid, "from 0 to below 1")
        _ = self.generation, self.pair_template

    @property
    def pipeline_tag(self) -> str:
        """The Hub's name: of an encoder-decoder, what its instruction says; it has none for other texts from texts."""
        named = None if self.source_limit is None else find_pipeline(self.template)
        return named or "text-generation"

    @property
    def generation(self) -> GenerationConfig:
        """How outputs are generated."""
        return GenerationConfig(**{name: getattr(self, name) for name in GENERATION})

    @property
    def pair_template(self) -> PairTemplate:
        """The template."""
        template = PairTemplate.parse(self.template)
        return template if self.source_limit is None else template.for_encoder()

    @property
    def cut_note(self) -> str:
        """The option that says which part of a long text is not read."""
        return f"--cut-side {self.cut_side}"

    @property
    def fields(self) -> tuple[Field, ...]:
        """The input, and its context unless the training data had none."""
        return self.inputs[:1] if self.reads_context is False else self.inputs

    @property
    def sample(self) -> str:
        """Orders and the polite questions for them."""
        return "requests.csv"

    def with_options(self, given: Mapping[str, Any]) -> Self:
        """As for every task; given generation options come before stored ones that contradict them."""
        chosen = {name: given[name] for name in GENERATION if name in given}
        GenerationConfig(**chosen)
        kept = overrule({name: getattr(self, name) for name in GENERATION}, chosen)
        defaults = {one.name: one.default for one in options_of(GenerationConfig)}
        contradicting = {name: defaults[name] for name in GENERATION if name not in kept}
        return super(TextToText, replace(self, **contradicting)).with_options(given)

    # -- rows -> examples

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Infers the columns by names that go together, from the only two columns of texts, or from messages."""
        messages = chat_column(table, chosen.get("input"))
        label = chosen.get("label")
        if messages is not None and label in (None, messages, [messages]):
            note = f'messages: column "{messages}"; {chat.NOTE} (--input and --label name other columns)'
            return ColumnMapping({"input": messages}, messages if need_label else None, (note,), chosen.get("group"))
        found = super().columns(table, infer_pair(table, chosen, need_label), need_label=need_label)
        return with_notes(found, chosen)

    @classmethod
    def recognizes(cls, table: Table) -> bool:
        """Whether there are columns of inputs and outputs by names that other data does not have, or messages."""
        pair = named_pair(table.columns)
        return chat_column(table, None) is not None or (pair is not None and is_clear(pair))

    def is_blank(self, cell: Any) -> bool:
        """As for every task; also messages before whose answer nothing is said."""
        return super().is_blank(cell) or chat.is_unasked(cell)

    def unlabelled(self, table: Table, columns: ColumnMapping) -> Callable[[Mapping[str, Any]], bool]:  # noqa: ARG002
        """Where there is no output."""
        return unanswered_checker(columns)

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Infers whether inputs have a context; there are no labels."""
        task = replace(self, reads_context="context" in columns.texts)
        most = max(
            (len(one.outputs) for one in map_valid(task.row_reader(table, columns), range(len(table)))), default=0
        )
        if not most:
            raise HeadwayError(
                f'{table.source}: no row has an input and an output (column "{columns.label}"), so there is nothing '
                "to learn. Name other columns with --input and --label."
            )
        notes = [f"up to {most} outputs per row: each is learned, and the best one counts"] if most > 1 else []
        return task, notes

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], PairExample]:
        """Reads a pair."""
        return pair_reader(table, columns, labelled=labelled)

    # -- examples -> sequences

    def for_model(self, config: "Config") -> Self:
        """A copy that knows the encoder's limit and the decoder's ends, if there are two."""
        if isinstance(config, EncoderDecoderConfig):
            return replace(
                self,
                source_limit=config.encoder.max_positions,
                start_id=config.start_id,
                end_id=config.end_id,
                position_limit=None,
            )
        if isinstance(config, TransformerConfig):
            return replace(
                self,
                source_limit=config.max_positions,
                start_id=config.start_id,
                end_id=config.end_id,
                position_limit=None,
            )
        return replace(self, source_limit=None, start_id=None, end_id=None, position_limit=config.max_positions)

    def encode(self, examples: Sequence[PairExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """A sequence for each output of an example, or its prompt if it has none."""
        source_limit = self.source_limit and min(self.source_limit, self.max_length or self.source_limit)
        ends = self.start_id, self.end_id
        encoder = PairEncoder(
            tokenizer, self.pair_template, limit, self.cut_side, source_limit, ends, self.position_limit
        )
        return encoder.encode(examples, self.generation)

    def warnings(self, example: PairExample, windows: Sequence[Features]) -> Iterable[ExampleWarning]:  # noqa: ARG002
        """Outputs that do not fit."""
        if omitted := max((one.num_omitted for one in windows), default=0):
            advice = "raise --max-length, or shorten it" if self.max_length else f"shorten it, or {DIVIDE}"
            yield ExampleWarning(OUTPUT_CUT + advice, detail=f"{count(omitted, 'token')} too many")

    def findings(self, examples: Sequence[PairExample]) -> Iterable[Finding]:
        """Outputs that are all the same, or those of the inputs."""
        return output_findings(examples)

    def pack(self, features: Sequence[Features]) -> "PackedBatch":
        """The sequences with the tokens of their outputs selected."""
        return pack(features) if features[0].target is None else select_targets(pack(features), features)

    # -- the head and its loss

    def head(self, backbone: "Backbone") -> nn.Module:
        """The language-modeling head."""
        return language_model_head(backbone)

    def before_training(self, before: Task[Any, Any] | None, network: "Network") -> Self:  # noqa: ARG002
        """Sets the head's label smoothing."""
        smooth_labels(network.head, self.label_smoothing)
        return self

    def targets(self, features: Sequence[Features]) -> "Targets":  # noqa: ARG002
        """Nothing: the outputs are in the batch, because the head computes their losses."""
        return {}

    def loss(self, outputs: Any, targets: "Targets") -> tuple[Tensor, int]:  # noqa: ARG002
        """The sum of the cross-entropies of the tokens of the outputs and of their ends, and their number."""
        return outputs.total, len(outputs)

    # -- outputs -> predictions -> metrics

    @torch.inference_mode()
    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The generated texts of prompts; the losses of labelled examples."""
        if features[0].target is None:
            return self.predict_windows(network, features)
        device = next(network.parameters()).device
        losses = [
            one
            for batch in token_batches(features)
            for one in sequence_losses(network(self.pack(batch).to(device)), batch, [None] * len(batch))
        ]
        return self.decode(losses, features)

    def predict_windows(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The generated text of each prompt, by the options with which it was encoded."""
        sources: list[PromptSource] = [one.metadata for one in features]
        texts: dict[int, GeneratedText] = {}
        for generation in dict.fromkeys(one.generation for one in sources):
            part = [i for i, one in enumerate(sources) if one.generation == generation]
            texts |= zip(part, self._generate(network, [features[i] for i in part], sources[part[0]]), strict=True)
        return [texts[i] for i in range(len(features))]

    def _generate(
        self, network: nn.Module, features: Sequence[Features], source: PromptSource
    ) -> Iterator[GeneratedText]:
        tokenizer = source.tokenizer.of_outputs
        prompts = [one.source_ids or one.input_ids for one in features]
        end = tokenizer.end_of_text_id if self.source_limit is None else self.end_id
        found = generate_ids(network, prompts, source.generation, end_of_text_id=end)  # pyright: ignore[reportArgumentType]
        for best, *_ in found:
            yield GeneratedText(tokenizer.decode(best.token_ids).strip(), best.finish_reason == "end-of-text")

    def join_windows(self, found: Sequence[Any], features: Sequence[Features]) -> list[Any]:  # noqa: ARG002
        """The generated texts themselves."""
        return list(found)

    def decode(self, outputs: Sequence[Any], features: Sequence[Features]) -> list[Any]:
        """The loss of each example, from the losses of its outputs."""
        losses, found = iter(outputs), []
        for windows in group_windows(features):
            part = [next(losses) for _ in windows]
            counts = sum(one.num_targets for one in part), sum(one.num_correct for one in part)
            found.append(OutputLoss(sum(one.loss for one in part), *counts))
        return found

    def score(self, predictions: Sequence[Any], examples: Sequence[PairExample]) -> dict[str, float]:
        """The mean loss per token of the outputs in nats, and its exponential."""
        return self.tally(predictions, examples).metrics()

    # -- model folders

    @classmethod
    def is_published(cls, checkpoint: "Checkpoint") -> bool:
        """Whether a published checkpoint is for text to text: a language model alone is not."""
        return super().is_published(checkpoint) and checkpoint.architecture != "GPT2LMHeadModel"

    def reuse_head(self, before: Task[Any, Any]) -> Self | None:
        """Any head is trained further: it knows no labels."""
        return self if isinstance(before, TextToText) else None

    def publish(self, folder: Path, network: "Network", tokenizer: "Tokenizer") -> None:
        """Writes how transformers generates."""
        write_generation_config(folder, self.generation, network.config, tokenizer)

    def card(self, network: "Network", name: str) -> CardText:
        """Usage and limitations."""
        return text_to_text_card(self, network, name)

"""Attribution of a prediction to the words of a text: integrated gradients, and leave-one-out.

Integrated gradients (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365): the baseline replaces every token of
the texts by the embedding of the padding token (by zeros if there is none); special tokens, positions and segments
stay. The attributions of all tokens sum to the difference between the outputs for the text and for the baseline
(completeness); the remaining gap is reported. Leave-one-out (Li et al. 2016, https://arxiv.org/abs/1612.08220) runs
the model on the sequence without a word.

Shapes: n tokens of the sequence, S points on the path, C hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.models.packing import PackedBatch
from .. import TASKS
from ..base.explanation import ExplainableOutput, TokenizedWord
from ..base.task import Task
from ..data.features import INFERENCE_BATCH_TOKENS
from .inspected_model import EncodedText, InspectedModel, Token

NUM_POINTS = (16, 48, 144)  # on the path; the next number is used if the gap exceeds TOLERANCE
TOLERANCE = 0.01  # of the change of the output
SMALLEST_CHANGE = 0.1  # for the tolerance

Method = Literal["integrated gradients", "leave-one-out"]


@dataclass(frozen=True)
class Attribution:
    """How much each token and word contributes to an output."""

    method: Method
    output: str
    unit: str
    value: float  # of the whole text
    tokens: tuple[Token, ...]
    words: tuple[TokenizedWord, ...]
    by_token: tuple[float, ...] | None  # None if only words are attributed
    by_word: tuple[float | None, ...]  # None for a word of the predicted span
    baseline: float | None = None  # the output for the baseline, if there is one
    gap: float | None = None  # sum of the attributions of all tokens, minus (value - baseline)
    num_points: int | None = None  # on the path


def explainable_outputs(inspected: InspectedModel, encoded: EncodedText) -> list[ExplainableOutput]:
    """The outputs that can be attributed to words, the model's own prediction first; empty if the task has none.

    Raises:
        HeadwayError: the model has no head for a task.
    """
    task = inspected.task
    if task is None:
        names = [one.name for one in TASKS.values() if one.explainable_outputs is not Task.explainable_outputs]
        raise HeadwayError(
            f"{inspected.name} has no head for {', '.join(names[:-1])} or {names[-1]}, so there is no prediction to "
            "attribute to words. Train one on it (headway train)."
        )
    return task.explainable_outputs(_outputs(inspected, encoded), encoded.features, encoded.words)


def choose_output(outputs: Sequence[ExplainableOutput], name: str | None) -> ExplainableOutput:
    """The output with a name. Default: the first one, the model's own prediction.

    Raises:
        HeadwayError: there is no such output.
    """
    if name is None:
        return outputs[0]
    found = next((one for one in outputs if one.name == name), None)
    if found is None:
        there = f"There is: {', '.join(one.name for one in outputs[:20])}." if outputs else "Omit --explain."
        raise HeadwayError(f"--explain {name}: the prediction has no such output. {there}")
    return found


@torch.inference_mode()
def _outputs(inspected: InspectedModel, encoded: EncodedText) -> Tensor:
    """The network's outputs for the sequence: (N,), or (n, N) if there is a row per token."""
    outputs = inspected.network(inspected.pack([encoded])).float().cpu()
    return outputs if inspected.task is not None and inspected.task.per_token else outputs[0]


# Integrated gradients.


def integrated_gradients(inspected: InspectedModel, encoded: EncodedText, output: ExplainableOutput) -> Attribution:
    """The contribution of each token on the path from the baseline to the text."""
    path = _path(inspected, encoded, output)
    with torch.no_grad():
        value, baseline = (path.measure(one[None])[0].item() for one in (path.end, path.start))
    change = value - baseline
    by_token: list[float] = []
    gap, num_points = 0.0, 0
    for num_points in NUM_POINTS:
        contributions = (path.mean_gradient(num_points) * (path.end - path.start)).sum(-1)
        by_token, gap = contributions.tolist(), contributions.sum().item() - change
        if abs(gap) <= TOLERANCE * max(abs(change), SMALLEST_CHANGE):
            break
    return Attribution(
        "integrated gradients",
        output.name,
        output.unit,
        value,
        encoded.tokens,
        encoded.words,
        tuple(by_token),
        tuple(sum(by_token[token] for token in word.tokens) for word in encoded.words),
        baseline=baseline,
        gap=gap,
        num_points=num_points,
    )


@dataclass(frozen=True, eq=False)
class _Path:
    """The straight line between two sequences of token embeddings, and the output along it."""

    inspected: InspectedModel
    encoded: EncodedText
    output: ExplainableOutput
    start: Tensor  # (n, C)
    end: Tensor  # (n, C)

    def measure(self, embedded: Tensor) -> list[Tensor]:
        """The output for sequences of token embeddings, (S, n, C) -> S."""
        count = len(embedded)
        batch = PackedBatch.pack([self.encoded.input_ids] * count, [self.encoded.features.segment_ids] * count)
        with _embeddings(self.inspected.network.backbone.token_embedding, embedded.flatten(0, 1)):
            outputs = self.inspected.network(batch.to(self.inspected.device)).float()
        positions = range(len(self.encoded.input_ids))
        return [self.output.measure(one, positions) for one in _by_sequence(self.inspected, batch, outputs)]

    def mean_gradient(self, num_points: int) -> Tensor:
        """The gradient of the output averaged over the path, (n, C), by Gauss-Legendre quadrature."""
        nodes, quadrature = np.polynomial.legendre.leggauss(num_points)
        start, end = self.start, self.end
        alphas = torch.tensor((nodes + 1) / 2, dtype=end.dtype, device=end.device)
        weights = torch.tensor(quadrature / 2, dtype=end.dtype, device=end.device)
        at_once = max(1, INFERENCE_BATCH_TOKENS // len(end))
        total = torch.zeros_like(end)
        with torch.enable_grad():
            for part, weight in zip(alphas.split(at_once), weights.split(at_once), strict=True):
                x = (start + part[:, None, None] * (end - start)).detach().requires_grad_()  # (S, n, C)
                (gradient,) = torch.autograd.grad((torch.stack(self.measure(x)) * weight).sum(), x)
                total += gradient.sum(0)
        return total


@torch.no_grad()
def _path(inspected: InspectedModel, encoded: EncodedText, output: ExplainableOutput) -> _Path:
    """The path from the baseline to the text; special tokens are the same in both."""
    embedding = inspected.network.backbone.token_embedding
    text = embedding(torch.tensor(encoded.input_ids, device=inspected.device))
    blank = torch.zeros_like(text)
    pad = inspected.tokenizer.pad_id
    if pad not in (None, inspected.tokenizer.end_of_text_id):
        blank = embedding(torch.tensor([pad], device=inspected.device)).expand_as(text)
    is_text = torch.tensor([token.start is not None for token in encoded.tokens], device=inspected.device)
    return _Path(inspected, encoded, output, torch.where(is_text[:, None], blank, text), text)


@contextmanager
def _embeddings(module: nn.Module, vectors: Tensor) -> Iterator[None]:
    """Makes an embedding return these vectors, (T, C), until the `with` block ends."""
    hook = module.register_forward_hook(lambda *_: vectors)
    try:
        yield
    finally:
        hook.remove()


def _by_sequence(inspected: InspectedModel, batch: PackedBatch, outputs: Tensor) -> Sequence[Tensor]:
    per_token = inspected.task is not None and inspected.task.per_token
    return batch.split(outputs) if per_token else outputs.unbind()


# Leave-one-out.


@torch.inference_mode()
def leave_one_out(inspected: InspectedModel, encoded: EncodedText, output: ExplainableOutput) -> Attribution:
    """How much the output falls without each word; None for the words of the predicted span."""
    everything = list(range(len(encoded.input_ids)))
    remaining = [
        None if set(word.tokens) & set(output.tokens) else [i for i in everything if i not in word.tokens]
        for word in encoded.words
    ]
    sequences = [everything, *(kept for kept in remaining if kept is not None)]
    at_once = max(1, INFERENCE_BATCH_TOKENS // len(everything))
    values: list[float] = []
    for start in range(0, len(sequences), at_once):
        values += _measure_kept(inspected, encoded, output, sequences[start : start + at_once])
    value, *others = values
    rest = iter(others)
    by_word = tuple(None if kept is None else value - next(rest) for kept in remaining)
    method: Method = "leave-one-out"
    return Attribution(method, output.name, output.unit, value, encoded.tokens, encoded.words, None, by_word)


def _measure_kept(
    inspected: InspectedModel, encoded: EncodedText, output: ExplainableOutput, sequences: Sequence[list[int]]
) -> list[float]:
    """The output for the sequence with only the given positions."""
    ids, segments = encoded.input_ids, encoded.features.segment_ids
    batch = PackedBatch.pack(
        [[ids[i] for i in kept] or ids[:1] for kept in sequences],
        [[segments[i] for i in kept] or segments[:1] for kept in sequences],
    )
    outputs = inspected.network(batch.to(inspected.device)).float()
    found = zip(_by_sequence(inspected, batch, outputs), sequences, strict=True)
    return [output.measure(one, kept).item() for one, kept in found]

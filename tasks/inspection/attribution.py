"""Which words an answer rests on: integrated gradients, and leaving one word out at a time.

Integrated gradients (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365) go from a blank text to the text:
every token of the texts starts as the embedding of [PAD] (as zeros, where the vocabulary has none), special tokens,
positions and segments stay. The shares of all tokens add up to what the text makes of the blank text's output
(completeness); how far they miss it is told. Leaving one out (Li et al. 2016, https://arxiv.org/abs/1612.08220) asks
the model again about the sequence without the word.

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
from .opened import Inspected, Reading, Token

POINTS = (16, 48, 144)  # on the path: more of them only where completeness asks for it
TOLERANCE = 0.01  # by how much of the output's change the shares may miss it, before more points are taken
PAD = "[PAD]"

Method = Literal["integrated gradients", "leaving one out"]


@dataclass(frozen=True)
class Attribution:
    """How much each token and word adds to an answer's number."""

    method: Method
    output: str
    unit: str
    value: float  # of the whole text
    tokens: tuple[Token, ...]
    words: tuple[TokenizedWord, ...]
    by_token: tuple[float, ...] | None  # None where words are asked for as a whole
    by_word: tuple[float | None, ...]  # None for a word that is the answer itself
    blank: float | None = None  # the number of the blank text, where there is one
    gap: float | None = None  # by how much the shares of all tokens miss value - blank
    points: int | None = None  # on the path


def outputs_of(inspected: Inspected, reading: Reading) -> list[ExplainableOutput]:
    """The outputs that can be attributed to the words of a text, the model's own prediction first; often none.

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
    return task.explainable_outputs(_outputs(inspected, reading), reading.features, reading.words)


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
def _outputs(inspected: Inspected, reading: Reading) -> Tensor:
    """The network's outputs for the sequence: (N,), or (n, N) if there is a row per token."""
    outputs = inspected.network(inspected.pack([reading])).float().cpu()
    return outputs if inspected.task is not None and inspected.task.per_token else outputs[0]


# Integrated gradients.


def integrated_gradients(inspected: Inspected, reading: Reading, output: ExplainableOutput) -> Attribution:
    """What each token adds to an answer's number on the way from a blank text to the text."""
    blank, whole = _ends_of_path(inspected, reading)
    with torch.no_grad():
        value, blank_value = (
            _measure_embedded(inspected, reading, output, one[None])[0].item() for one in (whole, blank)
        )
    change = value - blank_value
    found = None
    for points in POINTS:
        by_token = (_mean_gradient(inspected, reading, output, blank, whole, points) * (whole - blank)).sum(-1)
        gap = by_token.sum().item() - change
        found = by_token.tolist(), gap, points
        if abs(gap) <= TOLERANCE * max(abs(change), 0.1):
            break
    assert found is not None
    shares, gap, points = found
    by_word = tuple(sum(shares[token] for token in word.tokens) for word in reading.words)
    return Attribution(
        "integrated gradients",
        output.name,
        output.unit,
        value,
        reading.tokens,
        reading.words,
        tuple(shares),
        by_word,
        blank=blank_value,
        gap=gap,
        points=points,
    )


@torch.no_grad()
def _ends_of_path(inspected: Inspected, reading: Reading) -> tuple[Tensor, Tensor]:
    """The token embeddings of the blank text and of the text, (n, C) each; special tokens are the same in both."""
    embedding = inspected.network.backbone.token_embedding
    ids = torch.tensor(reading.input_ids, device=inspected.device)
    whole = embedding(ids)
    blank = torch.zeros_like(whole)
    pad = inspected.tokenizer.encode(PAD, allow_special=True).ids
    if inspected.tokenizer.tokens(pad) == [PAD]:
        blank = embedding(torch.tensor(pad, device=inspected.device)).expand_as(whole)
    text = torch.tensor([token.start is not None for token in reading.tokens], device=inspected.device)
    return torch.where(text[:, None], blank, whole), whole


def _mean_gradient(
    inspected: Inspected, reading: Reading, output: ExplainableOutput, blank: Tensor, whole: Tensor, points: int
) -> Tensor:
    """The mean over the path of the number's gradient, (n, C), by the quadrature of Gauss and Legendre."""
    nodes, shares = np.polynomial.legendre.leggauss(points)
    alphas = torch.tensor((nodes + 1) / 2, dtype=whole.dtype, device=whole.device)
    weights = torch.tensor(shares / 2, dtype=whole.dtype, device=whole.device)
    at_once = max(1, INFERENCE_BATCH_TOKENS // len(reading.input_ids))
    total = torch.zeros_like(whole)
    with torch.enable_grad():
        for part, weight in zip(alphas.split(at_once), weights.split(at_once), strict=True):
            x = (blank + part[:, None, None] * (whole - blank)).detach().requires_grad_()  # (S, n, C)
            numbers = torch.stack(_measure_embedded(inspected, reading, output, x))
            (gradient,) = torch.autograd.grad((numbers * weight).sum(), x)
            total += gradient.sum(0)
    return total


def _measure_embedded(
    inspected: Inspected, reading: Reading, output: ExplainableOutput, embedded: Tensor
) -> list[Tensor]:
    """The answer's number where the sequence has these token embeddings instead of its own, (S, n, C) -> S."""
    count = len(embedded)
    batch = PackedBatch.pack([reading.input_ids] * count, [reading.features.segment_ids] * count)
    with _embeddings(inspected.network.backbone.token_embedding, embedded.flatten(0, 1)):
        outputs = inspected.network(batch.to(inspected.device)).float()
    every = range(len(reading.input_ids))
    return [output.measure(one, every) for one in _by_sequence(inspected, batch, outputs)]


@contextmanager
def _embeddings(module: nn.Module, given: Tensor) -> Iterator[None]:
    """Lets an embedding give these vectors, (T, C), whatever it is asked for."""
    hook = module.register_forward_hook(lambda *_: given)
    try:
        yield
    finally:
        hook.remove()


def _by_sequence(inspected: Inspected, batch: PackedBatch, outputs: Tensor) -> Sequence[Tensor]:
    per_token = inspected.task is not None and inspected.task.per_token
    return batch.split(outputs) if per_token else outputs.unbind()


# Leaving one out.


@torch.inference_mode()
def leave_one_out(inspected: Inspected, reading: Reading, output: ExplainableOutput) -> Attribution:
    """By how much an answer's number falls when a word is left out; None for the words of the answer itself."""
    everything = list(range(len(reading.input_ids)))
    left_out = [
        None if set(word.tokens) & set(output.tokens) else [i for i in everything if i not in word.tokens]
        for word in reading.words
    ]
    sequences = [everything, *(kept for kept in left_out if kept is not None)]
    at_once = max(1, INFERENCE_BATCH_TOKENS // len(everything))
    numbers: list[float] = []
    for start in range(0, len(sequences), at_once):
        numbers += _measure_kept(inspected, reading, output, sequences[start : start + at_once])
    value, *others = numbers
    rest = iter(others)
    by_word = tuple(None if kept is None else value - next(rest) for kept in left_out)
    method: Method = "leaving one out"
    return Attribution(method, output.name, output.unit, value, reading.tokens, reading.words, None, by_word)


def _measure_kept(
    inspected: Inspected, reading: Reading, output: ExplainableOutput, sequences: Sequence[list[int]]
) -> list[float]:
    """The answer's number for the sequence with only some of its positions left."""
    ids, segments = reading.input_ids, reading.features.segment_ids
    batch = PackedBatch.pack(
        [[ids[i] for i in kept] or ids[:1] for kept in sequences],
        [[segments[i] for i in kept] or segments[:1] for kept in sequences],
    )
    outputs = inspected.network(batch.to(inspected.device)).float()
    found = zip(_by_sequence(inspected, batch, outputs), sequences, strict=True)
    return [output.measure(one, kept).item() for one, kept in found]

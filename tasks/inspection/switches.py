"""Heads and layers switched off, and how the score on a labelled file moves.

A head is off where what it adds to its layer's output is nothing (Michel et al. 2019,
https://arxiv.org/abs/1905.10650); a layer is off where it hands on what it is given.

Shapes: T tokens, C hidden size.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.models.heads import Backbone
from ...core.models.layers import SelfAttention
from ..base.inference import predict_examples
from ..base.model import TaskModel
from ..data.features import group_windows
from ..data.read import read_table
from ..data.split import split_rows


@dataclass(frozen=True)
class Switch:
    """A head, or a layer as a whole, that is switched off."""

    layer: int  # from 1
    head: int | None = None  # from 1; None: the whole layer

    def __str__(self) -> str:
        return f"layer {self.layer}" if self.head is None else f"layer {self.layer}, head {self.head}"


@dataclass(frozen=True)
class SwitchedOff:
    """How the score moves without a head or a layer."""

    switch: Switch
    score: float
    change: float  # from the score with everything on


@dataclass(frozen=True)
class Ranking:
    """Every head and layer, the one whose loss hurts most first."""

    metric: str
    higher_is_better: bool
    score: float  # with everything on
    examples: int
    rows: tuple[SwitchedOff, ...]
    notes: tuple[str, ...]


@contextmanager
def switched_off(backbone: Backbone, switches: Collection[Switch]) -> Iterator[None]:
    """Switches heads and layers of a backbone off until the block ends."""
    with ExitStack() as stack:
        for switch in switches:
            block = backbone.blocks[switch.layer - 1]
            if switch.head is None:
                stack.enter_context(_skipped(block))
            else:
                attention = block.get_submodule("attn")
                assert isinstance(attention, SelfAttention)
                hook = attention.out.register_forward_pre_hook(_Silencer(switch.head, attention.num_heads))
                stack.callback(hook.remove)
        yield


@contextmanager
def _skipped(block: nn.Module) -> Iterator[None]:
    """Makes a block return its input until the `with` block ends."""
    block.__dict__.update(forward=lambda x, *_: x, forward_at=lambda x, _batch, rows: x[rows])
    try:
        yield
    finally:
        del block.__dict__["forward"], block.__dict__["forward_at"]


@dataclass(frozen=True)
class _Silencer:
    """Takes a head's part out of what a layer's heads give together."""

    head: int
    num_heads: int

    def __call__(self, module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG002 - a hook's signature
        heads = given[0].clone().unflatten(-1, (self.num_heads, -1))  # (T, H, D)
        heads[:, self.head - 1] = 0
        return (heads.flatten(-2),)


def all_switches(backbone: Backbone) -> list[Switch]:
    """Every layer, each followed by its heads."""
    heads = range(1, backbone.config.num_heads + 1)
    layers = range(1, backbone.config.num_layers + 1)
    return [switch for layer in layers for switch in (Switch(layer), *(Switch(layer, head) for head in heads))]


def rank_switches(
    model: TaskModel,
    data: Any,
    *,
    columns: Mapping[str, Any] | None = None,
    header: bool | None = None,
    most: int | None = None,
    seed: int = 0,
) -> Iterator[SwitchedOff | Ranking]:
    """Measures a model without each of its heads and layers in turn; the ranking comes last.

    Args:
        model: with a trained head.
        data: labelled rows, as for training.
        columns: which column holds what, where the guess is to be overruled.
        header: whether a table's first row names its columns; told from the rows if left out.
        most: examples at most, drawn with each label's share kept; all if left out.
        seed: of that draw.

    Raises:
        HeadwayError: the data cannot be read or has no labels, or the task has none.
    """
    task = model.task
    if task.self_supervised:
        raise HeadwayError(f"{model.base} is for {task.name}, which has no labels to measure. Choose another model.")
    table = read_table(data, header=header)
    settled = task.columns(table, columns or {}, need_label=True)
    examples = task.examples(table, settled)
    notes = [*settled.notes]
    if most is not None and most < len(examples):
        _, chosen = split_rows([one.stratum for one in examples], most / len(examples), seed)
        notes.append(f"{len(chosen):,} of {len(examples):,} examples, drawn with seed {seed}")
        examples = [examples[i] for i in chosen]
    windows_by_example = group_windows(task.encode(examples, model.tokenizer, model.limit))
    model.network.eval()

    def measure(*switches: Switch) -> tuple[str, float]:
        with switched_off(model.network.backbone, switches):
            predictions = predict_examples(task, model.network, windows_by_example)
        return next(iter(task.score(predictions, examples).items()))

    metric, whole = measure()
    rows = []
    for switch in all_switches(model.network.backbone):
        _, score = measure(switch)
        rows.append(SwitchedOff(switch, score, score - whole))
        yield rows[-1]
    worst_first = sorted(rows, key=lambda row: row.change if task.higher_is_better else -row.change)
    yield Ranking(metric, task.higher_is_better, whole, len(examples), tuple(worst_first), tuple(notes))

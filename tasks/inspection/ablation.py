"""Ablation of heads and layers: the score of a model on labelled data without each of them.

A head is ablated by setting its contribution to the output of its layer to zero (Michel et al. 2019,
https://arxiv.org/abs/1905.10650); a layer, by returning its input.

Shapes: T tokens, H heads, D head size.
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
from ..base.left_out import usable_rows
from ..base.model import TaskModel
from ..data.read import read_table
from ..data.split import split_rows


@dataclass(frozen=True)
class Component:
    """A head, or a layer as a whole."""

    layer: int  # from 1
    head: int | None = None  # from 1; None: the whole layer

    def __str__(self) -> str:
        return f"layer {self.layer}" if self.head is None else f"layer {self.layer}, head {self.head}"


@dataclass(frozen=True)
class ComponentScore:
    """The score without a component."""

    component: Component
    score: float
    change: float  # from the score of the complete model


@dataclass(frozen=True)
class Ranking:
    """The scores without every head and layer, the most important one first."""

    metric: str
    higher_is_better: bool
    score: float  # of the complete model
    examples: int
    rows: tuple[ComponentScore, ...]
    notes: tuple[str, ...]


@contextmanager
def ablate(backbone: Backbone, components: Collection[Component]) -> Iterator[None]:
    """Ablates heads and layers of a backbone until the `with` block ends."""
    with ExitStack() as stack:
        for component in components:
            block = backbone.blocks[component.layer - 1]
            if component.head is None:
                stack.enter_context(_skipped(block))
            else:
                attention = block.get_submodule("attn")
                assert isinstance(attention, SelfAttention)
                hook = attention.out.register_forward_pre_hook(_HeadMask(component.head, attention.num_heads))
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
class _HeadMask:
    """A hook that sets the output of one head to zero."""

    head: int
    num_heads: int

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG002 - a hook's signature
        heads = inputs[0].clone().unflatten(-1, (self.num_heads, -1))  # (T, H, D)
        heads[:, self.head - 1] = 0
        return (heads.flatten(-2),)


def all_components(backbone: Backbone) -> list[Component]:
    """Every layer, each followed by its heads."""
    heads = range(1, backbone.config.num_heads + 1)
    layers = range(1, backbone.config.num_layers + 1)
    return [one for layer in layers for one in (Component(layer), *(Component(layer, head) for head in heads))]


def rank_components(
    model: TaskModel,
    data: Any,
    *,
    columns: Mapping[str, Any] | None = None,
    most: int | None = None,
    seed: int = 0,
    **reading: Any,
) -> Iterator[ComponentScore | Ranking]:
    """Evaluates a model without each of its heads and layers; the ranking comes last.

    Args:
        model: with a trained head.
        data: labelled rows, as for training.
        columns: field name or "label" -> column, where the inferred one is wrong.
        most: maximum number of examples, sampled in the proportions of their labels. Default: all.
        seed: of the sample.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the data cannot be read or has no labels, or the task has none.
    """
    task = model.task
    if task.self_supervised:
        raise HeadwayError(f"{model.base} is for {task.name}, which has no labels to score. Choose another model.")
    table = read_table(data, **reading)
    mapping = task.columns(table, columns or {}, need_label=True)
    table = usable_rows(task, table, mapping)
    examples = task.examples(table, mapping)
    notes = [*table.notes, *mapping.notes]
    if most is not None and most < len(examples):
        _, chosen = split_rows([one.stratum for one in examples], most / len(examples), seed)
        notes.append(f"{len(chosen):,} of {len(examples):,} examples, drawn with seed {seed}")
        examples = [examples[i] for i in chosen]
    windows_by_example = model.encoder.encode(task, examples)
    network = model.network.eval()

    def score(*ablated: Component) -> tuple[str, float]:
        with ablate(network.backbone, ablated):
            predictions = predict_examples(task, network, windows_by_example)
        return next(iter(task.score(predictions, examples).items()))

    metric, complete = score()
    rows = []
    for component in all_components(network.backbone):
        _, without = score(component)
        rows.append(ComponentScore(component, without, without - complete))
        yield rows[-1]
    ranked = sorted(rows, key=lambda row: row.change if task.higher_is_better else -row.change)
    yield Ranking(metric, task.higher_is_better, complete, len(examples), tuple(ranked), tuple(notes))

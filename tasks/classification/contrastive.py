"""Contrastive training of a model on labelled texts: vectors of texts with the same label become similar.

Supervised contrastive learning (Khosla et al. 2020, https://arxiv.org/abs/2004.11362, equation 2), where SetFit
(Tunstall et al. 2022, https://arxiv.org/abs/2209.11055) trains on pairs: each text is compared with all others of its
batch, so that an epoch costs one pass over the rows. The embeddings of tokens stay as they are.

Shapes: E examples, C hidden size, L labels.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.models.heads import Network, SequenceHead
from ...core.models.packing import PackedBatch, TokenLengths
from ...core.training.training import fit
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event
from ...core.training.training_inputs import Gather, Targets, TrainingInputs, own_rows
from ..data.features import Features, pack

TEMPERATURE = 0.3
BATCH_SIZE = 64
CHUNK = 4  # rows of the same label that are in one batch
MAX_TOKENS = 128  # that are read of a text
EPOCHS, MIN_STEPS = 5, 10  # the second: fewest steps
RATE = 3e-4  # of a hidden size of 384


@dataclass(frozen=True)
class LabelBatches:
    """Batches with several rows of each label that they have; every row is in one batch of an epoch."""

    lengths: TokenLengths
    labels: Sequence[int]
    seed: int

    def epoch(self, epoch: int) -> Sequence[list[int]]:
        """The batches of one epoch."""
        order = random.Random(self.seed * 1_000_003 + epoch)
        by_label: dict[int, list[int]] = {}
        for row in order.sample(range(len(self.labels)), len(self.labels)):
            by_label.setdefault(self.labels[row], []).append(row)
        chunks = [rows[i : i + CHUNK] for rows in by_label.values() for i in range(0, len(rows), CHUNK)]
        order.shuffle(chunks)
        rows = [row for chunk in chunks for row in chunk]
        count = -(-len(rows) // BATCH_SIZE)
        size = -(-len(rows) // count)
        return [rows[i : i + size] for i in range(0, len(rows), size)]


class _Vectors(nn.Module):
    """A network without its classifier: the vector of each sequence that the head reads, (B, C)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        assert isinstance(network.head, SequenceHead)
        self.backbone, self.rows = network.backbone, network.head.rows

    def forward(self, batch: PackedBatch) -> Tensor:
        return self.backbone.forward_at(batch, self.rows(batch))


def train_vectors(
    network: Network, windows_by_example: Sequence[list[Features]], targets: Tensor, config: TrainConfig
) -> Iterator[Event]:
    """Trains the backbone of a network in place, as the events of the training loop.

    Args:
        network: with a SequenceHead, which says what is read of a text; it is not trained.
        windows_by_example: of the training rows; the beginning of the first window is read.
        targets: the class of each example, (E,), or 0 and 1 for each label, (E, L).
        config: its seed, device and precision are used.
    """
    sequences = [_beginning(windows[0]) for windows in windows_by_example]
    lengths = [len(one.input_ids) for one in sequences]

    def collate(rows: list[int], seed: int) -> TrainingInputs:  # noqa: ARG001
        return TrainingInputs(pack([sequences[i] for i in rows]), {"labels": targets[rows]})

    rate = RATE * 384 / network.config.hidden_size
    options = {
        "max_steps": num_steps(len(sequences)),
        "learning_rate": rate,
        "batch_size": BATCH_SIZE,
        "schedule": "linear",
    }
    loop = TrainConfig(**options, seed=config.seed, device=config.device, precision=config.precision, keep="last")
    sampler = LabelBatches(lengths, strata_of(targets), config.seed)
    embeddings = [p for name, p in network.backbone.named_parameters() if not name.startswith("blocks.")]
    for parameter in embeddings:
        parameter.requires_grad_(False)
    yield from fit(_Vectors(network), sampler, collate, contrastive_loss, loop, in_batch_negatives=True)
    for parameter in embeddings:
        parameter.requires_grad_(True)


def num_steps(rows: int) -> int:
    """The number of steps of `train_vectors`."""
    batches = -(-rows // BATCH_SIZE)
    return max(EPOCHS, -(-MIN_STEPS // batches)) * batches


def strata_of(targets: Tensor) -> list[int]:
    """The class of each example, or the rarest of its labels; -1: it has none."""
    if targets.ndim == 1:
        return targets.tolist()
    counts = targets.sum(0)
    return [_rarest(row, counts) for row in targets]


def contrastive_loss(vectors: Tensor, targets: Targets, gather: Gather = own_rows) -> tuple[Tensor, int]:
    """The sum over texts of the mean cross-entropy of finding the texts with the same label among all others.

    Args:
        vectors: (E, C).
        targets: `labels`: (E,) or (E, L). Texts with several labels count by the share of labels they have in common.
        gather: joins the rows of several processes.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # cosines need more than eight bits
        units, labels = gather(F.normalize(vectors.float(), dim=-1)), gather(targets["labels"])
        own = torch.eye(len(units), dtype=torch.bool, device=units.device)
        similar = _similarity(labels).masked_fill(own, 0.0)  # (E, E)
        logits = (units @ units.T / TEMPERATURE).masked_fill(own, -torch.inf)
        losses = -(similar * logits.log_softmax(-1).masked_fill(own, 0.0)).sum(-1)
        return (losses / similar.sum(-1).clamp_min(1e-9)).sum(), len(units)


def _similarity(labels: Tensor) -> Tensor:
    """1 for equal labels and 0 for others, or the share of common labels in all labels of two texts, (E, E)."""
    if labels.ndim == 1:
        return (labels[:, None] == labels[None]).float()
    labels = labels.float()
    both = labels @ labels.T
    counts = labels.sum(-1)
    return both / (counts[:, None] + counts[None] - both).clamp_min(1.0)


def _rarest(row: Tensor, counts: Tensor) -> int:
    labels = row.nonzero()[:, 0].tolist()
    return min(labels, key=lambda label: float(counts[label]), default=-1)


def _beginning(window: Features) -> Features:
    """At most MAX_TOKENS of a window, with its last token, which may be a special one."""
    if len(window.input_ids) <= MAX_TOKENS:
        return window
    ids, segments = window.input_ids, window.segment_ids
    return replace(
        window,
        input_ids=[*ids[: MAX_TOKENS - 1], ids[-1]],
        segment_ids=[*segments[: MAX_TOKENS - 1], segments[-1]],
    )

"""Features -> predictions: batches filled to a budget of tokens, shared among the processes of a launch.

Shapes: B sequences in a packed batch, T tokens in all, N outputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...core.models.packing import BatchSampler
from ...core.training.distributed import gather_in_order, shard
from ..data.corpus import Corpus
from ..data.features import INFERENCE_BATCH_TOKENS, Features, num_input_tokens
from .task import Task


def predictions_for(task: Task, network: nn.Module, windows_by_example: Sequence[list[Features]]) -> list[Any]:
    """One prediction an example, in order; every process computes its share, and each gets all.

    Args:
        task: with the head that is on the network.
        network: in eval mode.
        windows_by_example: the features of each example.
    """
    found: dict[int, Any] = {}
    if windows_by_example:
        plan = BatchSampler(lengths_of(windows_by_example), batch_tokens=INFERENCE_BATCH_TOKENS)
        for indices in shard(plan.by_length()):
            chosen = [features for i in indices for features in windows_by_example[i]]
            found.update(zip(indices, task.predict_batch(network, chosen), strict=True))
    return gather_in_order(found)


@torch.inference_mode()
def outputs(task: Task, network: nn.Module, features: Sequence[Features]) -> list[Tensor]:
    """What the network gives each sequence, on the CPU in fp32; a text longer than a pass takes several."""
    device = next(network.parameters()).device
    found: list[Tensor] = []
    plan = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
    for indices in plan.in_order():
        batch = task.pack([features[i] for i in indices]).to(device)
        result = network(batch).float().cpu()  # (B, N) or (T, N)
        found += batch.split(result) if task.per_token else result.unbind()
    return found


def lengths_of(windows_by_example: Sequence[list[Features]]) -> list[int]:
    """The tokens that the network sees of each example; a corpus knows them without reading."""
    return (
        windows_by_example.lengths
        if isinstance(windows_by_example, Corpus)
        else [num_input_tokens(windows) for windows in windows_by_example]
    )

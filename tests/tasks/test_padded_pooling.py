"""Pooling of padded batches, as in exported graphs, equals pooling of packed batches."""

import pytest
import torch
from headway.core.models.packing import PackedBatch
from headway.tasks.embedding.pooling import MODES, RARE_MODES, PaddedPooling, Pooling

LENGTHS = (5, 1, 9, 3)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("modes", [*((mode,) for mode in (*MODES, *RARE_MODES)), ("cls", "mean", "max")])
def test_padded_pooling_equals_packed_pooling(modes: tuple[str, ...], normalize: bool):
    draw = torch.Generator().manual_seed(0)
    pooling = Pooling(modes, normalize=normalize)
    batch = PackedBatch.pack([[1] * length for length in LENGTHS])
    hidden = (
        torch.randn(batch.num_tokens, 6, generator=draw) - 3
    )  # all below zero, so that padding of 0 would be the maximum
    padded = torch.nn.utils.rnn.pad_sequence(list(batch.split(hidden)), batch_first=True, padding_value=7.0)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    expected = pooling.finish(pooling.pool(hidden, batch))
    torch.testing.assert_close(PaddedPooling(pooling)(padded, mask), expected)

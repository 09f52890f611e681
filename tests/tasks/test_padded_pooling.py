"""Poolings of padded batches, as exported graphs have them, beside those of packed ones."""

import pytest
import torch
from headway.core.models.packing import PackedBatch
from headway.tasks.embedding.pooling import PUBLISHED_MODES, Pooling
from headway.tasks.export import PaddedPooling

LENGTHS = (5, 1, 9, 3)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("modes", [*((mode,) for mode in PUBLISHED_MODES.values()), ("first", "mean", "max")])
def test_a_padded_pooling_is_the_packed_one(modes: tuple[str, ...], normalize: bool):
    draw = torch.Generator().manual_seed(0)
    pooling = Pooling(modes, normalize=normalize)
    batch = PackedBatch.pack([[1] * length for length in LENGTHS])
    hidden = torch.randn(batch.num_tokens, 6, generator=draw) - 3  # all below zero: padding must not be the largest
    padded = torch.nn.utils.rnn.pad_sequence(list(batch.split(hidden)), batch_first=True, padding_value=7.0)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    expected = pooling.finish(pooling.pool(hidden, batch))
    torch.testing.assert_close(PaddedPooling(pooling)(padded, mask), expected)

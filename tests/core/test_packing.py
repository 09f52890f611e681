"""Packed batches know the places of their sequences, and a batch sampler uses every example exactly once."""

import tracemalloc

import numpy as np
import pytest
import torch
from headway.core.models.packing import BatchSampler, PackedBatch
from hypothesis import given
from hypothesis import strategies as st

SEQUENCES = [[5, 6, 7], [8], [9, 10, 11], [12, 13]]
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def test_sequences_are_concatenated():
    batch = PackedBatch.pack(SEQUENCES)
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1]
    assert batch.segment_ids.tolist() == [0] * 9
    assert batch.cu_seqlens.tolist() == [0, 3, 4, 7, 9]
    assert (len(batch), batch.num_tokens, batch.lengths) == (4, 9, (3, 1, 3, 2))


def test_first_and_last_tokens_are_found_by_offset():
    batch = PackedBatch.pack(SEQUENCES)
    assert batch.input_ids[batch.first].tolist() == [5, 8, 9, 12]
    assert batch.input_ids[batch.last].tolist() == [7, 8, 11, 13]


def test_split_returns_one_tensor_per_sequence():
    batch = PackedBatch.pack(SEQUENCES)
    assert [part.tolist() for part in batch.split(batch.input_ids)] == SEQUENCES


def test_segments_are_concatenated_like_their_sequences():
    batch = PackedBatch.pack([[1, 2], [3]], segments=[[0, 1], [1]])
    assert batch.segment_ids.tolist() == [0, 1, 1]


def test_moving_a_batch_changes_only_its_device():
    batch = PackedBatch.pack(SEQUENCES)
    moved = batch.to("meta")
    assert moved.input_ids.is_meta
    assert moved.cu_seqlens.is_meta
    assert moved.lengths == batch.lengths
    assert not batch.input_ids.is_meta


@pytest.mark.parametrize("sequences", [[], [[]], [[1], []]])
def test_an_empty_sequence_is_refused(sequences):
    with pytest.raises(ValueError, match="no sequence may be empty"):
        PackedBatch.pack(sequences)


def test_segments_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="segments"):
        PackedBatch.pack([[1, 2]], segments=[[0]])


@given(LENGTHS)
def test_runs_are_neighbours_of_equal_length_that_cover_the_batch(lengths):
    batch = PackedBatch.pack([[1] * length for length in lengths])
    assert [length for _, count, length in batch.runs for _ in range(count)] == lengths
    starts = [start for start, _, _ in batch.runs]
    assert starts == [sum(c * n for _, c, n in batch.runs[:i]) for i in range(len(batch.runs))]
    assert all(a[2] != b[2] for a, b in zip(batch.runs, batch.runs[1:], strict=False))


@given(LENGTHS, st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 5))
def test_a_sampler_by_size_uses_every_example_once(lengths, size, seed, epoch):
    batches = BatchSampler(lengths, batch_size=size, seed=seed).epoch(epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 0 < len(batches[-1]) <= size


@given(LENGTHS, st.integers(1, 200), st.integers(1, 20), st.integers(0, 5))
def test_a_sampler_by_tokens_keeps_to_its_budget(lengths, budget, max_examples, epoch):
    sampler = BatchSampler(lengths, batch_tokens=budget, max_examples=max_examples)
    for batches in (sampler.epoch(epoch), sampler.by_length()):
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        for batch in batches:
            assert len(batch) <= max_examples
            assert sum(lengths[i] for i in batch) <= budget or len(batch) == 1


@given(LENGTHS, st.integers(0, 2**31), st.integers(0, 5))
def test_batches_depend_on_seed_and_epoch_only(lengths, seed, epoch):
    torch.manual_seed(1)
    one = BatchSampler(lengths, batch_tokens=64, seed=seed).epoch(epoch)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other = BatchSampler(tuple(lengths), batch_tokens=64, seed=seed).epoch(epoch)
    assert list(one) == list(other)
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_differ_between_epochs_and_between_seeds():
    lengths = [3] * 50
    samplers = [BatchSampler(lengths, batch_size=5, seed=seed).epoch(epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({str(list(batches)) for batches in samplers}) == 4


def test_prediction_starts_with_the_longest_sequences():
    lengths = [3, 9, 1, 9, 4]
    order = [i for batch in BatchSampler(lengths, batch_tokens=12).by_length() for i in batch]
    assert [lengths[i] for i in order] == [9, 9, 4, 3, 1]


def fill(order, lengths, budget, max_examples):
    """Batches filled one example after the other: what the arrays of a sampler must agree with."""
    batches, tokens = [], 0
    for index in order:
        tokens += lengths[index]
        if not batches or len(batches[-1]) == max_examples or tokens > budget:
            batches.append([])
            tokens = lengths[index]
        batches[-1].append(index)
    return batches


@given(LENGTHS, st.integers(1, 200), st.integers(1, 20))
def test_a_batch_ends_where_the_next_example_does_not_fit(lengths, budget, max_examples):
    sampler = BatchSampler(lengths, batch_tokens=budget, max_examples=max_examples)
    assert list(sampler.in_order()) == fill(range(len(lengths)), lengths, budget, max_examples)
    filled = fill(sorted(range(len(lengths)), key=lambda i: -lengths[i]), lengths, budget, max_examples)
    assert list(sampler.by_length()) == filled


@given(LENGTHS, st.integers(1, 200))
def test_a_batch_is_the_same_by_position_in_a_slice_and_in_order(lengths, budget):
    batches = BatchSampler(lengths, batch_tokens=budget).epoch(0)
    assert [batches[i] for i in range(len(batches))] == list(batches) == batches[:]
    assert batches[-1] == list(batches)[-1]
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_the_batches_of_ten_million_examples_are_counted_without_a_permutation():
    lengths = np.full(10_000_000, 14, dtype=np.int32)
    tracemalloc.start()
    batches = BatchSampler(lengths, batch_size=32).epoch(0)
    assert len(batches) == 312_500
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_batch_of_a_million_examples_takes_a_permutation_and_no_lists():
    lengths = np.full(1_000_000, 14, dtype=np.int32)
    for size in ({"batch_size": 32}, {"batch_tokens": 448}):
        tracemalloc.start()
        batches = BatchSampler(lengths, **size).epoch(0)
        assert len(batches[17]) == 32
        assert len(batches) == 31_250
        kept, _ = tracemalloc.get_traced_memory()
        assert kept < 24 * len(lengths)
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 4, "batch_tokens": 100}])
def test_a_sampler_needs_exactly_one_size(sizes):
    with pytest.raises(ValueError, match="batch_size or batch_tokens"):
        BatchSampler([1, 2], **sizes)

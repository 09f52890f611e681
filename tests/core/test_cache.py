"""The outputs with a cache are those without, however its rows are filled, forked, dropped and duplicated."""

import random

import pytest
import torch
from headway.core.models import cache as cache_module
from headway.core.models import cache_attention
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.packing import PackedBatch
from parity import TOLERANCE, sequences, stir

VOCAB = 31
LENGTHS = {
    "mixed": [3, 1, 7, 7, 2, 7],
    "equal": [4, 4, 4],
    "one row": [9],
    "single tokens": [1, 1],
}


@pytest.fixture(scope="module", params=[{}, {"scale_attention_by_layer": True, "scale_attention": False}])
def model(request):
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "max_positions": 64, "hidden_size": 20, "num_layers": 3, "num_heads": 4}
    return stir(GPT2(GPT2Config(**sizes, intermediate_size=40, **request.param)))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(params=[False, True], ids=["CPU", "other devices"])
def masked(request, monkeypatch):
    """Attention over the cache as on the CPU, and as on other devices."""
    if request.param:
        as_on_another_device(monkeypatch)


def as_on_another_device(monkeypatch):
    for module in (cache_attention, cache_module):
        monkeypatch.setattr(module, "is_asynchronous", lambda _: True)


def whole(model, rows):
    """The hidden states of every row, computed at once without a cache."""
    batch = PackedBatch.pack(rows)
    return batch.split(model(batch))


def read(model, cache, rows):
    """The hidden states of the new tokens, a tensor per row."""
    batch = cache.extend(rows)
    return batch.split(model(batch, cache))


def close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_prompts_have_the_same_outputs_with_a_cache(model, lengths):
    rows = sequences(lengths, VOCAB)
    cache = model.new_cache(len(rows), max(lengths))
    close(read(model, cache, rows), whole(model, rows))
    assert cache.lengths == cache.total_lengths == lengths


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_single_tokens_have_the_outputs_of_the_whole_text(model, lengths):
    rows = sequences([length + 6 for length in lengths], VOCAB)
    expected = whole(model, rows)
    cache = model.new_cache(len(rows), max(lengths) + 6)
    read(model, cache, [row[:length] for row, length in zip(rows, lengths, strict=True)])
    for step in range(6):
        at = [length + step for length in lengths]
        found = read(model, cache, [[row[i]] for row, i in zip(rows, at, strict=True)])
        close(found, [one[i : i + 1] for one, i in zip(expected, at, strict=True)])


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("seed", range(20))
def test_rows_can_be_filled_in_pieces_of_any_size(model, seed):
    choose = random.Random(seed)
    rows = sequences([choose.randint(8, 20) for _ in range(4)], VOCAB, seed)
    expected, read_so_far = whole(model, rows), [0] * 4
    cache = model.new_cache(4, 20)
    while any(at < len(row) for at, row in zip(read_so_far, rows, strict=True)):
        remaining = [i for i, row in enumerate(rows) if read_so_far[i] < len(row)]
        cache.reorder(remaining)
        rows, expected = [rows[i] for i in remaining], [expected[i] for i in remaining]
        read_so_far = [read_so_far[i] for i in remaining]
        ends = [choose.randint(at + 1, len(row)) for at, row in zip(read_so_far, rows, strict=True)]
        spans = [slice(at, end) for at, end in zip(read_so_far, ends, strict=True)]
        found = read(model, cache, [row[span] for row, span in zip(rows, spans, strict=True)])
        close(found, [one[span] for one, span in zip(expected, spans, strict=True)])
        read_so_far = ends


@pytest.mark.usefixtures("masked")
def test_a_batch_has_the_outputs_of_its_rows_alone(model):
    rows = sequences(LENGTHS["mixed"], VOCAB)
    together = model.new_cache(len(rows), 10)
    first, second = read(model, together, rows), read(model, together, [[5]] * len(rows))
    for i, row in enumerate(rows):
        alone = model.new_cache(1, 10)
        torch.testing.assert_close(first[i], read(model, alone, [row])[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(second[i], read(model, alone, [[5]])[0], rtol=1e-6, atol=1e-6)


COUNTS = {"each three": [3, 3, 3], "one row, many": [7], "mixed": [2, 0, 1, 3, 3], "each one": [1, 1]}


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("lengths", ["equal", "mixed"])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_rows_on_a_shared_prefix_have_the_outputs_of_the_joined_texts(model, counts, lengths):
    prefixes = sequences([5] * len(counts) if lengths == "equal" else [5, 2, 5, 5, 9][: len(counts)], VOCAB)
    parents = [i for i, count in enumerate(counts) for _ in range(count)]
    ends = sequences([6 if lengths == "equal" else 3 + i % 4 for i in range(len(parents))], VOCAB, seed=1)
    expected = whole(model, [prefixes[parent] + end for parent, end in zip(parents, ends, strict=True)])
    expected = [one[-len(end) :] for one, end in zip(expected, ends, strict=True)]
    prefix = model.new_cache(len(prefixes), 9)
    read(model, prefix, prefixes)
    fork = prefix.fork(counts, capacity=6)
    close(read(model, fork, [end[:-2] for end in ends]), [one[:-2] for one in expected])
    close(read(model, fork, [end[-2:-1] for end in ends]), [one[-2:-1] for one in expected])
    close(read(model, fork, [end[-1:] for end in ends]), [one[-1:] for one in expected])
    assert fork.total_lengths == [len(prefixes[p]) + len(end) for p, end in zip(parents, ends, strict=True)]


@pytest.mark.usefixtures("masked")
def test_a_prefix_can_have_a_prefix_and_is_not_copied(model):
    (shared,) = sequences([11], VOCAB)
    texts = sequences([4, 6, 4], VOCAB, seed=1)
    labels = sequences([2, 1, 3, 2, 2], VOCAB, seed=2)
    first = model.new_cache(1, 11)
    read(model, first, [shared])
    second = first.fork([3], capacity=6)
    close(read(model, second, texts), [one[11:] for one in whole(model, [shared + text for text in texts])])
    kept = [part.clone() for part in (first.keys, second.keys[:, :, :, :4])]
    third = second.fork([2, 2, 1], capacity=3)
    owners = [0, 0, 1, 1, 2]
    joined = [shared + texts[owner] + label for owner, label in zip(owners, labels, strict=True)]
    expected = [one[-len(label) :] for one, label in zip(whole(model, joined), labels, strict=True)]
    close(read(model, third, labels), expected)
    assert third.keys.shape[1:4:2] == (5, 3)  # rows and capacity: its own tokens only
    assert torch.equal(first.keys, kept[0])
    assert torch.equal(second.keys[:, :, :, :4], kept[1])


@pytest.mark.usefixtures("masked")
@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_rows_can_be_dropped_duplicated_and_reordered(model, seed, forked):
    choose = random.Random(seed)
    rows = sequences([choose.randint(1, 6) for _ in range(5)], VOCAB, seed)
    cache = model.new_cache(5, 20)
    read(model, cache, rows)
    if forked:
        rows = [list(rows[parent]) for parent in (0, 0, 1, 3, 4)]
        cache = cache.fork([2, 1, 0, 1, 1], capacity=20)
    for _ in range(6):
        order = [choose.randrange(len(rows)) for _ in range(choose.randint(1, 5))]
        order = sorted(order) if choose.random() < 0.5 else order
        cache.reorder(order)
        rows = [[*rows[i], choose.randrange(VOCAB)] for i in order]
        found = read(model, cache, [row[-1:] for row in rows])
        close(found, [one[-1:] for one in whole(model, rows)])


def test_dropping_rows_copies_nothing_and_duplicating_a_row_copies_only_that_row(model):
    cache = model.new_cache(4, 5)
    read(model, cache, sequences([5, 5, 5, 5], VOCAB))
    before = cache.keys.clone()
    cache.reorder([0, 2, 3])
    assert torch.equal(cache.keys, before)
    cache.reorder([0, 1, 1, 2])
    assert [torch.equal(cache.keys[:, slot], before[:, slot]) for slot in range(4)] == [True, False, True, True]
    assert torch.equal(cache.keys[:, 1], before[:, 2])


@pytest.mark.usefixtures("masked")
def test_a_cleared_row_can_be_filled_again(model):
    rows = sequences([6, 3], VOCAB)
    cache = model.new_cache(2, 8)
    read(model, cache, rows)
    cache.clear(0)
    found = read(model, cache, [[7, 8, 9], [4]])
    close(found, [whole(model, [[7, 8, 9]])[0], whole(model, [[*rows[1], 4]])[0][-1:]])


def test_neighbouring_rows_of_equal_length_share_one_attention_call(model):
    cache = model.new_cache(6, 8)
    cache.extend(sequences([3, 3, 3, 2, 2, 2], VOCAB))
    cache.extend([[1]] * 6)
    assert [call.slots for call in cache.levels[0].calls] == [slice(0, 3), slice(3, 6)]
    fork = cache.fork([2] * 6, capacity=1)
    fork.extend([[1]] * 12)
    assert [call.slots for call in fork.levels[0].calls] == [slice(0, 12)]
    assert [call.tokens for call in fork.levels[1].calls] == [slice(0, 6), slice(6, 12)]


def test_the_cache_of_a_half_precision_model_is_fp32_on_the_cpu(model):
    half = GPT2(model.config).eval().bfloat16()
    half.load_state_dict(model.state_dict())
    rows = sequences([5, 3], VOCAB)
    cache = half.new_cache(2, 5)
    assert cache.keys.dtype == torch.float32
    read(half, cache, rows)
    found = read(half, cache.fork([1, 2], capacity=2), [[4], [5, 6], [7]])
    joined = whole(model, [[*rows[0], 4], [*rows[1], 5, 6], [*rows[1], 7]])
    for one, other in zip(found, joined, strict=True):
        expected = other[-len(one) :]
        assert (one.float() - expected).norm() < 0.1 * expected.norm()


def test_tokens_and_rows_beyond_the_capacity_are_refused(model):
    cache = model.new_cache(2, 3)
    for rows in ([[1]], [[1], []], [[1], [2], [3]]):
        with pytest.raises(ValueError, match="as many sequences"):
            cache.extend(rows)
    with pytest.raises(ValueError, match="no row may be empty"):
        cache.fork([1, 1], capacity=1)
    with pytest.raises(ValueError, match="capacity of 3"):
        cache.extend([[1], [1, 2, 3, 4]])
    cache = model.new_cache(2, 3)
    cache.extend([[1], [2]])
    with pytest.raises(ValueError, match="one count per row"):
        cache.fork([1], capacity=1)
    with pytest.raises(ValueError, match="cache of 2"):
        cache.reorder([0, 0, 1])


def count_attention(monkeypatch):
    """A list that gets an entry for every call of attention."""
    calls, attention = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **options: calls.append(args[0].shape) or attention(*args, **options),
    )
    return calls


def test_rows_of_different_lengths_are_one_attention_call_on_other_devices(model, monkeypatch):
    as_on_another_device(monkeypatch)
    cache = model.new_cache(6, 20)
    rows = sequences([9, 3, 3, 8, 1, 2], VOCAB)
    read(model, cache, rows)
    cache.reorder([0, 1, 3, 4, 5])
    calls = count_attention(monkeypatch)
    read(model, cache, [[7]] * 5)
    assert calls == [(6, 4, 1, 5)] * 3  # the layers; the slot of the row that was dropped is computed as well


def test_rows_are_moved_together_when_attention_would_read_mostly_gaps(model, monkeypatch):
    as_on_another_device(monkeypatch)
    rows = sequences([4, 3, 4, 3, 4, 3, 4, 3], VOCAB)
    cache = model.new_cache(8, 20)
    assert not cache.keys_values.any()  # what is masked must be numbers
    read(model, cache, rows)
    cache.reorder([0, 7])
    calls = count_attention(monkeypatch)
    found = read(model, cache, [[5], [6]])
    assert calls == [(2, 4, 1, 5)] * 3
    close(found, [one[-1:] for one in whole(model, [[*rows[0], 5], [*rows[7], 6]])])


def test_attention_over_a_prefix_in_parts_is_that_of_the_whole(model, monkeypatch):
    as_on_another_device(monkeypatch)
    prefix = model.new_cache(2, 9)
    read(model, prefix, sequences([9, 4], VOCAB))
    found = []
    for most in (2**26, 60, 1):
        monkeypatch.setattr(cache_attention, "MAX_SCORES", most)
        found.append(read(model, prefix.fork([2, 1], capacity=8), sequences([8, 3, 6], VOCAB, seed=1)))
    close(found[1], found[0])
    close(found[2], found[0])


def test_a_cache_on_another_device_reads_nothing_back(model):
    there = GPT2(model.config).eval().to("meta")
    cache = there.new_cache(3, 40)
    read(there, cache, sequences([9, 3, 5], VOCAB))
    fork = cache.fork([2, 0, 1], capacity=30)
    for rows in (sequences([4, 4, 20], VOCAB), [[1], [2], [3]]):
        assert [len(one) for one in read(there, fork, rows)] == [len(row) for row in rows]
    fork.reorder([0, 0])
    assert len(read(there, fork, [[1], [2, 3]])) == 2
    fork.reorder([1])
    assert len(read(there, fork, [[1]])) == 1


@pytest.mark.gpu
def test_a_cache_on_a_gpu_has_the_outputs_of_one_on_the_cpu(model):
    rows = sequences([5, 3, 3], VOCAB)
    found = []
    for device in ("cpu", "cuda"):
        there = model.to(device)
        cache = there.new_cache(3, 6)
        read(there, cache, rows)
        fork = cache.fork([1, 2, 2], capacity=4)
        hidden = [*read(there, fork, [[1, 2], [3], [4], [5, 6], [7]]), *read(there, fork, [[8]] * 5)]
        found.append([one.cpu() for one in hidden])
    model.to("cpu")
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)

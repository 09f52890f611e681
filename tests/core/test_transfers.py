"""Tensors and numbers go to a device without waiting for it."""

import pytest
import torch
from headway.core.models.packing import PackedBatch
from headway.core.models.transfers import is_asynchronous, send, to_device
from headway.core.training.training_inputs import TrainingInputs


@pytest.fixture
def copies(monkeypatch):
    """The copies that are made to a device that this machine does not have: tensors stay where they are."""
    made, pinned = [], set()

    def pin_memory(x):
        pinned.add(id(x))
        return x

    def to(x, device, non_blocking=False):
        made.append((torch.device(device).type, id(x) in pinned, non_blocking))
        return x

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    return made


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cuda", ("cuda", True, True)), ("mps", ("mps", False, False)), ("cpu", ("cpu", False, False))],
)
def test_all_tensors_go_to_cuda_from_page_locked_memory_and_elsewhere_by_blocking_copies(copies, device, expected):
    batch = PackedBatch.pack([[1, 2], [3]]).select([[0], []])
    TrainingInputs(batch, {"labels": torch.tensor([1, 2]), "teacher": batch}).to(torch.device(device))
    assert copies == [expected] * 11  # five tensors of each batch, and the labels


def test_numbers_arrive_in_one_copy(copies):
    first, empty, last = send(torch.device("cuda"), [1, 2], [], range(3))
    assert (first.tolist(), empty.tolist(), last.tolist()) == ([1, 2], [], [0, 1, 2])
    assert copies == [("cuda", True, True)]


def test_a_tensor_that_is_on_a_device_already_is_not_pinned():
    assert to_device(torch.empty(2, device="meta"), "meta").is_meta
    assert [is_asynchronous(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [False, True, True]

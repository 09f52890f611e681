"""Makes the inputs of the next forward pass while the device computes this one.

On a GPU, packing 16,384 tokens takes the host longer than many a model the device. It happens in one thread, during
backward passes: these start their kernels in C++, without Python's lock. While Python starts the kernels of a forward
pass, a second thread would only slow it down.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

from .training_inputs import TrainingInputs

Make = Callable[[list[int], int], TrainingInputs]


class Prefetcher:
    """Makes inputs, the next ones in a thread if the device is a GPU.

    Other devices compute without the host only in part (MPS) or not at all: a thread would gain nothing there.

    Args:
        make: packs examples and copies them to the device; the arguments are the indices and the seed of `Collate`.
        device: computes the forward passes.
    """

    def __init__(self, make: Make, device: torch.device) -> None:
        self._make = make
        self._device = device
        self._thread = ThreadPoolExecutor(1, "prefetch") if device.type == "cuda" else None
        self._begun: tuple[list[int], int, Future[TrainingInputs]] | None = None

    def begin(self, indices: list[int], seed: int) -> None:
        """Begins to make inputs in the thread, if there is one."""
        if self._thread is not None:
            self.wait()
            self._begun = indices, seed, self._thread.submit(self._make_in_thread, indices, seed, self._stream())

    def take(self, indices: list[int], seed: int) -> TrainingInputs:
        """The inputs; those that were begun last if they have the same arguments.

        Raises:
            Exception: what `make` raises.
        """
        begun = self._begun
        self.wait()
        self._begun = None
        if begun is not None and begun[:2] == (indices, seed):
            return begun[2].result()
        return self._make(indices, seed)

    def wait(self) -> None:
        """Returns when the thread is idle."""
        if self._begun is not None:
            wait([self._begun[2]])

    def close(self) -> None:
        """Ends the thread."""
        self._begun = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _stream(self) -> "torch.cuda.Stream | None":
        return torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None

    def _make_in_thread(self, indices: list[int], seed: int, stream: "torch.cuda.Stream | None") -> TrainingInputs:
        # On the stream that computes, which a new thread does not have: the copies, of a few microseconds, come before
        # the kernels that read them, and the allocator knows that no other stream uses their memory.
        with torch.cuda.stream(stream):  # pyright: ignore[reportArgumentType] - None: no stream
            return self._make(indices, seed)

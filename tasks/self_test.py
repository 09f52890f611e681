"""A self-test of an installation: a model is trained briefly, written, read and used, and its results checked."""

import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.errors import HeadwayError
from ..core.training.distributed import inference_device
from ..core.training.training_config import TrainConfig
from ..core.training.training_events import Started, Step
from . import TextClassification, load
from .samples import FOLDER

MODEL = "mini-bert"
STEPS = 24
NUM_COMPARED = 16  # texts
# Probabilities in fp32 differ by the order of sums alone; on a GPU, products in TensorFloat-32 differ more.
MAX_DIFFERENCE = 1e-4
MAX_DIFFERENCE_OF_DEVICES = 1e-2


@dataclass(frozen=True)
class SelfTest:
    """The result of a self-test."""

    device: str
    precision: str
    seconds: float
    first_loss: float  # mean of the first quarter of the steps
    last_loss: float  # of the last quarter
    packed_difference: float  # largest difference of a probability in a batch and alone
    device_difference: float | None  # from the CPU; None: the device is the CPU
    failures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields, and whether everything is right."""
        return {"passed": not self.failures, **asdict(self)}


def self_test(device: str = "auto") -> SelfTest:
    """Trains mini-bert on messages of the package; writes and reads the model; compares its predictions.

    Args:
        device: as of `TrainConfig`.

    Raises:
        HeadwayError: there is no such device, or the computation fails.
    """
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run(device, Path(folder) / "model", start)
    except (RuntimeError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise HeadwayError(f"{type(error).__name__}: {reason}") from error


def _run(device: str, output: Path, start: float) -> SelfTest:
    import numpy as np

    config = TrainConfig(max_steps=STEPS, batch_size=16, learning_rate=1e-3, device=device, seed=0)
    model = TextClassification().on(MODEL)
    losses, started = [], None
    with closing(model.train(FOLDER / "messages.csv", output=output, eval_fraction=0, config=config)) as run:
        for event in run:
            started = event if isinstance(event, Started) else started
            losses += [event.loss] if isinstance(event, Step) else []
    assert started is not None
    texts = _texts()
    used = load(output, device=device)
    used.precision = "fp32"
    packed = _probabilities(used.predict(texts))
    alone = np.concatenate([_probabilities([used.predict(text)]) for text in texts])
    difference, of_devices = float(np.abs(packed - alone).max()), None
    if inference_device(device).type != "cpu":
        on_cpu = load(output, device="cpu")
        on_cpu.precision = "fp32"
        of_devices = float(np.abs(packed - _probabilities(on_cpu.predict(texts))).max())
    first, last = (float(np.mean(part)) for part in (losses[: STEPS // 4], losses[-STEPS // 4 :]))
    failures = []
    if not last < first:  # also if one is not a number
        failures.append(f"the loss does not fall in training: from {first:.3f} to {last:.3f}")
    if not difference < MAX_DIFFERENCE:
        failures.append(f"a text has other probabilities in a batch than alone: by {difference:.1e}")
    if of_devices is not None and not of_devices < MAX_DIFFERENCE_OF_DEVICES:
        failures.append(f"{started.device} computes other probabilities than the CPU: by {of_devices:.1e}")
    seconds = round(time.monotonic() - start, 1)
    return SelfTest(started.device, started.precision, seconds, first, last, difference, of_devices, tuple(failures))


def _texts() -> list[str]:
    """Texts of very different lengths."""
    from .data.read import read_table

    rows = [row["text"] for row in islice(read_table(FOLDER / "messages.csv").rows, NUM_COMPARED)]
    return [" ".join([row] * (1 + i % 4)) for i, row in enumerate(rows)]


def _probabilities(predictions: Any) -> Any:
    """(N, L) probabilities of N predictions for L labels."""
    import numpy as np

    return np.array([[one.scores[label] for label in sorted(one.scores)] for one in predictions])

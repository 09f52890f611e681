"""A small training run for several tests: in their own process, in processes that are killed, and in two at once.

As a script: `train_worker.py FOLDER` makes the runs of test_resume.py.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from headway.core.models.bert import BertConfig
from headway.core.models.heads import Network, SequenceHead, new_backbone
from headway.core.models.packing import BatchSampler, PackedBatch
from headway.core.training import training_state
from headway.core.training.distributed import gather_in_order, processes, shard
from headway.core.training.training import fit
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Event, Finished, Saved, Started, Step
from headway.core.training.training_inputs import Gather, Targets, TrainingInputs
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY = 50
ALBERT: dict[str, Any] = {"share_layers": True, "embedding_size": 16}


def tiny_bert(dropout: float = 0.0, seed: int = 0, **changes: Any) -> Network:
    """A random BERT with two outputs; its weights depend only on the seed and the changes to its configuration."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY, max_positions=16, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64,
        dropout=dropout, attention_dropout=dropout, head_dropout=dropout, init_std=0.1,
        **changes,
    )  # fmt: skip
    return Network(new_backbone(config), SequenceHead(config, 2))


class SmallDevice(Network):
    """A network on a device on which only passes of few tokens fit."""

    def __init__(self, network: Network, most: int, where: str = "forward", error: Exception | None = None) -> None:
        super().__init__(network.backbone, network.head)
        self.most, self.where = most, where
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        self.passes: list[int] = []

    def forward(self, batch: PackedBatch) -> Tensor:
        """Fails in the forward or the backward pass, after it has drawn random numbers."""
        self.passes.append(batch.num_tokens)
        outputs = super().forward(batch)
        assert isinstance(outputs, Tensor)
        if batch.num_tokens <= self.most:
            return outputs
        if self.where == "forward":
            raise self.error
        return FailingBackward.apply(outputs, self.error)


class FailingBackward(torch.autograd.Function):
    """The backward pass does not fit in the memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, error: Exception) -> Tensor:
        """The identity."""
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        """Fails."""
        raise ctx.error


class Data:
    """Seeded sequences of 2 to 12 tokens; the label is whether token 7 occurs."""

    def __init__(self, count: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(2, 13, (count,), generator=generator).tolist()
        self.sequences = [torch.randint(0, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
        for index in range(0, count, 2):
            self.sequences[index][1] = 7
        self.labels = [int(7 in sequence) for sequence in self.sequences]
        self.lengths = lengths

    def collate(self, indices: list[int], seed: int = 0) -> TrainingInputs:  # noqa: ARG002 - nothing is drawn
        """Packs examples for `fit`."""
        batch = PackedBatch.pack([self.sequences[i] for i in indices])
        return TrainingInputs(batch, {"labels": torch.tensor([self.labels[i] for i in indices])})

    def loss(self, outputs: Tensor, targets: Targets) -> tuple[Tensor, int]:
        """The loss function for `fit`: the summed cross-entropy."""
        return F.cross_entropy(outputs, targets["labels"], reduction="sum"), len(targets["labels"])

    def ranking_loss(self, outputs: Tensor, targets: Targets, gather: Gather) -> tuple[Tensor, int]:
        """A loss with in-batch negatives: of finding the examples with the same label among those of the batch."""
        vectors, labels = gather(outputs), gather(targets["labels"])
        same = (labels[:, None] == labels).float()
        return F.binary_cross_entropy_with_logits(vectors @ vectors.T, same, reduction="sum"), len(labels)

    def predict(self, network: nn.Module) -> list[list[float]]:
        """The logits of all examples in order; the batches are sharded over the processes."""
        network.eval()
        batches = list(enumerate(BatchSampler(self.lengths, batch_size=4).by_length()))
        found: dict[int, list[float]] = {}
        device = next(network.parameters()).device
        for _, indices in shard(batches):
            with torch.no_grad():
                logits = network(PackedBatch.pack([self.sequences[i] for i in indices]).to(device))
            found.update(zip(indices, logits.tolist(), strict=True))
        return gather_in_order(found)

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Accuracy, and the mean margin of the correct label."""
        margins = [
            (b - a) * (1 if label else -1) for (a, b), label in zip(self.predict(network), self.labels, strict=True)
        ]
        return {
            "accuracy": sum(margin > 0 for margin in margins) / len(margins),
            "margin": sum(margins) / len(margins),
        }


def weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters."""
    return {name: parameter.detach().cpu().clone() for name, parameter in network.named_parameters()}


# Runs that are killed

KILLED = TrainConfig(
    epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu", save_steps=3, eval_steps=4, seed=13
)  # 56 examples: 7 steps an epoch, 14 in all; checkpoints at 3, 6, 9, 12 and 14


def run(folder: Path, watch: Callable[[Event], None] | None = None) -> None:
    """A run with dropout in `folder`, resumed if it was started; writes its weights and a report beside it."""
    data, network = Data(56), tiny_bert(dropout=0.2)
    events = fit(
        network, KILLED.sampler(data.lengths), data.collate, data.loss, KILLED,
        run_folder=folder / "run", resume=True, evaluate=Data(20, seed=1).evaluate,
    )  # fmt: skip
    seen = []
    for event in events:
        seen.append(event)
        if watch is not None:
            watch(event)
    safetensors.torch.save_file(weights(network), folder / "weights.safetensors")
    first, last = seen[0], seen[-1]
    assert isinstance(first, Started)
    assert isinstance(last, Finished)
    steps = [event.step for event in seen if isinstance(event, Step)]
    summary = {name: value for name, value in last.to_json().items() if name not in ("seconds", "tokens_per_second")}
    report = {"resumed_from": first.resumed_from, "finished": summary, "steps": steps}
    (folder / "report.json").write_text(json.dumps(report))


def kill_process() -> None:
    """Kills this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_step(step: int, folder: Path) -> None:
    """Killed after `step`."""
    run(folder, lambda event: kill_process() if isinstance(event, Step) and event.step == step else None)


def kill_after_save(step: int, folder: Path) -> None:
    """Killed right after the checkpoint of `step` is written."""
    run(folder, lambda event: kill_process() if isinstance(event, Saved) and event.step == step else None)


def kill_in_call(owner: object, name: str, matches: Callable[..., bool], folder: Path, after: bool = False) -> None:
    """Killed when `owner.name` is called with matching arguments, before (or after) the call."""
    original = getattr(owner, name)

    def killing(*args: object, **options: object) -> object:
        if matches(*args):
            if after:
                original(*args, **options)
            kill_process()
        return original(*args, **options)

    setattr(owner, name, killing)
    run(folder)


def half_written(folder: Path) -> None:
    """Killed when half of the optimizer's file of step 6 is written."""

    def write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        whole = safetensors.torch.save(tensors, metadata)
        half = path.name == "optimizer.safetensors" and "000006" in path.parent.name
        path.write_bytes(whole[: len(whole) // 2] if half else whole)
        if half:
            kill_process()

    training_state.save_file = write
    run(folder)


def killed_twice(folder: Path) -> None:
    """Killed at step 4, resumed, and killed again at step 11."""
    if not (folder / "run").exists():
        kill_after_step(4, folder)
    kill_after_step(11, folder)


def starts_with(start: str) -> Callable[..., bool]:
    """Matches calls whose first argument is a path with such a name."""
    return lambda *arguments: Path(arguments[0]).name.startswith(start)


# Name -> what kills the run (None: nothing), and the checkpoint that it must resume from.
KILLS: dict[str, tuple[Callable[[Path], None] | None, int | None]] = {
    "uninterrupted": (None, None),
    "before the first checkpoint": (partial(kill_after_step, 2), None),
    "within an epoch": (partial(kill_after_step, 5), 3),
    "at the end of an epoch": (partial(kill_after_step, 7), 6),
    "after a checkpoint": (partial(kill_after_save, 9), 9),
    "after the last checkpoint": (partial(kill_after_save, 14), 14),
    "while a file is written": (half_written, 3),
    "before a checkpoint is renamed": (partial(kill_in_call, Path, "rename", starts_with(".checkpoint-000009")), 6),
    "after a checkpoint is renamed": (
        partial(kill_in_call, Path, "rename", starts_with(".checkpoint-000009"), after=True),
        9,
    ),
    "while the old checkpoint is deleted": (
        partial(kill_in_call, shutil, "rmtree", starts_with("checkpoint-000003")),
        6,
    ),
    "before the best weights are renamed": (partial(kill_in_call, Path, "replace", starts_with(".best-")), 3),
    "twice": (killed_twice, 9),
}


def kill_and_resume(folder: Path) -> None:
    """Makes the runs of KILLS in forked processes; this one has imported the libraries, but computed nothing."""
    for slow in ("accelerate.tracking", "torch._dynamo"):
        importlib.import_module(slow)
    for name, (kill, _) in KILLS.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        for _ in range(0 if kill is None else 2 if kill is killed_twice else 1):
            status = in_child(partial(kill, place))
            if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
                raise SystemExit(f"{name}: was not killed, but ended with {status}")
        if in_child(partial(run, place)) != 0:
            raise SystemExit(f"{name}: could not be resumed")


def in_child(work: Callable[[], None]) -> int:
    """Runs `work` in a forked process; returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 1
    try:
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


# Runs in two processes

DISTRIBUTED = TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2, precision="fp32", device="cpu", seed=5)
ACCUMULATED = replace(DISTRIBUTED, batch_size=4, gradient_accumulation_steps=2)
# Name -> the options of a run.
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"config": DISTRIBUTED},
    "accumulated": {"config": ACCUMULATED},
    "checkpointed": {"config": replace(DISTRIBUTED, tokens_at_once=16, checkpoint_activations=True)},
    "shared layers": {"config": DISTRIBUTED, "changes": ALBERT},
    "in-batch negatives": {"config": DISTRIBUTED, "in_batch_negatives": True},
    "in-batch negatives in parts": {"config": replace(ACCUMULATED, tokens_at_once=10), "in_batch_negatives": True},
}


def run_with_33_examples(
    config: TrainConfig,
    dropout: float = 0.0,
    network: Network | None = None,
    changes: Mapping[str, Any] | None = None,
    **options: object,
) -> Iterator[tuple[Event, Network]]:
    """A run over 33 examples: the last batch of an epoch is a single example."""
    data, network = Data(33), network or tiny_bert(dropout, **(changes or {}))
    loss = data.ranking_loss if options.get("in_batch_negatives") else data.loss
    for event in fit(network, config.sampler(data.lengths), data.collate, loss, config, **options):
        yield event, network


def run_in_all_processes(folder: Path) -> None:
    """The runs that test_distributed.py compares with those of one process; the main process writes the reports."""
    report: dict[str, object] = {}
    held_out = Data(21, seed=1)
    for name, options in RUNS.items():
        *_, (_, network) = seen = list(run_with_33_examples(**options, evaluate=held_out.evaluate))
        report[name] = [without_timings(event) for event, _ in seen[1:-1]]
        report[f"{name} predictions"] = held_out.predict(network)
        report[f"{name} processes"] = seen[0][0].to_json()["processes"]

    report["memory full"] = [
        without_timings(event) for event, _ in run_with_33_examples(DISTRIBUTED, network=SmallDevice(tiny_bert(), 20))
    ][1:-1]

    data = Data(33)  # the network was trained before
    report["again"] = [
        without_timings(event)
        for event in fit(network, DISTRIBUTED.sampler(data.lengths), data.collate, data.loss, DISTRIBUTED)
    ][1:-1]

    *_, (_, uninterrupted) = run_with_33_examples(DISTRIBUTED, dropout=0.2, run_folder=folder / "uninterrupted")
    interrupted = run_with_33_examples(DISTRIBUTED, dropout=0.2, run_folder=folder / "interrupted")
    with suppress(StopIteration):
        while not isinstance(event := next(interrupted)[0], Step) or event.step < 8:
            pass
    interrupted.close()
    *_, (_, resumed) = run_with_33_examples(DISTRIBUTED, dropout=0.2, run_folder=folder / "interrupted", resume=True)
    ours, theirs = weights(resumed), weights(uninterrupted)
    report["resumed equals uninterrupted"] = all(torch.equal(ours[name], theirs[name]) for name in theirs)

    every = gather_in_order({processes().rank: report})
    if processes().is_main:
        (folder / "report.json").write_text(json.dumps(every))


def without_timings(event: Event) -> dict[str, object]:
    """The event as JSON, without timings."""
    return event.to_log() if isinstance(event, Step) else event.to_json()


if __name__ == "__main__":
    kill_and_resume(Path(sys.argv[1]))

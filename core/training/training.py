"""The one training loop: every task, one process or many, as a generator of small events.

AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with the warm-up and decay of Devlin et al. 2019
(https://arxiv.org/abs/1810.04805, appendix A.2), on accelerate (https://huggingface.co/docs/accelerate).

A task's loss is a sum with its count. Gradients are those of the sum, divided once by the labels of the whole step,
over accumulation and all processes; so a step is the same however its examples are split.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import HeadwayError
from ..models.layers import set_dropout
from ..models.packing import BatchSampler
from .devices import accelerator_for
from .distributed import broadcast_object, gather_in_order, processes, shard
from .optimization import adamw, add_rows_alone, apply_gradients, learning_rate
from .training_config import TrainConfig
from .training_events import Evaluated, Event, Finished, Saved, Started, Step
from .training_state import (
    Log,
    Metrics,
    Progress,
    best_path,
    copy_tensors,
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    read_state,
    refuse_used,
    remove_stale,
    save_best,
    save_checkpoint,
    weights_of,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "Evaluated",
    "Event",
    "Finished",
    "Loss",
    "Plan",
    "Saved",
    "Started",
    "Step",
    "TrainConfig",
    "fit",
    "gather_in_order",
    "processes",
    "shard",
]

# (network, positions of the examples, device) -> the SUM of their losses, labels in it, useful tokens.
Loss = Callable[[nn.Module, list[int], torch.device], tuple[Tensor, int, int]]

# What a machine's memory holds for a model of BERT's base size; on a CPU smaller parts also stay nearer to the cache.
TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 16384}
STEPS_BETWEEN_READS = 10  # on a GPU: reading a loss makes the host wait for the device
FP16_MOST_SKIPPED = 40  # in a row; the scale has then been halved to nothing


class Plan(Protocol):
    """Which examples go into which batch (packing.BatchPlan); the same on every process."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example."""
        ...

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of one epoch, in order."""
        ...


def fit(
    network: nn.Module,
    plan: Plan,
    loss: Loss,
    config: TrainConfig,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    evaluate: Callable[[nn.Module], Metrics] | None = None,
    higher_is_better: bool = True,
    data_fingerprint: str = "",
    stop: Callable[[], bool] | None = None,
    tracker_folder: Path | None = None,
    in_batch_negatives: bool = False,
) -> Iterator[Event]:
    """Trains `network` in place, step by step as the events are drawn.

    At the end the network is in eval mode, on the device it was trained on, and holds the best weights (or the
    last: `config.keep`). Under a launcher every process makes the same call and sees the same events; the main one
    writes the files. The random state of torch is set from `config.seed`.

    Args:
        network: what is trained; parameters that do not require gradients stay as they are.
        plan: global batches; each process takes its share of every batch.
        loss: packs the examples it is given, calls the network it is given (which may be a wrapper), and returns
            the sum of their losses, the number of labels in it, and the tokens that the network saw.
        config: the options.
        run_folder: where the log, the checkpoints and the best weights go; nothing is written if left out.
        resume: go on from the newest checkpoint in `run_folder`, or start if there is none yet.
        evaluate: called on every process with the network in eval mode; the first figure chooses the best weights.
        higher_is_better: whether a larger first figure is better.
        data_fingerprint: stands for the data's content; a checkpoint of other data is refused.
        stop: asked after every step; when it says yes a checkpoint is saved and the run is interrupted.
        tracker_folder: where trackers that write files write them; `run_folder` if left out.
        in_batch_negatives: whether the loss uses in-batch negatives; a run cannot then resume with another
            `config.tokens_at_once`.

    Raises:
        KeyboardInterrupt: `stop` said yes; `resume` goes on from that very step.
        HeadwayError: the folder holds a run already or another one, an option does not fit this machine, the loss
            is not finite, the disk is full, or the GPU's memory is.
        ValueError: there is nothing to resume from without a folder.
    """
    if resume and run_folder is None:
        raise ValueError("resume needs a run_folder")
    accelerator = accelerator_for(config, tracker_folder or run_folder)
    free = ("trackers",) if in_batch_negatives else ("trackers", "tokens_at_once")
    run = _Run(network, plan, loss, config, accelerator, run_folder, evaluate, higher_is_better, stop, free)
    try:
        yield run.start(resume, data_fingerprint)
        yield from run.events()
    except torch.OutOfMemoryError as error:
        raise HeadwayError(
            f"step {run.progress.step}: the GPU's memory is full ({str(error).splitlines()[0]}). Use a "
            "smaller --tokens-at-once or a smaller --max-length."
        ) from error
    finally:
        run.close()


class _Run:
    """What `fit` knows while it runs."""

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        loss: Loss,
        config: TrainConfig,
        accelerator: "Accelerator",
        run_folder: Path | None,
        evaluate: Callable[[nn.Module], Metrics] | None,
        higher_is_better: bool,
        stop: Callable[[], bool] | None,
        free: Collection[str],
    ) -> None:
        self.network = network
        self.wrapped = network  # what the loss calls
        self.plan = plan
        self.loss = loss
        self.config = config
        self.accelerator = accelerator
        self.run_folder = run_folder
        self.evaluate = evaluate
        self.higher_is_better = higher_is_better
        self.stop = stop
        self.free = free  # options that may be others when the run goes on: nothing that is learnt depends on them
        self.ours = processes()
        self.device = accelerator.device
        self.precision = "fp32" if accelerator.mixed_precision == "no" else str(accelerator.mixed_precision)
        # Several processes average whole gradients, and a GPU clears memory in no time.
        self.rows_alone = self.device.type == "cpu" and not self.ours.several
        self.steps_between_reads = 1 if self.device.type == "cpu" else STEPS_BETWEEN_READS
        self.progress = Progress()
        self.log = Log(None)
        self.unread: list[tuple[int, float, float, Tensor]] = []  # steps whose figures are still on the device
        self.best_weights: dict[str, Tensor] = {}  # where there is no folder to keep them in

    def events(self) -> Iterator[Event]:
        """Everything after the start."""
        progress = self.progress
        while progress.step < self.total_steps and not self._stopped_early:
            steps = self._steps_of(progress.epoch)
            for batches in steps[progress.position :]:
                self._train_step(batches, len(steps))
                last = progress.step == self.total_steps
                boundary = last or progress.position == len(steps)
                evaluating = self.evaluate is not None and (last or self._due(self.config.eval_steps, boundary))
                stopping = not last and self.stop is not None and broadcast_object(self.stop())
                saving = last or stopping or self._due(self.config.save_steps, boundary or evaluating)
                if evaluating or saving or len(self.unread) >= self.steps_between_reads:
                    yield from self._read_steps()
                if progress.position == len(steps):
                    progress.epoch, progress.position = progress.epoch + 1, 0
                if evaluating:
                    yield self._evaluated(len(steps))
                if self.run_folder is not None and (saving or self._stopped_early):
                    yield self._saved(self.run_folder)
                if stopping and not self._stopped_early:
                    raise KeyboardInterrupt
                if last or self._stopped_early:
                    break
        yield self._finished()

    def _due(self, every: int | None, otherwise: bool) -> bool:
        return otherwise if every is None else self.progress.step % every == 0

    @property
    def _stopped_early(self) -> bool:
        return self.config.patience is not None and self.progress.evaluations_since_best >= self.config.patience

    def _steps_of(self, epoch: int) -> list[list[list[int]]]:
        """An epoch as optimizer steps, each of one or several batches."""
        batches, size = self.plan.epoch(epoch), self.config.gradient_accumulation_steps
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    def _count_steps(self) -> int:
        if self.config.max_steps is not None:
            return self.config.max_steps
        part, whole = math.modf(self.config.epochs)
        steps = sum(len(self._steps_of(epoch)) for epoch in range(int(whole)))
        # Rounded: 2.1 epochs of 10 steps are 21, and not what is one 1e-15 above it.
        return steps + (math.ceil(round(part * len(self._steps_of(int(whole))), 9)) if part else 0)

    def start(self, resume: bool, data_fingerprint: str) -> Started:
        """Readies everything, and goes back to where the newest checkpoint is if that is wanted."""
        config, folder, main = self.config, self.run_folder, self.ours.main
        if config.patience is not None and self.evaluate is None:
            raise HeadwayError("patience (early stopping) needs something to evaluate on: give --eval-data.")
        if not self.plan.lengths:
            raise HeadwayError("There is no example to train on.")
        self.total_steps = self._count_steps()
        self.settings = self._settings(data_fingerprint)
        found = None
        if folder is not None and main:
            if not resume:
                refuse_used(folder)
            elif checkpoint := newest_checkpoint(folder):
                found = checkpoint, read_state(checkpoint, self.settings)
        found = broadcast_object(found)

        self.network.to(self.device).train()
        if config.dropout is not None:
            set_dropout(self.network, config.dropout)
        add_rows_alone(self.network, self.rows_alone)
        self.optimizer = adamw(self.network, config)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.manual_seed(config.seed + self.ours.rank)
        if found:
            self.progress = load_checkpoint(*found, self.network, self.optimizer, self.accelerator.scaler)
        if folder is not None and main:
            remove_stale(folder, found and found[0], self.progress.best_step)
            self.log = Log(folder / "log.jsonl", self.progress.log_bytes)
        if self.ours.several:
            self.wrapped = DistributedDataParallel(self.network, gradient_as_bucket_view=True)
        return Started(
            total_steps=self.total_steps,
            warmup_steps=config.warmup_for(self.total_steps),
            examples=len(self.plan.lengths),
            parameters=sum(parameter.numel() for parameter in self.trained),
            device=str(self.device),
            precision=self.precision,
            processes=self.ours.world,
            seed=config.seed,
            resumed_from=self.progress.step if found else None,
        )

    def _settings(self, data_fingerprint: str) -> dict[str, Any]:
        """What a checkpoint must have been made with to be gone on from."""
        options = {name: value for name, value in asdict(self.config).items() if name not in self.free}
        content = json.dumps([data_fingerprint, *self.plan.lengths])
        return {
            **options,
            "device": self.device.type,
            "precision": self.precision,
            "processes": self.ours.world,
            "examples": len(self.plan.lengths),
            "training data": hashlib.sha256(content.encode()).hexdigest()[:16],
        }

    def _train_step(self, step_batches: list[list[int]], steps_in_epoch: int) -> None:
        """One optimizer step; its figures stay on the device, so that nobody waits for it."""
        began = time.perf_counter()
        config, progress, scaler = self.config, self.progress, self.accelerator.scaler
        rate = learning_rate(config, progress.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        totals = self._gradients(step_batches)  # loss, labels, tokens of all processes
        norm = apply_gradients(
            self.optimizer, scaler, totals, self.ours.world, config.max_grad_norm, keep=self.rows_alone
        )
        progress.step += 1
        progress.position += 1
        figures = torch.cat([totals, norm[None]])
        self.unread.append((progress.step, progress.epoch + progress.position / steps_in_epoch, rate, figures))
        progress.seconds += time.perf_counter() - began

    def _gradients(self, step_batches: list[list[int]]) -> Tensor:
        """Adds up the step's gradients; returns its summed loss, labels and tokens over all processes, (3,)."""
        rank, world = self.ours.rank, self.ours.world
        loss_sum, labels, tokens = torch.zeros((), device=self.device), 0, 0
        parts = [part for batch in step_batches for part in self._parts(batch[rank::world])]
        # A process without a share goes through the motions, so that the others' averages come about.
        idle = not parts
        for number, part in enumerate(parts or [step_batches[0][:1]], 1):
            with nullcontext() if number >= len(parts) else self.accelerator.no_sync(self.wrapped):
                with self.accelerator.autocast():
                    loss, count, useful = self.loss(self.wrapped, part, self.device)
                self.accelerator.backward(loss * 0 if idle else loss)
            if not idle:
                loss_sum, labels, tokens = loss_sum + loss.detach().float(), labels + count, tokens + useful
        totals = torch.stack([loss_sum, torch.full_like(loss_sum, labels), torch.full_like(loss_sum, tokens)])
        if self.ours.several:
            torch.distributed.all_reduce(totals)
        return totals

    def _parts(self, share: list[int]) -> list[list[int]]:
        """A share of a batch in parts that are computed one after the other; their gradients add up to the same."""
        at_once = self.config.tokens_at_once or TOKENS_AT_ONCE.get(self.device.type, TOKENS_AT_ONCE["cuda"])
        plan = BatchSampler([self.plan.lengths[i] for i in share], batch_tokens=at_once)
        return [[share[i] for i in part] for part in plan.in_order()]

    def _read_steps(self) -> Iterator[Step]:
        """Waits for the device and tells of the steps since the last time."""
        began = time.perf_counter()
        unread, self.unread = self.unread, []
        figures = torch.stack([on_device for *_, on_device in unread]).tolist()
        progress = self.progress
        progress.seconds += time.perf_counter() - began
        progress.tokens += sum(int(tokens) for _, _, tokens, _ in figures)
        for (step, epoch, rate, _), (loss_sum, labels, tokens, norm) in zip(unread, figures, strict=True):
            loss = loss_sum / max(1, labels)
            self._check_finite(step, rate, loss, norm)
            progress.loss_sum += loss_sum
            progress.labels += int(labels)
            event = Step(
                step=step,
                epoch=epoch,
                loss=loss,
                learning_rate=rate,
                grad_norm=norm,
                tokens=int(tokens),
                tokens_per_second=progress.tokens / progress.seconds,
                seconds_left=progress.seconds / progress.step * (self.total_steps - step),
            )
            self._record(event.to_log(), {"loss": loss, "learning_rate": rate, "grad_norm": norm}, step)
            yield event

    def _check_finite(self, step: int, rate: float, loss: float, norm: float) -> None:
        self.progress.skipped = 0 if math.isfinite(norm) else self.progress.skipped + 1
        scaling = self.accelerator.scaler is not None and self.progress.skipped < FP16_MOST_SKIPPED
        if not math.isfinite(loss) or not (math.isfinite(norm) or scaling):
            what = f"loss is {loss}" if not math.isfinite(loss) else f"norm of the gradients is {norm}"
            raise HeadwayError(
                f"step {step}: the {what}. The step was left out and nothing good was written over. "
                f"Try a lower --learning-rate (it was {rate:.3g}) or --precision fp32 (it was {self.precision}), and "
                "look at the data with `headway check`."
            )

    def _record(self, line: dict[str, Any], figures: dict[str, float], step: int) -> None:
        self.log.append(line)
        if self.accelerator.trackers:
            self.accelerator.log(figures, step=step)

    def _evaluated(self, steps_in_epoch: int) -> Evaluated:
        assert self.evaluate is not None
        progress = self.progress
        self.network.eval()
        with torch.no_grad():
            metrics = broadcast_object(self.evaluate(self.network))  # one view of it, or the processes would part ways
        self.network.train()
        better = self._better(metrics)
        progress.last_metrics = metrics
        progress.evaluations_since_best = 0 if better else progress.evaluations_since_best + 1
        if better:
            progress.best_step, progress.best_metrics = progress.step, metrics
            if self.config.keep == "best":
                self._keep_best()
        epoch = progress.epoch + progress.position / steps_in_epoch
        event = Evaluated(step=progress.step, epoch=epoch, metrics=metrics, best=better)
        self._record(event.to_json(), metrics, progress.step)
        return event

    def _better(self, metrics: Metrics) -> bool:
        if self.progress.best_metrics is None:
            return True
        new, best = next(iter(metrics.values())), next(iter(self.progress.best_metrics.values()))
        if math.isnan(new) or math.isnan(best):
            return not math.isnan(new)
        return new > best if self.higher_is_better else new < best

    def _keep_best(self) -> None:
        if self.run_folder is None:
            self.best_weights = {name: t.detach().cpu().clone() for name, t in weights_of(self.network).items()}
        elif self.ours.main:
            save_best(self.run_folder, self.network, self.progress.step)

    def _saved(self, run_folder: Path) -> Saved:
        self.progress.log_bytes = self.log.sync()
        scaler = self.accelerator.scaler
        path = save_checkpoint(run_folder, self.network, self.optimizer, scaler, self.progress, self.settings)
        return Saved(step=self.progress.step, path=path)

    def _finished(self) -> Finished:
        progress = self.progress
        metrics = progress.last_metrics
        if self.config.keep == "best" and progress.best_step is not None:
            metrics = progress.best_metrics
            if self.run_folder is not None:
                load_weights(self.network, best_path(self.run_folder, progress.best_step))
            else:
                copy_tensors(self.best_weights, weights_of(self.network))
        self.network.eval()
        return Finished(
            steps=progress.step,
            seconds=progress.seconds,
            tokens_per_second=progress.tokens / progress.seconds,
            train_loss=progress.loss_sum / max(1, progress.labels),
            metrics=metrics or {},
            best_step=progress.best_step,
            stopped_early=self._stopped_early,
        )

    def close(self) -> None:
        """Closes the log and the trackers, and lets the network go."""
        add_rows_alone(self.network, False)
        self.network.zero_grad()
        self.log.close()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.wrapped = self.network

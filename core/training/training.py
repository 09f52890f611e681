"""The training loop: every task, on one process or several, as a generator of events.

AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with the warm-up and decay of Devlin et al. 2019
(https://arxiv.org/abs/1810.04805, appendix A.2), on accelerate (https://huggingface.co/docs/accelerate).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from ..errors import HeadwayError
from ..models.heads import set_activation_checkpointing
from ..models.layers import set_dropout
from ..models.packing import TokenLengths
from .best_weights import BestWeights, compare
from .checkpoint_record import CheckpointRecord, Metrics, Progress, read_record, run_settings
from .defaults import with_usual_values
from .devices import accelerator_for, fast_products
from .distributed import broadcast_object, on_main, processes
from .failures import failing_together
from .optimization import learning_rate
from .out_of_memory import is_out_of_memory, memory_is_full
from .training_config import TrainConfig
from .training_events import Evaluated, Event, Finished, Note, Saved, Started, Step
from .training_inputs import Collate, Loss, Pool, keep_outputs
from .training_state import (
    Log,
    TrainingState,
    load_training_state,
    newest_checkpoint,
    refuse_started,
    remove_stale,
    save_training_state,
)
from .training_step import PendingSteps, StepResult, TrainingStep

if TYPE_CHECKING:
    from accelerate import Accelerator

STEPS_BETWEEN_READS = 10  # on a GPU: reading a loss makes the host wait for the device
EPOCHS_COUNTED = 1000  # batch by batch, at the start of a run; further ones are estimated
FP16_MAX_SKIPPED = 40  # consecutive steps; the loss scale has then been halved to almost zero


class Sampler(Protocol):
    """Assigns examples to batches, the same in every process (packing.BatchSampler)."""

    @property
    def lengths(self) -> TokenLengths:
        """Number of tokens of each example."""
        ...

    def epoch(self, epoch: int) -> Sequence[list[int]]:
        """The batches of one epoch, in order."""
        ...


@dataclass(frozen=True)
class _Inputs:
    """The arguments of `fit`."""

    network: nn.Module
    sampler: Sampler
    collate: Collate
    loss: Loss
    config: TrainConfig
    run_folder: Path | None
    evaluate: Callable[[nn.Module], Metrics] | None
    higher_is_better: bool
    data_fingerprint: str
    stop: Callable[[], bool] | None
    pool: Pool
    in_batch_negatives: bool


def fit(
    network: nn.Module,
    sampler: Sampler,
    collate: Collate,
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
    pool: Pool = keep_outputs,
    in_batch_negatives: bool = False,
) -> Iterator[Event]:
    """Trains `network` in place, one step for each `Step` event that is read.

    At the end the network is in eval mode and has the best weights (or the last: `config.keep`). Every process of a
    launch calls it and gets the same events, except for notes on its memory; the main process writes files. torch is
    seeded from `config.seed`.

    Args:
        network: what is trained; parameters that do not require gradients do not change.
        sampler: batches over all processes; each process computes its share of each batch.
        collate: packs examples; what it draws at random depends on the seed and the example, not on their grouping.
        loss: the sum of the examples' losses and its number of labels, without waiting for the device.
        config: the options; a learning rate and epochs that are not given are the usual ones of BERT-base.
        run_folder: folder of the log, the checkpoints and the best weights. Default: nothing is written.
        resume: continue from the newest checkpoint in `run_folder`, or start a run if it has no checkpoint.
        evaluate: called in every process with the network in eval mode; the first metric selects the best weights.
        higher_is_better: whether a higher first metric is better.
        data_fingerprint: identifies the data; a checkpoint of other data is refused.
        stop: called after each step (on a GPU each tenth); if True, a checkpoint is saved and the run interrupted.
        tracker_folder: folder of trackers that write files. Default: `run_folder`.
        pool: reduces the outputs of a forward pass to what `loss` reads: a tensor, if there may be several passes.
        in_batch_negatives: whether `loss` compares the examples of a batch; its third argument is then a `Gather`.

    Raises:
        KeyboardInterrupt: `stop` returned True; `resume` continues from that step.
        HeadwayError: the folder contains another run, an option does not fit, or the loss is not finite, for example.
        ValueError: `resume` without a folder.
    """
    if resume and run_folder is None:
        raise ValueError("resume needs a run_folder")
    inputs = _Inputs(
        network, sampler, collate, loss, with_usual_values(config), run_folder, evaluate, higher_is_better,
        data_fingerprint, stop, pool, in_batch_negatives,
    )  # fmt: skip
    run = _Run(inputs, accelerator_for(inputs.config, tracker_folder or run_folder))
    try:
        with failing_together():
            yield from run.events(resume)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise memory_is_full(run.progress.step, error) from error
        raise
    finally:
        run.close()


class _StepSchedule:
    """The batches of a run as optimizer steps."""

    def __init__(self, sampler: Sampler, config: TrainConfig) -> None:
        self.sampler = sampler
        self.config = config
        self.total = self._count()

    def epoch(self, epoch: int) -> "_EpochSteps":
        """The steps of one epoch."""
        return _EpochSteps(self.sampler.epoch(epoch), self.config.gradient_accumulation_steps)

    def _count(self) -> int:
        if self.config.max_steps is not None:
            return self.config.max_steps
        assert self.config.epochs is not None
        fraction, whole = math.modf(self.config.epochs)
        counted = min(int(whole), EPOCHS_COUNTED)
        steps = sum(len(self.epoch(epoch)) for epoch in range(counted))
        if counted < whole:  # as long as these on average: with batch_tokens, epochs differ in their number of batches
            steps += round((whole - counted) * steps / counted)
        # Rounded: as a float, 2.1 epochs of 10 steps are slightly more than 21 steps.
        return steps + (math.ceil(round(fraction * len(self.epoch(int(whole))), 9)) if fraction else 0)


@dataclass(frozen=True)
class _EpochSteps:
    """The optimizer steps of one epoch, each of `size` batches, which are made when the step is taken."""

    batches: Sequence[list[int]]
    size: int

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def following(self, position: int) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """The batches of each step from a position on, and those of the step after it; none after the last."""
        starts = range(position * self.size, len(self.batches), self.size)
        return pairwise(chain(([*self.batches[start : start + self.size]] for start in starts), [[]]))


class _Run:
    """A training run: `events`, then `close`."""

    def __init__(self, inputs: _Inputs, accelerator: "Accelerator") -> None:
        self.inputs = inputs
        self.config = inputs.config
        self.accelerator = accelerator
        self.precision = "fp32" if accelerator.mixed_precision == "no" else str(accelerator.mixed_precision)
        self.progress = Progress()
        self.best = BestWeights(inputs.network, inputs.run_folder)
        self.log = Log(None)
        self.pending = PendingSteps()
        self.steps_between_reads = 1 if accelerator.device.type == "cpu" else STEPS_BETWEEN_READS
        self.saved_at = time.monotonic()
        self.cleanup = ExitStack()
        for tracker in accelerator.trackers:
            self.cleanup.callback(tracker.finish)

    def start(self, resume: bool) -> Started:
        """Prepares the network and the optimizer, and restores the newest checkpoint if `resume`."""
        inputs, config, folder = self.inputs, self.config, self.inputs.run_folder
        if config.patience is not None and inputs.evaluate is None:
            raise HeadwayError("patience (early stopping) needs data to evaluate on: give --eval-data.")
        if config.metric is not None and inputs.evaluate is None:
            raise HeadwayError("--metric needs data to evaluate on: give --eval-data.")
        if not len(inputs.sampler.lengths):
            raise HeadwayError("There is no example to train on. Give at least one row.")
        self.schedule = _StepSchedule(inputs.sampler, config)
        self.settings = run_settings(
            config,
            inputs.sampler.lengths,
            inputs.data_fingerprint,
            device=self.accelerator.device.type,
            precision=self.precision,
            processes=processes().world_size,
        )
        found = on_main(lambda: self._find_checkpoint(resume))

        inputs.network.to(self.accelerator.device).train()
        if config.dropout is not None:
            set_dropout(inputs.network, config.dropout)
        set_activation_checkpointing(inputs.network, config.checkpoint_activations)
        self.cleanup.callback(set_activation_checkpointing, inputs.network, False)
        self.step = TrainingStep(
            inputs.network,
            inputs.collate,
            inputs.loss,
            lengths=inputs.sampler.lengths,
            config=config,
            accelerator=self.accelerator,
            pool=inputs.pool,
            in_batch_negatives=inputs.in_batch_negatives,
        )
        self.cleanup.callback(self.step.close)
        self.state = TrainingState(inputs.network, self.step.optimizer, self.accelerator.scaler)
        torch.manual_seed(config.seed + processes().rank)
        if found:
            load_training_state(*found, self.state)
        self.progress = self.state.progress
        if folder is not None and processes().is_main:
            remove_stale(folder, found and found[0], self.progress.best_step)
            self.log = Log(folder / "log.jsonl", self.progress.log_bytes)
            self.cleanup.callback(self.log.close)
        return Started(
            total_steps=self.schedule.total,
            warmup_steps=config.warmup_for(self.schedule.total),
            learning_rate=config.learning_rate or 0.0,
            examples=len(inputs.sampler.lengths),
            parameters=self.step.num_parameters,
            device=str(self.accelerator.device),
            precision=self.precision,
            processes=processes().world_size,
            seed=config.seed,
            resumed_from=self.progress.step if found else None,
            notes=found[1].notes if found else (),
        )

    def _find_checkpoint(self, resume: bool) -> tuple[Path, CheckpointRecord] | None:
        """The checkpoint to resume from, if there is one."""
        folder = self.inputs.run_folder
        if folder is not None and not resume:
            refuse_started(folder)
        checkpoint = newest_checkpoint(folder) if folder is not None and resume else None
        return checkpoint and (checkpoint, read_record(checkpoint, self.settings))

    def events(self, resume: bool) -> Iterator[Event]:
        """Starts and trains."""
        yield self.start(resume)
        progress, config, inputs = self.progress, self.config, self.inputs
        while progress.step < self.schedule.total and not self._stopped_early:
            steps = self.schedule.epoch(progress.epoch)
            for batches, upcoming in steps.following(progress.position):
                tokens_at_once = self.step.tokens_at_once
                self._train_step(batches, upcoming, len(steps))
                if self.step.tokens_at_once < tokens_at_once:
                    yield self._memory_was_full()
                last = progress.step == self.schedule.total
                boundary = last or progress.position == len(steps)
                evaluating = inputs.evaluate is not None and (last or self._is_due(config.eval_steps, boundary))
                saving = last or self._is_due(config.save_steps, boundary or evaluating)
                reading = evaluating or saving or len(self.pending) >= self.steps_between_reads
                # Only where the host waits for the device anyway: all processes must decide the same.
                stopping, overdue = self._must_stop_or_save() if reading and not last else (False, False)
                saving = saving or stopping or overdue
                if reading:
                    yield from self._read_steps()
                if progress.position == len(steps):
                    progress.epoch, progress.position = progress.epoch + 1, 0
                if evaluating:
                    yield self._evaluate(len(steps))
                if inputs.run_folder is not None and (saving or self._stopped_early):
                    yield self._save(inputs.run_folder)
                if stopping and not self._stopped_early:
                    raise KeyboardInterrupt
                if last or self._stopped_early:
                    break
        yield self._finish()

    def _memory_was_full(self) -> Note:
        tokens = self.step.tokens_at_once
        note = Note(
            self.progress.step,
            f"Step {self.progress.step:,}: the memory was full. The step was repeated in passes of at most {tokens:,} "
            f"tokens, as all later ones are, with the same result. To begin with them, use --tokens-at-once {tokens}.",
        )
        self.log.append(note.to_json())
        return note

    def _is_due(self, every: int | None, default: bool) -> bool:
        return default if every is None else self.progress.step % every == 0

    def _must_stop_or_save(self) -> tuple[bool, bool]:
        """Whether the run is to be interrupted, and whether a checkpoint is due by the clock."""
        minutes, stop = self.config.save_minutes, self.inputs.stop
        overdue = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        return broadcast_object((stop is not None and stop(), overdue))

    @property
    def _stopped_early(self) -> bool:
        return self.config.patience is not None and self.progress.evaluations_since_best >= self.config.patience

    def _train_step(self, batches: list[list[int]], upcoming: list[list[int]], steps_per_epoch: int) -> None:
        """Makes one optimizer step; its results stay on the device, so that the host does not wait."""
        began = time.perf_counter()
        progress = self.progress
        rate = learning_rate(self.config, progress.step, self.schedule.total)
        with fast_products(self.accelerator.device, self.precision):
            results = self.step.run(batches, step=progress.step, learning_rate=rate, upcoming=upcoming)
        progress.step += 1
        progress.position += 1
        self.pending.add(progress.step, progress.epoch + progress.position / steps_per_epoch, rate, results)
        progress.seconds += time.perf_counter() - began

    def _read_steps(self) -> Iterator[Step]:
        """Waits for the device and reports the steps since the last time."""
        began = time.perf_counter()
        results = self.pending.read()
        progress = self.progress
        progress.seconds += time.perf_counter() - began
        progress.tokens += sum(result.tokens for result in results)
        for result in results:
            self._check_finite(result)
            progress.loss_sum += result.loss_sum
            progress.labels += result.labels
            figures = {"loss": result.loss, "learning_rate": result.learning_rate, "grad_norm": result.grad_norm}
            event = Step(
                step=result.step,
                epoch=result.epoch,
                tokens=result.tokens,
                tokens_per_second=progress.tokens / progress.seconds,
                seconds_left=progress.seconds / progress.step * (self.schedule.total - result.step),
                **figures,
            )
            self._record(event.to_log(), figures, result.step)
            yield event

    def _check_finite(self, result: StepResult) -> None:
        finite = math.isfinite(result.grad_norm)
        self.progress.skipped = 0 if finite else self.progress.skipped + 1
        scaling = self.accelerator.scaler is not None and self.progress.skipped < FP16_MAX_SKIPPED
        if not math.isfinite(result.loss) or not (finite or scaling):
            loss = f"loss is {result.loss}"
            what = loss if not math.isfinite(result.loss) else f"norm of the gradients is {result.grad_norm}"
            raise HeadwayError(
                f"step {result.step}: the {what}. The step was skipped and no checkpoint was overwritten. "
                f"Try a lower --learning-rate (it was {result.learning_rate:.3g}) or --precision fp32 (it was "
                f"{self.precision}), and look at the data with `headway check`."
            )

    def _record(self, line: dict[str, Any], figures: dict[str, float], step: int) -> None:
        """Writes an event to the log and its numbers to the trackers."""
        self.log.append(line)
        if self.accelerator.trackers:
            self.accelerator.log(figures, step=step)

    def _evaluate(self, steps_per_epoch: int) -> Evaluated:
        inputs, progress = self.inputs, self.progress
        assert inputs.evaluate is not None
        inputs.network.eval()
        # On the CPU in fp32, as predictions are if bf16 changes the score: it selects the best weights.
        mixed = nullcontext() if self.accelerator.device.type == "cpu" else self.accelerator.autocast()
        with torch.no_grad(), mixed, fast_products(self.accelerator.device, self.precision):
            metrics = broadcast_object(inputs.evaluate(inputs.network))  # all processes must decide the same
        inputs.network.train()
        order = compare(metrics, progress.best_metrics, higher_is_better=inputs.higher_is_better)
        best = order >= 0  # of equal weights the latest are kept: they have been trained longer
        progress.last_metrics = metrics
        progress.evaluations_since_best = 0 if order > 0 else progress.evaluations_since_best + 1
        if best:
            progress.best_step, progress.best_metrics = progress.step, metrics
            if self.config.keep == "best":
                self.best.keep(progress.step)
        epoch = progress.epoch + progress.position / steps_per_epoch
        event = Evaluated(step=progress.step, epoch=epoch, metrics=metrics, best=best)
        self._record(event.to_json(), metrics, progress.step)
        return event

    def _save(self, run_folder: Path) -> Saved:
        self.progress.log_bytes = self.log.sync()
        path = save_training_state(run_folder, self.state, self.settings)
        self.saved_at = time.monotonic()
        return Saved(step=self.progress.step, path=path)

    def _finish(self) -> Finished:
        progress = self.progress
        metrics, best_step = progress.last_metrics, None
        if self.config.keep == "best" and progress.best_step is not None:
            metrics, best_step = progress.best_metrics, progress.best_step
            self.best.restore(best_step)
        self.inputs.network.eval()
        return Finished(
            steps=progress.step,
            seconds=progress.seconds,
            tokens_per_second=progress.tokens / progress.seconds,
            train_loss=progress.loss_sum / max(1, progress.labels),
            metrics=metrics or {},
            best_step=best_step,
            stopped_early=self._stopped_early,
        )

    def close(self) -> None:
        """Closes the log and the trackers, and removes what training added to the network."""
        self.cleanup.close()

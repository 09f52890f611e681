"""Inference beside transformers, onnxruntime, sentence-transformers and CTranslate2; and beside the processor's walls.

    python tests/benchmarks/inference.py                             # all parts
    python tests/benchmarks/inference.py classification generation   # some of them
    python tests/benchmarks/inference.py --cache FOLDER              # keeps the models that are made for it

classification  MiniLM, fine-tuned on sst2, from the same token ids to logits: sst2's dev part (mixed lengths) and
                movie reviews (all at 256 tokens). The others pad batches of 32 in the order of the file. onnxruntime
                runs the file that `headway export` writes, in int8 after its own dynamic quantisation.
families        sst2's dev part as above, with models of 12 x 768 (DistilBERT: 6 x 768) and random weights, and the
                published vocabularies. int8 is compared with transformers in fp32.
embedding       MiniLM as published, from texts to vectors. The best precision is the fastest one whose Spearman's
                correlation on STS-B is within 0.3 points of fp32's.
generation      GPT-2 in the shape of 124 million parameters with random weights, greedy: prompts of 64 tokens, 64 new.
scores          what each precision costs on sst2, wnut17 (MiniLM, fine-tuned here) and STS-B (MiniLM as published).
startup         `headway predict MODEL "text"` beside `import torch`.
memory          the peak while a model is opened, readied and asked, beyond the imports, over its weights' size. It
                counts the pages of the file that is read; what is held after does not.

Every turn is a fresh process, the sides take turns, and the tables show medians. The wall is measured in the process
whose share of it is told: the rate of the layers' matrix products alone, or that of reading memory once.

Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout; families: the folder
tokenizers beside it) and the extra `bench`.
Prints the tables either way, and exits with 1 when a goal is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import numpy as np
from inference_sides import BATCH, LIMIT, Job
from machine import describe_machine

SIDES = Path(__file__).with_name("inference_sides.py")
PRECISIONS = ("fp32", "bf16", "int8")
NEEDED = {  # part -> packages beside Headway's own
    "classification": ("onnxruntime", "onnxscript"),
    "families": (),
    "embedding": ("sentence_transformers",),
    "generation": ("ctranslate2",),
    "scores": (),
    "startup": (),
    "memory": (),
}
CLASSIFICATION = {"sst2": 3.0, "movie_reviews": 1.4}  # goals against transformers
FAMILIES = {"bert": 2.0, "distilbert": 2.0, "roberta": 2.0}  # goals against transformers in fp32
EMBEDDING = ("sst2", "movie_reviews")  # short and long texts
SAME_PRECISION_GOAL, BEST_PRECISION_GOAL = 1.4, 3.0
GENERATION = {  # batch size -> goals: transformers, CTranslate2 in fp32, in int8
    1: (1.6, 0.95, 2.0),
    8: (3.0, 1.5, 2.0),
}
WALL_GOAL = 0.7
APART_GOAL = 1e-4  # of fp32
ALIKE_GOAL = 0.97  # of answers or cosines in other precisions
SPREAD_GOAL = 0.3  # of the logits' spread in other precisions
LOSS_GOAL = 0.003  # of Spearman's correlation, for the best precision
STARTUP_GOAL = 3.0  # seconds
MEMORY_GOAL = 1.3


@dataclass(frozen=True)
class Side:
    """Who computes, and in what."""

    name: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Turn:
    """What a side measured and what came out of it."""

    seconds: float
    tokens: int
    found: np.ndarray
    share: float | None  # of the wall


class Bench:
    """The rows of the command line, the models' folder, and whether all goals were met so far."""

    def __init__(self, given: argparse.Namespace, cache: Path, scratch: Path) -> None:
        self.rows: int | None = given.rows
        self.rounds: int = given.rounds
        self.repeats: int = given.repeats
        self.cache = cache
        self.scratch = scratch
        self.met = True

    def start(self, part: str, side: Side, work: object, rows: int) -> dict[str, Any]:
        """Runs one side in a fresh process and returns what it measured."""
        rows = min(rows, self.rows or rows)
        outputs = self.scratch / "outputs.npy"
        job = Job(part, side.name, side.precision, str(work), rows, self.repeats, str(self.cache), str(outputs))
        command = [sys.executable, str(SIDES), json.dumps(asdict(job))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def prepare(self, *names: str) -> None:
        """Makes the models that are not in the cache yet."""
        for name in names:
            self.start("prepare", Side("headway", "fp32"), name, 10_000)

    def turns(self, part: str, sides: Sequence[Side], work: object, rows: int) -> dict[Side, list[Turn]]:
        """All sides in turn, for a number of rounds."""
        found: dict[Side, list[Turn]] = {side: [] for side in sides}
        for _ in range(self.rounds):
            for side, turns in found.items():
                measured = self.start(part, side, work, rows)
                turns.append(
                    Turn(
                        measured["seconds"],
                        measured["tokens"],
                        np.load(self.scratch / "outputs.npy"),
                        _share(measured),
                    )
                )
        return found

    def verdict(self, fine: bool) -> str:
        """What ends a row of a table."""
        self.met &= fine
        return "" if fine else " MISSED"

    def compare(
        self,
        work: object,
        turns: dict[Side, list[Turn]],
        compared: Sequence[tuple[Side, Side, float]],
        alike: Callable[[np.ndarray, np.ndarray, bool], tuple[str, bool]],
    ) -> None:
        """A row for each (other side, ours, goal): rates, their ratio, and whether both computed the same."""
        for other, ours, goal in compared:
            pairs = list(zip(turns[other], turns[ours], strict=True))
            ratio = statistics.median(a.seconds / b.seconds for a, b in pairs)
            exact = other.precision == ours.precision == "fp32"
            shown, same = alike(pairs[0][0].found, pairs[0][1].found, exact)
            rates = [statistics.median(one.tokens / one.seconds for one in turns[side]) for side in (other, ours)]
            print(
                f"| {work} | {other} | {ours} | {rates[0]:,.0f} | {rates[1]:,.0f} | {ratio:.2f} | {goal} | {shown} "
                f"|{self.verdict(ratio >= goal and same)}",
                flush=True,
            )

    def walls(self, work: object, turns: dict[Side, list[Turn]], goal: float | None, what: str) -> None:
        """A row for each of our precisions: which part of the wall was reached."""
        for side, runs in turns.items():
            shares = [one.share for one in runs if one.share is not None]
            if shares:
                share = statistics.median(shares)
                print(
                    f"| {work} | {side} | share of {what}: | | {share:.2f} | {goal or ''} | "
                    f"|{self.verdict(goal is None or share >= goal)}",
                    flush=True,
                )


def _share(measured: dict[str, Any]) -> float | None:
    done = measured.get("flops") or measured.get("read")
    return done / measured["seconds"] / measured["wall"] if done else None


HEAD = (
    "| work | other side | ours | theirs, tokens/s | ours, tokens/s | ratio | goal | outputs |\n"
    "|---|---|---|---|---|---|---|---|"
)


def ours(precision: str) -> Side:
    """Headway in a precision."""
    return Side("headway", precision)


def same_answers(theirs: np.ndarray, found: np.ndarray, exact: bool) -> tuple[str, bool]:
    """Logits: how far they are apart, and on how many texts the answer is the same."""
    apart = float(np.abs(theirs - found).max())
    share = float((theirs.argmax(-1) == found.argmax(-1)).mean())
    return f"{apart:.0e} apart, {share:.1%} of answers the same", apart <= APART_GOAL if exact else share >= ALIKE_GOAL


def near_logits(theirs: np.ndarray, found: np.ndarray, exact: bool) -> tuple[str, bool]:
    """Logits of random weights, whose answers mean nothing: how far they are apart, in all and of their spread."""
    apart = float(np.abs(theirs - found).max())
    share = float(np.linalg.norm(theirs - found) / np.linalg.norm(theirs - theirs.mean(0)))
    return f"{apart:.0e} apart, {share:.3f} of the spread", apart <= APART_GOAL if exact else share <= SPREAD_GOAL


def same_vectors(theirs: np.ndarray, found: np.ndarray, exact: bool) -> tuple[str, bool]:
    """Vectors: how far they are apart, and the least of their cosines."""
    apart = float(np.abs(theirs - found).max())
    cosines = (theirs * found).sum(-1) / np.linalg.norm(theirs, axis=-1) / np.linalg.norm(found, axis=-1)
    fine = apart <= APART_GOAL if exact else float(cosines.min()) >= ALIKE_GOAL
    return f"{apart:.0e} apart, cosines from {cosines.min():.3f}", fine


def same_tokens(theirs: np.ndarray, found: np.ndarray, exact: bool) -> tuple[str, bool]:
    """New tokens: the same in fp32. Otherwise one rounded differently changes all that follow: as many is enough."""
    share = float((np.cumsum(theirs != found, axis=-1) == 0).mean()) if theirs.shape == found.shape else 0.0
    return f"{share:.0%} of tokens before one differs", share == 1 if exact else theirs.shape == found.shape


def classification(bench: Bench) -> None:
    """Against transformers in the same precision, and onnxruntime in fp32 and int8."""
    bench.prepare("sst2", "onnx")
    print(f"\nClassification: batches of {BATCH} on the sides that pad, at most {LIMIT} tokens\n{HEAD}")
    for work, goal in CLASSIFICATION.items():
        compared = [
            (Side("transformers", "fp32"), ours("fp32"), goal),
            (Side("transformers", "bf16"), ours("bf16"), goal),
            (Side("onnxruntime", "fp32"), ours("fp32"), 1.0),
            (Side("onnxruntime", "int8"), ours("int8"), 1.0),
        ]
        turns = bench.turns("classification", _sides(compared), work, 1000 if work == "sst2" else 200)
        bench.compare(work, turns, compared, same_answers)
        bench.walls(work, turns, None, "the matrix rate")


def families(bench: Bench) -> None:
    """Models of BERT and its relatives in their base sizes against transformers."""
    bench.prepare(*FAMILIES)
    print(f"\nFamilies, sst2: batches of {BATCH} on the sides that pad, at most {LIMIT} tokens\n{HEAD}")
    for family, goal in FAMILIES.items():
        compared = [
            (Side("transformers", "fp32"), ours("fp32"), goal),
            (Side("transformers", "bf16"), ours("bf16"), SAME_PRECISION_GOAL),
            (Side("transformers", "fp32"), ours("int8"), goal),
        ]
        turns = bench.turns("families", _sides(compared), family, 1000)
        bench.compare(family, turns, compared, near_logits)


def embedding(bench: Bench) -> None:
    """Against sentence-transformers in the same precision, and its default against our best."""
    spearman = {p: bench.start("scores", ours(p), "stsb", 10_000)["score"] for p in PRECISIONS}
    kept = [p for p in PRECISIONS if spearman[p] >= spearman["fp32"] - LOSS_GOAL]
    shown = ", ".join(f"{p} {value:.4f}" for p, value in spearman.items())
    print(f"\nEmbedding: STS-B test, Spearman: {shown}\n{HEAD}")
    theirs = "sentence-transformers"
    for work in EMBEDDING:
        compared = [(Side(theirs, p), ours(p), SAME_PRECISION_GOAL) for p in ("fp32", "bf16")]
        rows = 1000 if work == "sst2" else 200
        turns = bench.turns("embedding", [*_sides(compared), ours("int8")], work, rows)
        best = min(kept, key=lambda p: statistics.median(one.seconds for one in turns[ours(p)]))
        compared.append((Side(theirs, "fp32"), ours(best), BEST_PRECISION_GOAL))
        bench.compare(work, turns, compared, same_vectors)
        bench.walls(work, turns, WALL_GOAL if work == "movie_reviews" else None, "the matrix rate")


def generation(bench: Bench) -> None:
    """Against transformers in the same precision, and CTranslate2 in fp32 and int8."""
    bench.prepare("gpt2", "ctranslate2")
    print(f"\nGeneration: GPT-2 124M, random weights; work is the batch size\n{HEAD}")
    for size, (transformers, full, small) in GENERATION.items():
        compared = [
            (Side("transformers", "fp32"), ours("fp32"), transformers),
            (Side("transformers", "bf16"), ours("bf16"), transformers),
            (Side("ctranslate2", "fp32"), ours("fp32"), full),
            (Side("ctranslate2", "int8"), ours("int8"), small),
        ]
        turns = bench.turns("generation", _sides(compared), size, 1)
        bench.compare(size, turns, compared, same_tokens)
        bench.walls(size, turns, WALL_GOAL if size == 1 else None, "the rate of reading memory")


def scores(bench: Bench) -> None:
    """What each precision costs, and whether packed fp32 gives the numbers of the plain layers."""
    bench.prepare("sst2", "wnut17")
    print("\nScores\n| data | figure | fp32 | bf16 | change | int8 | change |\n|---|---|---|---|---|---|---|")
    for work in ("sst2", "wnut17", "stsb"):
        runs = {p: bench.start("scores", ours(p), work, 10_000) for p in PRECISIONS}
        exact = runs["fp32"]["score"]
        changed = " | ".join(
            f"{runs[p]['score']:.4f} | {100 * (runs[p]['score'] - exact):+.2f}" for p in PRECISIONS[1:]
        )
        print(f"| {work} | {runs['fp32']['figure']} | {exact:.4f} | {changed} |", flush=True)
    found = {p: bench.turns("classification", [ours(p)], "sst2", 1000)[ours(p)][0].found for p in ("plain", "fp32")}
    apart = float(np.abs(found["plain"] - found["fp32"]).max())
    print(f"sst2's logits in fp32, packed and plain: {apart:.0e} apart; goal {APART_GOAL:.0e}", end="")
    print(bench.verdict(apart <= APART_GOAL), flush=True)


def startup(bench: Bench) -> None:
    """Seconds from nothing to an answer, beside `import torch`."""
    bench.prepare("sst2")
    asked = ["-m", "headway.ui.cli", "predict", str(bench.cache / "sst2"), "a lovely film"]
    seconds: dict[str, list[float]] = {"import torch": [], "headway predict": []}
    for _ in range(1 + max(bench.rounds, 3)):
        for (_, times), command in zip(seconds.items(), (["-c", "import torch"], asked), strict=True):
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            times.append(time.perf_counter() - began)
    torch_alone, whole = (
        statistics.median(times[1:]) for times in seconds.values()
    )  # the first fills the disk's cache
    print("\nStart-up\n| import torch, s | headway predict, s | more, s | goal |\n|---|---|---|---|")
    print(
        f"| {torch_alone:.2f} | {whole:.2f} | {whole - torch_alone:.2f} | {STARTUP_GOAL} "
        f"|{bench.verdict(whole - torch_alone <= STARTUP_GOAL)}",
        flush=True,
    )


def memory(bench: Bench) -> None:
    """The peak of opening, readying and asking a model, over its weights in that precision."""
    bench.prepare("sst2", "gpt2")
    print(
        "\nMemory\n| model | precision | weights, MB | peak, MB | ratio | goal | held after, MB |\n"
        "|---|---|---|---|---|---|---|"
    )
    for work in ("sst2", "gpt2"):
        for precision in PRECISIONS:
            found = bench.start("memory", ours(precision), work, 1)
            ratio = found["peak"] / found["weights"]
            print(
                f"| {work} | {precision} | {found['weights']:.0f} | {found['peak']:.0f} | {ratio:.2f} | {MEMORY_GOAL} "
                f"| {found['held']:.0f} |{bench.verdict(ratio <= MEMORY_GOAL)}",
                flush=True,
            )


def _sides(compared: Sequence[tuple[Side, Side, float]]) -> list[Side]:
    """Every side once, the two of a comparison next to each other."""
    return list(dict.fromkeys(side for other, ours, _ in compared for side in (other, ours)))


PARTS = {
    "classification": classification,
    "families": families,
    "embedding": embedding,
    "generation": generation,
    "scores": scores,
    "startup": startup,
    "memory": memory,
}


def main() -> None:
    """Reads the command line, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(NEEDED)}; all if left out")
    parser.add_argument("--rounds", type=int, default=3, help="how often, the sides in turn")
    parser.add_argument("--repeats", type=int, default=3, help="in each process, once warm")
    parser.add_argument("--rows", type=int, help="at most, for a trial")
    parser.add_argument("--cache", type=Path, help="keep the models that are made here, and use them again")
    given = parser.parse_args()
    parts = given.parts or list(NEEDED)
    if unknown := [part for part in parts if part not in NEEDED]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(NEEDED)}")
    needed = [name for part in parts for name in NEEDED[part]]
    if missing := [name for name in needed if find_spec(name) is None]:
        raise SystemExit(f'The package {missing[0]} is missing: pip install "headway[bench]"')
    print(describe_machine("transformers", *(name.replace("_", "-") for name in dict.fromkeys(needed))))
    with tempfile.TemporaryDirectory() as scratch:
        cache = (given.cache or Path(scratch) / "models").absolute()
        if given.rows:
            cache /= f"trial-{given.rows}"  # not to be taken for the real models
        bench = Bench(given, cache, Path(scratch))
        for part in parts:
            PARTS[part](bench)
    sys.exit(0 if bench.met else 1)


if __name__ == "__main__":
    main()

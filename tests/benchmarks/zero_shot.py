"""Zero-shot classification by entailment: beside transformers' pipeline, and with a classifier trained here.

    python tests/benchmarks/zero_shot.py speed      # processor time on the same texts and labels
    python tests/benchmarks/zero_shot.py learned    # from training a classifier of pairs to labels it never saw

speed: a classifier of pairs in the shape of all-MiniLM-L6-v2 (its weights, and a head with random weights) answers
sentences of sst2 and movie reviews with six labels. transformers' ZeroShotClassificationPipeline reads one pair of a
text and a label at a time, and is also given batches of 32 pairs, which it pads; long reviews are truncated there to
512 tokens, and cut at the same length here. The sides take turns in this process, on one thread; the smallest
processor time of each counts. Scores must be equal.

learned: no published classifier for natural language inference is among the data here, so that one is trained on
made-up entailment: sentences of trec's training part with a hypothesis about the kind of their answer, right or wrong,
for four of its six labels. Its accuracy on the test part is shown for those four labels, for the two that it never saw
a hypothesis of, and for all six.

Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the extra `bench`.
Prints a table either way, and `speed` exits with 1 when a goal is missed.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import numpy as np
import torch
from headway.tasks import TextClassification, load
from machine import describe_machine
from sides import DATA, minilm

LABELS = ("plot", "actors", "music", "money", "war", "love")
HYPOTHESIS = "This text is about {label}."
NLI = ("contradiction", "neutral", "entailment")
BATCH = 32
ROUNDS = 3
RATIO_GOAL = 2.0  # against the better of the pipeline's two ways
APART_GOAL = 1e-4
KINDS = {
    "ABBR": "an abbreviation", "DESC": "a description", "ENTY": "a thing", "HUM": "a person", "LOC": "a place",
    "NUM": "a number",
}  # fmt: skip
UNSEEN = ("HUM", "LOC")
ASKS = "The answer is {label}."


def write_pair_model(folder: Path) -> None:
    """The published encoder with a random head for the labels of natural language inference."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    names = dict(enumerate(NLI))
    ids = {name: i for i, name in names.items()}
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), id2label=names, label2id=ids)
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # scores that differ
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(folder)


def texts_of(name: str, most: int) -> list[str]:
    """Texts in the order of their file."""
    if name == "movie_reviews":
        lines = (DATA / name / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines[:most]]
    lines = (DATA / name / "dev.tsv").read_text(encoding="utf-8").splitlines()[:most]
    return [line.split("\t")[0] for line in lines]


def speed(rows: int, rounds: int) -> bool:
    """Whether both goals are met on both sets of texts."""
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    met = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "nli"
        write_pair_model(folder)
        model = load(folder, labels=LABELS, hypothesis=HYPOTHESIS, long_texts="cut", device="cpu")
        model.precision = "fp32"
        pipeline: Any = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
        given = {"candidate_labels": list(LABELS), "hypothesis_template": HYPOTHESIS.replace("{label}", "{}")}
        sides = {
            "headway": lambda texts: [one.scores for one in model.predict(texts)],
            "one pair": lambda texts: list(map(_scores, pipeline(texts, **given))),
            f"batches of {BATCH}": lambda texts: list(map(_scores, pipeline(texts, batch_size=BATCH, **given))),
        }
        for data, count in (("sst2", rows), ("movie_reviews", max(4, rows // 8))):
            texts = texts_of(data, count)
            seconds = {side: float("inf") for side in sides}
            found: dict[str, Any] = {}
            for run in sides.values():
                run(texts[:2])
            for _ in range(rounds):
                for side, run in sides.items():
                    start = time.process_time()
                    found[side] = run(texts)
                    seconds[side] = min(seconds[side], time.process_time() - start)
            ours = _array(found["headway"])
            apart = max(float(np.abs(ours - _array(found[side])).max()) for side in sides)
            ratios = {side: seconds[side] / seconds["headway"] for side in sides}
            shown = "   ".join(f"{side} {seconds[side]:.2f} s ({ratios[side]:.2f})" for side in sides)
            print(f"{data}: {len(texts)} texts, {len(LABELS)} labels   {shown}   apart {apart:.1e}")
            print(f"  spread of the scores {ours.std():.3f}")
            met &= min(ratio for side, ratio in ratios.items() if side != "headway") >= RATIO_GOAL
            met &= apart <= APART_GOAL
    return met


def _scores(found: dict[str, Any]) -> dict[str, float]:
    return dict(zip(found["labels"], found["scores"], strict=True))


def _array(scores: list[dict[str, float]]) -> np.ndarray:
    return np.array([[one[label] for label in LABELS] for one in scores])


def learned(rows: int) -> None:
    """Trains on pairs for four labels, and asks for six."""
    training, test = trec("train"), trec("test")
    seen = [label for label in KINDS if label not in UNSEEN]
    draw = random.Random(0)
    pairs = []
    for row in [one for one in training if one["label"] in seen][:rows]:
        other = draw.choice([label for label in seen if label != row["label"]])
        for label, meaning in ((row["label"], "entailment"), (other, "not_entailment")):
            hypothesis = ASKS.replace("{label}", KINDS[label])
            pairs.append({"text": row["text"], "pair": hypothesis, "label": meaning})
    with tempfile.TemporaryDirectory() as name:
        start, model = time.monotonic(), TextClassification().on(minilm())
        model.fit(pairs, output=Path(name) / "nli", epochs=2, progress=False)
        print(f"trained on {len(pairs):,} pairs in {time.monotonic() - start:.0f} s: {model.info['metrics']}")
        for title, labels in (("labels seen", seen), ("labels not seen", list(UNSEEN)), ("all labels", list(KINDS))):
            words = {label: KINDS[label] for label in labels}
            zero_shot = load(Path(name) / "nli", labels=labels, verbalize=words, hypothesis=ASKS)
            asked = [row for row in test if row["label"] in labels]
            found = zero_shot.evaluate(asked)
            common = max(sum(row["label"] == label for row in asked) for label in labels) / len(asked)
            accuracy = found.metrics["accuracy"]
            print(f"{title}: accuracy {accuracy:.3f} on {len(asked)} questions; the commonest label {common:.3f}")


def trec(part: str) -> list[dict[str, str]]:
    """Questions with the kind of their answer."""
    lines = (DATA / "trec" / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    rows = [{"text": line.split(" ", 1)[1], "label": line.split(":", 1)[0]} for line in lines]
    random.Random(1).shuffle(rows)
    return rows


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "learned"))
    parser.add_argument("--rows", type=int, default=None, help="number of texts, or of questions to train on")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print(describe_machine("transformers"))
    if given.part == "learned":
        learned(given.rows or 1000)
    elif not speed(given.rows or 256, given.rounds):
        sys.exit("a goal is missed")


if __name__ == "__main__":
    main()

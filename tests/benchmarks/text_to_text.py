"""Text to text beside transformers' Seq2SeqTrainer, and beside outputs that cost nothing.

    python tests/benchmarks/text_to_text.py speed         # useful tokens a second of training
    python tests/benchmarks/text_to_text.py translation   # English to French, 4,000 pairs
    python tests/benchmarks/text_to_text.py summary       # a question about a paragraph

speed: both sides get the same pairs in the same order, the same first weights, batch size, learning rate and schedule;
each run is a separate process, the sides in turn, the first steps left out. A decoder alone is compared with labels of
-100 on the input and batches padded to their longest pair; an encoder-decoder with EncoderDecoderModel.

translation: pairs of an English sentence and one of its French translations. A sentence is either in the training rows
or held out, with all its translations as references: the file has many sentences several times.

summary: paragraphs of SQuAD 2.0 and a question that a person asked about them, by articles that are not in the
training rows; the references are all questions about the paragraph. No summaries are among the data sets here: this is
the shortest text that people wrote for a longer one. The baselines copy sentences and cannot ask.

Both train for a fixed number of epochs, keep models and scores in --folder, stop after --minutes and go on from there
when started again; one table at the end. Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside
the checkout). speed exits with 1 when its goal is missed.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine
from sides import DATA, Run, Work, fixed_part, start, train_ours, train_peer

GOAL = 2.0
LOSS_APART = 0.15  # of the mean losses of a run of speed: dropout differs, and random cross-attention starts high
SPEED = (
    Work("gpt2", steps=60, batch_size=32, learning_rate=5e-4, ratio=GOAL, loss_apart=LOSS_APART),
    Work("bert+gpt2", steps=60, batch_size=32, learning_rate=5e-4, ratio=GOAL, loss_apart=LOSS_APART),
)
PARTS = {"gpt2": "mini-gpt2", "bert": "mini-bert"}
TEMPLATE = r"{input}\n{output}"
IGNORED = -100
SHOWN = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match", "length_ratio", "repetition")

Pair = tuple[str, str]


# -- the rows


def translations() -> list[Pair]:
    """English sentences with a French translation."""
    lines = (DATA / "eng_fra" / "eng-fra.txt").read_text(encoding="utf-8").splitlines()
    return [(english, french) for english, french, *_ in (line.split("\t") for line in lines)]


def questions(part: str, most: int) -> list[Pair]:
    """Paragraphs with questions about them, up to `most` of each."""
    articles = json.loads((DATA / "squad2" / f"{part}.json").read_text(encoding="utf-8"))["data"]
    return [
        (paragraph["context"], one["question"].strip())
        for article in articles
        for paragraph in article["paragraphs"]
        for one in [one for one in paragraph["qas"] if not one.get("is_impossible")][:most]
    ]


def divided(pairs: Sequence[Pair], train: int, held_out: int) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs without a common input."""
    inputs = list(dict.fromkeys(first for first, _ in pairs))
    random.Random(0).shuffle(inputs)
    by_input: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_input.setdefault(pair[0], []).append(pair)
    ordered = [pair for one in inputs for pair in by_input[one]]
    test = ordered[:held_out]
    known = {first for first, _ in test}
    return [pair for pair in ordered[held_out:] if pair[0] not in known][:train], test


# -- speed: one run, in a separate process


def rows_of(run: Run) -> list[Pair]:
    return fixed_part(translations(), run.work.rows)


def weights(run: Run) -> None:
    """The built-in models, or both joined by new cross-attention."""
    from headway.core.checkpoints.hub import find_folder
    from transformers import AutoTokenizer, EncoderDecoderModel, GPT2LMHeadModel

    torch.manual_seed(run.seed)
    decoder = find_folder(PARTS["gpt2"])
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    if run.work.name == "gpt2":
        GPT2LMHeadModel.from_pretrained(decoder, dtype=torch.float32).save_pretrained(run.folder)
        tokenizer.save_pretrained(run.folder)
        return
    encoder = find_folder(PARTS["bert"])
    both = {"encoder_dtype": torch.float32, "decoder_dtype": torch.float32}
    model = EncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder, **both)
    model.config.decoder_start_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(run.folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(run.folder)
    tokenizer.save_pretrained(run.folder / "decoder_tokenizer")


def peer(run: Run) -> dict[str, Any]:
    """Seq2SeqTrainer with dynamic padding."""
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, EncoderDecoderModel, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    examples: list[dict[str, Any]] = []
    if run.work.name == "gpt2":
        model: Any = GPT2LMHeadModel.from_pretrained(run.folder)
        tokenizer.pad_token = tokenizer.eos_token
        for first, second in rows_of(run):
            prompt = tokenizer(f"{first}\n")["input_ids"]
            output = [*tokenizer(second)["input_ids"], tokenizer.eos_token_id]
            examples.append({"input_ids": [*prompt, *output], "labels": [IGNORED] * len(prompt) + output})
    else:
        model = EncoderDecoderModel.from_pretrained(run.folder)
        decoder = AutoTokenizer.from_pretrained(run.folder / "decoder_tokenizer")
        for first, second in rows_of(run):
            output = [*decoder(second)["input_ids"], decoder.eos_token_id]
            examples.append({"input_ids": tokenizer(first)["input_ids"], "labels": output})

    def tokens_of(one: dict[str, Any]) -> int:
        """The input and the output with its end."""
        return len(one["input_ids"]) + (0 if run.work.name == "gpt2" else len(one["labels"]))

    collator = DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=IGNORED)
    _, result = train_peer(run, model, tokenizer, examples, collator, tokens_of=tokens_of)
    return result


def ours(run: Run) -> dict[str, Any]:
    """Headway, the whole way from rows to a model folder."""
    from headway.tasks import TextToText

    model = TextToText(template=TEMPLATE).on(run.folder)
    return train_ours(run, model, [{"input": first, "output": second} for first, second in rows_of(run)])


def speed(works: Sequence[Work], precisions: Sequence[str], rounds: int) -> bool:
    """Useful tokens a second of both sides, in turn: input, output and its end, without padding."""
    print(
        "| model | precision | Seq2SeqTrainer tokens/s | Headway tokens/s | ratio | goal | memory, MB | loss apart |"
    )
    print("|---|---|---|---|---|---|---|---|")
    met = True
    for work in works:
        for precision in precisions:
            runs = [
                tuple(start(__file__, side, work, precision, 0) for side in ("peer", "ours")) for _ in range(rounds)
            ]
            # The pairs of a step are the same, so that the speeds are as the numbers of steps a second.
            ratio = statistics.median(b["steps_per_second"] / a["steps_per_second"] for a, b in runs)
            theirs = statistics.median(a["tokens_per_second"] for a, _ in runs)
            first, second = runs[0]
            apart = abs(statistics.mean(first["losses"]) - statistics.mean(second["losses"]))
            fine = ratio >= work.ratio and apart < work.loss_apart
            met &= fine
            held = f"{first['memory']:.0f} / {second['memory']:.0f}"
            print(
                f"| {work.name} | {precision} | {theirs:.0f} | {theirs * ratio:.0f} | {ratio:.2f} | {work.ratio} "
                f"| {held} | {apart:.4f} |{'' if fine else ' MISSED'}",
                flush=True,
            )
    return met


# -- scores: models beside baselines


@dataclass(frozen=True)
class Trial:
    """A set of pairs, and what is trained on it."""

    train: Sequence[Pair]
    held_out: Sequence[Pair]
    epochs: float
    max_new_tokens: int
    metric: str  # sorts the table

    @property
    def references(self) -> dict[str, list[str]]:
        """The outputs of each held-out input."""
        found: dict[str, list[str]] = {}
        for first, second in self.held_out:
            found.setdefault(first, []).append(second)
        return found


def mini_gpt2(trial: Trial, folder: Path) -> Any:
    from headway.tasks import TextToText

    return TextToText(template=TEMPLATE, max_new_tokens=trial.max_new_tokens).on("mini-gpt2")


def joined(trial: Trial, folder: Path) -> Any:
    from headway.tasks import TextToText

    return TextToText(max_new_tokens=trial.max_new_tokens).on("mini-bert+mini-gpt2")


def transformer(trial: Trial, folder: Path, size: str = "mini", vocab_size: int = 4000) -> Any:
    """The Transformer from random weights, with a vocabulary of the training texts."""
    from headway.core.new_model import learn_tokenizer, write_new_model
    from headway.tasks import TextToText

    path = folder / "transformer.new"
    if not path.exists():
        texts = [text for pair in trial.train for text in pair]
        write_new_model(path, "encoder-decoder", size, learn_tokenizer(texts, "encoder-decoder", vocab_size))
    return TextToText(max_new_tokens=trial.max_new_tokens).on(path)


# Random weights need more passes than pretrained ones.
MODELS: dict[str, tuple[Callable[[Trial, Path], Any], float]] = {
    "mini-gpt2": (mini_gpt2, 1),
    "mini-bert+mini-gpt2": (joined, 1),
    "Transformer from scratch": (transformer, 3),
}


def outputs_of(name: str, trial: Trial, folder: Path, deadline: float) -> dict[str, Any]:
    """The outputs of a model for the held-out inputs, trained as far as needed.

    Raises:
        KeyboardInterrupt: the deadline has passed; the next call continues.
    """
    from headway.tasks import load

    build, times = MODELS[name]
    path = folder / name.replace("+", "-").replace(" ", "-")
    if time.monotonic() > deadline:
        raise KeyboardInterrupt
    if not path.exists():
        rows = [{"input": first, "output": second} for first, second in trial.train]
        config = {"epochs": trial.epochs * times, "eval_fraction": 0, "keep": "last", "save_minutes": 2.0}
        model = build(trial, folder)
        for _ in model.train(rows, output=path, resume=True, stop=lambda: time.monotonic() > deadline, **config):
            pass
    model = load(path)
    found = model.predict(list(trial.references))
    return {
        "outputs": [one.text for one in found],
        "stopped": statistics.mean(one.stopped for one in found),
        "parameters": sum(one.numel() for one in model.network.parameters()),
    }


def compare_scores(trial: Trial, folder: Path, names: Sequence[str], minutes: float) -> None:
    """Trains what is not yet trained, and prints the table of all that are."""
    from headway.core.errors import HeadwayError
    from headway.tasks.text_to_text.baselines import baseline_outputs, lead
    from headway.tasks.text_to_text.scores import score_texts

    deadline = time.monotonic() + 60 * minutes
    inputs = list(trial.references)
    references = list(trial.references.values())
    print(f"{len(trial.train):,} training pairs; {len(trial.held_out):,} held-out pairs of {len(inputs):,} inputs")
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "outputs.json"
    done: dict[str, dict[str, Any]] = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for name in [name for name in names if name not in done]:
        try:
            done[name] = outputs_of(name, trial, folder, deadline)
        except KeyboardInterrupt:
            print(f"Not finished: {', '.join(one for one in names if one not in done)}. Start it again to continue.")
            break
        except HeadwayError as error:
            print(f"{name}: {error}")
            continue
        stored.write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
        print(f"  {name}: done", file=sys.stderr, flush=True)
    baselines = baseline_outputs(inputs, trial.train)
    if "lead_3" in baselines:
        baselines["lead_1"] = lead(inputs, 1)
    texts = baselines | {name: one["outputs"] for name, one in done.items()}
    scored = {name: score_texts(outputs, references) for name, outputs in texts.items()}
    print(f"| outputs | {' | '.join(SHOWN)} | stopped | parameters |\n|{'---|' * (len(SHOWN) + 3)}")
    for name in sorted(scored, key=lambda one: -scored[one].metrics[trial.metric]):
        cells = [f"{scored[name].metrics[metric]:.3f}" for metric in SHOWN]
        of_model = [f"{done[name]['stopped']:.3f}", f"{done[name]['parameters']:,}"] if name in done else ["", ""]
        print(f"| {' | '.join([name, *cells, *of_model])} |", flush=True)
    print("; ".join(f"{name}: {text}" for name, text in next(iter(scored.values())).signatures.items()))


def trial_of(what: str, rows: int | None, held_out: int | None, epochs: float | None) -> Trial:
    """The pairs of a subcommand; fewer, for a trial run."""
    if what == "translation":
        train, test = divided(translations(), rows or 4000, held_out or 500)
        return Trial(train, test, epochs or 10, max_new_tokens=40, metric="chrf")
    test = questions("dev", 100)
    kept = list(dict.fromkeys(first for first, _ in test))
    random.Random(0).shuffle(kept)
    chosen = set(kept[: held_out or 300])
    train = questions("train", 3)
    random.Random(0).shuffle(train)
    test = [pair for pair in test if pair[0] in chosen]
    return Trial(train[: rows or 6000], test, epochs or 5, max_new_tokens=40, metric="rougeL")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "translation", "summary", "run"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--model", action="append", help="only this one; may be repeated")
    parser.add_argument("--precision", action="append", choices=["fp32", "bf16"], help="speed: only this one")
    parser.add_argument("--rounds", type=int, default=1, help="speed: how often, the sides in turn")
    parser.add_argument("--steps", type=int, help="speed: instead of the script's own, for a trial")
    parser.add_argument("--minutes", type=float, default=60, help="scores: stop after N minutes, to be continued")
    parser.add_argument("--folder", type=Path, help="scores: of models and outputs; default: temporary")
    parser.add_argument("--rows", type=int, help="training pairs, instead of the script's own, for a trial")
    parser.add_argument("--held-out", type=int, help="held-out pairs (translation) or inputs (summary), the same")
    parser.add_argument("--epochs", type=float, help="the same")
    given = parser.parse_args()
    if given.what == "run":
        role, work, precision, seed, folder = given.rest
        side = {"weights": weights, "peer": peer, "ours": ours}[role]
        result = side(Run(Work(**json.loads(work)), precision, int(seed), Path(folder)))
        print("\n" + json.dumps(result))
        return
    if given.what == "speed":
        print(describe_machine("transformers", "accelerate"))
        trial = {name: value for name in ("rows", "steps") if (value := getattr(given, name))}
        works = [replace(work, **trial) for work in SPEED if not given.model or work.name in given.model]
        sys.exit(0 if speed(works, given.precision or ["fp32", "bf16"], given.rounds) else 1)
    print(describe_machine("rouge-score", "sacrebleu"))
    trial = trial_of(given.what, given.rows, given.held_out, given.epochs)
    sizes = f"{given.what}-{len(trial.train)}-{len(trial.held_out)}-{trial.epochs:g}"  # trials are kept apart
    folder = (given.folder or Path(tempfile.gettempdir()) / "headway-text-to-text") / sizes
    compare_scores(trial, folder, given.model or list(MODELS), given.minutes)


if __name__ == "__main__":
    main()

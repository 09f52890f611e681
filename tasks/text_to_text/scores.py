"""Scores of generated texts against reference texts.

| score | range | what it is |
|---|---|---|
| rouge1, rouge2, rougeL | 0 to 1 | mean F1 of common words, word pairs, longest common subsequence (Lin 2004, |
|   |   | https://aclanthology.org/W04-1013); by rouge-score, without stemming |
| bleu | 0 to 100 | of the corpus (Papineni et al. 2002, https://aclanthology.org/P02-1040); by sacrebleu |
| chrf | 0 to 100 | of the corpus: character n-grams (Popović 2015, https://aclanthology.org/W15-3049); by sacrebleu |
| exact_match | 0 to 1 | share of outputs equal to a reference up to white space and Unicode normalization (NFC) |
| length_ratio | 0 and more | words of the outputs / words of the references closest to them in length |
| repetition | 0 to 1 | mean of 1 - different word 4-grams / word 4-grams of an output: seq-rep-4, on words, of |
|   |   | Welleck et al. 2020, https://arxiv.org/abs/1908.04319 |

BLEU and chrF have the scale of their package, in which they are published. Every score compares an output with all of
its references. Scores are comparable only with equal signatures (Post 2018, https://aclanthology.org/W18-6319): see
`TextScores.signatures`. BLEU's words are sacrebleu's 13a, or zh, ja-mecab or char where the references are in a script
without spaces; ROUGE's words are those of words.py, equal to rouge-score's on ASCII text.

The packages are the extra `text`; without them their scores are left out.
"""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from .words import spaceless_script, words

PACKAGES = {"sacrebleu": "sacrebleu", "rouge-score": "rouge_score"}  # to install -> to import
ROUGE = ("rouge1", "rouge2", "rougeL")
SCALES = {"bleu": 100.0, "chrf": 100.0}  # the best score where it is not 1
NGRAM = 4  # words of a repeated sequence
BLEU_TOKENIZERS = {None: "13a", "Chinese": "zh", "Japanese": "ja-mecab", "other": "char"}
SCRIPT_SAMPLE = 1000  # references, and characters of each


@dataclass(frozen=True)
class TextScores:
    """Scores, and how they were computed.

    Args:
        metrics: name -> score.
        signatures: package's metric ("bleu", "chrf", "rouge") -> its version and options, to be published with it.
        notes: about scores that are missing, a sentence each.
    """

    metrics: dict[str, float]
    signatures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def text_scores(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The scores of outputs by name, as `score_texts`."""
    return score_texts(outputs, references).metrics


def score_texts(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> TextScores:
    """Scores outputs, which may be empty texts.

    Args:
        outputs: one per example.
        references: one or more per example.

    Raises:
        ValueError: the lengths differ, or an example has no reference.
    """
    if len(outputs) != len(references) or not all(references):
        raise ValueError(f"{len(outputs)} outputs need as many lists of references, none of them empty.")
    if not outputs:
        return TextScores({})
    found: dict[str, float] = {}
    signatures: dict[str, str] = {}
    notes: list[str] = []
    missing = [package for package, module in PACKAGES.items() if find_spec(module) is None]
    if "sacrebleu" not in missing:
        notes += _add_sacrebleu(outputs, references, found, signatures)
    if "rouge-score" not in missing:
        found |= _means(map(_rouge(), outputs, references))
        signatures["rouge"] = f"f1|stem:no|tok:words|version:{version('rouge-score')}"
    found |= _means({"exact_match": _exact_match(*one)} for one in zip(outputs, references, strict=True))
    found["length_ratio"] = _length_ratio(outputs, references)
    found |= _means({"repetition": repetition(output)} for output in outputs)
    if missing:
        notes.append(f"without {' and '.join(missing)} some scores are left out: pip install 'headway[text]'")
    return TextScores(found, signatures, tuple(notes))


def similarity(output: str, references: Sequence[str]) -> float:
    """How similar an output is to the most similar of its references, 0 to 1: ROUGE-L on words, without a package."""
    mine = words(output)
    return max(_rouge_l(mine, words(reference)) for reference in references)


def _rouge_l(output: Sequence[str], reference: Sequence[str]) -> float:
    return 2 * common_subsequence(output, reference) / max(1, len(output) + len(reference))


def repetition(text: str, ngram: int = NGRAM) -> float:
    """The share of a text's word n-grams that it has had before (seq-rep-n); 0 if it has none."""
    found = words(text)
    ngrams = list(zip(*(found[start:] for start in range(ngram)), strict=False))
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def normalize(text: str) -> str:
    """The text that exact match compares: NFC, with single spaces and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"): a number with a bit per word instead of
    rouge-score's table of len(first) x len(second) entries, into which long texts do not fit.
    """
    first, second = sorted((first, second), key=len)
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    every = (1 << len(first)) - 1
    free = every  # a bit is 0 where the subsequence gets longer
    for word in second:
        matches = free & places.get(word, 0)
        free = ((free + matches) | (free - matches)) & every
    return len(first) - free.bit_count()


class _Words:
    """`words` as a tokenizer of rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def _rouge() -> Callable[[str, Sequence[str]], dict[str, float]]:
    """A function from an output and its references to F1 by name: for each score, that of the best reference."""
    from absl.logging import get_absl_handler
    from rouge_score.rouge_scorer import RougeScorer

    # rouge-score logs by absl, whose handler keeps the present sys.stderr and closes it when a server configures
    # logging, unless it is the one that Python began with.
    get_absl_handler().python_handler.stream = sys.__stderr__
    scorer = RougeScorer(list(ROUGE[:2]), tokenizer=_Words())

    def score(output: str, references: Sequence[str]) -> dict[str, float]:
        found = {name: one.fmeasure for name, one in scorer.score_multi(references, output).items()}
        return found | {ROUGE[2]: similarity(output, references)}

    return score


def _add_sacrebleu(
    outputs: Sequence[str],
    references: Sequence[Sequence[str]],
    found: dict[str, float],
    signatures: dict[str, str],
) -> list[str]:
    """Adds BLEU and chrF with their signatures; returns a note if BLEU has nothing to count.

    sacrebleu's `effective_order`, which counts shorter sequences, is for single sentences only: a corpus score with it
    is not comparable with published ones.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    most = max(map(len, references))
    streams = [[row[i] if i < len(row) else None for row in references] for i in range(most)]
    tokenizer = bleu_tokenizer([row[0][:SCRIPT_SAMPLE] for row in references[:SCRIPT_SAMPLE]])
    scorers: dict[str, Any] = {"bleu": BLEU(tokenize=tokenizer, force=True), "chrf": CHRF()}
    notes = []
    for name, scorer in scorers.items():
        scored = scorer.corpus_score(outputs, streams)
        found[name] = float(scored.score)
        signatures[name] = str(scorer.get_signature())
        if name == "bleu" and not scored.totals[NGRAM - 1]:
            notes.append(
                f"bleu is 0 because no output has {NGRAM} words, and it counts sequences of {NGRAM}: see chrf, which "
                "counts characters"
            )
    return notes


def bleu_tokenizer(references: Sequence[str]) -> str:
    """The name in sacrebleu of the tokenizer for the script of the references.

    Japanese is split by characters where MeCab (sacrebleu[ja]) is not installed.
    """
    name = BLEU_TOKENIZERS[spaceless_script(references)]
    return "char" if name == "ja-mecab" and find_spec("MeCab") is None else name


def _exact_match(output: str, references: Sequence[str]) -> float:
    return float(normalize(output) in map(normalize, references))


def _length_ratio(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    generated = expected = 0
    for output, row in zip(outputs, references, strict=True):
        length = len(words(output))
        generated += length
        expected += min((len(words(reference)) for reference in row), key=lambda one: (abs(one - length), one))
    return generated / max(1, expected)


def _means(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of each score over the examples."""
    found = list(rows)
    return {name: sum(row[name] for row in found) / len(found) for name in found[0]}

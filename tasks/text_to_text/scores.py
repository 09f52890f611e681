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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from ...core.extras import install_command, is_installed
from ..tallies import Tally, side_by_side, tally_means
from .text_tally import tally_texts
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
        tally: what the scores are functions of; None if there are no outputs.
    """

    metrics: dict[str, float]
    signatures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tally: Tally | None = None


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
    signatures: dict[str, str] = {}
    tallies: list[Tally] = []
    notes: list[str] = []
    missing = [package for package, module in PACKAGES.items() if not is_installed(module)]
    if "sacrebleu" not in missing:
        notes += _add_sacrebleu(outputs, references, tallies, signatures)
    rows: list[dict[str, float]] = [{} for _ in outputs]
    if "rouge-score" not in missing:
        rows = list(map(_rouge(), outputs, references))
        signatures["rouge"] = f"f1|stem:no|tok:words|version:{version('rouge-score')}"
    for row, output, expected in zip(rows, outputs, references, strict=True):
        row |= {"exact_match": _exact_match(output, expected)}
    tallies += [_tally_rows(rows, ["exact_match"]), _tally_lengths(outputs, references)]
    tallies.append(_tally_rows([{"repetition": repetition(output)} for output in outputs]))
    if missing:
        notes.append(f"without {' and '.join(missing)} some scores are left out: {install_command('text')}")
    tally = side_by_side(tallies)
    return TextScores(tally.metrics(), signatures, tuple(notes), tally)


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
    tallies: list[Tally],
    signatures: dict[str, str],
) -> list[str]:
    """Adds the counts of BLEU and chrF with their signatures; returns a note if BLEU has nothing to count.

    sacrebleu's `effective_order`, which counts shorter sequences, is for single sentences only: a corpus score with it
    is not comparable with published ones.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    most = max(map(len, references))
    streams = [[row[i] if i < len(row) else None for row in references] for i in range(most)]
    tokenizer = bleu_tokenizer([row[0][:SCRIPT_SAMPLE] for row in references[:SCRIPT_SAMPLE]])
    scorers: dict[str, Any] = {"bleu": BLEU(tokenize=tokenizer, force=True), "chrf": CHRF()}
    for name, scorer in scorers.items():
        tallies.append(tally_texts(name, scorer, outputs, streams))
        signatures[name] = str(scorer.get_signature())
    if tallies[0].counts[:, [-1]].sum():  # the longest word sequences of the outputs
        return []
    return [
        f"bleu is 0 because no output has {NGRAM} words, and it counts sequences of {NGRAM}: see chrf, which counts "
        "characters"
    ]


def bleu_tokenizer(references: Sequence[str]) -> str:
    """The name in sacrebleu of the tokenizer for the script of the references.

    Japanese is split by characters where MeCab (sacrebleu[ja]) is not installed.
    """
    name = BLEU_TOKENIZERS[spaceless_script(references)]
    return "char" if name == "ja-mecab" and not is_installed("MeCab") else name


def _exact_match(output: str, references: Sequence[str]) -> float:
    return float(normalize(output) in map(normalize, references))


def _tally_lengths(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Tally:
    """The words of each output, and of the reference that is closest to it in length."""
    from scipy.sparse import csr_array

    rows = []
    for output, row in zip(outputs, references, strict=True):
        length = len(words(output))
        expected = min((len(words(reference)) for reference in row), key=lambda one: (abs(one - length), one))
        rows.append((1.0, length, expected))

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        size, generated, expected = sums.T
        return {"length_ratio": np.where(size > 0, generated / np.maximum(1, expected), np.nan)}

    return Tally(csr_array(np.array(rows)), formulas)


def _tally_rows(rows: Sequence[Mapping[str, float]], of_01: Iterable[str] = ()) -> Tally:
    """The means of scores."""
    return tally_means({name: [row[name] for row in rows] for name in rows[0]}, of_01=of_01)

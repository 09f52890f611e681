"""Tags become entities and back in every scheme, and are counted as conlleval and seqeval count them."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.tasks.tagging.entity_scores import entity_figures, entity_figures_by_label
from headway.tasks.tagging.tag_schemes import (
    LETTERS,
    OUTSIDE,
    Chunk,
    detect_scheme,
    is_legal,
    is_prefixed,
    parse_tag,
    plain_labels,
    positions_of_tags,
    scheme_of,
    spans_to_tags,
    tags_for,
    tags_to_spans,
    types_of,
    viterbi_decode,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

TYPES = ["PER", "LOC", "creative-work"]
SCHEMES = list(LETTERS)


def tags(letters: str) -> st.SearchStrategy[str]:
    return st.sampled_from([OUTSIDE, *(f"{letter}-{kind}" for letter in letters for kind in TYPES)])


def pairs(letters: str) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Sentences with two taggings each, whatever the sequences are."""
    sentence = st.integers(0, 8).flatmap(
        lambda length: st.tuples(*[st.lists(tags(letters), min_size=length, max_size=length)] * 2)
    )
    return st.lists(sentence, min_size=1, max_size=4)


@st.composite
def chunked(draw: st.DrawFn) -> tuple[list[Chunk], int]:
    """Entities that do not overlap, and the length of their sentence."""
    chunks, position = [], 0
    for gap, size, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(TYPES)), max_size=5)
    ):
        chunks.append(Chunk(position + gap, position + gap + size, kind))
        position += gap + size
    return chunks, position + draw(st.integers(0, 2))


def conlleval(sentences: Sequence[tuple[Sequence[str], Sequence[str]]]) -> dict[str, tuple[float, float, float]]:
    """Precision, recall and F1 of each type and of all ("") by the rules that conlleval.pl publishes.

    Those for S are not in it; a chunk that S says has one word, as the script has it for a chunk in brackets.
    """
    right, guessed, there = Counter[str](), Counter[str](), Counter[str]()
    for gold, guess in sentences:
        before_gold = before_guess = (OUTSIDE, "")
        inside = False
        for gold_tag, guess_tag in [*zip(gold, guess, strict=True), (OUTSIDE, OUTSIDE)]:
            now_gold, now_guess = (tuple(tag.partition("-")[::2]) for tag in (gold_tag, guess_tag))
            if inside:
                gold_ends, guess_ends = ends(before_gold, now_gold), ends(before_guess, now_guess)
                if gold_ends and guess_ends and before_gold[1] == before_guess[1]:
                    right[before_gold[1]] += 1
                    inside = False
                elif gold_ends != guess_ends or now_gold[1] != now_guess[1]:
                    inside = False
            if starts(before_gold, now_gold) and starts(before_guess, now_guess) and now_gold[1] == now_guess[1]:
                inside = True
            there[now_gold[1]] += starts(before_gold, now_gold)
            guessed[now_guess[1]] += starts(before_guess, now_guess)
            before_gold, before_guess = now_gold, now_guess
    for counter in (right, guessed, there):
        counter[""] = counter.total()
    figures = {}
    for kind in (*TYPES, ""):
        precision = right[kind] / guessed[kind] if guessed[kind] else 0.0
        recall = right[kind] / there[kind] if there[kind] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        figures[kind] = (precision, recall, f1)
    return figures


def ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Whether a chunk ends between two tags."""
    (prev_tag, prev_type), (tag, kind) = before, now
    return (prev_tag in "BI" and tag in "BSO") or prev_tag in "ES" or (prev_tag != OUTSIDE and prev_type != kind)


def starts(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Whether a chunk starts at the second of two tags."""
    (prev_tag, prev_type), (tag, kind) = before, now
    return tag in "BS" or (prev_tag in "ESO" and tag in "EI") or (tag != OUTSIDE and prev_type != kind)


def chunks_of(sentences: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[list[list[Chunk]], list[list[Chunk]]]:
    return [tags_to_spans(guess) for _, guess in sentences], [tags_to_spans(gold) for gold, _ in sentences]


@settings(max_examples=1000, deadline=None)
@given(st.one_of(pairs("BI"), pairs("BIES")))
def test_the_figures_are_those_of_conlleval_on_any_tags(sentences):
    found, gold = chunks_of(sentences)
    figures, expected = entity_figures(found, gold), conlleval(sentences)
    assert (figures["precision"], figures["recall"], figures["f1"]) == pytest.approx(expected[""])
    for row in entity_figures_by_label(found, gold, TYPES):
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(expected[row["label"]])


@settings(max_examples=1000, deadline=None)
@given(st.lists(tags("BIES"), max_size=12))
def test_the_entities_are_those_of_seqeval_on_any_tags(sequence):
    assert [(chunk.label, chunk.start, chunk.stop - 1) for chunk in tags_to_spans(sequence)] == get_entities(sequence)


@settings(max_examples=300, deadline=None)
@given(pairs("BI"))
def test_the_figures_are_those_of_seqeval(sentences):
    found, gold = chunks_of(sentences)
    truths, guesses = map(list, zip(*sentences, strict=True))
    figures = entity_figures(found, gold)
    assert figures["precision"] == pytest.approx(precision_score(truths, guesses, zero_division=0))
    assert figures["recall"] == pytest.approx(recall_score(truths, guesses, zero_division=0))
    assert figures["f1"] == pytest.approx(f1_score(truths, guesses, zero_division=0))
    if any(found) or any(gold):
        report = classification_report(truths, guesses, output_dict=True, zero_division=0)
        for row in entity_figures_by_label(found, gold, [kind for kind in TYPES if kind in report]):
            assert row["precision"] == pytest.approx(report[row["label"]]["precision"])
            assert row["recall"] == pytest.approx(report[row["label"]]["recall"])
            assert row["f1"] == pytest.approx(report[row["label"]]["f1-score"])
            assert row["entities"] == report[row["label"]]["support"]


@settings(max_examples=300, deadline=None)
@given(pairs("BI"))
def test_by_overlap_an_entity_counts_that_shares_a_word_with_one_of_its_label(sentences):
    found, gold = chunks_of(sentences)

    def touched(ours: list[list[Chunk]], theirs: list[list[Chunk]]) -> float:
        hits = [
            any(a.label == b.label and a.start < b.stop and b.start < a.stop for b in others)
            for row, others in zip(ours, theirs, strict=True)
            for a in row
        ]
        return sum(hits) / len(hits) if hits else 0.0

    figures = entity_figures(found, gold)
    assert figures["precision_overlap"] == pytest.approx(touched(found, gold))
    assert figures["recall_overlap"] == pytest.approx(touched(gold, found))
    assert figures["f1_overlap"] >= figures["f1"]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=300, deadline=None)
@given(case=chunked())
def test_entities_come_back_from_the_tags_of_every_scheme(scheme, case):
    chunks, length = case
    written = spans_to_tags(chunks, length, scheme)
    assert len(written) == length
    assert is_legal([parse_tag(tag, scheme != "IO") for tag in written], scheme)
    assert set(written) <= {OUTSIDE, *tags_for(TYPES, scheme)}
    if scheme == "IO":  # where two of a type touch, a scheme without prefixes sees one
        words = {word for chunk in chunks for word in range(chunk.start, chunk.stop)}
        assert {i for chunk in tags_to_spans(written, False) for i in range(chunk.start, chunk.stop)} == words
    else:
        assert tags_to_spans(written) == chunks


def test_one_sentence_in_every_scheme():
    chunks = [Chunk(0, 1, "A"), Chunk(1, 4, "A"), Chunk(5, 7, "B")]
    assert {scheme: " ".join(spans_to_tags(chunks, 8, scheme)) for scheme in SCHEMES} == {
        "IOB1": "I-A B-A I-A I-A O I-B I-B O",
        "IOB2": "B-A B-A I-A I-A O B-B I-B O",
        "BIOES": "S-A B-A I-A E-A O B-B E-B O",
        "BILOU": "U-A B-A I-A L-A O B-B L-B O",
        "BMES": "S-A B-A M-A E-A O B-B E-B O",
        "IO": "A A A A O B B O",
    }


def some_sentences(scheme: str, count: int = 40) -> list[list[str]]:
    chance = random.Random(0)
    sentences = []
    for _ in range(count):
        chunks, position = [], 0
        for _ in range(3):
            start = position + chance.choice([0, 0, 1])
            position = start + chance.randint(1, 3)
            chunks.append(Chunk(start, position, chance.choice(TYPES)))
        sentences.append(spans_to_tags(chunks, position + 1, scheme))
    return sentences


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_told_from_its_tags(scheme):
    assert detect_scheme(some_sentences(scheme)) == (scheme, [])


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES"])
def test_a_scheme_is_told_in_spite_of_mistakes_and_these_are_found(scheme):
    sentences = some_sentences(scheme)
    wrong = {"IOB1": ["O", "B-PER"], "IOB2": ["O", "I-PER"]}.get(scheme, ["B-PER", "O"])
    assert detect_scheme([*sentences[:7], wrong, *sentences[7:]]) == (scheme, [7])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_told_from_the_labels_of_a_model(scheme):
    expected = "IOB2" if scheme == "IOB1" else scheme  # the names of their labels are the same
    labels = [OUTSIDE, *tags_for(TYPES, scheme)]
    assert scheme_of(labels) == expected
    assert types_of(labels, scheme) == tuple(TYPES)
    assert positions_of_tags(labels, scheme) == {label: i for i, label in enumerate(labels)}


def test_a_published_model_may_lack_tags_or_have_labels_that_are_none():
    labels = ["[PAD]", "O", "I-PER", "B-LOC", "I-LOC", "X"]
    assert scheme_of(labels) == "IOB1"
    assert plain_labels(labels, "IOB1") == ["O", "O", "I-PER", "B-LOC", "I-LOC", "O"]
    assert positions_of_tags(labels, "IOB1") == {"O": 0, "B-PER": 2, "I-PER": 2, "B-LOC": 3, "I-LOC": 4}
    assert scheme_of(["LABEL_0", "LABEL_1"]) == "IO"
    assert positions_of_tags(["NOUN", "VERB"], "IO") == {"NOUN": 0, "VERB": 1}


def test_bare_labels_make_one_entity_of_each_run():
    assert not is_prefixed(["PER", "O", "E-mail", "LOC"])
    assert tags_to_spans(["PER", "PER", "LOC", "O", "E-mail"], prefixed=False) == [
        Chunk(0, 2, "PER"),
        Chunk(2, 3, "LOC"),
        Chunk(4, 5, "E-mail"),
    ]


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("B", "names no entity type"),
        ("I-", "names no entity type"),
        ("X-PER", 'begins with "X-"'),
        ("PER", "has no prefix"),
        ("", "is empty"),
        ("o", "has no prefix"),
    ],
)
def test_a_tag_that_cannot_be_read_is_refused_with_the_reason(tag, says):
    with pytest.raises(HeadwayError, match=says):
        tags_to_spans(["B-PER", tag])


def legal_sequences(labels: Sequence[str], length: int, scheme: str) -> list[tuple[int, ...]]:
    parsed = [parse_tag(label, scheme != "IO") for label in labels]
    return [
        path
        for path in itertools.product(range(len(labels)), repeat=length)
        if is_legal([parsed[i] for i in path], scheme)
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_viterbi_finds_the_best_of_all_legal_sequences(scheme):
    torch.manual_seed(0)
    labels = [OUTSIDE, *tags_for(["A", "B"], scheme)]
    for length in (0, 1, 2, 3):
        paths = legal_sequences(labels, length, scheme)
        for _ in range(20):
            scores = torch.randn(length, len(labels)).mul(3).log_softmax(-1)
            best = max(paths, key=lambda path: sum(float(scores[i, label]) for i, label in enumerate(path)))
            assert viterbi_decode(scores, labels, scheme) == list(best)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_viterbi_is_always_legal_and_keeps_what_is_legal_already(scheme):
    torch.manual_seed(1)
    labels = ["X", *tags_for(TYPES, scheme), OUTSIDE] if scheme != "IO" else [*TYPES, OUTSIDE]
    parsed = [parse_tag(label, scheme != "IO") for label in plain_labels(labels, scheme)]
    for length in (1, 5, 30):
        for _ in range(20):
            scores = torch.randn(length, len(labels)).mul(5).log_softmax(-1)
            found = viterbi_decode(scores, labels, scheme)
            assert is_legal([parsed[i] for i in found], scheme)
            greedy = scores.argmax(-1).tolist()
            if is_legal([parsed[i] for i in greedy], scheme):
                assert found == greedy


def test_a_word_that_is_surely_outside_stays_so():
    labels = [OUTSIDE, *tags_for(["A"], "BIOES")]
    scores = torch.randn(5, len(labels)).log_softmax(-1)
    scores[2] = -torch.inf
    scores[2, 0] = 0.0
    assert viterbi_decode(scores, labels, "BIOES")[2] == 0

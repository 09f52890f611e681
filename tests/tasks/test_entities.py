"""Tags are converted to entities and back in every scheme, and scored as by conlleval and seqeval."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.tasks.tagging.entity_scores import entity_metrics, tally_entities
from headway.tasks.tagging.tag_schemes import (
    OUTSIDE,
    PREFIXES,
    WordSpan,
    all_tags,
    detect_scheme,
    entity_types,
    is_prefixed,
    is_valid,
    labels_as_tags,
    parse_tag,
    scheme_of_labels,
    spans_to_tags,
    tag_indices,
    tags_to_spans,
    viterbi_decode,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

TYPES = ["PER", "LOC", "creative-work"]
SCHEMES = list(PREFIXES)


def tags(letters: str) -> st.SearchStrategy[str]:
    return st.sampled_from([OUTSIDE, *(f"{letter}-{kind}" for letter in letters for kind in TYPES)])


def pairs(letters: str) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Sentences with two arbitrary tag sequences each."""
    sentence = st.integers(0, 8).flatmap(
        lambda length: st.tuples(*[st.lists(tags(letters), min_size=length, max_size=length)] * 2)
    )
    return st.lists(sentence, min_size=1, max_size=4)


@st.composite
def sentences_with_entities(draw: st.DrawFn) -> tuple[list[WordSpan], int]:
    """Entities that do not overlap, and the length of their sentence."""
    spans, position = [], 0
    for gap, size, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(TYPES)), max_size=5)
    ):
        spans.append(WordSpan(position + gap, position + gap + size, kind))
        position += gap + size
    return spans, position + draw(st.integers(0, 2))


def conlleval(sentences: Sequence[tuple[Sequence[str], Sequence[str]]]) -> dict[str, tuple[float, float, float]]:
    """Precision, recall and F1 of each type and of all types ("") by the rules of conlleval.pl.

    The script has no rules for S; an entity tagged S has one word, like a chunk in brackets in the script.
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
    scores = {}
    for kind in (*TYPES, ""):
        precision = right[kind] / guessed[kind] if guessed[kind] else 0.0
        recall = right[kind] / there[kind] if there[kind] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores[kind] = (precision, recall, f1)
    return scores


def ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Whether an entity ends between two tags."""
    (prev_tag, prev_type), (tag, kind) = before, now
    return (prev_tag in "BI" and tag in "BSO") or prev_tag in "ES" or (prev_tag != OUTSIDE and prev_type != kind)


def starts(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Whether an entity starts at the second of two tags."""
    (prev_tag, prev_type), (tag, kind) = before, now
    return tag in "BS" or (prev_tag in "ESO" and tag in "EI") or (tag != OUTSIDE and prev_type != kind)


def predicted_and_gold(
    sentences: Sequence[tuple[Sequence[str], Sequence[str]]],
) -> tuple[list[list[WordSpan]], list[list[WordSpan]]]:
    return [tags_to_spans(guess) for _, guess in sentences], [tags_to_spans(gold) for gold, _ in sentences]


@settings(max_examples=1000, deadline=None)
@given(st.one_of(pairs("BI"), pairs("BIES")))
def test_the_scores_equal_conllevals_on_any_tags(sentences):
    found, gold = predicted_and_gold(sentences)
    scores, expected = entity_metrics(found, gold), conlleval(sentences)
    assert (scores["precision"], scores["recall"], scores["f1"]) == pytest.approx(expected[""])
    for row in tally_entities(found, gold, types=TYPES).per_label():
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(expected[row["label"]])


@settings(max_examples=1000, deadline=None)
@given(st.lists(tags("BIES"), max_size=12))
def test_the_entities_equal_seqevals_on_any_tags(sequence):
    assert [(span.label, span.start, span.stop - 1) for span in tags_to_spans(sequence)] == get_entities(sequence)


@settings(max_examples=300, deadline=None)
@given(pairs("BI"))
def test_the_scores_equal_seqevals(sentences):
    found, gold = predicted_and_gold(sentences)
    truths, guesses = map(list, zip(*sentences, strict=True))
    scores = entity_metrics(found, gold)
    assert scores["precision"] == pytest.approx(precision_score(truths, guesses, zero_division=0))
    assert scores["recall"] == pytest.approx(recall_score(truths, guesses, zero_division=0))
    assert scores["f1"] == pytest.approx(f1_score(truths, guesses, zero_division=0))
    if any(found) or any(gold):
        report = classification_report(truths, guesses, output_dict=True, zero_division=0)
        for row in tally_entities(found, gold, types=[kind for kind in TYPES if kind in report]).per_label():
            assert row["precision"] == pytest.approx(report[row["label"]]["precision"])
            assert row["recall"] == pytest.approx(report[row["label"]]["recall"])
            assert row["f1"] == pytest.approx(report[row["label"]]["f1-score"])
            assert row["entities"] == report[row["label"]]["support"]


@settings(max_examples=300, deadline=None)
@given(pairs("BI"))
def test_by_overlap_an_entity_is_correct_if_it_shares_a_word_with_one_of_its_type(sentences):
    found, gold = predicted_and_gold(sentences)

    def touched(ours: list[list[WordSpan]], theirs: list[list[WordSpan]]) -> float:
        hits = [
            any(a.label == b.label and a.start < b.stop and b.start < a.stop for b in others)
            for row, others in zip(ours, theirs, strict=True)
            for a in row
        ]
        return sum(hits) / len(hits) if hits else 0.0

    scores = entity_metrics(found, gold)
    assert scores["precision_overlap"] == pytest.approx(touched(found, gold))
    assert scores["recall_overlap"] == pytest.approx(touched(gold, found))
    assert scores["f1_overlap"] >= scores["f1"]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=300, deadline=None)
@given(case=sentences_with_entities())
def test_entities_survive_the_conversion_to_tags_and_back_in_every_scheme(scheme, case):
    spans, length = case
    written = spans_to_tags(spans, length, scheme)
    assert len(written) == length
    assert is_valid([parse_tag(tag, scheme != "IO") for tag in written], scheme)
    assert set(written) <= {OUTSIDE, *all_tags(TYPES, scheme)}
    if scheme == "IO":  # without prefixes, two adjacent entities of a type are one
        words = {word for span in spans for word in range(span.start, span.stop)}
        assert {i for span in tags_to_spans(written, False) for i in range(span.start, span.stop)} == words
    else:
        assert tags_to_spans(written) == spans


def test_one_sentence_in_every_scheme():
    spans = [WordSpan(0, 1, "A"), WordSpan(1, 4, "A"), WordSpan(5, 7, "B")]
    assert {scheme: " ".join(spans_to_tags(spans, 8, scheme)) for scheme in SCHEMES} == {
        "IOB1": "I-A B-A I-A I-A O I-B I-B O",
        "IOB2": "B-A B-A I-A I-A O B-B I-B O",
        "BIOES": "S-A B-A I-A E-A O B-B E-B O",
        "BILOU": "U-A B-A I-A L-A O B-B L-B O",
        "BMES": "S-A B-A M-A E-A O B-B E-B O",
        "IO": "A A A A O B B O",
    }


def random_sentences(scheme: str, count: int = 40) -> list[list[str]]:
    chance = random.Random(0)
    sentences = []
    for _ in range(count):
        spans, position = [], 0
        for _ in range(3):
            start = position + chance.choice([0, 0, 1])
            position = start + chance.randint(1, 3)
            spans.append(WordSpan(start, position, chance.choice(TYPES)))
        sentences.append(spans_to_tags(spans, position + 1, scheme))
    return sentences


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_detected_from_its_tags(scheme):
    assert detect_scheme(random_sentences(scheme)) == (scheme, [])


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES"])
def test_a_scheme_is_detected_in_spite_of_invalid_sentences_and_these_are_named(scheme):
    sentences = random_sentences(scheme)
    wrong = {"IOB1": ["O", "B-PER"], "IOB2": ["O", "I-PER"]}.get(scheme, ["B-PER", "O"])
    assert detect_scheme([*sentences[:7], wrong, *sentences[7:]]) == (scheme, [7])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_detected_from_the_labels_of_a_model(scheme):
    expected = "IOB2" if scheme == "IOB1" else scheme  # their labels have the same names
    labels = [OUTSIDE, *all_tags(TYPES, scheme)]
    assert scheme_of_labels(labels) == expected
    assert entity_types(labels, scheme) == tuple(TYPES)
    assert tag_indices(labels, scheme) == {label: i for i, label in enumerate(labels)}


def test_a_published_model_may_lack_tags_or_have_labels_that_are_not_tags():
    labels = ["[PAD]", "O", "I-PER", "B-LOC", "I-LOC", "X"]
    assert scheme_of_labels(labels) == "IOB1"
    assert labels_as_tags(labels, "IOB1") == ["O", "O", "I-PER", "B-LOC", "I-LOC", "O"]
    assert tag_indices(labels, "IOB1") == {"O": 0, "B-PER": 2, "I-PER": 2, "B-LOC": 3, "I-LOC": 4}
    assert scheme_of_labels(["LABEL_0", "LABEL_1"]) == "IO"
    assert tag_indices(["NOUN", "VERB"], "IO") == {"NOUN": 0, "VERB": 1}


def test_each_run_of_equal_labels_without_prefix_is_one_entity():
    assert not is_prefixed(["PER", "O", "E-mail", "LOC"])
    assert tags_to_spans(["PER", "PER", "LOC", "O", "E-mail"], prefixed=False) == [
        WordSpan(0, 2, "PER"),
        WordSpan(2, 3, "LOC"),
        WordSpan(4, 5, "E-mail"),
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
def test_an_invalid_tag_is_refused_with_the_reason(tag, says):
    with pytest.raises(HeadwayError, match=says):
        tags_to_spans(["B-PER", tag])


def valid_sequences(labels: Sequence[str], length: int, scheme: str) -> list[tuple[int, ...]]:
    parsed = [parse_tag(label, scheme != "IO") for label in labels]
    return [
        path
        for path in itertools.product(range(len(labels)), repeat=length)
        if is_valid([parsed[i] for i in path], scheme)
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_viterbi_finds_the_most_probable_of_all_valid_sequences(scheme):
    torch.manual_seed(0)
    labels = [OUTSIDE, *all_tags(["A", "B"], scheme)]
    for length in (0, 1, 2, 3):
        paths = valid_sequences(labels, length, scheme)
        for _ in range(20):
            scores = torch.randn(length, len(labels)).mul(3).log_softmax(-1)
            best = max(paths, key=lambda path: sum(float(scores[i, label]) for i, label in enumerate(path)))
            assert viterbi_decode(scores, labels, scheme) == list(best)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_viterbi_is_always_valid_and_keeps_valid_greedy_sequences(scheme):
    torch.manual_seed(1)
    labels = ["X", *all_tags(TYPES, scheme), OUTSIDE] if scheme != "IO" else [*TYPES, OUTSIDE]
    parsed = [parse_tag(label, scheme != "IO") for label in labels_as_tags(labels, scheme)]
    for length in (1, 5, 30):
        for _ in range(20):
            scores = torch.randn(length, len(labels)).mul(5).log_softmax(-1)
            found = viterbi_decode(scores, labels, scheme)
            assert is_valid([parsed[i] for i in found], scheme)
            greedy = scores.argmax(-1).tolist()
            if is_valid([parsed[i] for i in greedy], scheme):
                assert found == greedy


def test_viterbi_keeps_a_word_that_is_certainly_outside():
    labels = [OUTSIDE, *all_tags(["A"], "BIOES")]
    scores = torch.randn(5, len(labels)).log_softmax(-1)
    scores[2] = -torch.inf
    scores[2, 0] = 0.0
    assert viterbi_decode(scores, labels, "BIOES")[2] == 0

"""Channel, kNN and PMI prompts give what a plain loop over transformers' logits gives."""

import numpy as np
import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Prompt, SavedPrompt
from headway.tasks.prompting import forward_passes, prompt_runner
from headway.tasks.prompting.demonstrations import choose_demonstrations, demonstration_orders
from headway.tasks.prompting.forward_passes import Context, ForwardPasses, Query
from headway.tasks.prompting.label_scores import label_log_likelihoods
from headway.tasks.prompting.templates import BUILT_IN, Template
from headway.tasks.prompting.text_scores import text_log_likelihoods
from peaked_gpt2 import LABELS, POOL, make_peaked_gpt2

EXAMPLES = [
    *POOL,
    ("don't mind my card", "bad"),
    ("London, 3 program!", "good"),
    ("a fox jumps over the dog", "so so"),
]
TEXTS = ["the dog", "my card has arrived in London", "where?", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, byte_level_folder):
    return make_peaked_gpt2(byte_level_folder, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.load(folder)


@torch.inference_mode()
def likelihood(theirs, tokenizer, before, after):
    """The log-likelihood of the tokens of `after`, and of the space before it, in one pass over the whole text."""
    encoding = tokenizer.encode(before + after)
    logits = theirs(torch.tensor([encoding.ids])).logits[0].log_softmax(-1)
    start = next((i for i, (_, end) in enumerate(encoding.offsets) if end > len(before.rstrip())), len(encoding.ids))
    return sum(float(logits[i - 1, encoding.ids[i]]) for i in range(start, len(encoding.ids)))


def softmax(scores):
    found = np.exp(np.array(scores) - max(scores))
    return found / found.sum()


def scores_of(prediction):
    return list(prediction.scores.values())


# -- channel

CHANNEL_TEMPLATES = {
    "Text: {text}\nLabel: {label}": ("Label: ", "\nText: "),
    "{text} It was {label}.": ("It was ", ". "),
    "It is {label}: {text}": ("It is ", ": "),
    "Is '{text}' ({label})": ("' (", ")\nIs '"),
    "{text}": ("", " "),
}


@pytest.mark.parametrize("template", CHANNEL_TEMPLATES)
@pytest.mark.parametrize("description", ["", "Say how it is."])
@pytest.mark.parametrize("shots", [0, 3])
def test_a_channel_prompt_scores_the_text_after_each_label(folder, theirs, tokenizer, template, description, shots):
    before, between = CHANNEL_TEMPLATES[template]
    prompt = Prompt(
        scoring="channel", labels=LABELS, template=template, description=description, choice="first", shots=shots
    )
    found = prompt.on(folder).predict(TEXTS, EXAMPLES)
    shown = [f"{before}{label}{between}{text}" for text, label in EXAMPLES[:shots]]
    parts = [part for part in (description, *shown) if part]
    for text, prediction in zip(TEXTS, found, strict=True):
        heads = ["\n\n".join([*parts, f"{before}{label}{between}"]) for label in LABELS]
        expected = softmax([likelihood(theirs, tokenizer, head, text) for head in heads])
        assert scores_of(prediction) == pytest.approx(expected, abs=1e-4)
        assert prediction.uncalibrated is None


def test_a_channel_prompt_reads_both_texts_of_a_pair(folder, theirs, tokenizer):
    prompt = Prompt(scoring="channel", labels=["yes", "no"])
    found = prompt.on(folder).predict(("the cat", "a dog sat"))
    heads = [f"Label: {label}\nFirst text: " for label in ("yes", "no")]
    expected = softmax([likelihood(theirs, tokenizer, head, "the cat\nSecond text: a dog sat") for head in heads])
    assert scores_of(found) == pytest.approx(expected, abs=1e-4)


def test_a_channel_prompt_is_averaged_over_orders_and_calibrated_by_the_batch(folder):
    options = {"scoring": "channel", "labels": LABELS, "choice": "first"}
    averaged = Prompt(**options, orders=4, seed=3).on(folder).predict("the dog", EXAMPLES[:3])
    single = Prompt(**options).on(folder)
    orders = demonstration_orders(3, 4, seed=3)
    runs = [scores_of(single.predict("the dog", [EXAMPLES[i] for i in order])) for order in orders]
    assert scores_of(averaged) == pytest.approx(np.mean(runs, axis=0), abs=1e-5)
    assert averaged.spread == pytest.approx(np.std(runs, axis=0)[LABELS.index(averaged.label)], abs=1e-5)
    plain = np.array([scores_of(one) for one in single.predict(TEXTS, EXAMPLES)])
    weighed = plain / plain.mean(axis=0)
    found = Prompt(**options, calibration="batch").on(folder).predict(TEXTS, EXAMPLES)
    expected = weighed / weighed.sum(-1, keepdims=True)
    assert np.array([scores_of(one) for one in found]) == pytest.approx(expected, abs=1e-5)


def test_a_channel_prompt_shows_labels_first_and_says_so(folder):
    prepared = Prompt(scoring="channel", template="sentiment", labels=["0", "1"]).on(folder).prepare([("fine", "1")])
    (text,) = prepared.reader.texts(["the mat"])
    shown, _ = prepared.preview(text)
    assert shown.endswith("\n\nSentiment: positive\nReview: fine\n\nSentiment: {label}\nReview: the mat")
    assert any(
        "labels come before texts: Sentiment: {label}\\nReview: {text} (--template" in n for n in prepared.notes
    )
    for template in BUILT_IN.values():
        if not template.writes:
            turned = template.with_label_first()
            assert Template.parse(turned.text).after == turned.after
            assert turned.with_label_first() is turned
            assert turned.paired == template.paired


def test_demonstrations_of_a_channel_prompt_that_do_not_fit_are_dropped(folder):
    long = "the cat sat on the mat " * 9
    examples = [(f"{long}{i}", LABELS[i % 3]) for i in range(6)]
    prompt = Prompt(scoring="channel", labels=LABELS, choice="first")
    model = prompt.on(folder)
    found = model.predict(["the dog", long], examples)
    assert model.prepared is not None
    assert model.prepared.dropped[1] > model.prepared.dropped[0] > 0
    for text, prediction, first in zip(["the dog", long], found, model.prepared.dropped, strict=True):
        fewer = prompt.on(folder).predict(text, examples[first:])
        assert prediction.scores == pytest.approx(fewer.scores, abs=1e-5)
    with pytest.raises(HeadwayError, match="320 at most"):
        model.predict("the dog " * 400)


@pytest.mark.parametrize("budget", [1, 7, 40, 2048])
def test_texts_score_as_labels_do_whatever_the_batches(folder, budget, monkeypatch):
    network = Prompt(labels=LABELS).on(folder).network
    generator = torch.Generator().manual_seed(budget)

    def ids(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(0, network.config.vocab_size, (length,), generator=generator).tolist())

    contexts = [
        Context(context, tuple(Query(ids(1, 6), tuple(ids(1, 20) for _ in range(4))) for _ in range(3)))
        for context in ((), ids(3, 9), ids(3, 9))
    ]
    expected = label_log_likelihoods(network, contexts)
    monkeypatch.setattr(forward_passes, "MAX_LOGITS", 2 * network.config.vocab_size)
    found = text_log_likelihoods(network, contexts, batch_tokens=budget)
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-4)


def test_the_demonstrations_of_a_channel_prompt_are_computed_once(folder, monkeypatch):
    read = []
    plain = ForwardPasses.forward

    def spy(passes, cache, sequences):
        read.append(len(sequences))
        return plain(passes, cache, sequences)

    monkeypatch.setattr(ForwardPasses, "forward", spy)
    Prompt(scoring="channel", labels=LABELS).on(folder).predict([f"the dog {i}" for i in range(5)], EXAMPLES)
    assert read == [1, 3, 15]  # the demonstrations, the labels, each text after each label


# -- pmi


@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("domain", [None, "All in all, it is"])
def test_pmi_divides_by_the_likelihood_after_the_domain_premise(folder, theirs, tokenizer, shots, normalize, domain):
    prompt = Prompt(scoring="pmi", labels=LABELS, choice="first", shots=shots, normalize=normalize, domain=domain)
    found = prompt.on(folder).predict(TEXTS, EXAMPLES)
    lengths = [len(tokenizer.encode(f" {label}").ids) if normalize else 1 for label in LABELS]

    def scores(before):
        return np.array([likelihood(theirs, tokenizer, f"{before} ", label) for label in LABELS]) / lengths

    shown = [f"Text: {text}\nLabel: {label}" for text, label in EXAMPLES[:shots]]
    for text, prediction in zip(TEXTS, found, strict=True):
        direct = scores("\n\n".join([*shown, f"Text: {text}\nLabel:"]))
        expected = softmax(direct - scores(domain or "Label:"))
        assert scores_of(prediction) == pytest.approx(expected, abs=1e-4)
        assert list(prediction.uncalibrated.values()) == pytest.approx(softmax(direct), abs=1e-4)


def test_pmi_names_its_domain_premise(folder):
    prepared = Prompt(scoring="pmi", labels=LABELS, template="{text} It was {label}.").on(folder).prepare()
    assert any("divided by that after 'It was'" in note for note in prepared.notes)
    prepared = Prompt(scoring="pmi", labels=LABELS, template="{text}").on(folder).prepare()
    assert any("divided by that without a text" in note for note in prepared.notes)
    with pytest.raises(HeadwayError, match="--domain: the text does not fit into the 320 tokens of"):
        Prompt(scoring="pmi", labels=LABELS, domain="the dog " * 400).on(folder).predict("a")


# -- knn


@torch.inference_mode()
def next_token(theirs, tokenizer, before):
    return theirs(torch.tensor([tokenizer.encode(before).ids])).logits[0, -1].double().softmax(-1)


@pytest.mark.parametrize("count", [1, 3, 4, 99])
@pytest.mark.parametrize("shots", [0, 2])
def test_the_nearest_examples_by_divergence_vote(folder, theirs, tokenizer, count, shots):
    texts = [*TEXTS, "the quick brown fox", "a naïve program"]
    prompt = Prompt(scoring="knn", labels=LABELS, choice="first", shots=shots, neighbours=count)
    found = prompt.on(folder).predict(texts, EXAMPLES)
    shown = [f"Text: {text}\nLabel: {label}" for text, label in EXAMPLES[:shots]]

    def distribution(text):
        return next_token(theirs, tokenizer, "\n\n".join([*shown, f"Text: {text}\nLabel:"]))

    others = [(distribution(text), label) for text, label in EXAMPLES[shots:]]
    for text, prediction in zip(texts, found, strict=True):
        query = distribution(text)
        near = sorted((float((p * (p.log() - query.log())).sum()), label) for p, label in others)[:count]
        votes = [label for _, label in near]
        assert scores_of(prediction) == pytest.approx([votes.count(one) / len(votes) for one in LABELS], abs=1e-5)
        assert prediction.label == max(votes, key=votes.count)  # of equal votes, the one with the nearest example


def test_an_example_is_its_own_nearest_neighbour(folder):
    prompt = Prompt(scoring="knn", labels=LABELS, shots=0, neighbours=1)
    found = prompt.on(folder).predict([text for text, _ in EXAMPLES], EXAMPLES)
    assert [one.label for one in found] == [label for _, label in EXAMPLES]


def test_the_examples_to_compare_with_are_not_shown_and_limited(folder, monkeypatch):
    monkeypatch.setattr(prompt_runner, "MAX_COMPARED", 3)
    prepared = Prompt(scoring="knn", labels=LABELS, shots=4, seed=2).on(folder).prepare(EXAMPLES)
    shown = choose_demonstrations([label for _, label in EXAMPLES], 4, "balanced", 2)
    chosen = prepared.runner.others(2)
    assert len(chosen) == 3
    assert not set(chosen) & set(shown)
    assert not any("never predicted" in note for note in prepared.notes)
    assert any("3 of 3 other examples (of 5, balanced over the labels) vote" in note for note in prepared.notes)


def test_a_label_that_no_other_example_has_is_named(folder):
    examples = [*[one for one in EXAMPLES if one[1] != "so so"], ("a", "so so")]
    prepared = Prompt(scoring="knn", shots=3).on(folder).prepare(examples)  # balanced: one of each label is shown
    assert any(note.endswith("never predicted: so so") for note in prepared.notes)


def test_examples_too_long_to_compare_with_are_counted(folder):
    model = Prompt(scoring="knn", labels=LABELS, shots=0).on(folder)
    model.predict("the dog", [*EXAMPLES, ("the dog " * 400, "good")])
    assert any("1 examples were not compared" in warning for warning in model.warnings)
    with pytest.raises(HeadwayError, match="None of the 2 examples"):
        model.predict("the dog", [("the dog " * 400, "good"), ("a dog " * 400, "bad")])


# -- all


@pytest.mark.parametrize("scoring", ["channel", "knn", "pmi"])
def test_a_scoring_is_evaluated_saved_and_averaged_over_orders(folder, tmp_path, scoring):
    rows = [{"text": f"{text} {i}", "label": label} for i, (text, label) in enumerate(EXAMPLES)]
    (tmp_path / "few.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in EXAMPLES))
    prompt = Prompt(scoring=scoring, shots=3, orders=2)
    saved = SavedPrompt(prompt, str(folder), examples=str(tmp_path / "few.csv"))
    saved.save(tmp_path / "prompt.yaml")
    again = SavedPrompt.load(tmp_path / "prompt.yaml")
    assert again.prompt == prompt
    found = again.open().evaluate(rows, str(tmp_path / "few.csv"), seeds=2)
    calibrated = ["calibrated"] if scoring == "pmi" else []
    assert list(found.figures) == ["mean of 2 orders", *calibrated, "uncalibrated", "always good"]
    assert [one.label for one in found.predictions] == [
        one.label for one in prompt.on(folder).predict([row["text"] for row in rows], EXAMPLES)
    ]
    assert all(one.spread is not None for one in found.predictions)


@pytest.mark.parametrize("scoring", ["channel", "pmi"])
def test_texts_may_have_several_labels(folder, scoring):
    examples = [{"text": "a", "label": "joy;anger"}, {"text": "b", "label": "joy"}, {"text": "c", "label": "anger"}]
    found = Prompt(scoring=scoring).on(folder).predict("x", examples)
    assert found.scores.keys() == {"anger", "joy"}


REFUSED = [
    ({"scoring": "channel", "calibration": "contextual"}, "with --calibration contextual.*none or batch"),
    ({"scoring": "pmi", "calibration": "batch"}, "pmi does not go with --calibration batch: it already divides"),
    ({"scoring": "knn", "calibration": "contextual"}, "knn does not go with --calibration contextual"),
    ({"scoring": "channel", "write": True}, "chooses among labels"),
    ({"scoring": "pmi", "template": "translation"}, "chooses among labels"),
    ({"scoring": "knn", "choice": "nearest"}, "same demonstrations"),
    ({"scoring": "knn", "normalize": True}, "--normalize"),
    ({"scoring": "channel", "normalize": True}, "--normalize"),
    ({"scoring": "knn", "problem_type": "multi_label_classification"}, "one label per text"),
    ({"neighbours": 3}, "--neighbours is for --scoring knn"),
    ({"scoring": "knn", "neighbours": 0}, "--neighbours 0.*1 or more"),
    ({"scoring": "channel", "domain": "It is"}, "--domain is for --scoring pmi"),
    ({"scoring": "magic"}, "scoring='magic' is invalid; it must be one of direct, channel, knn, pmi"),
    ({"scoring": "channel", "template": "{text} {label} {pair}"}, r"\{text\} before \{label\} and another text after"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(HeadwayError, match=message):
        Prompt(**options)


def test_a_template_with_the_label_first_names_the_scoring_that_reads_it(folder):
    with pytest.raises(HeadwayError, match=r"\{text\} after \{label\}.*--scoring channel"):
        Prompt(template="It is {label}: {text}", labels=LABELS).on(folder)


@pytest.mark.parametrize("scoring", ["channel", "knn", "pmi"])
def test_a_masked_language_model_scores_labels_at_its_masks_only(scoring):
    with pytest.raises(HeadwayError, match=rf"--scoring {scoring} needs a GPT-2.*is a BERT, which fills masks"):
        Prompt(scoring=scoring, labels=LABELS).on("mini-bert")


def test_examples_that_knn_cannot_use_are_named(folder):
    knn = Prompt(scoring="knn", shots=4).on(folder)
    with pytest.raises(HeadwayError, match=r"4 examples are given and up to 4 are shown.*--shots 2"):
        knn.predict("x", EXAMPLES[:4])
    with pytest.raises(HeadwayError, match="the examples have several"):
        knn.predict("x", [{"text": f"{i}", "label": ["a;b", "a", "b"][i % 3]} for i in range(9)])
    with pytest.raises(HeadwayError, match="both spelled 'b'"):
        Prompt(scoring="channel", labels=["a", "b"], verbalize={"a": "b"}).on(folder).predict("x")

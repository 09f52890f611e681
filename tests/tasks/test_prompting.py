"""Prompts score as a plain loop over transformers, choose their demonstrations as documented, and report errors."""

import csv
import dataclasses
import json
import random

import numpy as np
import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Prompt
from headway.tasks.base.predictions import Prediction
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction
from headway.tasks.prompting.calibration import CONTENT_FREE
from headway.tasks.prompting.demonstrations import choose_demonstrations, demonstration_orders, mean_vectors
from headway.tasks.prompting.predictions import WrittenAnswer
from headway.tasks.prompting.prepared_prompt import PreparedPrompt
from headway.tasks.prompting.prompt_encoder import PromptEncoder
from headway.tasks.prompting.prompt_runner import LabelProbabilities
from headway.tasks.prompting.templates import BUILT_IN, Template, find_template
from peaked_gpt2 import LABELS, POOL, make_peaked_gpt2

# fmt: off
WORDS = ["the", "quick", "brown", "fox", "don't", "mind", "café", "my", "card", "猫", "London,", "3", "money;",
         "jumps", "over", "naïve", "program!"]
# fmt: on


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
def plain_probabilities(theirs, tokenizer, before, words, normalize=False):
    """Label probabilities from one forward pass per label over the whole prompt, without a cache."""
    whole = [tokenizer.encode(before + word) for word in words]
    inside = min(sum(end <= len(before) for _, end in one.offsets) for one in whole)
    same = (len(set(column)) == 1 for column in zip(*(one.ids[:inside] for one in whole), strict=True))
    start = next((i for i, alike in enumerate(same) if not alike), inside)
    scores = []
    for one in whole:
        found = theirs(torch.tensor([one.ids])).logits[0].log_softmax(-1)
        parts = [float(found[i - 1, one.ids[i]]) for i in range(start, len(one.ids))]
        scores.append(sum(parts) / (len(parts) if normalize else 1))
    likelihoods = np.exp(np.array(scores) - max(scores))
    return likelihoods / likelihoods.sum()


def shown(prepared, text):
    """The whole prompt of a text."""
    (example,) = prepared.reader.texts([text])
    return prepared.preview(example)[0]


def words_of(generator, most):
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, most)))


TEMPLATES = [
    "Text: {text}\nLabel: {label}",
    "Text: {text}\nLabel:\n{label}\n",
    "{text} =>{label}.",
    "Is '{text}' ({label})",
    "{text}, so it is{label}",
    "{text}",
    "a\n\n{text}\n\n  {label}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("seed", range(4))
def test_probabilities_are_those_of_a_plain_loop_over_whole_prompts(folder, theirs, tokenizer, template, seed):
    generator = random.Random(seed)
    words = list(dict.fromkeys(words_of(generator, 3) for _ in range(4)))
    labels = words + ([f"{words[0]} more"] if seed % 2 else [])  # a label that begins as another one
    texts = [words_of(generator, 8) for _ in range(4)]
    examples = [(words_of(generator, 5), generator.choice(labels)) for _ in range(generator.randint(0, 4))]
    description = generator.choice(["", "Say what it is."])
    normalize = seed == 3
    prompt = Prompt(
        labels=labels, template=template, description=description, choice="first", calibration="none",
        normalize=normalize,
    )  # fmt: skip
    found = prompt.on(folder).predict(texts, examples)
    head, _, tail = (template if "{label}" in template else f"{template} {{label}}").partition("{label}")
    shown = [f"{head.replace('{text}', text)}{label}{tail}".rstrip() for text, label in examples]
    for text, prediction in zip(texts, found, strict=True):
        before = "\n\n".join([part for part in (description, *shown) if part] + [head.replace("{text}", text)])
        expected = plain_probabilities(theirs, tokenizer, before, labels, normalize)
        assert list(prediction.scores.values()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("template", TEMPLATES)
def test_tokens_are_those_of_the_whole_prompt_encoded_at_once(template, tokenizer):
    layout = Template.parse(template)
    for seed in range(20):
        generator = random.Random(seed)
        labels = {f"{i}": f"{words_of(generator, 2)} {i}" for i in range(3)}
        blocks = [layout.demonstration(words_of(generator, 4), None, words_of(generator, 2)) for _ in range(3)]
        query = layout.query(generator.choice(["", " x ", words_of(generator, 6)]))
        encoder = PromptEncoder(tokenizer, labels)
        (encoded,) = encoder.queries([query], first=False)
        before = tuple(token for i, block in enumerate(blocks) for token in encoder.block(block, first=not i))
        for label, word in zip(encoded.labels, labels.values(), strict=True):
            whole = "\n\n".join([*blocks, query]) + word
            assert before + encoded.input_ids + label == tuple(tokenizer.encode(whole).ids)


def test_the_space_before_a_label_is_part_of_the_label(tokenizer):
    (query,) = PromptEncoder(tokenizer, {"a": "cat", "b": "dog"}).queries(["the mat: "], first=True)
    assert tokenizer.tokens(query.labels[0])[0].startswith("Ġ")
    assert tokenizer.decode(query.input_ids) == "the mat:"


# -- calibration


def test_contextual_calibration_divides_by_the_mean_over_content_free_texts(folder):
    texts = [text for text, _ in POOL]
    raw = Prompt(labels=LABELS, calibration="none").on(folder)
    plain, free = raw.predict(texts, POOL), raw.predict(list(CONTENT_FREE), POOL)
    prior = np.mean([list(one.scores.values()) for one in free], axis=0)
    for one, found in zip(plain, Prompt(labels=LABELS).on(folder).predict(texts, POOL), strict=True):
        weighed = np.array(list(one.scores.values())) / prior
        assert list(found.scores.values()) == pytest.approx(weighed / weighed.sum(), abs=1e-5)
        assert found.uncalibrated == pytest.approx(one.scores, abs=1e-5)
        assert found.label == LABELS[int(np.argmax(weighed))]
        assert one.uncalibrated is None


def test_batch_calibration_divides_by_the_mean_over_the_unlabelled_texts_or_the_queries(folder):
    texts, others = ["the dog", "my cat", "a mat"], ["London", "the fox", "café", "it"]
    raw = Prompt(labels=LABELS, calibration="none").on(folder)
    plain = np.array([list(one.scores.values()) for one in raw.predict(texts, POOL)])
    elsewhere = np.array([list(one.scores.values()) for one in raw.predict(others, POOL)])
    model = Prompt(labels=LABELS, calibration="batch").on(folder)
    for found, prior in [
        (model.predict(texts, POOL), plain.mean(0)),
        (model.predict(texts, POOL, unlabelled=others), elsewhere.mean(0)),
        (model.predict(texts, POOL, unlabelled=[{"text": text} for text in others]), elsewhere.mean(0)),
    ]:
        weighed = plain / prior
        expected = weighed / weighed.sum(-1, keepdims=True)
        assert np.array([list(one.scores.values()) for one in found]) == pytest.approx(expected, abs=1e-5)


def test_probabilities_are_averaged_over_orders_and_their_spread_is_reported(folder):
    options = {"labels": LABELS, "choice": "first", "calibration": "none"}
    averaged = Prompt(**options, orders=4, seed=3).on(folder).predict("the dog", POOL[:3])
    single = Prompt(**options).on(folder)
    orders = demonstration_orders(3, 4, seed=3)
    runs = [list(single.predict("the dog", [POOL[i] for i in order]).scores.values()) for order in orders]
    assert list(averaged.scores.values()) == pytest.approx(np.mean(runs, axis=0), abs=1e-5)
    best = LABELS.index(averaged.label)
    assert averaged.spread == pytest.approx(np.std(runs, axis=0)[best], abs=1e-5)
    assert single.predict("the dog", POOL).spread is None


# -- demonstrations


@pytest.mark.parametrize("choice", ["first", "random", "balanced"])
@pytest.mark.parametrize("shots", [0, 1, 4, 99])
def test_demonstrations_are_distinct_and_the_same_for_the_same_seed(choice, shots):
    labels = ["a"] * 8 + ["b"] * 2 + ["c"]
    found = choose_demonstrations(labels, shots, choice, seed=5)
    assert len(found) == len(set(found)) == min(shots, 11)
    assert found == choose_demonstrations(labels, shots, choice, seed=5)
    if choice == "first":
        assert found == list(range(min(shots, 11)))
    if choice == "balanced" and shots == 4:
        assert {labels[i] for i in found} == {"a", "b", "c"}
        assert any(choose_demonstrations(labels, shots, choice, seed=seed) != found for seed in range(6, 12))


def test_orders_are_distinct_and_start_with_the_identity():
    for count in range(5):
        found = demonstration_orders(count, 6, seed=1)
        assert found[0] == list(range(count))
        assert len({tuple(order) for order in found}) == len(found) == min(6, [1, 1, 2, 6, 24][count])


def test_the_nearest_demonstrations_have_the_largest_cosine_and_the_nearest_comes_last(folder, theirs, tokenizer):
    texts = ["the quick dog", "where is my money?"]
    pool = [words_of(random.Random(seed), 6) for seed in range(12)]
    model = Prompt(labels=LABELS, choice="nearest", shots=3).on(folder)
    prepared = model.prepare([(text, "good") for text in pool])
    found = prepared.runner.choose(prepared.reader.texts(texts), seed=0)
    for text, rows in zip(texts, found, strict=True):
        with torch.inference_mode():
            read = [theirs.transformer(torch.tensor([tokenizer.encode(one).ids])) for one in [text, *pool]]
        first, *others = (one.last_hidden_state[0].mean(0) for one in read)
        nearness = [float(torch.cosine_similarity(first, other, dim=0)) for other in others]
        assert rows == sorted(np.argsort(nearness)[-3:].tolist(), key=lambda row: nearness[row])


def test_another_model_can_find_the_nearest_demonstrations_and_each_text_has_its_own(folder, bert_folder):
    texts = ["the cat sat on the mat", "please send the money back"]
    pool = [("the dog sat on the cat", "good"), ("send money to my card", "bad"), ("London", "so so")]
    model = Prompt(labels=LABELS, choice="nearest", shots=1, nearest_by=str(bert_folder), calibration="none").on(
        folder
    )
    found = model.predict(texts, pool)
    prepared = model.prepare(pool)
    rows = prepared.runner.choose(prepared.reader.texts(texts), seed=0)
    for text, (row,), prediction in zip(texts, rows, found, strict=True):
        alone = Prompt(labels=LABELS, calibration="none").on(folder).predict(text, [pool[row]])
        assert prediction.scores == pytest.approx(alone.scores, abs=1e-5)


def test_mean_vectors_do_not_depend_on_the_batch_and_long_texts_are_truncated(folder):
    network = Prompt(labels=LABELS).on(folder).network
    tokenizer = Tokenizer.load(folder)
    texts = ["the cat", "", "the dog " * 400, "mat"]
    together = mean_vectors(network.backbone, tokenizer, texts)
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(mean_vectors(network.backbone, tokenizer, [text])[0], vector, rtol=1e-4, atol=1e-5)


def test_demonstrations_that_do_not_fit_are_dropped_from_the_front_with_a_warning(folder, tokenizer):
    model = Prompt(labels=LABELS, choice="first", shots=6, calibration="none").on(folder)
    long = "the cat sat on the mat " * 9
    examples = [(f"{long}{i}", "good") for i in range(6)]
    prepared = model.prepare(examples)
    texts = prepared.reader.texts(["the dog", long * 3])
    opened = prepared.runner.prompts(texts, 0, 2)
    prompts, dropped = [one.text for one in opened], [one.dropped for one in opened]
    for prompt, first, text in zip(prompts, dropped, texts, strict=True):
        assert prompt.endswith(f"Text: {text.text}\nLabel:")
        assert [f"mat {i}\n" in prompt for i in range(6)] == [i >= first for i in range(6)]
        assert len(tokenizer.encode(prompt).ids) + 2 <= 320 < len(tokenizer.encode(f"Text: {long}0\nLabel: good\n\n{prompt}").ids) + 2  # fmt: skip  # noqa: E501
    assert dropped[1] > dropped[0] > 0
    model.predict(["the dog", "a cat"], examples)
    (warning,) = model.warnings
    assert "for 2 of 2 texts" in warning
    assert "did not fit into the 320 tokens" in warning


def test_dropping_demonstrations_equals_prompting_without_them(folder):
    long = "the cat sat on the mat " * 9
    examples = [(f"{long}{i}", LABELS[i % 3]) for i in range(6)]
    prompt = Prompt(labels=LABELS, choice="first", calibration="none")
    model = prompt.on(folder)
    found = model.predict(["the dog", long], examples)
    for text, prediction, first in zip(["the dog", long], found, model.prepared.dropped, strict=True):
        fewer = prompt.on(folder).predict(text, examples[first:])
        assert prediction.scores == pytest.approx(fewer.scores, abs=1e-5)


def test_a_prompt_without_description_may_lose_all_its_demonstrations(folder):
    examples = [("the cat sat on the mat " * 40, "good"), ("the dog " * 200, "bad")]
    prompt = Prompt(labels=LABELS, choice="first")
    found = prompt.on(folder).predict("the dog", examples)
    assert found.scores == pytest.approx(prompt.on(folder).predict("the dog").scores, abs=1e-5)


# -- predictions


def test_predictions_are_those_of_a_classifier_and_convert_to_json(folder):
    model = Prompt(labels=LABELS, orders=2).on(folder)
    one = model.predict("the dog", POOL)
    assert isinstance(one, LabelPrediction)
    assert one.score == max(one.scores.values()) == one.scores[one.label]
    assert sum(one.scores.values()) == pytest.approx(1)
    assert json.loads(json.dumps(one.to_json()))["uncalibrated"].keys() == set(LABELS)
    assert "uncalibrated" in one.brief
    several = Prompt(labels=LABELS, problem_type="multi_label_classification").on(folder).predict(["a", "b"])
    assert all(isinstance(prediction, LabelsPrediction) for prediction in several)
    for prediction in several:
        assert prediction.labels == tuple(label for label in LABELS if prediction.scores[label] >= 0.5)
    assert model.predict([], POOL) == []


def test_multiple_labels_are_inferred_from_the_examples_and_joined_in_the_prompt(folder):
    model = Prompt().on(folder)
    examples = [{"text": "a", "label": "joy;anger"}, {"text": "b", "label": "joy"}, {"text": "c", "label": "anger"}]
    prepared = model.prepare(examples)
    assert prepared.labels == ("anger", "joy")
    assert "Label: joy, anger" in shown(prepared, "x")
    assert isinstance(model.predict("x", examples), LabelsPrediction)


def test_labels_are_spelled_in_other_words_and_predicted_by_name(folder):
    examples = [("a", "0"), ("b", "1"), ("c", "0")]
    model = Prompt(verbalize={"0": "very bad", "1": "good"}).on(folder)
    assert "Label: very bad" in shown(model.prepare(examples), "x")
    found = model.predict("x", examples)
    assert found.scores.keys() == {"0", "1"}
    words = Prompt(labels=["very bad", "good"]).on(folder).predict("x", [("a", "0"), ("b", "1"), ("c", "very bad")])
    assert list(found.scores.values()) == pytest.approx(list(words.scores.values()))


def test_built_in_templates_spell_labels_if_they_know_all_of_them(folder):
    model = Prompt(labels=["0", "1"], template="sentiment").on(folder)
    prepared = model.prepare()
    assert prepared.runner.words == {"0": "negative", "1": "positive"}
    assert "the prompt spells labels: 0 = negative, 1 = positive" in prepared.notes
    stars = Prompt(labels=["0", "1", "2"], template="sentiment").on(folder).prepare()
    assert stars.runner.words == {"0": "0", "1": "1", "2": "2"}
    for name, template in BUILT_IN.items():
        assert find_template(name) is template
        assert Template.parse(template.text).before == template.before
        given = Prompt(template=name) if template.writes else Prompt(template=name, labels=["yes", "no"])
        found = given.on(folder).predict(("the cat", "a dog") if template.paired else "the cat")
        assert isinstance(found, Prediction)


def test_pairs_have_their_own_default_template(folder):
    model = Prompt(labels=["yes", "no"]).on(folder)
    examples = [("the cat sat", "a cat sat", "yes"), ("the dog", "the cat", "no")]
    prompt = shown(model.prepare(examples, paired=True), ("one", "two"))
    assert prompt.endswith("First text: one\nSecond text: two\nLabel:")
    first = model.predict([("the cat", "the dog"), ("the dog", "the cat")], examples)
    assert first[0].scores != first[1].scores
    assert model.predict({"text": "the cat", "pair": "the dog"}, examples).scores == pytest.approx(first[0].scores)


def test_an_answer_is_generated_up_to_the_end_of_the_line(folder, theirs, tokenizer):
    model = Prompt(template="translation", max_new_tokens=12, stop=["\n", "."]).on(folder)
    examples = [("the dog", "le chien"), ("the cat", "le chat")]
    prepared = model.prepare(examples)
    texts = ["my card", "the mat"]
    for text, found in zip(texts, model.predict(texts, examples), strict=True):
        assert isinstance(found, WrittenAnswer)
        prompt = shown(prepared, text)
        assert prompt.endswith(f"English: {text}\nFrench:")
        assert "English: the cat\nFrench: le chat" in prompt
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
        written = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist()
        expected = tokenizer.decode(written)
        cut = min((place for stop in ("\n", ".") if (place := expected.find(stop)) >= 0), default=len(expected))
        assert found.answer == expected[:cut].strip()


def test_a_file_is_predicted_row_by_row(folder, tmp_path, monkeypatch):
    from headway.tasks.data.read import stream_rows
    from headway.tasks.prompting import prepared_prompt

    path = tmp_path / "texts.csv"
    path.write_text("id,text\n" + "".join(f"{i},{text}\n" for i, (text, _) in enumerate(POOL)))
    model = Prompt(labels=LABELS).on(folder)
    together = model.predict([text for text, _ in POOL], POOL)
    monkeypatch.setattr(prepared_prompt, "CHUNK_ROWS", 4)
    stream = stream_rows(path)
    columns = model.reader.columns(stream, {}, need_label=False)
    found = list(model.prepare(POOL).predict_rows(stream, columns))
    assert [row["id"] for row, _ in found] == [str(i) for i in range(len(POOL))]
    for (_, one), other in zip(found, together, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_batch_calibration_never_uses_a_short_last_chunk(folder, monkeypatch):
    from headway.tasks.data.read import stream_rows
    from headway.tasks.prompting import prepared_prompt

    texts = [f"{text} {i}" for i in range(2) for text, _ in POOL][:9]
    model = Prompt(labels=LABELS, calibration="batch").on(folder)
    expected = [*model.predict(texts[:4], POOL), *model.predict(texts[4:], POOL)]
    monkeypatch.setattr(prepared_prompt, "CHUNK_ROWS", 4)
    stream = stream_rows([{"text": text} for text in texts])
    columns = model.reader.columns(stream, {}, need_label=False)
    found = list(model.prepare(POOL).predict_rows(stream, columns))
    assert [row["text"] for row, _ in found] == texts
    for (_, one), other in zip(found, expected, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


# -- evaluation


def write(path, rows):
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    """(test rows, examples), of which four rows are the same."""
    rows = [(f"{words_of(random.Random(i), 3)} number {i}", "good" if i % 3 else "bad") for i in range(40)]
    return write(tmp_path / "test.csv", rows[:24]), write(tmp_path / "train.csv", rows[20:])


def test_an_evaluation_has_intervals_a_baseline_and_a_verdict(folder, files):
    model = Prompt(shots=4, orders=2).on(folder)
    found = model.evaluate(*files, seeds=3)
    rows = list(found.figures)
    assert rows == ["mean of 2 orders", "calibrated", "uncalibrated", "always good"]
    assert any("4 examples are not used: their texts are also in" in note for note in found.notes)
    assert len(found.runs) == 3 * (1 + 2 + 2)
    for row in rows[:3]:
        values = [
            [run["accuracy"] for run in found.runs if (run["answers"], run["seed"]) == (row, s)] for s in (0, 1, 2)
        ]
        means = np.mean(values, axis=1)
        figure = found.figures[row]["accuracy"]
        assert figure.mean == pytest.approx(means.mean())
        half = 4.302652729911275 * means.std(ddof=1) / 3**0.5  # Student's t, two degrees of freedom
        assert figure.high == pytest.approx(min(1, means.mean() + half))
        assert figure.low == pytest.approx(max(0, means.mean() - half))
        assert (figure.worst, figure.best) == (np.min(values), np.max(values))
    commonest = [example.label for example in found.examples].count("good") / len(found.examples)
    assert found.figures["always good"]["accuracy"].mean == pytest.approx(commonest)
    right = np.mean([p.label == e.label for p, e in zip(found.predictions, found.examples, strict=True)])
    assert found.figures["mean of 2 orders"]["accuracy"].worst <= right <= found.figures["mean of 2 orders"]["accuracy"].best  # fmt: skip  # noqa: E501
    assert "no better than always answering good" in found.verdict[0]
    assert "fine-tuning" in found.verdict[1]
    assert json.loads(json.dumps(found.to_json()))["figures"]["calibrated"]["f1"].keys() == {"mean", "low", "high", "worst", "best"}  # fmt: skip  # noqa: E501


def test_dropped_demonstrations_are_counted_once_per_text_over_all_seeds(folder):
    pool = [{"text": f"the quick brown fox {i} " * 12, "label": LABELS[i % 2]} for i in range(12)]
    rows = [{"text": f"the lazy dog {i}", "label": LABELS[i % 2]} for i in range(4)]
    notes = Prompt(shots=6, choice="random").on(folder).evaluate(rows, pool, seeds=3).notes
    assert any(note.startswith("for 4 of 4 texts") for note in notes), notes


def test_evaluated_predictions_are_those_of_predict(folder, files):
    model = Prompt(shots=4, seed=7).on(folder)
    found = model.evaluate(*files, seeds=1)
    examples = [(e.text, e.label) for e in found.examples]
    pool = [one for one in csv_rows(files[1]) if one[0] not in {text for text, _ in examples}]
    predictions = model.predict([text for text, _ in examples], pool)
    assert [one.label for one in found.predictions] == [one.label for one in predictions]
    figure = found.figures["calibrated"]["accuracy"]
    assert (figure.low, figure.high) == (None, None)


def csv_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in list(csv.reader(file))[1:]]


def test_a_prompt_that_knows_the_answers_beats_the_majority_baseline(folder, files, monkeypatch):
    model = Prompt(labels=["good", "bad"], shots=0, calibration="none").on(folder)
    answers = dict(csv_rows(files[0]))

    def label_probabilities(prompt, texts, _):
        right = [[[float(answers[text.text] == label) for label in prompt.labels] for text in texts]]
        return LabelProbabilities(np.array(right), None, [0] * len(texts))

    monkeypatch.setattr(PreparedPrompt, "label_probabilities", label_probabilities)
    found = model.evaluate(files[0])
    assert found.figures["uncalibrated"]["accuracy"].mean == 1
    assert "beats always answering good" in found.verdict[0]
    assert "A single run has no interval" in found.verdict[0]


def test_multiple_labels_and_generated_answers_have_their_own_metrics(folder):
    rows = [{"text": f"a {i}", "label": ["joy", "anger"][: i % 2 + 1]} for i in range(8)]
    found = Prompt(shots=2).on(folder).evaluate(rows[:4], rows[4:], seeds=2)
    assert found.figures["calibrated"].keys() == {"f1", "f1_macro"}
    pairs = [{"text": f"the dog {i}", "label": f"le chien {i % 2}"} for i in range(6)]
    found = (
        Prompt(template="translation", shots=2, max_new_tokens=4).on(folder).evaluate(pairs[:3], pairs[3:], seeds=2)
    )
    assert list(found.figures) == ["written", "always le chien 0", "copy", "nearest"]
    assert found.figures["written"].keys() == {"rougeL", "chrf", "bleu", "exact_match"}
    assert found.figures["always le chien 0"]["exact_match"].mean == pytest.approx(2 / 3)


# -- errors

BAD_PROMPTS = [
    ({"template": "Label: {label}"}, r"no \{text\}.*Add it.*sentiment"),
    ({"template": "sentimant"}, r"no \{text\}.*Did you mean the built-in template 'sentiment'\?"),
    ({"template": "{txt}: {label}"}, r"\{txt\}.*Did you mean \{text\}"),
    ({"template": "{text} {label} {label}"}, "more than once"),
    ({"template": "{label}: text"}, r"no \{text\}"),
    ({"labels": ["good"]}, "at least two"),
    ({"labels": ["good", "good"]}, "at least two different"),
    ({"labels": ["good", " "]}, "one of the labels is empty"),
    ({"verbalize": ["good"]}, "--verbalize good: write LABEL=WORDS"),
    ({"shots": -1}, "--shots -1.*0 or more"),
    ({"orders": 0}, "--orders 0.*1 or more"),
    ({"max_new_tokens": 0}, "--max-new-tokens 0"),
    ({"choice": "best"}, "choice='best' is invalid; it must be one of balanced"),
    ({"calibration": "magic"}, "calibration='magic' is invalid; it must be one of contextual, batch, none"),
    ({"problem_type": "regression"}, "problem_type='regression'"),
    ({"nearest_by": "x"}, "--nearest-by.*--choice nearest"),
    ({"write": True, "labels": ["a", "b"]}, "--labels are for choosing"),
    ({"template": "translation", "orders": 2}, "--orders 2"),
]


@pytest.mark.parametrize(("options", "message"), BAD_PROMPTS, ids=lambda value: str(value)[:40])
def test_an_invalid_option_is_named(options, message):
    with pytest.raises(HeadwayError, match=message):
        Prompt(**options)


def test_a_prompt_is_frozen_and_takes_lists():
    prompt = Prompt(labels=["a", "b"], verbalize={"a": "x"})
    assert prompt == Prompt(labels=("a", "b"), verbalize=("a=x",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompt.shots = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_an_input_that_cannot_be_used_is_named(folder, bert_folder, tmp_path):
    prompt = Prompt(labels=LABELS)
    model, batch = prompt.on(folder), Prompt(labels=LABELS, calibration="batch").on(folder)
    cases = [
        (lambda: prompt.on(bert_folder), "is a BERT without a head for masked tokens"),
        (lambda: Prompt(labels=LABELS, template="{text} {label} {pair}").on(folder), "{pair} after {label}"),
        (lambda: Prompt().on(folder).predict("a"), "--labels are missing"),
        (lambda: model.predict("a", [("b", "great")]), "'great' is not one of the 3"),
        (lambda: model.predict("a", [("b", "good"), ("c",)]), "example 2"),
        (lambda: model.predict("a", ["b"]), "dict"),
        (lambda: model.predict(["a", 3]), "input 2.*single texts"),
        (lambda: Prompt(labels=LABELS, template="{text} {pair} {label}").on(folder).predict("a"), "input 1.*pairs"),
        (lambda: Prompt(labels=LABELS, verbalize={"god": "x"}).on(folder).predict("a"), "no label 'god'.*good"),
        (lambda: Prompt(labels=["a", "b"], verbalize={"a": "b"}).on(folder).predict("x"), "both spelled 'b'"),
        (lambda: model.predict("the dog " * 500), "the given texts, row 1.*tokens.*320 at most"),
        (
            lambda: Prompt(write=True, max_new_tokens=319).on(folder).predict("the dog"),
            "including room for the answer",
        ),
        (lambda: model.predict("a", unlabelled=["b"]), "--calibration batch"),
        (lambda: batch.predict("a"), "--calibration batch.*single text.*--unlabelled"),
        (lambda: batch.predict(["a", "a"]), "--calibration batch.*single text.*--unlabelled"),
        (lambda: Prompt().on(folder).predict("a", [("b", "1.5"), ("c", "2.25")]), "labels are numbers"),
        (lambda: model.evaluate([{"text": "a", "label": "good"}], seeds=0), "--seeds 0"),
        (lambda: model.evaluate([{"text": "a", "label": "good"}], [("a", "good")]), "All examples are among"),
    ]
    for call, message in cases:
        with pytest.raises(HeadwayError, match=message):
            call()
    empty = tmp_path / "empty.csv"
    for content in ("", "text,label\n"):
        empty.write_text(content)
        with pytest.raises(HeadwayError, match=r"empty\.csv"):
            model.predict("a", empty)


def test_an_empty_list_of_examples_equals_no_examples(folder):
    model = Prompt(labels=LABELS).on(folder)
    assert model.predict("a", []) == model.predict("a")
    zero = Prompt(labels=LABELS, shots=0).on(folder)
    assert zero.predict("a", POOL).scores == pytest.approx(model.predict("a").scores)


def test_braces_and_spaces_in_a_text_are_kept(folder):
    model = Prompt(labels=LABELS).on(folder)
    assert shown(model.prepare(), "{label} {text}  \n") == "Text: {label} {text}  \n\nLabel:"

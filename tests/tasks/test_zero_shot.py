"""Zero-shot classification by entailment: the scores of transformers' pipeline, in every form of labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from data_files import assert_error
from headway.tasks import TextClassification, ZeroShotClassification, compare, load
from headway.tasks.base.sharing import with_options

TEXTS = [
    "my parcel has not arrived yet; where is it?",
    "the cat sat on the mat",
    "Ada Lovelace lived in London, and wrote the first program.",
    "the dog",
]
LABELS = ("the cat", "London", "a parcel")
# Names and order of the labels of published models.
FORMS = {
    "mnli": ("entailment", "neutral", "contradiction"),
    "reversed": ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
    "two": ("not_entailment", "entailment"),
    "two-reversed": ("ENTAILMENT", "NOT ENTAILMENT"),
}


def nli(folder: Path, backbone: Path, labels: tuple[str, ...] | None, kind: str = "Bert") -> Path:
    """A published classifier of pairs with random weights; without labels, transformers names them LABEL_0, ..."""
    torch.manual_seed(3)
    names = (
        {}
        if labels is None
        else {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    )
    count = {"num_labels": 3} if labels is None else {}
    built = getattr(transformers, f"{kind}ForSequenceClassification").from_pretrained(backbone, **names, **count)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    built.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mnli(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nli(tmp_path_factory.mktemp("nli") / "mnli", bert_folder, FORMS["mnli"])


def published_scores(folder: Path, texts: list[str], labels: tuple[str, ...], **options) -> torch.Tensor:
    """What transformers' pipeline computes, (E, L) in the order of the labels."""
    pipeline: Any = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    found = [dict(zip(one["labels"], one["scores"], strict=True)) for one in pipeline(texts, list(labels), **options)]
    return torch.tensor([[one[label] for label in labels] for one in found])


def our_scores(predictions, labels: tuple[str, ...]) -> torch.Tensor:
    return torch.tensor([[one.scores[label] for label in labels] for one in predictions])


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_scores_are_those_of_transformers(bert_folder, tmp_path, form, several):
    folder = nli(tmp_path / "nli", bert_folder, FORMS[form])
    template = "This is about {}."
    expected = published_scores(folder, TEXTS, LABELS, multi_label=several, hypothesis_template=template)
    kind = {"problem_type": "multi_label_classification"} if several else {}
    model = load(folder, labels=LABELS, hypothesis=template, **kind)
    predictions = model.predict(TEXTS)
    found = our_scores(predictions, LABELS)
    assert expected.std(0).min() > 1e-3  # the texts differ
    assert (found - expected).abs().max() < 1e-4
    if several:
        assert [one.labels for one in predictions] == [
            tuple(label for label, score in zip(LABELS, row, strict=True) if score >= 0.5) for row in expected.tolist()
        ]
    else:
        assert [one.label for one in predictions] == [LABELS[i] for i in expected.argmax(1)]


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra"])
def test_relatives_of_bert_give_the_scores_of_transformers(request, tmp_path, kind):
    published = {"roberta": "Roberta", "distilbert": "DistilBert", "electra": "Electra"}[kind]
    folder = nli(tmp_path / "nli", request.getfixturevalue(f"{kind}_folder"), FORMS["mnli"], published)
    expected = published_scores(folder, TEXTS, LABELS, hypothesis_template="This text is about {}.")
    assert expected.std(0).min() > 1e-3
    assert (our_scores(load(folder, labels=LABELS).predict(TEXTS), LABELS) - expected).abs().max() < 1e-4


def test_one_label_of_which_texts_have_none_or_it_gives_the_score_of_transformers(mnli):
    several = {"problem_type": "multi_label_classification"}
    expected = published_scores(mnli, TEXTS, ("London",), hypothesis_template="This text is about {}.")
    assert expected.std() > 1e-3
    found = load(mnli, labels="London", **several).predict(TEXTS)
    assert (our_scores(found, ("London",)) - expected).abs().max() < 1e-4
    raised = load(mnli, labels="London", threshold=float(expected[0, 0]) - 1e-3, **several)
    assert raised.predict(TEXTS[0]).labels == ("London",)
    assert_error(lambda: load(mnli, labels=["London"]), "exactly one of one label", "--multi-label")


def test_labels_without_names_are_named_by_the_user(bert_folder, tmp_path):
    folder = nli(tmp_path / "nli", bert_folder, None)
    model = load(folder, labels=LABELS, entailment="LABEL_2")
    names = nli(tmp_path / "named", bert_folder, FORMS["reversed"])
    assert model.predict(TEXTS[0]).scores == load(names, labels=LABELS).predict(TEXTS[0]).scores
    several = {"problem_type": "multi_label_classification", "entailment": "label_2"}
    found = load(folder, labels=LABELS, contradiction="LABEL_0", **several).predict(TEXTS[0])
    expected = load(names, labels=LABELS, problem_type="multi_label_classification").predict(TEXTS[0])
    assert found.scores == expected.scores
    assert_error(lambda: load(folder, labels=LABELS), "LABEL_0, LABEL_1, LABEL_2", "--entailment")
    assert_error(lambda: load(folder, labels=LABELS, **several), "--contradiction")
    assert_error(lambda: load(folder, labels=LABELS, entailment="yes"), "has no such label", "LABEL_1")
    same = {**several, "contradiction": "LABEL_2"}
    assert_error(lambda: load(folder, labels=LABELS, **same), "means entailment")


def test_the_words_of_the_hypothesis_are_not_the_names_of_the_labels(mnli):
    words = {"0": "the cat", "1": "London", "2": "a parcel"}
    found = load(mnli, labels=list(words), verbalize=words).predict(TEXTS)
    expected = load(mnli, labels=LABELS).predict(TEXTS)
    assert [one.label for one in found] == [str(LABELS.index(one.label)) for one in expected]
    assert (our_scores(found, tuple(words)) == our_scores(expected, LABELS)).all()


def test_a_batch_gives_the_scores_of_one_text_at_a_time(mnli):
    model = load(mnli, labels=LABELS)
    texts = [text * (1 + i % 3) for i, text in enumerate(TEXTS * 5)]
    together = our_scores(model.predict(texts), LABELS)
    alone = our_scores([model.predict(text) for text in texts], LABELS)
    assert alone.std() > 1e-3
    assert (together - alone).abs().max() < 1e-5


def test_a_long_text_is_read_to_its_end_in_windows_that_have_the_whole_hypothesis(mnli):
    model = load(mnli, labels=LABELS)
    limit = model.limit
    ends = [f"{'the cat sat on the mat ' * limit} {end}" for end in ("London", "the dog")]
    first, second = model.predict(ends)
    assert first.scores != second.scores
    assert not first.truncated
    windows, task = model.windows(ends)[0], model.task
    assert isinstance(task, ZeroShotClassification)
    hypotheses = [model.tokenizer.encode_ids([one])[0] for one in task.hypotheses]
    assert len(windows) > 2 * len(LABELS)
    for one in windows:
        hypothesis = hypotheses[one.text_index]
        assert one.input_ids[-1 - len(hypothesis) : -1] == hypothesis
        assert len(one.input_ids) <= limit
    cut = load(mnli, labels=LABELS, long_texts="cut").predict(ends)
    assert all(one.truncated for one in cut)
    assert cut[0].scores == cut[1].scores
    wordy = f"{'of the cat ' * limit} {{label}}"
    assert_error(
        lambda: load(mnli, labels=LABELS, hypothesis=wordy).predict("a"), "leaves no room for texts", "Shorten it"
    )


@pytest.mark.parametrize("several", [False, True])
def test_labelled_rows_are_scored_and_labels_without_a_hypothesis_are_wrong(mnli, several):
    kind = f"{'multi' if several else 'single'}_label_classification"
    model = load(mnli, labels=LABELS, problem_type=kind)
    predicted = model.predict(TEXTS)
    gold = [tuple(one.labels) or LABELS[:1] if several else one.label for one in predicted]
    gold[1] = ("the dog",) if several else "the dog"
    found = model.evaluate([{"text": text, "label": label} for text, label in zip(TEXTS, gold, strict=True)])
    wider = load(mnli, labels=(*LABELS, "the dog"), problem_type=kind)
    assert wider.predict(TEXTS[0]).scores != predicted[0].scores  # so that a hypothesis too many would show
    assert {frozenset(one.scores) for one in found.predictions} == {frozenset(LABELS)}
    assert [one.scores for one in found.predictions if one in predicted]
    if not several:
        assert found.metrics["accuracy"] == 0.75
    assert "'the dog' 1" in " ".join(found.notes)


def test_it_is_compared_with_a_trained_classifier(mnli, bert_folder, tmp_path):
    rows = [{"text": text, "label": LABELS[i % 3]} for i, text in enumerate(TEXTS * 4)]
    TextClassification().on(bert_folder).fit(
        rows, output=tmp_path / "trained", eval_fraction=0, max_steps=2, precision="fp32", device="cpu", progress=False
    )
    found = compare(load(mnli, labels=LABELS), tmp_path / "trained", data=rows)
    right = [
        one.label == row["label"] for one, row in zip(load(mnli, labels=LABELS).predict(TEXTS * 4), rows, strict=True)
    ]
    assert found.num_rows == len(rows)
    assert found.models[0].metrics["accuracy"].value == pytest.approx(sum(right) / len(rows))


def test_other_models_are_refused_and_nothing_is_trained_or_saved(mnli, bert_folder, tmp_path):
    rows = [{"text": text, "label": LABELS[i % 3]} for i, text in enumerate(TEXTS * 4)]
    trained = TextClassification().on(bert_folder)
    trained.fit(
        rows, output=tmp_path / "t", eval_fraction=0, max_steps=1, precision="fp32", device="cpu", progress=False
    )
    assert_error(lambda: load(tmp_path / "t", labels=LABELS), "reads single texts", "natural language inference")
    assert_error(lambda: load(mnli, hypothesis="A {label}."), "add --labels")
    assert_error(lambda: load(mnli, labels=LABELS, hypothesis="A label."), "has no {label}")
    assert_error(lambda: load(mnli, labels=["a", "a"]), "different")
    assert_error(lambda: load(mnli, labels=["a", ""]), "none empty")
    model = load(mnli, labels=LABELS)
    assert isinstance(model.task, ZeroShotClassification)
    assert_error(lambda: model.save(tmp_path / "saved"), "nothing to save")
    assert not (tmp_path / "saved").exists()
    assert_error(lambda: model.fit(rows, progress=False), "trains nothing")


def test_a_model_with_other_labels_shares_the_weights(mnli):
    model = load(mnli, labels=LABELS)
    other = with_options(model, {"labels": LABELS[:2]})
    assert other.network is model.network
    assert (model.labels, other.labels) == (LABELS, LABELS[:2])
    assert other.predict(TEXTS[0]).scores == load(mnli, labels=LABELS[:2]).predict(TEXTS[0]).scores


def test_a_classifier_trained_here_on_pairs_answers_with_labels(bert_folder, tmp_path):
    subjects = {"cat": ("the cat sat", "a cat on the mat"), "dog": ("the dog sat", "a dog in London")}
    pairs = [
        {"text": text, "pair": f"This text is about {label}.", "label": "not_" * (label != right) + "entailment"}
        for right, texts in subjects.items()
        for text in texts
        for label in subjects
    ]
    options = {"max_steps": 150, "learning_rate": 5e-3, "precision": "fp32", "device": "cpu", "progress": False}
    TextClassification().on(bert_folder).fit(pairs * 4, output=tmp_path / "nli", eval_fraction=0, **options)
    rows = [{"text": text, "label": label} for label, texts in subjects.items() for text in texts]
    model = load(tmp_path / "nli", labels=list(subjects))
    assert isinstance(model.task, ZeroShotClassification)
    assert model.task.model_labels == ("entailment", "not_entailment")
    assert model.evaluate(rows).metrics["accuracy"] == 1
    several = load(tmp_path / "nli", labels=list(subjects), problem_type="multi_label_classification")
    assert [one.labels for one in several.predict([row["text"] for row in rows])] == [(row["label"],) for row in rows]

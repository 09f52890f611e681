"""Cross-encoders: their scores in every form in which they are published, and ranking by them."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from data_files import assert_error
from headway.tasks import SentenceSimilarity, TextClassification, load, rank
from headway.tasks.classification.cross_encoder import logit
from headway.tasks.embedding.published_pooling import PublishedPooling

PAIRS = [
    ("where is my parcel", "the parcel has arrived"),
    ("who sat?", "the cat sat on the mat"),
    ("a cat", "the dog"),
]
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
# How versions of sentence-transformers name the function that makes a score of an output.
FORMS = {
    "4 and 5": lambda path: ({"sentence_transformers": {"activation_fn": path, "version": "5.0.0"}}, {}),
    "before 4": lambda path: ({"sbert_ce_default_activation_function": path}, {}),
    "6": lambda path: ({}, {"model_type": "CrossEncoder", "activation_fn": path}),
}
TRAINING = {"eval_fraction": 0, "max_steps": 3, "precision": "fp32", "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def plain(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published classifier with one output."""
    folder = tmp_path_factory.mktemp("plain")
    torch.manual_seed(1)
    model = transformers.BertForSequenceClassification.from_pretrained(bert_folder, num_labels=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    return folder


def cross_encoder(plain: Path, folder: Path, form: str, path: str) -> Path:
    """A copy of the classifier as a cross-encoder's folder."""
    in_config, of_library = FORMS[form](path)
    folder.mkdir()
    for file in plain.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **in_config}))
    if of_library:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(of_library))
        (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer"}]))
    return folder


def outputs(folder: Path) -> torch.Tensor:
    """What transformers computes for the pairs, (E,)."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(*pair, return_tensors="pt")).logits[:, 0] for pair in PAIRS])


def numbered_pairs(*numbers: float) -> list[dict]:
    """Pairs with these numbers as labels."""
    return [{"text": a, "pair": b, "label": number} for (a, b), number in zip(PAIRS, numbers, strict=False)] * 4


@pytest.mark.parametrize("path", [IDENTITY, SIGMOID])
@pytest.mark.parametrize("form", FORMS)
def test_a_cross_encoder_gives_its_published_scores(plain, tmp_path, form, path):
    folder = cross_encoder(plain, tmp_path / "model", form, path)
    expected = outputs(folder).sigmoid() if path == SIGMOID else outputs(folder)
    assert expected.std() > 0.01
    model = load(folder)
    assert [field.required for field in model.task.fields] == [True, True]
    found = model.predict(PAIRS)
    assert [one.value for one in found] == pytest.approx(expected.tolist(), abs=1e-5)
    raw = [model.task.relevance(one.to_json(), raw=True) for one in found]
    assert raw == pytest.approx(outputs(folder).tolist(), abs=1e-4)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.predict(PAIRS) == found
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"] == path


def test_sentence_transformers_gives_the_same_scores_and_order(plain, tmp_path):
    from sentence_transformers import CrossEncoder

    theirs = CrossEncoder(str(plain), device="cpu")  # the sigmoid is its default
    theirs.save_pretrained(str(tmp_path / "theirs"))
    model = load(tmp_path / "theirs")
    assert [one.value for one in model.predict(PAIRS)] == pytest.approx(theirs.predict(PAIRS).tolist(), abs=1e-5)
    texts = ["the cat sat", "my parcel", "the quick brown fox", "London"]
    expected = theirs.rank("where is my parcel", texts)
    found = rank(model, "where is my parcel", texts)
    assert [hit.position for hit in found] == [one["corpus_id"] for one in expected]
    assert [hit.score for hit in found] == pytest.approx([one["score"] for one in expected], abs=1e-5)
    model.save(tmp_path / "ours")
    again = CrossEncoder(str(tmp_path / "ours"), device="cpu")
    assert again.predict(PAIRS).tolist() == pytest.approx(theirs.predict(PAIRS).tolist(), abs=1e-5)


def test_a_trained_model_for_pairs_with_numbers_is_a_cross_encoder(bert_folder, tmp_path):
    from sentence_transformers import CrossEncoder

    rows = [
        {"text": a, "pair": b, "label": score} for (a, b), score in zip(PAIRS[:2] * 4, [0.5, 3.25] * 4, strict=True)
    ]
    model = TextClassification().on(bert_folder)
    model.fit(rows, output=tmp_path / "model", **TRAINING)
    found = [one.value for one in model.predict(PAIRS)]
    theirs = CrossEncoder(str(tmp_path / "model"), device="cpu")
    assert theirs.predict(PAIRS).tolist() == pytest.approx(found, abs=1e-5)
    hits = rank(model, "where is my parcel", [{"id": i, "body": text} for i, (_, text) in enumerate(PAIRS)], top=2)
    values = [one.value for one in model.predict([("where is my parcel", text) for _, text in PAIRS])]
    order = sorted(range(3), key=lambda i: -values[i])[:2]
    assert [hit.position for hit in hits] == order
    assert [hit.row["id"] for hit in hits] == order


def test_numbers_learned_by_a_cross_encoder_with_a_sigmoid_are_on_their_own_scale(plain, tmp_path):
    folder = cross_encoder(plain, tmp_path / "model", "before 4", SIGMOID)
    rows = [
        {"text": a, "pair": b, "label": score} for (a, b), score in zip(PAIRS[:2] * 4, [50, 325.5] * 4, strict=True)
    ]
    model = TextClassification().on(folder)
    model.fit(rows, output=tmp_path / "trained", **TRAINING)
    trained = load(tmp_path / "trained")
    assert not trained.task.sigmoid
    assert trained.predict(PAIRS[0]).value > 1
    config = json.loads((tmp_path / "trained/config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"] == IDENTITY


def test_another_function_is_refused_by_name(plain, tmp_path):
    folder = cross_encoder(plain, tmp_path / "model", "4 and 5", "torch.nn.modules.activation.Tanh")
    assert_error(lambda: load(folder), "torch.nn.modules.activation.Tanh", "Identity and Sigmoid")


def test_a_plain_number_keeps_its_scale_and_may_be_of_one_text(plain):
    model = load(plain)
    assert [one.value for one in model.predict(PAIRS)] == pytest.approx(outputs(plain).tolist(), abs=1e-5)
    assert model.predict("one text").value is not None
    assert "sentence_transformers" not in model.task.published["fields"]
    assert len(rank(model, "where", ["the parcel", "the cat"])) == 2


def test_a_model_that_gives_no_score_of_pairs_does_not_rank(bert_folder, tmp_path):
    rows = [{"text": text, "label": label} for text, label in zip("abcdabcd", "xyxyxyxy", strict=True)]
    model = TextClassification().on(bert_folder)
    model.fit(rows, **TRAINING)
    assert_error(lambda: rank(model, "a", ["b"]), "text-classification without a score for a pair", "cross-encoder")


def test_texts_are_ranked_by_similarity_as_well(bert_folder):
    model = SentenceSimilarity().on(bert_folder)
    model.fit([{"text": a, "pair": b} for a, b in PAIRS[:2]] * 4, **TRAINING)
    found = rank(model, "the cat", ["London", "the cat", "a dog"])
    assert found[0].position == 1
    assert found[0].score == pytest.approx(1, abs=1e-5)


def test_a_cross_encoder_has_no_pooling(plain, tmp_path):
    assert PublishedPooling.read(cross_encoder(plain, tmp_path / "model", "6", SIGMOID)) is None


def test_the_logit_of_a_score_is_finite():
    assert logit(torch.tensor(3.0).double().sigmoid().item()) == pytest.approx(3)
    assert -1000 < logit(0.0) < logit(1.0) < 1000

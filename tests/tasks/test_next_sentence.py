"""Next-sentence prediction: the published head predicts, is trained further, and is where training starts."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from data_files import assert_error
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import BertConfig
from headway.core.models.heads import Network, new_backbone
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import FillMask, NextSentencePrediction, load, rank

PAIRS = [("where is my parcel", "the parcel has arrived"), ("who sat?", "the cat sat on the mat")]
ROWS = [{"sentence1": a, "sentence2": b, "label": label} for a, b in PAIRS for label in (0, 1)]
TRAINING = {"eval_fraction": 0, "max_steps": 1, "precision": "fp32", "device": "cpu", "progress": False}


@pytest.fixture(scope="module", params=["Bert", "Ernie"])
def published(request, bert_folder: Path, wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder with the head."""
    folder = tmp_path_factory.mktemp("published")
    config = transformers.AutoConfig.from_pretrained(bert_folder).to_dict()
    config = {name: value for name, value in config.items() if name not in ("model_type", "architectures")}
    torch.manual_seed(0)
    kind = getattr(transformers, f"{request.param}Config")
    model = getattr(transformers, f"{request.param}ForNextSentencePrediction")(kind(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(wordpiece_folder).save_pretrained(folder)
    return folder


def expected(folder: Path) -> list[float]:
    """The probabilities that transformers gives the second texts to follow."""
    model = transformers.AutoModelForNextSentencePrediction.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [model(**tokenizer(*pair, return_tensors="pt")).logits.softmax(-1)[0, 0].item() for pair in PAIRS]


def test_a_published_head_predicts_and_is_saved_as_it_is(published, tmp_path):
    model = load(published)
    assert isinstance(model.task, NextSentencePrediction)
    found = model.predict(PAIRS)
    assert [one.scores["is next"] for one in found] == pytest.approx(expected(published), abs=1e-5)
    assert abs(found[0].scores["is next"] - found[1].scores["is next"]) > 1e-3
    model.save(tmp_path / "again")
    assert load(tmp_path / "again").predict(PAIRS) == found
    assert expected(tmp_path / "again") == pytest.approx(expected(published), abs=1e-6)
    assert "id2label" not in json.loads((tmp_path / "again/config.json").read_text())


def test_the_published_head_is_trained_further(published, tmp_path):
    model = NextSentencePrediction().on(published)
    trained = model.fit(ROWS, output=tmp_path / "model", learning_rate=1e-9, **TRAINING)
    assert trained is not None
    assert expected(tmp_path / "model") == pytest.approx(expected(published), abs=1e-3)


def test_training_starts_from_the_head_of_the_pretraining(bert_folder, tmp_path):
    rows = [{"text": text} for pair in PAIRS for text in pair] * 3
    FillMask(next_sentence=True).on(bert_folder).fit(rows, output=tmp_path / "pretrained", **TRAINING)
    before = load(tmp_path / "pretrained").network.head.next_sentence.weight.detach().clone()
    model = NextSentencePrediction().on(tmp_path / "pretrained")
    model.fit(ROWS, learning_rate=1e-9, **TRAINING)
    torch.testing.assert_close(model.network.head.classifier.weight.detach(), before, atol=1e-6, rtol=0)


def test_labels_are_numbers_of_bert_or_names(bert_folder):
    for first, second in ((0, 1), ("is next", "is not next"), ("Is Next", "IS NOT NEXT"), ("0", "1")):
        model = NextSentencePrediction().on(bert_folder)
        data = [{"sentence1": "a", "sentence2": str(i), "label": second if i % 2 else first} for i in range(4)]
        assert model.fit(data, **TRAINING)
        evaluated = model.evaluate(data)
        assert [example.label for example in evaluated.examples] == ["is next", "is not next"] * 2
    rows = [{"sentence1": "a", "sentence2": "b", "label": label} for label in ("yes", "no")]
    model = NextSentencePrediction().on(bert_folder)
    assert_error(lambda: model.fit(rows, **TRAINING), "'no'", '"is next" and "is not next"', "0 and 1")


def test_texts_are_ranked_by_the_probability_that_they_follow(published):
    model = load(published)
    texts = [pair[1] for pair in PAIRS]
    found = rank(model, PAIRS[0][0], texts)
    scores = [one.scores["is next"] for one in model.predict([(PAIRS[0][0], text) for text in texts])]
    assert [hit.score for hit in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)


def test_a_family_without_the_head_is_refused_before_training(wordpiece_folder, tmp_path):
    tokenizer = Tokenizer.load(wordpiece_folder)
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}
    config = BertConfig(family="distilbert", num_segments=0, vocab_size=tokenizer.vocab_size, **sizes)
    save_checkpoint(tmp_path, Network(new_backbone(config)))
    tokenizer.save(tmp_path)
    model = NextSentencePrediction().on(tmp_path)
    assert_error(lambda: model.fit(ROWS, **TRAINING), "next-sentence-prediction: a DistilBERT has no such head")

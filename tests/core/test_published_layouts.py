"""Folders laid out as well-known models are published open with the outputs and token ids of transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.errors import HeadwayError
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer

BERT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": 40}
# Name -> class, fields that config.json lacks, files of the vocabulary, tokenizer_config.json, prefix of the tensors.
LAYOUTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any] | None, str]] = {
    "BioBERT": ("BertModel", (), ("vocab.txt",), None, ""),
    "SciBERT": ("BertForMaskedLM", ("model_type", "architectures"), ("vocab.txt",), None, "bert."),
    "ClinicalBERT": ("BertForMaskedLM", ("model_type",), ("vocab.txt",), None, "bert."),
    "multilingual BERT": ("BertForMaskedLM", (), ("vocab.txt", "tokenizer.json"), {"do_lower_case": True}, "bert."),
    "DistilGPT-2": ("GPT2LMHeadModel", (), ("vocab.json", "merges.txt", "tokenizer.json"), None, "transformer."),
    "DialoGPT": ("GPT2LMHeadModel", (), ("vocab.json", "merges.txt"), {"model_max_length": 1024}, "transformer."),
}


@pytest.fixture(params=LAYOUTS)
def published(request: pytest.FixtureRequest, tmp_path: Path, wordpiece_folder: Path, byte_level_folder: Path):
    """A folder in the layout of a model, and transformers' own model."""
    name, absent, files, tokenizer_config, _ = LAYOUTS[request.param]
    bert = name.startswith("Bert")
    source = json.loads(((wordpiece_folder if bert else byte_level_folder) / "tokenizer.json").read_text())
    vocabulary = source["model"]["vocab"]
    torch.manual_seed(0)
    sizes = BERT if bert else GPT2
    kind = transformers.BertConfig if bert else transformers.GPT2Config
    config = kind(vocab_size=len(vocabulary), architectures=[name], **sizes)
    model = getattr(transformers, name)(config).eval()
    fields = {key: value for key, value in config.to_dict().items() if key not in absent}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    tensors = dict(model.state_dict())
    if not bert:  # buffers of old versions
        tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 40, 40)
        tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    if "vocab.txt" in files:
        (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    if "tokenizer.json" in files:
        (tmp_path / "tokenizer.json").write_text(json.dumps(source))
    if "merges.txt" in files:
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
        lines = "\n".join(" ".join(pair) for pair in source["model"]["merges"])
        (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", encoding="utf-8")
    if tokenizer_config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return tmp_path, model, bert


def test_a_published_layout_opens(published):
    folder, theirs, bert = published
    tokenizer = Tokenizer.load(folder)
    kind = transformers.BertTokenizer if bert else transformers.GPT2Tokenizer
    text = "The cat sat on the mat, naïve café!"
    ids = tokenizer.join(tokenizer.encode(text).ids)[0]
    assert ids == kind.from_pretrained(folder)(text)["input_ids"]
    backbone = load_checkpoint(folder, head=None).network.backbone
    with torch.no_grad():
        expected = theirs.base_model(torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(backbone(PackedBatch.pack([ids])), expected, rtol=1e-5, atol=1e-5)


def test_a_roberta_that_does_not_say_so_is_not_read_as_a_bert(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "gelu", "type_vocab_size": 1, **BERT}))
    with pytest.raises(HeadwayError, match="has no model_type"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "published", ["BertForMaskedLM", "BertForPreTraining", "BertForQuestionAnswering", "BertModel"]
)
def test_a_class_that_config_json_does_not_name_is_that_of_the_weights(published: str, tmp_path: Path):
    model = getattr(transformers, published)(transformers.BertConfig(vocab_size=50, **BERT))
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "architectures": None}))
    assert load_checkpoint(tmp_path).architecture == published


def test_a_classifier_whose_class_is_not_named_has_no_head(tmp_path: Path):
    """Its tensors could be those of a classifier of texts, of tokens or of choices."""
    transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, **BERT)).save_pretrained(
        tmp_path
    )
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "architectures": None}))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.architecture == "BertModel"
    assert checkpoint.unused == ("classifier.bias", "classifier.weight")


def test_the_discriminator_of_an_electra_is_its_backbone(tmp_path: Path):
    config = transformers.ElectraConfig(vocab_size=50, embedding_size=16, **BERT)
    theirs = transformers.ElectraForPreTraining(config).eval()
    theirs.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert (checkpoint.architecture, checkpoint.network.head) == ("ElectraModel", None)
    assert all(name.startswith("discriminator_predictions.") for name in checkpoint.unused)
    with torch.no_grad():
        expected = theirs.electra(torch.tensor([[2, 5, 6, 3]])).last_hidden_state[0]
        torch.testing.assert_close(
            checkpoint.network(PackedBatch.pack([[2, 5, 6, 3]])), expected, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("named_in", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("name", ["DistilBertTokenizer", "ElectraTokenizerFast", "BertJapaneseTokenizer"])
def test_a_vocabulary_is_read_only_as_the_class_that_its_folder_names(
    named_in: str, name: str, wordpiece_folder: Path, tmp_path: Path
):
    expected = Tokenizer.load(wordpiece_folder)
    (tmp_path / "vocab.txt").write_text("\n".join(expected.vocabulary) + "\n", encoding="utf-8")
    (tmp_path / named_in).write_text(json.dumps({"tokenizer_class": name}))
    if name == "BertJapaneseTokenizer":  # it divides a text into words by a dictionary
        with pytest.raises(HeadwayError, match="the class of the tokenizer is BertJapaneseTokenizer"):
            Tokenizer.load(tmp_path)
    else:
        text = "The cat sat on the mat, naïve café!"
        assert Tokenizer.load(tmp_path).encode(text).ids == expected.encode(text).ids


@pytest.mark.parametrize("name", [None, "RobertaTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"])
def test_a_roberta_without_tokenizer_json_has_its_special_tokens(
    name: str | None, roberta_tokenizer_folder: Path, tmp_path: Path
):
    expected = Tokenizer.load(roberta_tokenizer_folder)
    source = json.loads((roberta_tokenizer_folder / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(source["vocab"]))
    lines = "\n".join(" ".join(pair) for pair in source["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    found, text = Tokenizer.load(tmp_path), "The cat sat on the mat, naïve café!"
    assert found.join(found.encode(text).ids)[0] == expected.join(expected.encode(text).ids)[0]


def test_two_labels_of_the_same_name_are_refused(tmp_path: Path):
    labels = {0: "good", 1: "bad", 2: "good"}
    config = transformers.BertConfig(vocab_size=50, id2label=labels, **BERT)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(HeadwayError, match="id2label gives 2 outputs the name 'good'"):
        load_checkpoint(tmp_path)

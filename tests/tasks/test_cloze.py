"""Cloze prompts score labels as a plain loop over transformers' masked language models, for every family."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.errors import HeadwayError
from headway.core.models.heads import Network, language_model_head, new_backbone, reads_segments
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Prompt
from headway.tasks.prompting.calibration import CONTENT_FREE
from torch import Tensor, nn

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 128}
TOKENIZERS = {
    "bert": "wordpiece_folder",
    "distilbert": "wordpiece_folder",
    "electra": "wordpiece_folder",
    "roberta": "roberta_tokenizer_folder",
    "camembert": "unigram_tokenizer_folder",
    "xlm-roberta": "unigram_tokenizer_folder",
    "albert": "unigram_tokenizer_folder",
}
CHANGES = {
    "roberta": {"num_segments": 1},
    "camembert": {"num_segments": 1},
    "xlm-roberta": {"num_segments": 1},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
}
TEXTS = ["the quick brown fox", "my parcel has not arrived yet", "naïve café owners don't mind"]
EXAMPLES = [("thank you for the money", "cat"), ("where is it?", "dog")]
TEMPLATE = "{text} It was {label}, I mind."
LABELS = {"one token": ["cat", "dog", "mat"], "several tokens": ["cat", "dog sat", "weather program dog"]}


def make_folder(kind: str, tokenizer_folder: Path, folder: Path) -> Path:
    """A tiny masked language model with peaked distributions."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    sizes = SIZES | CHANGES.get(kind, {})
    torch.manual_seed(0)
    backbone = new_backbone(replace(FAMILIES[kind].config, vocab_size=tokenizer.vocab_size, **sizes))
    network = Network(backbone, language_model_head(backbone))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_checkpoint(folder, network)
    tokenizer.save(folder, segments=reads_segments(backbone.config))
    return folder


@pytest.fixture(scope="module", params=TOKENIZERS)
def folder(request, tmp_path_factory) -> Path:
    tokenizer_folder = request.getfixturevalue(TOKENIZERS[request.param])
    return make_folder(request.param, tokenizer_folder, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def bert(tmp_path_factory, wordpiece_folder) -> Path:
    return make_folder("bert", wordpiece_folder, tmp_path_factory.mktemp("bert"))


@torch.inference_mode()
def plain_likelihoods(model: nn.Module, tokenizer, text: str, labels: list[str]) -> Tensor:
    """The log-likelihood of each label at the masks of a text that is written with them, one label after the other."""
    given = tokenizer(text, return_tensors="pt")
    masks = (given["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
    log_probs = model(input_ids=given["input_ids"]).logits[0, masks].log_softmax(-1)
    found = []
    for label in labels:
        ids = tokenizer(f" {label}", add_special_tokens=False)["input_ids"]
        found.append(sum(log_probs[i, token] for i, token in enumerate(ids)))
    return torch.tensor(found)


def plain_probabilities(folder: Path, text: str, labels: list[str], before: str = "") -> np.ndarray:
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    count = max(len(tokenizer(f" {label}", add_special_tokens=False)["input_ids"]) for label in labels)
    masks = " ".join([tokenizer.mask_token] * count)
    whole = before.replace("[SEP]", tokenizer.sep_token) + TEMPLATE.format(text=text, label=masks)
    return plain_likelihoods(model, tokenizer, whole, labels).softmax(-1).numpy()


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_probabilities_are_those_of_a_plain_loop_over_a_masked_language_model(folder, labels):
    prompt = Prompt(labels=labels, template=TEMPLATE, calibration="none")
    for text, found in zip(TEXTS, prompt.on(folder).predict(TEXTS), strict=True):
        expected = plain_probabilities(folder, text, labels)
        assert list(found.scores.values()) == pytest.approx(expected, abs=1e-4)
        assert expected.std() > 0.02


def test_demonstrations_come_before_the_text_with_separators_and_calibration_divides_by_texts_without_content(folder):
    labels = LABELS["one token"]
    before = "".join(f"{TEMPLATE.format(text=text, label=label)}[SEP]" for text, label in EXAMPLES)
    prompt = Prompt(labels=labels, template=TEMPLATE, choice="first")
    found = prompt.on(folder).predict(TEXTS, EXAMPLES)
    given = Tokenizer.load(folder)
    shown = {"[MASK]": "[ mask ]"} if given.kind == "wordpiece" else {}  # the texts have no special tokens
    free = [plain_probabilities(folder, shown.get(text, text), labels, before) for text in CONTENT_FREE]
    prior = np.mean(free, axis=0)
    for text, one in zip(TEXTS, found, strict=True):
        raw = plain_probabilities(folder, text, labels, before)
        assert list(one.uncalibrated.values()) == pytest.approx(raw, abs=1e-4)
        assert list(one.scores.values()) == pytest.approx(raw / prior / (raw / prior).sum(), abs=1e-3)


# -- texts and templates


def shown(model, text, examples=None) -> str:
    prepared = model.prepare(examples, paired=isinstance(text, tuple))
    (example,) = prepared.reader.texts([text])
    return prepared.preview(example)[0]


def test_a_long_text_is_cut_and_keeps_its_masks(bert):
    model = Prompt(labels=["cat", "dog", "dog sat mat"], template=TEMPLATE).on(bert)
    long = "the dog sat on the mat " * 40
    scores = [one.scores for one in model.predict([long, long + "cat"], EXAMPLES)]
    assert scores[0] == scores[1]
    assert model.warnings[0].startswith("for 2 of 2 texts, 2 demonstrations did not fit")
    assert "the end of 2 of 2 texts did not fit into the 126 tokens" in model.warnings[1]
    assert shown(model, long).count("[MASK]") == 3
    assert shown(model, long).split()[-7:] == ["[MASK]", "[MASK]", "[MASK]", ",", "i", "mind", "."]


def test_both_texts_of_a_pair_are_cut_and_the_second_may_follow_the_mask(bert):
    model = Prompt(labels=["cat", "dog"], template="{text} ? {label} , {pair}").on(bert)
    assert shown(model, ("the mat", "my card")) == "the mat ? [MASK] , my card"
    found = shown(model, ("the cat " * 200, "my dog " * 200)).split()
    mask = found.index("[MASK]")
    assert len(found) == 126
    assert abs(found[:mask].count("cat") - found[mask:].count("dog")) <= 1


def test_a_batch_gives_the_predictions_of_single_texts(bert):
    model = Prompt(labels=["cat", "dog", "weather program dog"], template=TEMPLATE).on(bert)
    together = model.predict(TEXTS, EXAMPLES)
    for text, one in zip(TEXTS, together, strict=True):
        assert model.predict(text, EXAMPLES).scores == pytest.approx(one.scores, abs=1e-5)


def test_templates_that_headway_brings_end_with_a_period_after_the_mask(bert):
    labels = {"labels": ["cat", "dog"]}
    assert shown(Prompt(**labels).on(bert), "the mat") == "Text: the mat\nLabel: [MASK]."
    assert shown(Prompt(**labels, template="topic", description="").on(bert), "mat").endswith("Topic: [MASK].")
    assert shown(Prompt(**labels, template="{text} {label}").on(bert), "the mat") == "the mat [MASK]"


def test_labels_are_spelled_by_verbalize_and_evaluated_as_those_of_gpt2(bert):
    prompt = Prompt(labels=["0", "1"], verbalize={"0": "cat", "1": "dog"}, template=TEMPLATE, shots=2, orders=2)
    rows = [{"text": text, "label": str(number % 2)} for number, text in enumerate(TEXTS)]
    found = prompt.on(bert).evaluate(rows, [(text, "01"[label == "dog"]) for text, label in EXAMPLES], seeds=2)
    assert {"mean of 2 orders", "calibrated", "uncalibrated"} <= found.figures.keys()
    plain = Prompt(labels=["cat", "dog"], template=TEMPLATE).on(bert).predict(TEXTS)
    spelled = replace(prompt, shots=0, orders=1).on(bert).predict(TEXTS)
    assert [list(one.scores.values()) for one in spelled] == [list(one.scores.values()) for one in plain]


BAD = {
    "a label that the vocabulary does not have": (
        {"labels": ["cat", "☃"]},
        r"'☃' .*does not have.*--verbalize ☃=WORD",
    ),
    "two labels with the same tokens": ({"labels": ["cat", "CAT"]}, "'cat' and 'CAT' are both spelled"),
    "no text": ({"template": "It was {label}."}, "has no {text}"),
    "a text twice": ({"template": "{text} {text} {label}"}, "{text} more than once"),
    "an answer to generate": ({"labels": [], "write": True}, "is a BERT, which fills masks and generates no answers"),
    "a template without room": ({"template": "the cat " * 70 + "{text} {label}"}, "no room for a text"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_a_cloze_prompt_is_refused(bert, options, message):
    with pytest.raises(HeadwayError, match=message):
        Prompt(**({"labels": ["cat", "dog"], "template": TEMPLATE} | options)).on(bert).predict("the mat")


def test_a_vocabulary_without_a_mask_token_is_refused(tmp_path, byte_level_folder):
    with pytest.raises(HeadwayError, match="has no mask token"):
        Prompt(labels=["cat", "dog"]).on(make_folder("bert", byte_level_folder, tmp_path))


def test_an_encoder_without_a_head_for_masks_is_refused(bert_folder):
    with pytest.raises(HeadwayError, match=r"is a BERT without a head for masked tokens.*mini-bert, or a GPT-2"):
        Prompt(labels=["cat", "dog"]).on(bert_folder)


def test_a_masked_language_model_is_prompted_from_any_class_that_has_its_head(tmp_path, wordpiece_folder):
    folder = make_folder("bert", wordpiece_folder, tmp_path)
    pretraining = transformers.BertForPreTraining.from_pretrained(folder)
    pretraining.save_pretrained(tmp_path / "pretraining")
    Tokenizer.load(wordpiece_folder).save(tmp_path / "pretraining")
    prompt = Prompt(labels=["cat", "dog"], template=TEMPLATE)
    assert prompt.on(folder).predict("mat") == prompt.on(tmp_path / "pretraining").predict("mat")

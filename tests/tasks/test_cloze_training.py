"""Training through the head for masked tokens: the loss, the folder and its predictions are those of transformers."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.tasks import TextClassification, load
from headway.tasks.base.inference import Encoder
from headway.tasks.classification.predictions import TextExample
from headway.tasks.evaluation.out_of_scope import check_scope
from headway.tasks.export import export
from headway.tasks.inspection import open_model
from test_cloze import TOKENIZERS, make_folder
from torch.nn import functional as F

TEMPLATE = "{text} It was {label}, I mind."
ROWS = [
    {"text": f"the {what} {n}", "label": label}
    for n in range(6)
    for what, label in (("mat", "cat"), ("fox", "dog sat"))
]
FAST = {"max_steps": 3, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu", "eval_fraction": 0.25}
LABELS = ("cat", "dog sat")


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert", "xlm-roberta"])
def base(request, tmp_path_factory) -> Path:
    tokenizer_folder = request.getfixturevalue(TOKENIZERS[request.param])
    return make_folder(request.param, tokenizer_folder, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def bert(tmp_path_factory, wordpiece_folder) -> Path:
    return make_folder("bert", wordpiece_folder, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    TextClassification(prompt_template=TEMPLATE).on(base).fit(ROWS, output=folder, progress=False, **FAST)
    return folder


def label_logits(model, tokenizer, text: str) -> torch.Tensor:
    """Scores of the labels by a plain loop over their tokens."""
    ids = [tokenizer(f" {label}", add_special_tokens=False)["input_ids"] for label in LABELS]
    masks = " ".join([tokenizer.mask_token] * max(map(len, ids)))
    given = tokenizer(TEMPLATE.replace("{text}", text).replace("{label}", masks), return_tensors="pt")
    logits = model(input_ids=given["input_ids"]).logits[given["input_ids"] == tokenizer.mask_token_id]
    log_probs = logits.log_softmax(-1)
    return torch.stack([sum(log_probs[i, token] for i, token in enumerate(one)) for one in ids])


def test_the_loss_and_its_gradient_are_those_of_a_plain_loop_over_transformers(base):
    model = TextClassification(prompt_template=TEMPLATE).on(base)
    next(iter(model.train(ROWS, **FAST)))  # the labels and the head are known, and nothing is trained
    task, network = model.task, model.network.eval()
    examples = [TextExample(i, "", row["text"], None, row["label"]) for i, row in enumerate(ROWS)]
    features = [one for windows in Encoder.load(base).encode(task, examples) for one in windows]
    batch = task.pack(features)
    total, count = task.loss(task.pool(network(batch), batch), task.targets(features))
    total.backward()
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(base, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    scores = torch.stack([label_logits(theirs, tokenizer, row["text"]) for row in ROWS])
    gold = torch.tensor([LABELS.index(row["label"]) for row in ROWS])
    expected = F.cross_entropy(scores, gold, reduction="sum")
    expected.backward()
    assert count == len(ROWS)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=0.0)
    ours = network.backbone.token_embedding.weight.grad
    assert ours is not None
    found = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(ours, found, rtol=1e-3, atol=1e-3 * float(found.abs().max()))


def test_the_folder_opens_as_a_masked_language_model_and_its_card_reads_the_same_labels(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["architectures"][0].endswith("ForMaskedLM")
    assert "id2label" not in config
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert TEMPLATE in card
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "transformers" in one]
    scope: dict = {}
    exec(code.replace('"model"', repr(str(trained))), scope)
    found = load(trained).predict("A text.")
    assert found.scores == pytest.approx(scope["result"], abs=1e-4)


def test_a_trained_folder_predicts_evaluates_and_can_be_trained_further(trained, tmp_path):
    model = load(trained)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(trained, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    texts = [row["text"] for row in ROWS]
    for text, one in zip(texts, model.predict(texts), strict=True):
        expected = (label_logits(theirs, tokenizer, text) / model.task.temperature).softmax(-1)
        assert list(one.scores.values()) == pytest.approx(expected.tolist(), abs=1e-4)
    assert model.evaluate(ROWS).metrics["accuracy"] >= 0.5
    again = TextClassification(prompt_template=TEMPLATE).on(trained)
    again.fit(ROWS, output=tmp_path / "again", progress=False, **FAST)
    assert load(tmp_path / "again").task.label_tokens == model.task.label_tokens
    plain = TextClassification().on(trained)
    plain.fit(ROWS, progress=False, **FAST)
    assert plain.task.prompt_template is None


def test_training_separates_texts_by_their_words(bert):
    model = TextClassification(prompt_template=TEMPLATE).on(bert)
    model.fit(ROWS, progress=False, **FAST | {"max_steps": 60, "eval_fraction": 0})
    assert [one.label for one in model.predict(["the mat 3", "the fox 3"])] == ["cat", "dog sat"]


def test_each_window_of_a_long_text_has_the_template_and_predictions_are_averaged(bert):
    model = TextClassification(prompt_template=TEMPLATE, max_length=40, overlap=4).on(bert)
    model.fit(ROWS, progress=False, **FAST)
    text = "the mat sat " * 30
    (windows,) = model.encoder.encode(model.task, [TextExample(0, "", text)])
    assert len(windows) > 3
    mask = model.tokenizer.mask_id
    assert all(one.input_ids.count(mask) == 2 == len(one.metadata) for one in windows)
    assert all([one.input_ids[i] for i in one.metadata] == [mask, mask] for one in windows)
    assert max(len(one.input_ids) for one in windows) <= 40
    assert model.predict(text).length.truncated is False
    cut = TextClassification(prompt_template=TEMPLATE, max_length=40, long_texts="cut").on(bert)
    cut.fit(ROWS, progress=False, **FAST)
    assert cut.predict(text).length.truncated


def test_pairs_fill_the_template_and_labels_are_spelled_by_verbalize(bert, tmp_path):
    rows = [
        {"text": "the mat", "pair": f"my {what}", "label": label} for what, label in (("cat", "1"), ("dog", "0"))
    ] * 4
    task = TextClassification(prompt_template="{text} ? {label} , {pair}", verbalize={"1": "mat", "0": "my"})
    task.on(bert).fit(rows, output=tmp_path / "pairs", progress=False, **FAST)
    model = load(tmp_path / "pairs")
    assert model.task.labels == ("0", "1")
    assert [model.tokenizer.tokens(ids) for ids in model.task.label_tokens] == [["my"], ["mat"]]
    assert model.predict(("the mat", "my cat")).label in ("0", "1")
    assert "`1`: `mat`" in (tmp_path / "pairs" / "README.md").read_text()


def test_inspection_shows_the_language_model_and_no_attributions_to_the_template(trained):
    opened = open_model(trained)
    assert opened.task is None
    assert opened.vocabulary_head is not None


def test_a_rule_for_distances_is_refused_and_an_exported_graph_says_what_it_gives(bert, tmp_path):
    model = TextClassification(prompt_template=TEMPLATE).on(bert)
    model.fit(ROWS, output=tmp_path / "model", progress=False, **FAST)
    with pytest.raises(HeadwayError, match="--none-of-these is not for models that were trained with"):
        check_scope(model, ["the mat"])
    notes = export(tmp_path / "model", tmp_path / "model.onnx").notes
    assert any("logits over the vocabulary" in note and TEMPLATE in note for note in notes)


BAD = {
    "no label": ({"prompt_template": "{text} It was good."}, "has no {label}"),
    "no text": ({"prompt_template": "It was {label}."}, "has no {text}"),
    "unknown placeholder": ({"prompt_template": "{text} {lable} {label}"}, "unknown placeholder {lable}"),
    "frozen": ({"prompt_template": TEMPLATE, "frozen": True}, "--frozen and --few-shot a classifier"),
    "several labels": (
        {"prompt_template": TEMPLATE, "problem_type": "multi_label_classification"},
        "exactly one label",
    ),
    "words without a template": ({"verbalize": "0=good"}, "--verbalize spells the labels of --prompt-template"),
    "a word for no label": (
        {"prompt_template": TEMPLATE, "verbalize": "bird=mat"},
        "no label 'bird', only cat, dog sat",
    ),
    "a label without a word": ({"prompt_template": TEMPLATE, "verbalize": "cat"}, "write LABEL=WORD"),
    "an unknown word": ({"prompt_template": TEMPLATE, "verbalize": "cat=☃"}, "'☃', which the model's vocabulary"),
    "the same word": ({"prompt_template": TEMPLATE, "verbalize": "cat=dog sat"}, "both spelled 'dog sat'"),
    "no room": ({"prompt_template": TEMPLATE, "max_length": 14}, "no room for a text"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_options_that_cannot_be_are_refused(bert, options, message):
    rows = [*ROWS, {"text": "the mat " * 30, "label": "cat"}]
    with pytest.raises(HeadwayError, match=message):
        TextClassification(**options).on(bert).fit(rows, progress=False, **FAST)


@pytest.mark.parametrize(
    ("folder", "message"),
    [("bert_folder", "has no head for masked tokens.*mini-bert"), ("gpt2_folder", "this is a GPT-2")],
)
def test_a_model_without_a_head_for_masked_tokens_is_refused(request, folder, message):
    with pytest.raises(HeadwayError, match=message):
        TextClassification(prompt_template=TEMPLATE).on(request.getfixturevalue(folder)).fit(
            ROWS, progress=False, **FAST
        )

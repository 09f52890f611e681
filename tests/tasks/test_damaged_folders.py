"""Files of a model folder with values of another type: one message that names the file, and never a traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.tasks import FillMask, SentenceSimilarity, TextClassification, load
from headway.tasks.embedding.embedder import Embedder
from headway.tasks.inspection.probing import probe
from headway.tasks.language_modeling.distillation import Teacher
from headway.tasks.prompting.demonstrations import load_similarity_model
from safetensors.torch import load_file, save_file

TEXTS = ["the fox", "my parcel", "the cat sat", "a dog"] * 3


@pytest.fixture(scope="module")
def classifier(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "classifier"
    rows = [{"text": text, "label": "xy"[i % 2]} for i, text in enumerate(TEXTS)]
    TextClassification().on(bert_folder).fit(rows, output=output, max_steps=1)
    return output


@pytest.fixture(scope="module")
def embedder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "embedder"
    rows = [{"sentence1": text, "sentence2": text, "label": float(i % 2)} for i, text in enumerate(TEXTS)]
    SentenceSimilarity().on(bert_folder).fit(rows, output=output, max_steps=1)
    return output


def refused(copy_of: Path, folder: Path, name: str, change: Callable[[Any], Any]) -> str:
    """The message about a copy of a folder, in which a JSON file was changed."""
    shutil.copytree(copy_of, folder)
    path = folder / name
    content = json.loads(path.read_text())
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed))
    with pytest.raises(HeadwayError) as caught:
        Embedder(folder).embed(["the fox"]) if (folder / "modules.json").exists() else load(folder).predict("the fox")
    message = str(caught.value)
    assert str(folder) in message or "The model folder says" in message
    assert len(message) < 500
    assert "\n" not in message
    return message


def options(**changes: Any) -> Callable[[Any], None]:
    return lambda info: info["options"].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda info: info.update(options=["labels"]), "options is ['labels']"),
        (lambda info: info.update(task={"a": 1}), "task is {'a': 1}"),
        (lambda info: info.update(score_by_precision=[1]), "score_by_precision is [1]"),
        (lambda info: info.update(metrics="good"), "metrics is 'good'"),
        (options(max_length="48"), "max_length='48'"),
        (options(max_length=True), "max_length=True"),
        (options(labels="xy"), "labels='xy'"),
        (options(labels=["x", 1]), "labels=('x', 1)"),
        (options(labels=None), "labels=None"),
        (options(temperature=None), "temperature=None"),
        (options(temperature=float("nan")), "temperature=nan"),
        (options(thresholds=["a"]), "thresholds=('a',)"),
        (options(numbered=0), "numbered=0"),
        (options(labels=["y" * 9_000] * 2), "headway.json"),
        (lambda _: [[]] * 9, "holds a list"),
    ],
)
def test_headway_json(classifier: Path, tmp_path: Path, change: Callable[[Any], Any], words: str):
    assert words in refused(classifier, tmp_path / "model", "headway.json", change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(cls_token=3), "cls_token is 3, not a token"),
        (lambda config: config.update(sep_token={"text": "[SEP]"}), "sep_token is {'text': '[SEP]'}"),
        (lambda config: config.update(added_tokens_decoder=[1]), "added_tokens_decoder"),
        (lambda config: config.update(added_tokens_decoder={"x": {}}), "added_tokens_decoder"),
        (lambda config: config.update(added_tokens_decoder={"900": {"text": "x"}}), "the added token 900 is"),
        (lambda config: config.update(added_tokens_decoder={"900": "x" * 9_000}), "should have the id 900"),
    ],
)
def test_tokenizer_config_json(classifier: Path, tmp_path: Path, change: Callable[[Any], Any], words: str):
    assert words in refused(classifier, tmp_path / "model", "tokenizer_config.json", change)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("modules.json", lambda _: {"a": 1}, "is damaged"),
        ("modules.json", lambda modules: modules[1].update(path="../elsewhere"), "is damaged"),
        ("modules.json", lambda modules: modules[1].update(path="."), "is damaged"),
        ("sentence_bert_config.json", lambda c: c.update(max_seq_length="48"), "max_seq_length is '48'"),
        ("sentence_bert_config.json", lambda c: c.update(max_seq_length={}), "max_seq_length is {}"),
        ("config_sentence_transformers.json", lambda c: c.update(default_prompt_name=[1]), "prompts must map"),
        (
            "config_sentence_transformers.json",
            lambda c: c.update(default_prompt_name="a", prompts=["a"]),
            "prompts must map",
        ),
        ("1_Pooling/config.json", lambda c: c.update(pooling_mode=3), "pooling_mode is 3"),
        ("1_Pooling/config.json", lambda c: c.update(pooling_mode=[["mean"]]), "the pooling ['mean'] is unknown"),
        ("1_Pooling/config.json", lambda c: c.update(pooling_mode=[]), "pooling_mode is []"),
    ],
)
def test_the_files_of_sentence_transformers(
    embedder: Path, tmp_path: Path, name: str, change: Callable[[Any], Any], words: str
):
    assert words in refused(embedder, tmp_path / "model", name, change)


@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings.weight", "classifier.weight"])
def test_weights_that_are_no_numbers_are_refused_with_their_name(classifier: Path, tmp_path: Path, name: str):
    folder = shutil.copytree(classifier, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights[name][1, 2] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(HeadwayError, match=rf"model\.safetensors: the tensor '{name}' holds NaN or infinity"):
        load(folder).predict("the fox")
    with pytest.raises(HeadwayError, match=f"'{name}' holds NaN"):
        _ = load(folder).network


def test_weights_whose_sum_is_too_large_for_a_number_are_fine(classifier: Path, tmp_path: Path):
    folder = shutil.copytree(classifier, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["bert.pooler.dense.bias"].fill_(3e38)
    save_file(weights, folder / "model.safetensors")
    assert load(folder).predict("the fox").label in "xy"


def test_a_head_without_next_sentence_prediction_does_not_fit_a_task_with_it(bert_folder: Path, tmp_path: Path):
    FillMask().on(bert_folder).fit([{"text": text} for text in TEXTS], output=tmp_path / "mlm", max_steps=1)
    message = refused(tmp_path / "mlm", tmp_path / "copy", "headway.json", options(next_sentence=True))
    assert "different heads" in message


def test_weights_that_overflow_are_refused_at_the_first_prediction(classifier: Path, tmp_path: Path):
    folder = shutil.copytree(classifier, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.weight"][:] = 3e38
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(HeadwayError, match="outputs are not finite numbers: its weights are damaged"):
        load(folder).predict("the fox")


def test_a_mask_token_that_is_not_in_the_vocabulary_is_named(bert_folder: Path, tmp_path: Path):
    texts = [{"text": text} for text in TEXTS]
    folder = tmp_path / "model"
    FillMask().on(bert_folder).fit(texts, output=folder, max_steps=1, eval_fraction=0)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "mask_token": "\0"}))
    with pytest.raises(HeadwayError, match=r"no mask token\. Check mask_token in tokenizer_config\.json"):
        load(folder).predict("the [MASK] sat")
    with pytest.raises(HeadwayError, match="no mask token"):
        FillMask().on(folder).fit(texts, output=tmp_path / "out", max_steps=1, eval_fraction=0)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("roberta", {"max_position_embeddings": 1}, "a text may have 0 tokens; at least 8 are needed"),
        ("roberta", {"max_position_embeddings": 9}, "max_position_embeddings or pad_token_id"),
        ("roberta", {"pad_token_id": 45}, "max_position_embeddings or pad_token_id"),
        ("roberta", {"pad_token_id": 10**9}, "a text may have 0 tokens"),
        ("bert", {"max_position_embeddings": 2}, "Correct max_position_embeddings, or copy"),
        ("gpt2", {"n_positions": 7}, "Correct n_positions, or copy"),
    ],
)
def test_a_model_without_positions_for_a_text_is_refused(
    kind: str, changes: dict[str, int], message: str, tmp_path: Path, request: pytest.FixtureRequest
):
    folder = shutil.copytree(request.getfixturevalue(f"{kind}_folder"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    for use in (lambda: Embedder(folder), lambda: TextClassification().on(folder)):
        with pytest.raises(HeadwayError, match=message):
            use()


def test_a_vocabulary_larger_than_the_model_is_refused_by_whatever_reads_all_of_it(
    bert_folder: Path, roberta_folder: Path, tmp_path: Path
):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(roberta_folder / name, folder)
    texts = [{"text": text} for text in TEXTS]
    rows = [{"text": text, "label": "xy"[i % 2]} for i, text in enumerate(TEXTS)]
    uses = [
        lambda: FillMask().on(folder).fit(texts, max_steps=1),
        lambda: Teacher(folder),
        lambda: load_similarity_model(folder, torch.device("cpu")),
        lambda: list(probe(folder, rows)),
    ]
    for use in uses:
        with pytest.raises(HeadwayError, match="they do not belong together"):
            use()

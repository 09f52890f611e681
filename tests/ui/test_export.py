"""headway export: other programs open the folder and get the same outputs; no incomplete file is left."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.checkpoints.families.registry import titles_of
from headway.core.inference import onnx_export
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Embedder, load
from headway.tasks.embedding.pooling import Pooling
from headway.tasks.embedding.published_pooling import PublishedPooling

TEXTS = ["a really great film", "dull", "such a poor meal, and it was a poor room"]


def run(folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Runs the folder as another program does: with the tokenizer of transformers, padding and onnxruntime."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, dict(tokenizer(texts, padding=True, return_tensors="np")))
    return dict(zip([one.name for one in session.get_outputs()], found, strict=True))


def files_of(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the slow exporter by one whose file gives wrong outputs."""

    def write(module, inputs, path):
        path.write_bytes(b"graph")

    def ran(path, inputs, outputs):
        return "a runtime", {name: torch.zeros(5, 2) for name in outputs}

    monkeypatch.setattr(onnx_export, "write_graph", write)
    monkeypatch.setattr(onnx_export, "run_onnx", ran)


def test_an_exported_classifier_gives_the_same_probabilities(headway, trained, folder):
    from transformers import AutoConfig

    ran = headway("export", trained, "--output", "reviews-onnx", "--json")
    assert ran.code == 0
    result = json.loads(ran.out)
    assert (result["outputs"], result["opset"], result["output"]) == (["logits"], 18, "reviews-onnx")
    assert result["checked_with"].startswith("onnxruntime")
    assert result["apart"] < 1e-4
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "headway.json", "onnx"} <= set(
        files_of(folder / "reviews-onnx")
    )
    logits = run(folder / "reviews-onnx", TEXTS)["logits"]
    names = AutoConfig.from_pretrained(folder / "reviews-onnx").id2label
    model = load(trained)
    probabilities = torch.tensor(logits / model.task.temperature).softmax(-1)
    for prediction, expected in zip(model.predict(TEXTS), probabilities.tolist(), strict=True):
        for label, probability in enumerate(expected):
            assert prediction.scores[names[label]] == pytest.approx(probability, abs=1e-4)


def test_an_exported_sentence_model_gives_the_same_vectors(headway, tiny, folder):
    published = PublishedPooling(
        Pooling(("max", "mean"), normalize=True), max_length=20, lower_case=True, prompt="about: "
    )
    model = folder / "sentences"
    model.mkdir()
    save_checkpoint(model, load_checkpoint(tiny).network)
    Tokenizer.load(tiny).save(model)
    published.write(model, 32)
    ran = headway("export", model, "--output", "made/vectors")
    assert ran.code == 0
    assert "outputs: last_hidden_state, sentence_embedding" in ran.out
    assert "at most 32 tokens: the model was made for 20" in ran.out
    assert "'about: ' put before them" in ran.out
    found = run(folder / "made" / "vectors", [published.prompt + text.lower() for text in TEXTS])
    np.testing.assert_allclose(found["sentence_embedding"], Embedder(model).embed(TEXTS), atol=1e-4)
    assert PublishedPooling.read(folder / "made" / "vectors") == published


@pytest.mark.slow
def test_a_single_file_is_the_only_output_and_pools_the_cls_token(headway, tiny, folder):
    ran = headway("export", tiny, "--output", "bert.onnx", "--pooling", "cls")
    assert ran.code == 0
    assert files_of(folder) == ["bert.onnx"]
    session = onnxruntime.InferenceSession(folder / "bert.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([[2, 7, 9, 3]])
    hidden, vectors = session.run(
        ["last_hidden_state", "sentence_embedding"],
        {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)},
    )
    np.testing.assert_allclose(vectors, hidden[:, 0])


def test_a_gpt2_is_refused(headway, folder):
    config = GPT2Config(vocab_size=10, hidden_size=8, num_layers=1, num_heads=1, intermediate_size=8, max_positions=8)
    (folder / "gpt2").mkdir()
    save_checkpoint(folder / "gpt2", Network(GPT2(config)))
    ran = headway("export", "gpt2", "--output", "out")
    assert ran.code == 2
    assert ran.err == (
        f"headway: gpt2 is a GPT-2; only a {titles_of('bert')} can be exported. "
        "Use it with headway generate, prompt or predict.\n"
    )
    assert files_of(folder) == ["gpt2"]


def test_different_outputs_leave_no_files(headway, trained, folder, stubbed):
    before = files_of(folder)
    for output in ("out", "out.onnx"):
        ran = headway("export", trained, "--output", output)
        assert ran.code == 2
        assert "a runtime computes logits up to" in ran.err
        assert files_of(folder) == before


def test_existing_files_are_only_replaced_on_request_and_foreign_folders_never(headway, trained, folder, stubbed):
    (folder / "out.onnx").write_text("mine")
    assert "already exists" in headway("export", trained, "--output", "out.onnx").err
    assert headway("export", trained, "--output", "out.onnx", "--overwrite").code == 2, "the outputs differ"
    assert (folder / "out.onnx").read_text() == "mine"
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    ran = headway("export", trained, "--output", "notes", "--overwrite")
    assert "is not a model folder, so it is not replaced" in ran.err
    assert (folder / "notes" / "mine.txt").exists()


def test_the_exported_model_is_never_replaced(headway, trained):
    ran = headway("export", trained, "--output", trained, "--overwrite")
    assert ran.code == 2
    assert "is the model itself" in ran.err
    assert (trained / "model.safetensors").exists()


def test_invalid_arguments_are_refused_before_the_export(headway, trained, folder, monkeypatch):
    monkeypatch.setattr(onnx_export, "write_graph", lambda *_: pytest.fail("the export was started"))
    (folder / "folder.onnx").mkdir()
    for arguments, message in [
        (("--output", "out", "--format", "torchscript"), "--format torchscript: say onnx."),
        (("--output", "folder.onnx", "--overwrite"), "folder.onnx is a folder, and its name is that of a file."),
        (("--output", "out", "--pooling", "middle"), "--pooling middle: one of mean, cls, last, max."),
        ((), "Missing option '--output'"),
    ]:
        ran = headway("export", trained, *arguments)
        assert ran.code == 2
        assert message in ran.err
    assert "There is no model folder nowhere" in headway("export", "nowhere/at/all", "--output", "out").err
    assert files_of(folder) == ["folder.onnx", "model"]


def test_a_full_disk_leaves_no_incomplete_file(headway, trained, folder, monkeypatch):
    def write(module, inputs, path):
        path.write_bytes(b"gra")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_export, "write_graph", write)
    before = files_of(folder)
    for output in ("out", "out.onnx"):
        ran = headway("export", trained, "--output", output)
        assert ran.code == 2
        assert "the disk is full" in ran.err
        assert files_of(folder) == before


def test_weights_that_need_several_files_need_a_folder(headway, trained, folder, monkeypatch):
    from headway.tasks import export

    monkeypatch.setattr(export, "MAX_FILE_BYTES", 1000)
    ran = headway("export", trained, "--output", "out.onnx")
    assert ran.code == 2
    assert "an ONNX file holds 2. Name a folder as --output." in ran.err


@pytest.mark.slow
def test_an_exported_minilm_gives_the_same_vectors(headway, minilm, folder):
    result = json.loads(headway("export", minilm, "--output", "vectors", "--json").out)
    assert result["outputs"] == ["last_hidden_state", "sentence_embedding"]
    texts = ["a film", "The parcel has not arrived yet; where is it, and who can tell me?", "naïve café"]
    found = run(folder / "vectors", texts)["sentence_embedding"]
    np.testing.assert_allclose(found, Embedder(minilm).embed(texts), atol=1e-4)

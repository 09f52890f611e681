"""Models by their hub id, with a hub on this computer: what is downloaded, cached, refused and resumed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.checkpoints.hub import find_folder
from headway.core.errors import HeadwayError
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network, TokenHead
from headway.core.tokenizers.tokenizer import Tokenizer
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

NAME = "someone/tiny-bert"
LABELS = ["O", "B-PER", "I-PER"]
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def model(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published tiny BERT that finds people."""
    folder = tmp_path_factory.mktemp("tiny-ner")
    shutil.copytree(wordpiece_folder, folder, dirs_exist_ok=True)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "max_positions": 32}
    config = BertConfig(vocab_size=Tokenizer.load(folder).vocab_size, **sizes)
    save_checkpoint(folder, Network(Bert(config), TokenHead(config, len(LABELS))), labels=LABELS)
    return folder


@pytest.fixture
def files(model: Path) -> dict[str, bytes]:
    """The model's files, for changes."""
    return {path.name: path.read_bytes() for path in model.iterdir()}


@pytest.fixture
def patched_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeHub, pytest.MonkeyPatch]]:
    monkeypatch.chdir(tmp_path)
    with FakeHub() as hub, hub.used_here(tmp_path / "home") as patch:
        yield hub, patch


@pytest.fixture
def hub(patched_hub: tuple[FakeHub, pytest.MonkeyPatch]) -> FakeHub:
    """An empty hub for this process, with an empty cache."""
    return patched_hub[0]


@pytest.fixture
def offline(patched_hub: tuple[FakeHub, pytest.MonkeyPatch]):
    """Forbids the use of the network when called."""
    return lambda: patched_hub[1].setattr(constants, "HF_HUB_OFFLINE", True)


def refused(name: str, *parts: object) -> None:
    """Asserts that loading fails with one line that contains every part."""
    with pytest.raises(HeadwayError) as caught:
        load_checkpoint(name)
    text = str(caught.value)
    assert "\n" not in text
    assert [part for part in parts if str(part) not in text] == [], text


def is_loaded(name: str, model: Path) -> bool:
    """Whether the hub's model has the weights of the folder's."""
    loaded, expected = (load_checkpoint(one).network.state_dict() for one in (name, model))
    return all(torch.equal(loaded[key], expected[key]) for key in expected)


def in_shards(tensors: dict[str, torch.Tensor], folder: Path, suffix: str) -> dict[str, bytes]:
    """The tensors in two files and their index, like published large models."""
    names = sorted(tensors)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    parts = {f"{stem}-0000{i + 1}-of-00002.{suffix}": names[i::2] for i in range(2)}
    index = {"metadata": {}, "weight_map": {name: part for part, some in parts.items() for name in some}}
    found = {f"{stem}.{suffix}.index.json": json.dumps(index).encode()}
    for part, some in parts.items():
        chosen = {name: tensors[name].clone() for name in some}
        save_file(chosen, folder / part) if suffix == "safetensors" else torch.save(chosen, folder / part)
        found[part] = (folder / part).read_bytes()
    return found


# What is downloaded


def test_only_what_is_needed_is_downloaded(hub, model, files):
    others = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "onnx/config.json"]
    others += ["README.md", "training_args.bin", "coreml/model.safetensors", "optimizer.pt"]
    hub.publish(NAME, files | dict.fromkeys(others, b"not needed"))
    assert is_loaded(NAME, model)
    assert hub.downloaded() == sorted({"config.json", "model.safetensors", *TOKENIZER_FILES})
    assert load_checkpoint(NAME).labels == tuple(LABELS)


def test_the_tokenizer_is_downloaded_too(hub, model, files):
    hub.publish(NAME, files)
    text = "Ada Lovelace lived in London"
    assert Tokenizer.load(find_folder(NAME)).encode(text) == Tokenizer.load(model).encode(text)


def test_an_old_model_with_only_a_vocabulary_and_a_bin_loads(hub, model, files):
    vocabulary = json.loads(files["tokenizer.json"])["model"]["vocab"]
    tensors = load_file(model / "model.safetensors")
    torch.save(tensors, hub_file := Path("pytorch_model.bin"))
    old = {"vocab.txt": "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)).encode()}
    hub.publish(NAME, {"config.json": files["config.json"], "pytorch_model.bin": hub_file.read_bytes(), **old})
    assert is_loaded(NAME, model)
    hub.stop()
    assert is_loaded(NAME, model)
    assert Tokenizer.load(find_folder(NAME)).encode("the cat sat") == Tokenizer.load(model).encode("the cat sat")
    hub.start()


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_complete_after_a_download_was_interrupted_between_them(hub, model, files, tmp_path, suffix):
    whole = load_file(model / "model.safetensors")
    del files["model.safetensors"]
    shards = in_shards(whole, tmp_path, suffix)
    hub.publish(NAME, files | shards)
    last = sorted(shards)[1]
    hub.break_after[last] = len(shards[last]) // 2
    refused(NAME, "broke off", f"{hub.url}/{NAME}", "Try again")
    hub.break_after.clear()
    hub.requests.clear()
    assert is_loaded(NAME, model)
    assert last in hub.downloaded()
    assert "config.json" not in hub.downloaded()


def test_the_vocabulary_of_sentencepiece_is_downloaded_if_there_is_no_other(hub, files):
    name = "sentencepiece.bpe.model"
    hub.publish(NAME, files | {name: b"unused"})
    find_folder(NAME)
    assert name not in hub.downloaded()
    hub.publish(
        "others/model",
        {file: content for file, content in files.items() if file != "tokenizer.json"} | {name: b"used"},
    )
    assert (find_folder("others/model") / name).read_bytes() == b"used"


def test_an_unsupported_model_is_refused_before_its_weights_are_downloaded(hub, files):
    hub.publish(NAME, files | {"config.json": b'{"model_type": "llama"}'})
    refused(NAME, "config.json", "model_type 'llama', which has rotary positions", "Headway reads BERT")
    assert "model.safetensors" not in hub.downloaded()


def test_a_repository_without_a_configuration_is_refused(hub, files):
    del files["config.json"]
    hub.publish(NAME, files)
    refused(NAME, repr(NAME), "no config.json", "Choose another model")
    assert "model.safetensors" not in hub.downloaded()


# What is cached


def test_nothing_is_downloaded_twice(hub, model, files):
    hub.publish(NAME, files)
    find_folder(NAME)
    hub.requests.clear()
    assert is_loaded(NAME, model)
    assert hub.downloaded() == []


@pytest.mark.parametrize("trouble", ["down", "offline", "failing", "deleted"])
def test_a_downloaded_model_loads_without_the_hub(hub, model, files, offline, trouble):
    hub.publish(NAME, files)
    find_folder(NAME)
    if trouble == "down":
        hub.stop()
    elif trouble == "offline":
        hub.requests.clear()
        offline()
    elif trouble == "failing":
        hub.status = 503
    else:
        hub.repositories.clear()
    assert is_loaded(NAME, model)
    if trouble == "offline":
        assert hub.requests == []
    if trouble == "down":
        hub.start()


def test_the_newest_commit_is_downloaded_and_cached(hub, model, files, tmp_path):
    first = hub.publish(NAME, files)
    assert find_folder(NAME).name == first
    changed = {name: tensor + 1 for name, tensor in load_file(model / "model.safetensors").items()}
    newer = shutil.copytree(model, tmp_path / "newer")
    save_file(changed, newer / "model.safetensors")
    second = hub.publish(NAME, newer)
    hub.requests.clear()
    assert find_folder(NAME).name == second
    assert hub.downloaded() == ["model.safetensors"]  # the other files are the same
    hub.stop()
    assert find_folder(NAME).name == second
    assert is_loaded(NAME, newer)
    hub.start()


# What is refused


def test_an_unknown_name_is_reported(hub, tmp_path):
    refused(NAME, repr(NAME), f"no folder {tmp_path / NAME}", f"no {hub.url}/{NAME}", "Check the spelling", "HF_TOKEN")


def test_the_error_of_a_gated_model_names_its_page(hub, model):
    hub.publish(NAME, model, gated=True)
    refused(NAME, repr(NAME), "gated", f"Accept its conditions at {hub.url}/{NAME}", "HF_TOKEN", "hf auth login")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_reported(hub, model, monkeypatch, status):
    hub.publish(NAME, model)
    hub.status = status
    refused(NAME, f"{hub.url}/{NAME}", str(status), "Check HF_TOKEN")


def test_a_model_that_was_not_downloaded_needs_the_hub(hub, model, offline):
    hub.publish(NAME, model)
    hub.status = 503
    refused(NAME, repr(NAME), f"{hub.url} says: ", "503", "not downloaded before", "with a connection")
    hub.stop()
    refused(NAME, repr(NAME), f"{hub.url} could not be reached", "not downloaded before", "with a connection")
    offline()
    refused(NAME, repr(NAME), "HF_HUB_OFFLINE is set", "not downloaded before", "with a connection")
    hub.start()


@pytest.mark.parametrize("cut", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_incomplete_download_is_not_used(hub, model, files, tmp_path, monkeypatch, cut):
    hub.publish(NAME, files)
    hub.break_after[cut] = len(files[cut]) // 2
    refused(NAME, "The download of", f"{hub.url}/{NAME}", "broke off", "Try again")
    assert list(tmp_path.rglob("*.incomplete")) == []
    assert all(path.resolve().read_bytes() == files[path.name] for path in tmp_path.glob("home/hub/*/snapshots/*/*"))
    with monkeypatch.context() as now:
        now.setattr(constants, "HF_HUB_OFFLINE", True)
        refused(NAME, repr(NAME), "HF_HUB_OFFLINE is set", "downloaded before", "with a connection")
    hub.break_after.clear()
    assert is_loaded(NAME, model)


def test_a_download_resumes_after_a_broken_connection(hub, model, files):
    hub.publish(NAME, files)
    hub.break_after["model.safetensors"] = 1000
    hub.break_once = True
    assert is_loaded(NAME, model)


def test_an_unwritable_cache_is_named(hub, model, tmp_path):
    hub.publish(NAME, model)
    (tmp_path / "home").write_text("not a folder")
    refused(NAME, repr(NAME), tmp_path / "home" / "hub", "HF_HOME")


# In a separate process, which reads the environment


def test_the_command_line_predicts_with_a_model_of_the_hub(model, tmp_path):
    with FakeHub() as hub:
        hub.publish("someone/tiny-ner", model)
        environment = hub.environment(tmp_path / "home") | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "headway.ui.cli", "predict", "someone/tiny-ner", "the cat sat", "--json"]
        ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["text"] == "the cat sat"
        assert hub.downloaded() == sorted({"config.json", "model.safetensors", *TOKENIZER_FILES})


def test_the_command_line_reports_errors_in_one_line_and_loads_from_the_cache_offline(
    hub, model, offline, tmp_path, capsys
):
    from headway.ui.cli import main

    command = ["predict", "someone/tiny-ner", "the cat sat", "--json"]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("headway: There is no model 'someone/tiny-ner'")
    assert said.err.count("\n") == 1
    hub.publish("someone/tiny-ner", model)
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)
    hub.requests.clear()
    offline()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == answer
    assert hub.requests == []

"""Tiny random models for the tests of tasks: folders of every family that hold no head."""

from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.joining import join_models
from model_folders import make_folder


@pytest.fixture(scope="session")
def bert_folder(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("bert", wordpiece_folder, tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def gpt2_folder(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("gpt2", byte_level_folder, tmp_path_factory.mktemp("tiny-gpt2"))


@pytest.fixture(scope="session")
def encoder_decoder_folder(bert_folder: Path, gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-encoder-decoder")
    join_models(bert_folder, gpt2_folder, folder)
    return folder


@pytest.fixture(scope="session")
def roberta_folder(roberta_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("roberta", roberta_tokenizer_folder, tmp_path_factory.mktemp("tiny-roberta"))


@pytest.fixture(scope="session")
def xlm_roberta_folder(unigram_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("xlm-roberta", unigram_tokenizer_folder, tmp_path_factory.mktemp("tiny-xlm-roberta"))


@pytest.fixture(scope="session")
def distilbert_folder(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("distilbert", wordpiece_folder, tmp_path_factory.mktemp("tiny-distilbert"))


@pytest.fixture(scope="session")
def electra_folder(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("electra", wordpiece_folder, tmp_path_factory.mktemp("tiny-electra"))


@pytest.fixture(scope="session")
def albert_folder(unigram_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("albert", unigram_tokenizer_folder, tmp_path_factory.mktemp("tiny-albert"))


@pytest.fixture(scope="session", params=["bert", "gpt2"])
def tiny_model(request: pytest.FixtureRequest, bert_folder: Path, gpt2_folder: Path) -> Path:
    """Both models, in turn."""
    return {"bert": bert_folder, "gpt2": gpt2_folder}[request.param]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny models are slower on several threads, and many times so where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

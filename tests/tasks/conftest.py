"""Tiny random models for the tests of tasks: BERT and GPT-2 folders that hold no head."""

from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}


def make_folder(kind: str, tokenizer_folder: Path, folder: Path) -> Path:
    """A tiny model with random weights and a tokenizer, as a model folder holds them."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    torch.manual_seed(0)
    if kind == "bert":
        backbone = Bert(BertConfig(vocab_size=tokenizer.vocab_size, **SMALL))
    else:
        backbone = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, **SMALL))
    save_checkpoint(folder, Network(backbone))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("bert", wordpiece_folder, tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def gpt2_folder(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder("gpt2", byte_level_folder, tmp_path_factory.mktemp("tiny-gpt2"))


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

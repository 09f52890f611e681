"""Tiny random models for the campaigns, in folders that hold no head."""

from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import BertConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import Network, new_backbone
from headway.core.tokenizers.tokenizer import Tokenizer

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}


def make_folder(kind: type[BertConfig] | type[GPT2Config], tokenizer_folder: Path, folder: Path) -> Path:
    tokenizer = Tokenizer.load(tokenizer_folder)
    torch.manual_seed(0)
    save_checkpoint(folder, Network(new_backbone(kind(vocab_size=tokenizer.vocab_size, **SMALL))))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(BertConfig, wordpiece_folder, tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def gpt2_folder(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(GPT2Config, byte_level_folder, tmp_path_factory.mktemp("tiny-gpt2"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The models are tiny, and a process that has started threads cannot be forked."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

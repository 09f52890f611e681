"""A tiny GPT-2 with random weights for tests of text generation."""

from pathlib import Path

import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, language_model_head
from headway.core.tokenizers.tokenizer import Tokenizer


def make_gpt2(tokenizer_folder: Path, folder: Path, max_positions: int = 128) -> Path:
    """Writes a model folder with a language-modeling head that generates various random texts."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_size": 64,
        "max_positions": max_positions,
    }
    backbone = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, **sizes))
    torch.nn.init.normal_(backbone.token_embedding.weight, std=0.5)
    save_checkpoint(folder, Network(backbone, language_model_head(backbone)))
    tokenizer.save(folder)
    return folder

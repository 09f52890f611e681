"""Folders of tiny models with random weights, of every family."""

from dataclasses import replace
from pathlib import Path

import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.models.heads import Network, new_backbone, reads_segments
from headway.core.tokenizers.tokenizer import Tokenizer

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}


def make_folder(kind: str, tokenizer_folder: Path, folder: Path) -> Path:
    """A tiny model with random weights and a tokenizer, as a model folder holds them."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    torch.manual_seed(0)
    sizes = {**SMALL, "embedding_size": 16, "init_std": 0.1} if kind in ("electra", "albert") else SMALL
    config = replace(FAMILIES[kind].config, vocab_size=tokenizer.vocab_size, **sizes)
    save_checkpoint(folder, Network(new_backbone(config)))
    tokenizer.save(folder, segments=reads_segments(config))
    return folder

"""A tiny GPT-2 of transformers that prompts tell apart, with examples for it."""

from pathlib import Path

import torch
import transformers
from headway.core.tokenizers.tokenizer import Tokenizer

POOL = [
    ("the quick brown fox", "good"),
    ("my parcel has not arrived", "bad"),
    ("thank you for the money", "good"),
    ("where is it?", "bad"),
    ("the lazy dog", "so so"),
    ("naïve café owners", "so so"),
]
LABELS = ["good", "bad", "so so"]


def make_peaked_gpt2(tokenizer_folder: Path, folder: Path) -> Path:
    """Writes a model folder with peaked distributions, over the vocabulary of a tokenizer."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    sizes = {"vocab_size": tokenizer.vocab_size, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 320}
    end = tokenizer.end_of_text_id
    config = transformers.GPT2Config(**sizes, bos_token_id=end, eos_token_id=end, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2, generator=generator)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder

"""Stand-ins for what a page names but does not write: data files of the reader, and published models.

A model is a tiny one of the same family with random weights, in a folder of that name. A published sentence encoder is
the one that a Python package brings.
"""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.models.heads import Network, new_backbone, reads_segments
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import samples
from tiny_gpt2 import make_gpt2
from treebanks import treebank

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "max_positions": 128}
ENCODERS = {"bert-base-uncased": "bert", "bert-base-cased": "bert", "distilbert-base-uncased": "distilbert"}
LANGUAGE_MODELS = ("gpt2", "distilgpt2")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def _messages(start: int, end: int) -> str:
    header, *rows = (samples.FOLDER / "messages.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    return header + "".join(rows[start:end])


def _texts(count: int) -> str:
    with (samples.FOLDER / "messages.csv").open(encoding="utf-8", newline="") as file:
        return "".join(f"{row['text']}\n" for row, _ in zip(csv.DictReader(file), range(count), strict=False))


FILES: dict[str, Callable[[], str]] = {
    "train.csv": lambda: _messages(0, 60),
    "test.csv": lambda: _messages(60, 90),
    "corpus.txt": lambda: _texts(200),
    "treebank.conllu": lambda: treebank(30, lengths=range(5, 9)),
}


def _named(name: str, code: str) -> bool:
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-])", code) is not None


def write_stand_ins(code: str, written: set[str], folder: Path, tokenizers: dict[str, Path], minilm: Path) -> None:
    """Writes the files and models that the code of a page names into its folder.

    Args:
        code: all blocks of the page that run.
        written: names of the files that the page writes itself.
        folder: of the page.
        tokenizers: "wordpiece" and "byte-level" -> folders of tiny tokenizers.
        minilm: folder of a sentence encoder.
    """
    written = written | set(re.findall(r"^headway samples (\S+)", code, re.M))
    for name, content in FILES.items():
        if name not in written and _named(name, code):
            (folder / name).write_text(content(), encoding="utf-8")
    tokenizer = Tokenizer.load(tokenizers["wordpiece"])
    for name, family in ENCODERS.items():
        if _named(name, code) or f"{name}+" in code:
            torch.manual_seed(0)
            (folder / name).mkdir()
            config = replace(FAMILIES[family].config, vocab_size=tokenizer.vocab_size, **SIZES)
            save_checkpoint(folder / name, Network(new_backbone(config)))
            tokenizer.save(folder / name, segments=reads_segments(config))
    for name in LANGUAGE_MODELS:
        if _named(name, code) or f"+{name}" in code:
            (folder / name).mkdir()
            make_gpt2(tokenizers["byte-level"], folder / name, max_positions=1024)
    if _named(MINILM, code):
        (folder / MINILM).parent.mkdir()
        (folder / MINILM).symlink_to(minilm, target_is_directory=True)

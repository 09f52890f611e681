"""Training from scratch: a new model with random weights and a vocabulary learned from the training text."""

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ...core.new_model import learn_tokenizer, write_new_model
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import barrier, first_on_machine, on_main, processes
from ..base.model import TaskModel
from ..data.corpus import open_documents
from ..data.read_options import ReadOptions
from .fill_mask import FillMask
from .text_generation import TextGeneration

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def on_new_model(
    task: FillMask | TextGeneration,
    data: Any,
    *,
    folder: Path,
    size: str,
    vocab_size: int | None = None,
    tokenizer_of: str | Path | None = None,
    vocabulary: str = "pieces",
    max_positions: int = 512,
    columns: Mapping[str, Any] | None = None,
    eval_fraction: float = 0.0,
    seed: int = 0,
    keep: bool = False,
    **reading: Any,
) -> TaskModel:
    """Writes a new model with random weights and opens it for the task.

    With a teacher, the token embedding is derived from the teacher's.

    Args:
        task: fill-mask or text-generation.
        data: the training text.
        folder: of the new model.
        size: one of the published sizes, e.g. "mini".
        vocab_size: learn a vocabulary of this size from the text,
        tokenizer_of: or use the vocabulary of this model.
        vocabulary: "pieces" of words, or "words" separated by white space.
        max_positions: the longest sequence in tokens.
        columns: which column holds the text.
        eval_fraction: the share of the text to hold out; the vocabulary is learned from the rest.
        seed: of the weights and of the held-out share.
        keep: whether to use the model that is already in the folder (to resume a run).
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: an option is invalid, the text cannot be read, or the disk is full.
    """
    if (vocab_size is None) == (tokenizer_of is None):
        raise HeadwayError(
            "A model from scratch needs a vocabulary: add --learn-tokenizer N, or --model NAME to use the vocabulary "
            "of that model."
        )
    kind: Any = task.models[0]

    def write() -> tuple[str, dict[str, bytes]]:
        if not (keep and folder.exists()):
            if tokenizer_of is not None:
                tokenizer = Tokenizer.load(find_folder(tokenizer_of))
            else:
                assert vocab_size is not None
                documents = open_documents(data, columns or {}, task, ReadOptions(**reading))
                texts = documents.part(eval_fraction, seed, held_out=False)
                tokenizer = learn_tokenizer((piece.text for piece in texts), kind, vocab_size, vocabulary)
            shutil.rmtree(folder, ignore_errors=True)
            embedding = task.initial_embedding(tokenizer)
            write_new_model(
                folder, kind, size, tokenizer, max_positions=max_positions, seed=seed, embeddings=embedding
            )
        return secrets.token_hex(4), {name: (folder / name).read_bytes() for name in TOKENIZER_FILES}

    name, files = on_main(write)
    first = first_on_machine()
    if first != 0:  # another machine, which may not share the disk
        folder = Path(tempfile.gettempdir()) / f"headway-{name}"
        if first == processes().rank:
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            # Training starts from the weights of the main process.
            write_new_model(folder, kind, size, _read_tokenizer(files), max_positions=max_positions, seed=seed)
    barrier()
    model = TaskModel.plug(task, folder)
    model.base = f"random weights ({size})"
    return model


def _read_tokenizer(files: Mapping[str, bytes]) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return Tokenizer.load(Path(folder))

"""Training from scratch: a new model with random weights and a vocabulary learned from the training text."""

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ...core.new_model import learn_tokenizer, write_new_model
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import barrier, broadcast_object, first_on_machine, on_main, processes
from ..base.model import TaskModel
from ..base.task import Task
from ..base.training_data import DataSource, read_labelled
from ..data.corpus import open_documents
from ..data.read_options import ReadOptions
from .fill_mask import FillMask
from .text_generation import TextGeneration

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def on_new_model(
    task: Task[Any, Any],
    data: Any,
    *,
    folder: Path,
    size: str,
    vocab_size: int | None = None,
    tokenizer_of: str | Path | None = None,
    vocabulary: str = "pieces",
    max_positions: int = 512,
    columns: Mapping[str, Any] | None = None,
    held_out: tuple[float, float | None] = (0.0, 0.0),
    seed: int = 0,
    keep: bool = False,
    **reading: Any,
) -> TaskModel:
    """Writes a new model with random weights (with a teacher, its token embedding) and opens it for the task.

    Args:
        task: one with a `new_model`: fill-mask, text-generation or text-to-text.
        data: the training data.
        folder: of the new model.
        size: one of the published sizes, e.g. "mini".
        vocab_size: learn a vocabulary of this size from the text,
        tokenizer_of: or use the vocabulary of this model.
        vocabulary: "pieces" of words, or "words" separated by white space.
        max_positions: the longest sequence in tokens.
        columns: which column holds the text.
        held_out: --eval-fraction and --test-fraction; the vocabulary is learned from the rest.
        seed: of the weights and of the held-out share.
        keep: whether to use the model that is already in the folder (to resume a run).
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: an option is invalid, the text cannot be read, or the disk is full.
    """
    if (vocab_size is None) == (tokenizer_of is None):
        raise HeadwayError(
            "A model from scratch needs a vocabulary: add --learn-tokenizer N, or --model NAME to use that of a model."
        )
    kind: Any = task.new_model
    new_model = partial(write_new_model, model=kind, size=size, max_positions=max_positions, seed=seed)

    def write() -> dict[str, bytes]:
        if not (keep and folder.exists()):
            if tokenizer_of is not None:
                tokenizer = Tokenizer.load(find_folder(tokenizer_of))
            else:
                assert vocab_size is not None
                parts = held_out[0], seed, ReadOptions(**reading), None, held_out[1]
                source = DataSource(data, None, columns or {}, *parts)
                tokenizer = learn_tokenizer(_training_texts(task, source), kind, vocab_size, vocabulary)
            shutil.rmtree(folder, ignore_errors=True)
            of_teacher = task.initial_embedding(tokenizer) if isinstance(task, FillMask | TextGeneration) else None
            new_model(folder, tokenizer=tokenizer, embeddings=of_teacher)
        return {name: (folder / name).read_bytes() for name in TOKENIZER_FILES}

    model = TaskModel.plug(task, _on_this_machine(folder, on_main(write), new_model))
    model.base = f"random weights ({size})"
    return model


def _training_texts(task: Task[Any, Any], source: DataSource) -> Iterator[str]:
    """The texts that are not held out; of pairs, inputs and outputs."""
    if isinstance(task, FillMask | TextGeneration):
        documents = open_documents(source.train, source.columns, task, source.reading)
        yield from (piece.text for piece in documents.part(sum(source.fractions()), 1, source.seed))
        return
    for example in read_labelled(source, task, None).train.examples:
        yield from (*example.texts, *(example.gold or ()))


def _on_this_machine(folder: Path, tokenizer_files: Mapping[str, bytes], new_model: Callable[..., None]) -> Path:
    """The folder of the new model; on other machines, which may not share the main process's disk, that of a copy.

    The weights of the copies do not matter: training starts from those of the main process.
    """
    first, name = first_on_machine(), broadcast_object(f"headway-{secrets.token_hex(4)}")
    if first != 0:
        folder = Path(tempfile.gettempdir()) / name
    if first == processes().rank != 0:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as unpacked:
            for file, content in tokenizer_files.items():
                (Path(unpacked) / file).write_bytes(content)
            new_model(folder, tokenizer=Tokenizer.load(Path(unpacked)))
    barrier()
    return folder

"""A language model that begins from nothing: its vocabulary comes from the texts that it is about to learn from."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ...core.new_model import learn_tokenizer, write_new_model
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import barrier, processes
from ..base.model import TaskModel
from ..data.corpus import open_documents
from .distillation import find_teacher
from .fill_mask import FillMask
from .text_generation import TextGeneration


def plug_from_scratch(
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
    header: bool | None = None,
    seed: int = 0,
    keep: bool = False,
) -> TaskModel:
    """The task on a new model with random weights, which is written to a folder of its own.

    A task with a teacher takes over its token embedding, as far as the new model's size holds it.

    Args:
        task: fill-mask or text-generation.
        data: the texts that will be trained on.
        folder: where the new model goes.
        size: one of the published sizes, e.g. "mini".
        vocab_size: learn a vocabulary of so many tokens from the texts.
        tokenizer_of: or take that of another model.
        vocabulary: "pieces" of words, or "words" between white space.
        max_positions: the longest sequence in tokens.
        columns: which column holds the text.
        eval_fraction: the part that training will hold out; the vocabulary is learnt from the rest.
        header: whether a table's first row names its columns.
        seed: of the weights, and of the part that is held out.
        keep: whether a model that is in the folder stays (a run that goes on).

    Raises:
        HeadwayError: an option is not possible, the texts cannot be read, or the disk is full.
    """
    if (vocab_size is None) == (tokenizer_of is None):
        raise HeadwayError(
            "A model from scratch needs a vocabulary: say --learn-tokenizer N, or --model NAME for that model's own."
        )
    kind: Any = task.models[0]
    if processes().is_main and not (keep and folder.exists()):
        if tokenizer_of is not None:
            tokenizer = Tokenizer.load(find_folder(tokenizer_of))
        else:
            assert vocab_size is not None
            texts = open_documents(data, columns or {}, task, header=header).part(eval_fraction, seed, held_out=False)
            tokenizer = learn_tokenizer((piece.text for piece in texts), kind, vocab_size, vocabulary)
        shutil.rmtree(folder, ignore_errors=True)
        embeddings = None
        if isinstance(task, FillMask) and task.teacher is not None:
            embeddings = partial(find_teacher(task.teacher).embeddings_of, tokenizer)
        write_new_model(folder, kind, size, tokenizer, max_positions=max_positions, seed=seed, embeddings=embeddings)
    barrier()
    model = TaskModel.plug(task, folder)
    model.base = f"random weights ({size})"
    return model

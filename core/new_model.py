"""Models to train from scratch: random weights, and a vocabulary learned from the training texts."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from .atomic_files import atomic_folder
from .checkpoints.checkpoint import save_checkpoint
from .cpu import use_huge_pages
from .errors import HeadwayError
from .models import bert, gpt2, transformer
from .models.heads import Network, language_model_head, new_backbone, reads_segments
from .tokenizers.tokenizer import Tokenizer
from .tokenizers.vocabulary import Model, learn_byte_level_bpe, learn_wordpiece, learn_words

SIZES = {"bert": bert.SIZES, "gpt2": gpt2.SIZES, "encoder-decoder": transformer.SIZES}
CONFIGS = {"bert": bert.BertConfig, "gpt2": gpt2.GPT2Config, "encoder-decoder": transformer.TransformerConfig}
VOCABULARIES = ("pieces", "words")


def learn_tokenizer(texts: Iterable[str], model: Model, vocab_size: int, vocabulary: str = "pieces") -> Tokenizer:
    """Learns a tokenizer: WordPiece for BERT, byte-level BPE for GPT-2 and the Transformer, or whole words.

    Args:
        texts: read once; for the Transformer, sources and targets.
        model: BERT, GPT-2 or the Transformer ("encoder-decoder").
        vocab_size: maximum number of tokens.
        vocabulary: "pieces" or "words".

    Raises:
        HeadwayError: the kind of vocabulary is unknown, the texts are empty, or the vocabulary is too small.
    """
    if vocabulary not in VOCABULARIES:
        raise HeadwayError(f"--vocabulary {vocabulary}: it must be {' or '.join(VOCABULARIES)}.")
    if vocabulary == "words":
        return learn_words(texts, vocab_size, model)
    if model == "bert":
        return learn_wordpiece(texts, vocab_size)
    return learn_byte_level_bpe(texts, vocab_size, ended=model == "encoder-decoder")


def write_new_model(
    folder: Path,
    model: Model,
    size: str,
    tokenizer: Tokenizer,
    *,
    max_positions: int = 512,
    seed: int = 0,
    embeddings: Callable[[int], Tensor] | None = None,
) -> None:
    """Writes a model folder with random weights.

    Args:
        folder: the folder to write; it must not exist.
        model: BERT, GPT-2 or the Transformer ("encoder-decoder").
        size: name of a published size of the model, e.g. "mini".
        tokenizer: the model's tokenizer.
        max_positions: maximum sequence length in tokens.
        seed: random seed of the weights.
        embeddings: returns the token embedding (V, C) for a hidden size C. Default: random.

    Raises:
        HeadwayError: the size is unknown, the folder exists, or the disk is full.
    """
    if size not in SIZES[model]:
        raise HeadwayError(f"--size {size}: it must be one of {', '.join(SIZES[model])}.")
    if max_positions < 8:
        raise HeadwayError(f"--max-positions {max_positions}: it must be at least 8.")
    fields = {"vocab_size": tokenizer.vocab_size, "max_positions": max_positions}
    if model == "encoder-decoder":
        fields |= _ends(tokenizer)
    config = CONFIGS[model].named(size, **fields)
    use_huge_pages()
    torch.manual_seed(seed)
    backbone = new_backbone(config)
    if embeddings is not None:
        with torch.no_grad():
            backbone.token_embedding.weight.copy_(embeddings(config.hidden_size))
    head = language_model_head(backbone) if model == "encoder-decoder" else None  # whose class is what generates
    with atomic_folder(folder) as unfinished:
        save_checkpoint(unfinished, Network(backbone, head))
        tokenizer.save(unfinished, segments=reads_segments(config))


def _ends(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokens around a target: those of the Transformer, or of another vocabulary what it has in their place."""
    end = tokenizer.sep_id if tokenizer.end_of_text_id is None else tokenizer.end_of_text_id
    if end is None:
        raise HeadwayError("The vocabulary has no token that ends a text. Learn a new one with --learn-tokenizer N.")
    start = next(one for one in (tokenizer.pad_id, tokenizer.cls_id, end) if one is not None)
    return {"start_id": start, "end_id": end, "pad_id": end if tokenizer.pad_id is None else tokenizer.pad_id}

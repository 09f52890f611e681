"""Vocabularies learned from texts, in the published formats: WordPiece for BERT, byte-level BPE for GPT-2, or words.

The first two merge the most frequent pair of pieces until the vocabulary is full (Sennrich et al. 2016,
https://arxiv.org/abs/1508.07909); the tokenizers library computes them. The same texts in any order give the same
vocabulary.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..errors import HeadwayError
from .tokenizer import Tokenizer

Model = Literal["bert", "gpt2", "encoder-decoder"]

# In the order of the published vocabularies.
WORDPIECE_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END_OF_TEXT = "<|endoftext|>"
# Of the Transformer: what ends every source and target, and what transformers fills short ones with, which is also the
# token before every target, as in Marian.
END, PADDING = "</s>", "<pad>"
WORD_SPECIAL = {
    "bert": WORDPIECE_SPECIAL,
    "gpt2": ("[UNK]", END_OF_TEXT),
    "encoder-decoder": ("[UNK]", END, PADDING),
}
WORDS_PER_TEXT = 1000  # passed to the trainer
MAX_WORD_LENGTH = 100  # characters; to WordPiece longer words are unknown (the default of models.WordPiece)


def learn_wordpiece(texts: Iterable[str], vocab_size: int, *, lowercase: bool = True) -> Tokenizer:
    """Learns BERT's WordPiece vocabulary, with BERT's text normalization.

    Args:
        texts: read once; only their distinct words are kept in memory.
        vocab_size: maximum number of tokens, special tokens included.
        lowercase: whether text is lower-cased and accents are removed.

    Raises:
        HeadwayError: the texts contain no words, or more distinct characters than the vocabulary can hold.
    """
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    segmenter = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in segmenter.pre_tokenize_str(normalizer.normalize_str(text))
        if len(word) <= MAX_WORD_LENGTH
    )
    alphabet = sorted({word[0] for word in words}) + sorted({f"##{letter}" for word in words for letter in word[1:]})
    if not alphabet:
        raise HeadwayError("There are no words in the texts to learn a vocabulary from. Use other texts.")
    _check_room(alphabet, vocab_size, WORDPIECE_SPECIAL)
    trained = tokenizers.Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # The trainer numbers the characters inside words in the order of a hash table and breaks ties by number. As
    # special tokens, they have fixed numbers.
    known = [*WORDPIECE_SPECIAL, *alphabet]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=known, show_progress=False)
    trained.train_from_iterator(_repeated(words), trainer)
    backend = tokenizers.Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, segmenter
    return _as_published(backend, {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase})


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Texts in which every word occurs as often as it was counted."""
    for word in sorted(words):
        full, rest = divmod(words[word], WORDS_PER_TEXT)
        for count in [WORDS_PER_TEXT] * full + [rest]:
            yield " ".join([word] * count)


def learn_byte_level_bpe(texts: Iterable[str], vocab_size: int, *, ended: bool = False) -> Tokenizer:
    """Learns GPT-2's byte-level BPE vocabulary, in which every text can be encoded.

    Args:
        texts: read once.
        vocab_size: maximum number of tokens, the 256 bytes and the special tokens included.
        ended: whether the special tokens are those of the Transformer, of which one ends every text, instead of
            GPT-2's end of text.

    Raises:
        HeadwayError: the vocabulary is too small for the bytes.
    """
    segmenter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(segmenter.alphabet())
    special = (END, PADDING) if ended else (END_OF_TEXT,)
    _check_room(alphabet, vocab_size, special)
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer, trained.decoder = segmenter, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(special), initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    trained.add_special_tokens(list(special))  # the last tokens, as in GPT-2
    if ended:
        return _as_published(trained, {"tokenizer_class": "PreTrainedTokenizerFast", **_end_texts(trained)})
    return _as_published(trained, {"tokenizer_class": "GPT2Tokenizer", "eos_token": END_OF_TEXT})


def learn_words(texts: Iterable[str], vocab_size: int, model: Model) -> Tokenizer:
    """Learns a vocabulary of whole words separated by white space, for example for event codes or musical notes.

    Args:
        texts: read once; only their distinct words are kept in memory.
        vocab_size: maximum number of tokens, special tokens included; the least frequent words become "[UNK]".
        model: whose special tokens the vocabulary has.

    Raises:
        HeadwayError: the texts contain no words, or the vocabulary is too small for a word.
    """
    special = WORD_SPECIAL[model]
    words = Counter(word for text in texts for word in text.split())
    for token in special:
        del words[token]
    if not words:
        raise HeadwayError("There are no words in the texts to learn a vocabulary from. Use other texts.")
    if vocab_size <= len(special):
        raise HeadwayError(
            f"A vocabulary of {vocab_size} tokens has no room beside {len(special)} special tokens. Use a larger one."
        )
    ranked = sorted(words, key=lambda word: (-words[word], word))[: vocab_size - len(special)]
    known = {token: i for i, token in enumerate([*special, *ranked])}
    backend = tokenizers.Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(special))
    fields: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    if model == "encoder-decoder":
        return _as_published(backend, {**fields, **_end_texts(backend)})
    if model == "gpt2":
        return _as_published(backend, {**fields, "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT})
    ids = [(token, known[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return _as_published(backend, {**fields, **{f"{token[1:-1].lower()}_token": token for token in special}})


def _end_texts(backend: tokenizers.Tokenizer) -> dict[str, str]:
    """Makes a tokenizer end every text by END; returns its special tokens, as fields of tokenizer_config.json."""
    ids = [(END, backend.token_to_id(END))]
    backend.post_processor = processors.TemplateProcessing(f"$A {END}", f"$A {END} $B {END}", ids)
    return {"eos_token": END, "pad_token": PADDING}


def _check_room(alphabet: list[str], vocab_size: int, special: tuple[str, ...]) -> None:
    needed = len(alphabet) + len(special)
    if needed > vocab_size:
        raise HeadwayError(
            f"A vocabulary of {vocab_size} tokens has no room for the {len(alphabet)} characters of the texts and "
            f"{len(special)} special tokens. Use one of at least {needed} tokens."
        )


def _as_published(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer, loaded like that of any model folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return Tokenizer.load(folder)

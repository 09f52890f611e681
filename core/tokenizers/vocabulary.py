"""Vocabularies learnt from texts, in the published layouts: WordPiece for BERT, byte-level BPE for GPT-2, or words.

The first two grow by joining the pair of pieces that occurs most often (Sennrich et al. 2016,
https://arxiv.org/abs/1508.07909); the tokenizers library does the counting. The same texts give the same vocabulary,
in whatever order they come.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..errors import HeadwayError
from .tokenizer import Tokenizer

# In the order of the published vocabularies.
WORDPIECE_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END_OF_TEXT = "<|endoftext|>"
WORDS_AT_ONCE = 1000  # handed to the trainer as one text
LONGEST_WORD = 100  # characters; WordPiece reads a longer one as unknown (models.WordPiece's default)


def learn_wordpiece(texts: Iterable[str], vocab_size: int, *, lowercase: bool = True) -> Tokenizer:
    """A WordPiece vocabulary as BERT has it, its clean-up of the text included.

    Args:
        texts: are read once; only their distinct words are held in memory.
        vocab_size: tokens at most, special ones included; few texts give fewer.
        lowercase: whether capitals and accents are taken off.

    Raises:
        HeadwayError: the texts hold no word, or more different characters than the vocabulary has room for.
    """
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        if len(word) <= LONGEST_WORD
    )
    alphabet = sorted({word[0] for word in words}) + sorted({f"##{letter}" for word in words for letter in word[1:]})
    if not alphabet:
        raise HeadwayError("There are no words in the texts to learn a vocabulary from. Give texts that have some.")
    _check_room(alphabet, vocab_size, WORDPIECE_SPECIAL)
    learner = tokenizers.Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # The trainer numbers the letters inside words as it happens to meet them, and breaks ties by number: given as
    # special tokens they have their numbers beforehand.
    known = [*WORDPIECE_SPECIAL, *alphabet]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=known, show_progress=False)
    learner.train_from_iterator(_repeated(words), trainer)
    whole = tokenizers.Tokenizer(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    whole.normalizer, whole.pre_tokenizer = normalizer, splitter
    return _as_published(whole, {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase})


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Texts in which every word occurs as often as was counted."""
    for word in sorted(words):
        whole, rest = divmod(words[word], WORDS_AT_ONCE)
        for count in [WORDS_AT_ONCE] * whole + [rest]:
            yield " ".join([word] * count)


def learn_byte_level_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE vocabulary as GPT-2 has it, which writes every text without an unknown token.

    Args:
        texts: are read once.
        vocab_size: tokens at most, the 256 bytes and the end-of-text token included; few texts give fewer.

    Raises:
        HeadwayError: the vocabulary has no room for the bytes.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(splitter.alphabet())
    _check_room(alphabet, vocab_size, (END_OF_TEXT,))
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer, learner.decoder = splitter, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learner.add_special_tokens([END_OF_TEXT])  # the last one, as published
    return _as_published(learner, {"tokenizer_class": "GPT2Tokenizer", "eos_token": END_OF_TEXT})


def learn_words(texts: Iterable[str], vocab_size: int, *, bert: bool) -> Tokenizer:
    """A vocabulary of whole words between white space, for sequences that need not be language: events, notes, codes.

    Args:
        texts: are read once; only their distinct words are held in memory.
        vocab_size: tokens at most, special ones included: the commonest words; the others are read as "[UNK]".
        bert: whether it has BERT's special tokens, or GPT-2's end of text.

    Raises:
        HeadwayError: the texts hold no word, or the vocabulary has room for none.
    """
    special = WORDPIECE_SPECIAL if bert else ("[UNK]", END_OF_TEXT)
    words = Counter(word for text in texts for word in text.split())
    for token in special:
        del words[token]
    if not words:
        raise HeadwayError("There are no words in the texts to learn a vocabulary from. Give texts that have some.")
    if vocab_size <= len(special):
        raise HeadwayError(
            f"A vocabulary of {vocab_size} has no room beside {len(special)} special tokens. Take a larger one."
        )
    ranked = sorted(words, key=lambda word: (-words[word], word))[: vocab_size - len(special)]
    known = {token: i for i, token in enumerate([*special, *ranked])}
    whole = tokenizers.Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    whole.add_special_tokens(list(special))
    named = {f"{token.strip('[]').lower()}_token": token for token in special if token != END_OF_TEXT}
    ends = {} if bert else {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    if bert:
        ids = [(token, known[token]) for token in ("[CLS]", "[SEP]")]
        whole.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
    return _as_published(whole, {"tokenizer_class": "PreTrainedTokenizerFast", **named, **ends})


def _check_room(alphabet: list[str], vocab_size: int, special: tuple[str, ...]) -> None:
    needed = len(alphabet) + len(special)
    if needed > vocab_size:
        raise HeadwayError(
            f"A vocabulary of {vocab_size} has no room for the {len(alphabet)} characters of the texts and "
            f"{len(special)} special tokens. Take one of at least {needed}."
        )


def _as_published(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> Tokenizer:
    """The vocabulary as any other model folder's is read, so that nothing is set up in two ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return Tokenizer.load(folder)

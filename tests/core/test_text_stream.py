"""A stream yields complete characters without stop strings, and its pieces add up to the text of its tokens."""

from random import Random

import pytest
from headway.core.tokenizers.text_stream import TextStream
from headway.core.tokenizers.tokenizer import Tokenizer

EMOJI = "a 👩‍👩‍👧 flag 🇫🇷, 👍🏽 naïve 一只猫 end"


def test_a_stream_yields_only_complete_characters(byte_level_folder):
    tokenizer = Tokenizer.load(byte_level_folder)
    ids = tokenizer.encode(EMOJI).ids
    assert any(
        "\N{REPLACEMENT CHARACTER}" in tokenizer.decode([token]) for token in ids
    )  # characters are split into several tokens
    text, pieces = TextStream(tokenizer), []
    for token in ids:
        text.push(token)
        pieces.append(text.piece())
    assert "".join(pieces) == text.text == EMOJI
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "" in pieces
    text.push(ids[EMOJI.encode().index("👩".encode())])  # the first byte of an incomplete character
    assert text.piece(last=True) == ""
    assert text.text == EMOJI


@pytest.mark.parametrize("seed", range(20))
def test_the_pieces_of_random_tokens_add_up_to_their_text(byte_level_folder, seed):
    tokenizer = Tokenizer.load(byte_level_folder)
    choose = Random(seed)
    ids = [choose.randrange(tokenizer.vocab_size) for _ in range(60)]
    ids += tokenizer.encode(" end").ids  # completes the last character
    text, pieces = TextStream(tokenizer), []
    for token in ids:
        text.push(token)
        pieces.append(text.piece())
    assert "".join(pieces) == text.text == tokenizer.decode(ids)


@pytest.mark.parametrize("stop", [("x",), ("ab",), ("aab", "b c"), ("abc", "bcd"), ("aaab",)])
@pytest.mark.parametrize("seed", range(10))
def test_a_stream_never_yields_a_part_of_a_stop_string(byte_level_folder, stop, seed):
    tokenizer = Tokenizer.load(byte_level_folder)
    choose = Random(seed)
    whole = "".join(choose.choice("aaabbc ") for _ in range(40)) + "x"
    text, yielded = TextStream(tokenizer, stop), ""
    for character in whole:
        (token,) = tokenizer.encode(character).ids
        text.push(token)
        yielded += text.piece()
        assert whole.startswith(yielded)
        assert not any(one in yielded for one in stop)
    places = [place for one in stop if (place := whole.find(one)) >= 0]
    assert text.stopped == bool(places)
    assert yielded + text.piece(last=True) == text.text == whole[: min(places, default=None)]


def test_wordpiece_tokens_become_text(wordpiece_folder):
    tokenizer = Tokenizer.load(wordpiece_folder)
    text = TextStream(tokenizer)
    for token in tokenizer.join(tokenizer.encode("the cats sat").ids)[0]:
        text.push(token)
    assert text.text == " the cats sat"

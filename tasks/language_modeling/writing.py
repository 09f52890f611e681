"""Writing with GPT-2, for someone who writes along: text as it comes, what may come next, several ways to go on.

A text may be longer than the model reads at once: its end is what counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...core.generation.generation import Candidate, generate, next_tokens, stream
from ...core.generation.generation_config import GenerationConfig
from ...core.models.heads import Network
from ...core.tokenizers.text_stream import token_bytes
from ...core.tokenizers.tokenizer import Tokenizer
from .likelihood import prompt_room


@dataclass(frozen=True)
class NextToken:
    """A token that may come next."""

    token: str  # as people read it
    text: str | None  # what it adds to a text; None where it ends it, or is no whole character
    probability: float


@dataclass(frozen=True)
class Alternative:
    """One of several ways to go on."""

    text: str
    score: float  # the mean log-probability of its tokens
    finished: bool  # the model ended the text by itself


class Writer:
    """Goes on with a person's text.

    Args:
        network: GPT-2 with its language-model head, in eval mode; `language_model.load_language_model` gives both.
        tokenizer: the model's.
    """

    def __init__(self, network: Network, tokenizer: Tokenizer) -> None:
        self.network, self.tokenizer = network, tokenizer

    @property
    def limit(self) -> int:
        """How many tokens the model reads at once."""
        return self.network.config.max_positions

    def write(self, text: str, **options: Any) -> Iterator[str]:
        """What the model writes, piece by piece.

        Args:
            text: to go on with.
            **options: fields of GenerationConfig, for one text without beams.

        Raises:
            HeadwayError: an option is not possible, or the text is empty and the vocabulary cannot begin one.
        """
        config = GenerationConfig(**{"context": "slide", **options})
        for part in stream(self.network, self.tokenizer, self._end_of(text, config.max_new_tokens), config):
            if part.piece:
                yield part.piece

    def likeliest(self, text: str, count: int = 10) -> tuple[NextToken, ...]:
        """What may come next, the likeliest first.

        Raises:
            HeadwayError: the text is empty, and the vocabulary cannot begin one.
        """
        config = GenerationConfig(max_new_tokens=1)
        step = next(next_tokens(self.network, self.tokenizer, self._end_of(text, 1), config, likeliest=count))
        return tuple(self._next(one) for one in step.likeliest)

    def _next(self, one: Candidate) -> NextToken:
        try:
            text = token_bytes(self.tokenizer, one.token_id).decode()
        except UnicodeDecodeError:
            text = ""
        return NextToken(one.token, text or None, one.probability)

    def alternatives(self, text: str, beams: int, max_new_tokens: int) -> tuple[Alternative, ...]:
        """The likeliest ways to go on that a beam search finds, the best first.

        Raises:
            HeadwayError: a number is not possible, or the text is empty and the vocabulary cannot begin one.
        """
        config = GenerationConfig(num_beams=beams, num_return_sequences=beams, max_new_tokens=max_new_tokens)
        (found,) = generate(self.network, self.tokenizer, [self._end_of(text, max_new_tokens)], config)
        return tuple(Alternative(one.text, one.score, one.finish_reason == "end-of-text") for one in found)

    def _end_of(self, text: str, more: int) -> str:
        """The end of a text that leaves room for so many tokens; half of what the model reads at least."""
        room = prompt_room(self.limit, more)
        offsets = self.tokenizer.encode(text).offsets
        return text if len(offsets) <= room else text[offsets[-room][0] :]

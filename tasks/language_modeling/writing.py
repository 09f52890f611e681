"""Interactive writing with GPT-2: streamed text, likely next tokens, and alternative continuations.

A text may be longer than the model's context: its end is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...core.generation.generation import Candidate, generate, next_tokens, stream
from ...core.generation.generation_config import GenerationConfig
from ...core.models.heads import Network
from ...core.tokenizers.text_stream import token_bytes
from ...core.tokenizers.tokenizer import Tokenizer
from .targets import prompt_budget


@dataclass(frozen=True)
class NextToken:
    """A possible next token."""

    token: str  # as text
    text: str | None  # what it adds to a text; None if it ends the text or is not a whole character
    probability: float


@dataclass(frozen=True)
class Alternative:
    """One of several continuations."""

    text: str
    score: float  # the mean log-probability of its tokens
    finished: bool  # whether the model ended the text itself


class Writer:
    """Continues a user's text.

    Args:
        network: GPT-2 with its language-model head, in eval mode; see `load_language_model`.
        tokenizer: of the model.
    """

    def __init__(self, network: Network, tokenizer: Tokenizer) -> None:
        self.network, self.tokenizer = network, tokenizer

    @property
    def limit(self) -> int:
        """Largest number of tokens that the model reads."""
        return self.network.config.max_positions

    def write(self, text: str, **options: Any) -> Iterator[str]:
        """Generates a continuation and yields it in pieces.

        Args:
            text: to continue.
            **options: fields of GenerationConfig, for a single text without beam search.

        Raises:
            HeadwayError: an option is invalid, or the text is empty and the vocabulary has no token to start from.
        """
        config = GenerationConfig(**{"context": "slide", **options})
        for part in stream(self.network, self.tokenizer, self._end_of(text, config.max_new_tokens), config):
            if part.piece:
                yield part.piece

    def likeliest(self, text: str, count: int = 10) -> tuple[NextToken, ...]:
        """The most likely next tokens, most likely first.

        Raises:
            HeadwayError: the text is empty, and the vocabulary has no token to start from.
        """
        config = GenerationConfig(max_new_tokens=1)
        step = next(next_tokens(self.network, self.tokenizer, self._end_of(text, 1), config, likeliest=count))
        return tuple(self._next_token(one) for one in step.likeliest)

    def _next_token(self, candidate: Candidate) -> NextToken:
        try:
            text = token_bytes(self.tokenizer, candidate.token_id).decode()
        except UnicodeDecodeError:
            text = ""
        return NextToken(candidate.token, text or None, candidate.probability)

    def alternatives(self, text: str, num_beams: int, max_new_tokens: int) -> tuple[Alternative, ...]:
        """The continuations that a beam search finds, best first.

        Raises:
            HeadwayError: a number is invalid, or the text is empty and the vocabulary has no token to start from.
        """
        config = GenerationConfig(num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=max_new_tokens)
        (found,) = generate(self.network, self.tokenizer, [self._end_of(text, max_new_tokens)], config)
        return tuple(Alternative(one.text, one.score, one.finish_reason == "end-of-text") for one in found)

    def _end_of(self, text: str, max_new_tokens: int) -> str:
        """The end of a text that leaves room for `max_new_tokens`, but at least half of the context."""
        budget = prompt_budget(self.limit, max_new_tokens)
        offsets = self.tokenizer.encode(text).offsets
        return text if len(offsets) <= budget else text[offsets[-budget][0] :]

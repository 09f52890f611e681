"""Continuing texts with GPT-2: whole texts at once, text as it comes, or token by token with what else was likely.

How the next token is chosen is in sampling.py and beam_search.py, the options in generation_config.py, the loop in
decoding.py. A text without a prompt starts from the end-of-text token, as every text did in GPT-2's training.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import HeadwayError
from ..models.heads import Network
from ..tokenizers.text_stream import token_bytes
from ..tokenizers.tokenizer import Tokenizer
from .beam_search import beam_search
from .decoding import FinishReason, Generation, SequenceState, check_prompts, decode, language_model, room_after
from .generation_config import GenerationConfig

__all__ = [
    "Candidate",
    "Generation",
    "GenerationConfig",
    "StreamedText",
    "TokenStep",
    "generate",
    "generate_ids",
    "generate_in_steps",
    "next_tokens",
    "stream",
]

CACHE_BYTES = 2**30  # keys and values of the texts that are continued at once


@dataclass(frozen=True)
class StreamedText:
    """A piece of text as it comes."""

    piece: str  # "" where a character, or what may become a stop string, is not complete
    generation: Generation | None  # the whole text, with its last piece


@dataclass(frozen=True)
class Candidate:
    """A token that might come next."""

    token_id: int
    token: str  # as text; as the vocabulary spells it where it is no whole character, or a special token
    probability: float


@dataclass(frozen=True)
class TokenStep:
    """A token that was chosen, and what was likely in its place."""

    token_id: int
    token: str
    probability: float
    likeliest: tuple[Candidate, ...]  # the likeliest first
    piece: str  # of text, as in StreamedText
    finish_reason: FinishReason | None  # with the last token


def generate(
    network: Network, tokenizer: Tokenizer, prompts: Sequence[str], config: GenerationConfig | None = None
) -> list[tuple[Generation, ...]]:
    """Continues texts: for each prompt its samples, or the best texts of its beam search, the best first.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        tokenizer: the model's.
        prompts: texts; an empty one starts from the end-of-text token.
        config: the options; greedy if left out.

    Raises:
        HeadwayError: the network cannot generate, a prompt is longer than the model's context, or one is empty and
            the vocabulary has no end-of-text token.
    """
    if isinstance(prompts, str):
        raise TypeError("prompts must be a sequence of texts, not one text")
    encoded = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    return _generate(network, encoded, config or GenerationConfig(), tokenizer.end_of_text_id, tokenizer)


def generate_ids(
    network: Network,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig | None = None,
    *,
    end_of_text_id: int | None = None,
) -> list[tuple[Generation, ...]]:
    """Continues sequences of token ids without a tokenizer: no text, and no stop strings.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        prompts: token ids, at least one each.
        config: the options; greedy if left out.
        end_of_text_id: the token that ends a text; none: no token does.

    Raises:
        HeadwayError: as generate; stop strings are asked for.
    """
    config = config or GenerationConfig()
    if config.stop:
        raise HeadwayError(f"stop={config.stop!r} needs a tokenizer, and token ids alone are given. Leave it out.")
    return _generate(network, prompts, config, end_of_text_id, None)


def generate_in_steps(
    network: Network,
    tokenizer: Tokenizer,
    prompt: str,
    config: GenerationConfig | None = None,
    *,
    cache_bytes: int = CACHE_BYTES,
) -> Iterator[tuple[Generation, ...] | None]:
    """Continues one text as `generate` does, and yields None at each step on the way; its texts come last.

    Whoever has several texts to write can so let each have its turn, and leave off when nobody waits for one.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        tokenizer: the model's.
        prompt: a text.
        config: the options; greedy if left out.
        cache_bytes: what the keys and values of the samples that are computed at once may take.

    Raises:
        HeadwayError: as generate.
    """
    config = config or GenerationConfig()
    prompts = [prompt_ids(tokenizer, prompt)]
    (found,) = yield from _steps(network, prompts, config, tokenizer.end_of_text_id, tokenizer, cache_bytes)
    yield found


def stream(
    network: Network, tokenizer: Tokenizer, prompt: str, config: GenerationConfig | None = None
) -> Iterator[StreamedText]:
    """Continues one text and yields it as it comes; several samples one after the other.

    The pieces of a text joined are the text of its generation. Characters are never split.

    Raises:
        HeadwayError: as generate; a beam search is asked for, whose text is not settled before its end.
    """
    config = config or GenerationConfig()
    _refuse_beams(config)
    for sample in range(config.num_return_sequences):
        for rows, _ in _decode_text(network, tokenizer, prompt, config, sample):
            (row,) = rows
            assert row.text is not None
            last = row.finish_reason is not None
            yield StreamedText(row.text.piece(last=last), row.generation() if last else None)


def next_tokens(
    network: Network,
    tokenizer: Tokenizer,
    prompt: str,
    config: GenerationConfig | None = None,
    *,
    likeliest: int = 10,
) -> Iterator[TokenStep]:
    """Continues one text token by token, with the likeliest tokens at each step.

    The probabilities are the model's own, before temperature, penalty and limits. The options choose the token, which
    need not be among the likeliest.

    Raises:
        HeadwayError: as generate; a beam search or several samples are asked for.
    """
    config = config or GenerationConfig()
    _refuse_beams(config)
    if config.num_return_sequences > 1:
        raise HeadwayError(
            f"num_return_sequences={config.num_return_sequences}: only one text can be generated token by token. "
            "Use num_return_sequences=1."
        )
    for rows, logits in _decode_text(network, tokenizer, prompt, config, 0):
        (row,) = rows
        assert row.text is not None
        probabilities = logits[0].softmax(dim=-1)
        chosen = _candidate(tokenizer, row.token_ids[-1], probabilities)
        best = probabilities.topk(min(likeliest, len(probabilities))).indices.tolist()
        yield TokenStep(
            token_id=chosen.token_id,
            token=chosen.token,
            probability=chosen.probability,
            likeliest=tuple(_candidate(tokenizer, token, probabilities) for token in best),
            piece=row.text.piece(last=row.finish_reason is not None),
            finish_reason=row.finish_reason,
        )


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt's tokens; the end-of-text token where it is empty.

    Raises:
        HeadwayError: it is empty, and the vocabulary has no end-of-text token.
    """
    ids = tokenizer.encode(prompt).ids
    if ids:
        return ids
    if tokenizer.end_of_text_id is None:
        raise HeadwayError(
            "This vocabulary has no end-of-text token, which a text without a prompt starts from. Give a prompt, or "
            'name the token as "eos_token" in tokenizer_config.json.'
        )
    return [tokenizer.end_of_text_id]


def _generate(
    network: Network,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    end_of_text_id: int | None,
    tokenizer: Tokenizer | None,
) -> list[tuple[Generation, ...]]:
    steps = _steps(network, prompts, config, end_of_text_id, tokenizer, CACHE_BYTES)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _steps(
    network: Network,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    end_of_text_id: int | None,
    tokenizer: Tokenizer | None,
    cache_bytes: int,
) -> Generator[None, None, list[tuple[Generation, ...]]]:
    """Computes a token at each step, of as many texts as the cache may hold; gives all texts at the end."""
    model = language_model(network)
    check_prompts(prompts, model, config)
    size = model.config
    window = size.max_positions
    budget = max(1, cache_bytes // model.cache_bytes_per_token)  # in tokens
    # Samples of a prompt share its part of the cache, unless the context slides.
    slides = config.context == "slide" and any(room_after(p, model) < config.max_new_tokens for p in prompts)
    each = window if slides else min(config.max_new_tokens, window)
    results: list[list[Generation]] = [[] for _ in prompts]
    if config.num_beams > 1:
        for batch in _batches(prompts, config.num_beams * each, budget):
            members = [prompts[i] for i in batch]
            search = beam_search(network, members, config, end_of_text_id=end_of_text_id, tokenizer=tokenizer)
            found = yield from search
            for i, texts in zip(batch, found, strict=True):
                results[i] = texts
    else:
        at_once = max(1, budget // each)
        for first in range(0, config.num_return_sequences, at_once):
            samples = range(first, min(first + at_once, config.num_return_sequences))
            for batch in _batches(prompts, len(samples) * each, budget):
                steps = decode(
                    network,
                    [prompts[i] for i in batch],
                    config,
                    end_of_text_id=end_of_text_id,
                    tokenizer=tokenizer,
                    samples=samples,
                )
                rows, _ = next(steps)
                for _ in steps:
                    yield
                for row in rows:
                    results[batch[row.prompt]].append(row.generation())
    return [tuple(texts) for texts in results]


def _batches(prompts: Sequence[Sequence[int]], more: int, budget: int) -> list[list[int]]:
    """Which prompts are continued together, when each may get so many more tokens: a cache's rows are equally long."""
    batches: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        longest = len(prompts[batches[-1][0]]) + more if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
        batches[-1].append(index)
    return batches


def _decode_text(
    network: Network, tokenizer: Tokenizer, prompt: str, config: GenerationConfig, sample: int
) -> Iterator[tuple[list[SequenceState], Tensor]]:
    prompts = [prompt_ids(tokenizer, prompt)]
    check_prompts(prompts, language_model(network), config)
    return decode(
        network,
        prompts,
        config,
        end_of_text_id=tokenizer.end_of_text_id,
        tokenizer=tokenizer,
        samples=[sample],
    )


def _refuse_beams(config: GenerationConfig) -> None:
    if config.num_beams > 1:
        raise HeadwayError(
            f"num_beams={config.num_beams}: the text of a beam search is only known at its end and cannot be "
            "streamed. Use num_beams=1."
        )


def _candidate(tokenizer: Tokenizer, token: int, probabilities: Tensor) -> Candidate:
    try:
        text = token_bytes(tokenizer, token).decode()
    except UnicodeDecodeError:
        text = ""
    return Candidate(token, text or tokenizer.tokens([token])[0], float(probabilities[token]))

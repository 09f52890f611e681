"""Text generation: complete texts, text as it is generated, or token by token with alternatives.

GPT-2 continues a prompt. An encoder-decoder reads it and writes another text, of which the same holds.

The next token is chosen in sampling.py or beam_search.py, in the loop of decoding.py, with the options of
generation_config.py. Without a prompt, a text starts from the end-of-text token, as all texts in GPT-2's training.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..device import free_memory
from ..errors import HeadwayError
from ..models.encoder_decoder import EncoderDecoderConfig
from ..models.gpt2 import GPT2
from ..models.heads import Network
from ..models.transformer import TransformerConfig
from ..tokenizers.text_stream import token_bytes
from ..tokenizers.tokenizer import Tokenizer
from .beam_search import beam_search
from .decoding import FinishReason, Generation, SequenceState, TextGenerator, decode
from .generation_config import GenerationConfig

Prompt = str | Sequence[int]  # a text, or token ids, at least one
CACHE_BYTES = 2**30  # keys and values of the texts that are generated in parallel, on a CPU


@dataclass(frozen=True)
class StreamedText:
    """A piece of a text that is being generated."""

    piece: str  # "" while a character, or what may become a stop string, is incomplete
    generation: Generation | None  # the complete text; with its last piece


@dataclass(frozen=True)
class Candidate:
    """A possible next token."""

    token_id: int
    token: str  # text; the vocabulary's spelling if it is not a complete character, or a special token
    probability: float


@dataclass(frozen=True)
class TokenStep:
    """A generated token and its alternatives."""

    token_id: int
    token: str
    probability: float
    likeliest: tuple[Candidate, ...]  # most likely first
    piece: str  # text, as in StreamedText
    finish_reason: FinishReason | None  # with the last token


def generate(
    network: Network, tokenizer: Tokenizer, prompts: Sequence[Prompt], config: GenerationConfig | None = None
) -> list[tuple[Generation, ...]]:
    """Continues texts.

    Args:
        network: GPT-2 or an encoder-decoder with its language-model head, in eval mode.
        tokenizer: the model's tokenizer.
        prompts: texts or their token ids; an empty text starts from the end-of-text token.
        config: the options. Default: greedy decoding.

    Returns:
        For each prompt, its samples or the best texts of its beam search, best first.

    Raises:
        HeadwayError: the network cannot generate, a prompt is longer than the model's context, or a prompt is empty
            and the vocabulary has no end-of-text token.
    """
    if isinstance(prompts, str):
        raise TypeError("prompts must be a sequence of texts, not one text")
    encoded = [encode_prompt(network, tokenizer, prompt) for prompt in prompts]
    return _generate(_text_generator(network, tokenizer, config), encoded)


def generate_ids(
    network: Network,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig | None = None,
    *,
    end_of_text_id: int | None = None,
) -> list[tuple[Generation, ...]]:
    """Continues sequences of token ids, without a tokenizer: no text and no stop strings.

    Args:
        network: GPT-2 or an encoder-decoder with its language-model head, in eval mode.
        prompts: token ids, at least one each.
        config: the options. Default: greedy decoding.
        end_of_text_id: the token that ends a text. Default: no token does.

    Raises:
        HeadwayError: as `generate`; also if there are stop strings.
    """
    config = config or GenerationConfig()
    if config.stop:
        raise HeadwayError(f"stop={config.stop!r} needs a tokenizer, but only token ids are given. Remove the option.")
    return _generate(TextGenerator(network, config, end_of_text_id, tokenizer=None), prompts)


def generate_in_steps(
    network: Network,
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: GenerationConfig | None = None,
    *,
    share: int = 1,
) -> Iterator[tuple[Generation, ...] | None]:
    """Continues a text as `generate`, but yields None at each step, and the texts at the end.

    The caller can generate several texts in turn, or stop early.

    Args:
        network: GPT-2 or an encoder-decoder with its language-model head, in eval mode.
        tokenizer: the model's tokenizer.
        prompt: a text or its token ids.
        config: the options. Default: greedy decoding.
        share: the number of generations that share the memory for keys and values.

    Raises:
        HeadwayError: as `generate`.
    """
    generator = _text_generator(network, tokenizer, config)
    cache_bytes = _cache_bytes(generator) // share
    (texts,) = yield from _generate_in_steps(generator, [encode_prompt(network, tokenizer, prompt)], cache_bytes)
    yield texts


def stream(
    network: Network, tokenizer: Tokenizer, prompt: Prompt, config: GenerationConfig | None = None
) -> Iterator[StreamedText]:
    """Continues a text and yields it as it is generated; several samples one after the other.

    The pieces of a text add up to the text of its generation; none splits a character.

    Raises:
        HeadwayError: as `generate`; also for a beam search, whose text is known only at its end.
    """
    generator = _text_generator(network, tokenizer, config)
    _refuse_beam_search(generator.config)
    for number in range(generator.config.num_return_sequences):
        for row, _ in _decode_one(generator, encode_prompt(network, tokenizer, prompt), number):
            assert row.stream is not None
            last = row.finish_reason is not None
            yield StreamedText(row.stream.piece(last=last), row.generation() if last else None)


def next_tokens(
    network: Network,
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: GenerationConfig | None = None,
    *,
    likeliest: int = 10,
) -> Iterator[TokenStep]:
    """Continues a text token by token, with the `likeliest` most likely tokens at each step.

    The probabilities are the model's, before temperature, penalty and filters. The options choose the token, which is
    not necessarily among the most likely ones.

    Raises:
        HeadwayError: as `generate`; also for a beam search or several samples.
    """
    generator = _text_generator(network, tokenizer, config)
    _refuse_beam_search(generator.config)
    if generator.config.num_return_sequences > 1:
        raise HeadwayError(
            f"num_return_sequences={generator.config.num_return_sequences}: only one text can be generated token by "
            "token. Use num_return_sequences=1."
        )
    for row, logits in _decode_one(generator, encode_prompt(network, tokenizer, prompt), 0):
        assert row.stream is not None
        probabilities = logits.softmax(dim=-1).cpu()  # one transfer for all numbers that are read
        chosen = _candidate(tokenizer, row.token_ids[-1], probabilities)
        best = probabilities.topk(min(likeliest, len(probabilities))).indices.tolist()
        yield TokenStep(
            token_id=chosen.token_id,
            token=chosen.token,
            probability=chosen.probability,
            likeliest=tuple(_candidate(tokenizer, token, probabilities) for token in best),
            piece=row.stream.piece(last=row.finish_reason is not None),
            finish_reason=row.finish_reason,
        )


def encode_prompt(network: Network, tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """The token ids of a prompt; the end-of-text token if it is an empty text.

    Raises:
        HeadwayError: the prompt is empty, and the vocabulary has no end-of-text token.
    """
    if not isinstance(prompt, str):
        return list(prompt)
    ids = tokenizer.encode(prompt).ids
    if tokenizer.framing.after and not isinstance(network.backbone, GPT2):  # an encoder reads it
        return tokenizer.join(ids)[0]
    if ids:
        return ids
    if tokenizer.end_of_text_id is None:
        raise HeadwayError(
            "This vocabulary has no end-of-text token, from which a text without a prompt starts. Give a prompt, or "
            'set the token as "eos_token" in tokenizer_config.json.'
        )
    return [tokenizer.end_of_text_id]


def _text_generator(network: Network, tokenizer: Tokenizer, config: GenerationConfig | None) -> TextGenerator:
    written, model_config = tokenizer.of_outputs, network.config
    end = written.end_of_text_id
    if isinstance(model_config, EncoderDecoderConfig | TransformerConfig) and model_config.end_id is not None:
        end = model_config.end_id
    return TextGenerator(network, config or GenerationConfig(), end, written)


def _cache_bytes(generator: TextGenerator) -> int:
    """The memory for keys and values: on an accelerator a quarter of what is free."""
    free = free_memory(generator.model.token_embedding.weight.device)
    return CACHE_BYTES if free is None else free // 4


def _generate(generator: TextGenerator, prompts: Sequence[Sequence[int]]) -> list[tuple[Generation, ...]]:
    steps = _generate_in_steps(generator, prompts, _cache_bytes(generator))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _generate_in_steps(
    generator: TextGenerator, prompts: Sequence[Sequence[int]], cache_bytes: int
) -> Generator[None, None, list[tuple[Generation, ...]]]:
    """Generates a token of as many texts as fit into the cache at each step; returns the texts of all prompts."""
    generator.check(prompts)
    config = generator.config
    window = generator.model.config.max_positions
    cache_tokens = max(1, cache_bytes // generator.model.cache_bytes_per_token)
    # The samples of a prompt share its part of the cache, unless the context slides.
    slides = config.context == "slide" and any(generator.max_tokens(p) < config.max_new_tokens for p in prompts)
    new_tokens = window if slides else min(config.max_new_tokens, window)
    results: list[list[Generation]] = [[] for _ in prompts]
    if config.num_beams > 1:
        for batch in _batches(prompts, config.num_beams * new_tokens, cache_tokens):
            found = yield from beam_search(generator, [prompts[i] for i in batch])
            for i, texts in zip(batch, found, strict=True):
                results[i] = texts
    else:
        at_once = max(1, cache_tokens // new_tokens)
        for first in range(0, config.num_return_sequences, at_once):
            samples = range(first, min(first + at_once, config.num_return_sequences))
            for batch in _batches(prompts, len(samples) * new_tokens, cache_tokens):
                steps = decode(generator, [prompts[i] for i in batch], samples)
                rows, _ = next(steps)
                for _ in steps:
                    yield
                for row in rows:
                    results[batch[row.prompt]].append(row.generation())
    return [tuple(texts) for texts in results]


def _batches(prompts: Sequence[Sequence[int]], new_tokens: int, cache_tokens: int) -> list[list[int]]:
    """The indices of the prompts that are continued in parallel: all rows of a cache have the same capacity."""
    batches: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        longest = len(prompts[batches[-1][0]]) + new_tokens if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > cache_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def _decode_one(generator: TextGenerator, prompt: list[int], number: int) -> Iterator[tuple[SequenceState, Tensor]]:
    """Generates one sample of a prompt, and yields it after each step with the logits (V,) of that step."""
    generator.check([prompt])
    for (row,), logits in decode(generator, [prompt], [number]):
        yield row, logits[0]


def _refuse_beam_search(config: GenerationConfig) -> None:
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

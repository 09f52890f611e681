"""The decoding loop: greedy decoding and sampling, one token per step.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Each step is one forward pass for the
newest token of all rows, with a key-value cache of the tokens before it.

Shapes: R rows, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import torch
from torch import Tensor

from ..errors import HeadwayError
from ..models.bert import MaskedLMHead
from ..models.cache import KVCache
from ..models.encoder_decoder import EncoderDecoder
from ..models.gpt2 import GPT2, LanguageModelHead
from ..models.heads import Generator, Network
from ..models.transfers import is_asynchronous, send
from ..models.transformer import Transformer, TransformerHead
from ..tokenizers.text_stream import TextStream
from ..tokenizers.tokenizer import Tokenizer
from .generation_config import GenerationConfig
from .sampling import filter_logits, forbid_repeats, penalize, sample

MIN_SHARED_PREFIX = 64  # tokens; attention over a shared prefix is faster from this length on

FinishReason = Literal["end-of-text", "stop", "length", "context"]


@dataclass(frozen=True)
class Generation:
    """A generated continuation of a prompt."""

    text: str  # complete characters, before any stop string; "" without a tokenizer
    token_ids: tuple[int, ...]  # with the end-of-text token or the last token of a stop string
    # Log-probability of the tokens; in a beam search divided by their number to the power of the length penalty.
    score: float
    finish_reason: FinishReason


@dataclass(frozen=True)
class TextGenerator:
    """What the texts of one call share."""

    network: Network  # GPT-2 or an encoder-decoder, with its language-model head
    config: GenerationConfig
    end_of_text_id: int | None  # None: no token ends a text
    tokenizer: Tokenizer | None  # for text and stop strings; None: only token ids

    @property
    def model(self) -> Generator:
        """The backbone.

        Raises:
            HeadwayError: the network cannot generate.
        """
        return text_model(self.network)

    def new_stream(self) -> TextStream | None:
        """An empty text."""
        return None if self.tokenizer is None else TextStream(self.tokenizer, self.config.stop)

    def max_tokens(self, prompt: Sequence[int]) -> int:
        """The number of tokens after which the context is full; the last token is never an input."""
        return self.model.config.max_positions - len(self.written(prompt)) + 1

    def written(self, prompt: Sequence[int]) -> Sequence[int]:
        """What a text begins with: its prompt, or the start token of an encoder-decoder, whose encoder reads it."""
        return prompt if isinstance(self.model, GPT2) else [start_token(self.model)]

    def finish_reason(self, token: int, count: int, stream: TextStream | None, max_tokens: int) -> FinishReason | None:
        """Why a text of `count` new tokens ends with its newest token; None if it continues."""
        if token == self.end_of_text_id:
            return "end-of-text"
        if stream is not None and stream.stopped:
            return "stop"
        if count == self.config.max_new_tokens:
            return "length"
        if count == max_tokens and self.config.context == "stop":
            return "context"
        return None

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Checks the prompts before anything is computed.

        Raises:
            HeadwayError: a prompt is longer than the context (and context=stop), or has a token that the model does
                not have.
        """
        config = self.model.config
        window, vocab_size = config.max_positions, config.vocab_size
        if isinstance(self.model, EncoderDecoder):
            window, vocab_size = self.model.config.encoder.max_positions, self.model.config.encoder.vocab_size
        if not isinstance(self.model, GPT2):
            start_token(self.model)
            if self.config.context == "slide":
                raise HeadwayError("context=slide needs a GPT-2: an encoder-decoder cannot slide. Use context=stop.")
        for i, prompt in enumerate(prompts, start=1):
            which = f"Prompt {i} of {len(prompts)}" if len(prompts) > 1 else "The prompt"
            if len(prompt) > window and self.config.context == "stop":
                raise HeadwayError(
                    f"{which} has {len(prompt)} tokens, but the model's context is {window} tokens. Shorten it"
                    + (", or use context=slide, which reads only its end." if isinstance(self.model, GPT2) else ".")
                )
            if max(prompt) >= vocab_size:
                raise HeadwayError(
                    f"{which} has the token id {max(prompt)}, but the model has {vocab_size} tokens: the tokenizer "
                    "belongs to another model. Use the model's own tokenizer."
                )


@dataclass
class SequenceState:
    """A text that is being generated."""

    prompt: int  # index of its prompt
    max_tokens: int  # number of tokens after which the context is full
    pending_ids: list[int]  # tokens that are not in the cache yet
    stream: TextStream | None
    random: Random
    token_ids: list[int] = field(default_factory=list)
    score: float = 0.0
    finish_reason: FinishReason | None = None

    def push(self, token: int, log_probability: float, generator: TextGenerator) -> None:
        """Adds a token, which may finish the text."""
        self.token_ids.append(token)
        self.score += log_probability
        self.pending_ids = [token]
        if self.stream is not None:
            self.stream.push(token)
        self.finish_reason = generator.finish_reason(token, len(self.token_ids), self.stream, self.max_tokens)

    def generation(self) -> Generation:
        """The finished text."""
        assert self.finish_reason is not None
        text = "" if self.stream is None else self.stream.text
        return Generation(text, tuple(self.token_ids), self.score, self.finish_reason)


def language_model(network: Network) -> GPT2:
    """The backbone of a network that continues a text.

    Raises:
        HeadwayError: the network is not a GPT-2 with its language-model head.
    """
    backbone = text_model(network)
    if not isinstance(backbone, GPT2):
        raise HeadwayError("This needs a GPT-2; an encoder-decoder does not continue texts. Choose another model.")
    return backbone


def text_model(network: Network) -> Generator:
    """The backbone of a network that can generate.

    Raises:
        HeadwayError: the network is neither a GPT-2 nor an encoder-decoder, or has no language-model head.
        ValueError: the network is in training mode.
    """
    heads = LanguageModelHead | MaskedLMHead | TransformerHead
    backbone = network.backbone
    if not isinstance(backbone, GPT2 | EncoderDecoder | Transformer) or not isinstance(network.head, heads):
        head = "no head" if network.head is None else type(network.head).__name__
        raise HeadwayError(
            "Generation needs a GPT-2 or an encoder-decoder with its language-model head; "
            f"this is a {type(backbone).__name__} with {head}. Choose another model."
        )
    if network.training:
        raise ValueError("the network is in training mode: call eval() first")
    return backbone


def start_token(model: EncoderDecoder | Transformer) -> int:
    """The token that every target of an encoder-decoder begins with.

    Raises:
        HeadwayError: the model does not say.
    """
    if model.config.start_id is None:
        raise HeadwayError(
            "The model does not say from which token its texts start. Set decoder_start_token_id in config.json, "
            "usually to the id of [CLS] or of the end-of-text token."
        )
    return model.config.start_id


def next_logits(network: Network, cache: KVCache, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Extends every row of the cache by new tokens; returns the logits of the next token, (R, V) in fp32."""
    assert network.head is not None
    batch = cache.extend(sequences)
    hidden = network.backbone(batch, cache)
    return network.head(hidden if len(hidden) == len(batch) else hidden[batch.last]).float()


def seen_tokens(prompts: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    """Whether each token of the vocabulary is in the prompt of each row, (R, V)."""
    numbers = [row for row, prompt in enumerate(prompts) for _ in prompt]
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[send(logits.device, numbers, [token for prompt in prompts for token in prompt])] = True
    return seen


def select_rows(x: Tensor, rows: Sequence[int]) -> Tensor:
    """Some rows of a tensor, without waiting for its device."""
    return x.index_select(0, *send(x.device, rows))


def read_tokens(tokens: Tensor, scores: Tensor) -> tuple[list[int], list[float]]:
    """Tokens and their scores (fp32) as numbers, by one transfer from a device: all that a step waits for."""
    if not is_asynchronous(tokens.device):
        return tokens.tolist(), scores.tolist()
    both = torch.stack([tokens.long(), scores.view(torch.int32).long()]).cpu()  # the bits of the scores
    return both[0].tolist(), both[1].int().view(torch.float32).tolist()


@torch.inference_mode()
def decode(
    generator: TextGenerator, prompts: Sequence[Sequence[int]], samples: Sequence[int]
) -> Iterator[tuple[list[SequenceState], Tensor]]:
    """Continues prompts, and yields after each step the rows that got a token and the logits (R, V) of that step.

    Args:
        generator: the model and its options.
        prompts: token ids, checked by `TextGenerator.check`.
        samples: the numbers of the samples of each prompt; a sample depends only on prompt, seed and number.

    Raises:
        HeadwayError: the network cannot generate.
    """
    config = generator.config
    rows = []
    for i, prompt in enumerate(prompts):
        for number in samples:
            random = Random(config.seed * 1_000_003 + number)
            rows.append(SequenceState(i, generator.max_tokens(prompt), list(prompt), generator.new_stream(), random))
    window = generator.model.config.max_positions
    slides = any(row.max_tokens < config.max_new_tokens for row in rows) and config.context == "slide"
    cache, logits = _prefill_sliding(generator, rows) if slides else _prefill_rows(generator, rows)
    seen = None
    if config.repetition_penalty != 1:
        seen = seen_tokens([generator.written(prompts[row.prompt]) for row in rows], logits)
    while True:
        _append_tokens(generator, prompts, rows, logits, seen)
        yield rows, logits
        running = [i for i, row in enumerate(rows) if row.finish_reason is None]
        if not running:
            return
        if len(running) < len(rows):
            rows = [rows[i] for i in running]
            cache.reorder(running)
            seen = None if seen is None else select_rows(seen, running)
        if slides:
            for i, length in enumerate(cache.total_lengths):
                if length == window:  # positions are absolute: the newer half is computed again from position 0
                    cache.clear(i)
                    rows[i].pending_ids = [*prompts[rows[i].prompt], *rows[i].token_ids][-max(1, window // 2) :]
        logits = next_logits(generator.network, cache, [row.pending_ids for row in rows])


def prefill(
    network: Network, prompts: Sequence[Sequence[int]], *, capacity: int, copies: int = 1
) -> tuple[KVCache, Tensor]:
    """Computes the keys and values of prompts, those of their common prefix only once.

    Args:
        network: GPT-2 or an encoder-decoder, with its language-model head.
        prompts: token ids of R prompts.
        capacity: number of tokens of each row that fit into the cache after its prompt.
        copies: continuations of each prompt that `reorder` can make in an encoder-decoder's cache, where prompts are
            never copied; GPT-2's cache is forked for them.

    Returns:
        The cache, and the logits of the next token, (R, V) in fp32.
    """
    model = text_model(network)
    if not isinstance(model, GPT2):
        cache = model.new_cache(prompts, 1 + capacity, copies)
        return cache, next_logits(network, cache, [[start_token(model)]] * len(prompts))
    shared = _common_prefix_length(prompts)
    if shared < MIN_SHARED_PREFIX:
        cache = model.new_cache(len(prompts), max(map(len, prompts)) + capacity)
        return cache, next_logits(network, cache, prompts)
    prefix = model.new_cache(1, shared)
    model(prefix.extend([prompts[0][:shared]]), prefix)
    rest = [prompt[shared:] for prompt in prompts]
    cache = prefix.fork([len(prompts)], capacity=max(map(len, rest)) + capacity)
    return cache, next_logits(network, cache, rest)


def _common_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """The number of tokens with which several prompts begin; at least one token of each prompt remains."""
    if len(prompts) == 1:
        return 0
    # In lexicographic order, all other prompts are between these two.
    first, last = min(map(list, prompts)), max(map(list, prompts))
    length = min(map(len, prompts)) - 1
    return next((i for i in range(length) if first[i] != last[i]), length)


def _prefill_rows(generator: TextGenerator, rows: list[SequenceState]) -> tuple[KVCache, Tensor]:
    """Prefills each prompt once; the samples of a prompt share its part of the cache."""
    prompts = {row.prompt: row.pending_ids for row in rows}
    count = len(rows) // len(prompts)
    capacity = max(1, min(generator.config.max_new_tokens, max(row.max_tokens for row in rows)) - 1)
    own = count == 1 or not isinstance(generator.model, GPT2)
    cache, logits = prefill(generator.network, list(prompts.values()), capacity=capacity if own else 0, copies=count)
    if count == 1:
        return cache, logits
    if own:
        cache.reorder([row for row in range(len(prompts)) for _ in range(count)])
        return cache, logits.repeat_interleave(count, dim=0)
    return cache.fork([count] * len(prompts), capacity=capacity), logits.repeat_interleave(count, dim=0)


def _prefill_sliding(generator: TextGenerator, rows: list[SequenceState]) -> tuple[KVCache, Tensor]:
    """Prefills the end of each row's prompt, without sharing: `decode` clears rows of the cache."""
    window, new_tokens = generator.model.config.max_positions, generator.config.max_new_tokens - 1
    prompts = [row.pending_ids[-window:] for row in rows]
    assert isinstance(generator.model, GPT2)
    cache = generator.model.new_cache(len(rows), max(min(window, len(prompt) + new_tokens) for prompt in prompts))
    return cache, next_logits(generator.network, cache, prompts)


def _append_tokens(
    generator: TextGenerator,
    prompts: Sequence[Sequence[int]],
    rows: list[SequenceState],
    logits: Tensor,
    seen: Tensor | None,
) -> None:
    """Chooses the next token of every row."""
    config = generator.config
    scores = logits if seen is None else penalize(logits, seen, config.repetition_penalty)
    if config.no_repeat_ngram_size is not None:
        texts = ([*prompts[row.prompt], *row.token_ids] for row in rows)
        scores = forbid_repeats(scores, texts, config.no_repeat_ngram_size)
    if config.do_sample:
        tokens = sample(filter_logits(scores, config), [row.random.random() for row in rows])
    else:
        tokens = scores.argmax(dim=-1)
    if seen is not None:
        seen[torch.arange(len(rows), device=seen.device), tokens] = True
    chosen = logits.log_softmax(dim=-1).gather(-1, tokens[:, None])[:, 0]
    for row, token, log_probability in zip(rows, *read_tokens(tokens, chosen), strict=True):
        row.push(token, log_probability, generator)

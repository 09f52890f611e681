"""Token by token: what a language model continues its prompts with, greedily or by drawing.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Every step is one forward pass for the
newest token of all rows, on top of a cache of what came before.

Shapes: R rows, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import torch
from torch import Tensor

from ..errors import HeadwayError
from ..models.cache import KVCache
from ..models.gpt2 import GPT2, LanguageModelHead
from ..models.heads import Network
from ..tokenizers.text_stream import TextStream
from ..tokenizers.tokenizer import Tokenizer
from .generation_config import GenerationConfig
from .sampling import draw, limit, penalize

FEWEST_SHARED = 64  # tokens that prompts begin alike with, from which attention over them together is worth while

FinishReason = Literal["end-of-text", "stop", "length", "context"]


@dataclass(frozen=True)
class Generation:
    """What a prompt was continued with."""

    text: str  # whole characters, before any stop string; "" where no tokenizer was given
    token_ids: tuple[int, ...]  # with the end-of-text token, or the one that completed a stop string
    # The tokens' log-probability; in a beam search divided by their number to the power of the length penalty.
    score: float
    finish_reason: FinishReason


@dataclass
class SequenceState:
    """A text on its way."""

    prompt: int  # which prompt it continues
    room: int  # new tokens until the context is full
    fresh: list[int]  # tokens that the model has not read
    text: TextStream | None
    random: Random
    token_ids: list[int] = field(default_factory=list)
    score: float = 0.0
    finish_reason: FinishReason | None = None

    def push(self, token: int, log_probability: float, config: GenerationConfig, end_of_text_id: int | None) -> None:
        """Adds a token and notes whether it is the last one."""
        self.token_ids.append(token)
        self.score += log_probability
        self.fresh = [token]
        if self.text is not None:
            self.text.push(token)
        self.finish_reason = finish_reason(token, len(self.token_ids), self.text, self.room, config, end_of_text_id)

    def generation(self) -> Generation:
        """The finished text."""
        assert self.finish_reason is not None
        text = "" if self.text is None else self.text.text
        return Generation(text, tuple(self.token_ids), self.score, self.finish_reason)


def finish_reason(
    token: int, count: int, text: TextStream | None, room: int, config: GenerationConfig, end_of_text_id: int | None
) -> FinishReason | None:
    """Why a text ends with its newest token, the `count`-th; None if it goes on."""
    if token == end_of_text_id:
        return "end-of-text"
    if text is not None and text.stopped:
        return "stop"
    if count == config.max_new_tokens:
        return "length"
    if count == room and config.context == "stop":
        return "context"
    return None


def language_model(network: Network) -> GPT2:
    """The backbone of a network that can generate.

    Raises:
        HeadwayError: it is not a GPT-2 with its language-model head.
    """
    if not isinstance(network.backbone, GPT2) or not isinstance(network.head, LanguageModelHead):
        head = "no head" if network.head is None else type(network.head).__name__
        raise HeadwayError(
            "Generation needs a GPT-2 with its language-model head; "
            f"this is a {type(network.backbone).__name__} with {head}. Choose another model."
        )
    if network.training:
        raise ValueError("the network is in training mode: call eval() first")
    return network.backbone


def check_prompts(prompts: Sequence[Sequence[int]], model: GPT2, config: GenerationConfig) -> None:
    """Makes sure, before anything is computed, that every prompt can be read.

    Raises:
        HeadwayError: one is longer than the context, which does not slide; one has a token that the model has not.
    """
    window, vocab_size = model.config.max_positions, model.config.vocab_size
    for i, prompt in enumerate(prompts, start=1):
        which = f"Prompt {i} of {len(prompts)}" if len(prompts) > 1 else "The prompt"
        if len(prompt) > window and config.context == "stop":
            raise HeadwayError(
                f"{which} has {len(prompt)} tokens, and the model's context holds {window}. Shorten it, or use "
                "context=slide, which reads its end only."
            )
        if max(prompt) >= vocab_size:
            raise HeadwayError(
                f"{which} has the token {max(prompt)}, and the model knows {vocab_size} tokens, counted from 0: the "
                "tokenizer belongs to another model. Use the model's own."
            )


def room_after(prompt: Sequence[int], model: GPT2) -> int:
    """How many tokens can follow a prompt before the context is full: the last one need not be read."""
    return model.config.max_positions - len(prompt) + 1


def next_logits(network: Network, cache: KVCache, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Reads new tokens of every row and gives the logits of what comes next, (R, V) in fp32."""
    assert network.head is not None
    batch = cache.extend(sequences)
    hidden = network.backbone(batch, cache)
    return network.head(hidden if len(hidden) == len(batch) else hidden[batch.last]).float()


def seen_tokens(prompts: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    """Which tokens of the vocabulary are in each row, (R, V)."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, prompt in zip(seen, prompts, strict=True):
        row[list(prompt)] = True
    return seen


@torch.inference_mode()
def decode(
    network: Network,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    end_of_text_id: int | None,
    tokenizer: Tokenizer | None,
    samples: Sequence[int],
) -> Iterator[tuple[list[SequenceState], Tensor]]:
    """Continues prompts and yields after each step the rows that got a token, and the logits (R, V) they got it by.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        prompts: token ids, checked.
        config: greedy or drawing.
        end_of_text_id: the token that ends a text.
        tokenizer: for the text of the rows; none: no text.
        samples: the numbers of each prompt's samples; a sample depends on nothing but prompt, seed and number.

    Raises:
        HeadwayError: the network cannot generate.
    """
    model = language_model(network)
    rows = []
    for i, prompt in enumerate(prompts):
        for sample in samples:
            text = None if tokenizer is None else TextStream(tokenizer, config.stop)
            random = Random(config.seed * 1_000_003 + sample)
            rows.append(SequenceState(i, room_after(prompt, model), list(prompt), text, random))
    window = model.config.max_positions
    slides = any(row.room < config.max_new_tokens for row in rows) and config.context == "slide"
    cache, logits = _read(network, model, rows, config, slides=slides)
    seen = None
    if config.repetition_penalty != 1:
        seen = seen_tokens([prompts[row.prompt] for row in rows], logits)
    while True:
        _append(rows, logits, seen, config, end_of_text_id)
        yield rows, logits
        running = [i for i, row in enumerate(rows) if row.finish_reason is None]
        if not running:
            return
        if len(running) < len(rows):
            rows = [rows[i] for i in running]
            cache.reorder(running)
            seen = None if seen is None else seen[running]
        if slides:
            for i, length in enumerate(cache.total_lengths):
                if length == window:  # positions are learned: the newer half is read again from position 0 on
                    cache.clear(i)
                    rows[i].fresh = [*prompts[rows[i].prompt], *rows[i].token_ids][-max(1, window // 2) :]
        logits = next_logits(network, cache, [row.fresh for row in rows])


def read_prompts(network: Network, prompts: Sequence[Sequence[int]], *, room: int) -> tuple[KVCache, Tensor]:
    """Reads prompts, and what all of them begin with once; gives the logits of what comes next, (R, V) in fp32.

    Args:
        network: GPT-2 with its language-model head.
        prompts: R sequences of tokens.
        room: how many tokens each row of the cache can take after its prompt.
    """
    model = language_model(network)
    begin = _begin_alike(prompts)
    if begin < FEWEST_SHARED:
        cache = model.new_cache(len(prompts), max(map(len, prompts)) + room)
        return cache, next_logits(network, cache, prompts)
    prefix = model.new_cache(1, begin)
    model(prefix.extend([prompts[0][:begin]]), prefix)
    rest = [prompt[begin:] for prompt in prompts]
    cache = prefix.fork([len(prompts)], capacity=max(map(len, rest)) + room)
    return cache, next_logits(network, cache, rest)


def _begin_alike(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all of several prompts begin with, leaving each one token at least."""
    if len(prompts) == 1:
        return 0
    # In the order of numbers all others lie between the two.
    least, most = min(map(list, prompts)), max(map(list, prompts))
    length = min(map(len, prompts)) - 1
    return next((i for i in range(length) if least[i] != most[i]), length)


def _read(
    network: Network, model: GPT2, rows: list[SequenceState], config: GenerationConfig, *, slides: bool
) -> tuple[KVCache, Tensor]:
    """Reads the rows' prompts, each once if rows of one prompt share it, and makes room for what follows."""
    more = config.max_new_tokens - 1  # the last token is not read
    if slides:
        window = model.config.max_positions
        prompts = [row.fresh[-window:] for row in rows]
        cache = model.new_cache(len(rows), max(min(window, len(prompt) + more) for prompt in prompts))
        return cache, next_logits(network, cache, prompts)
    firsts = {row.prompt: row.fresh for row in rows}
    count = len(rows) // len(firsts)
    room = max(1, min(more, max(row.room for row in rows) - 1))
    cache, logits = read_prompts(network, list(firsts.values()), room=room if count == 1 else 0)
    if count == 1:
        return cache, logits
    return cache.fork([count] * len(firsts), capacity=room), logits.repeat_interleave(count, dim=0)


def _append(
    rows: list[SequenceState],
    logits: Tensor,
    seen: Tensor | None,
    config: GenerationConfig,
    end_of_text_id: int | None,
) -> None:
    """Chooses the next token of every row."""
    scores = logits if seen is None else penalize(logits, seen, config.repetition_penalty)
    if config.do_sample:
        tokens = draw(limit(scores, config), [row.random.random() for row in rows])
    else:
        tokens = scores.argmax(dim=-1)
    if seen is not None:
        seen[torch.arange(len(rows), device=seen.device), tokens] = True
    chosen = logits.log_softmax(dim=-1).gather(-1, tokens[:, None])[:, 0]
    for row, token, log_probability in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
        row.push(token, log_probability, config, end_of_text_id)

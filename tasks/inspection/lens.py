"""What each layer would have said: its hidden states through the head over the vocabulary.

The logit lens of nostalgebraist 2020 (https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens).
GPT-2's head reads what its final norm has made; BERT's masked-word head has a transform and norm of its own.

Shapes: n tokens, C hidden size, V vocabulary.
"""

from dataclasses import dataclass

import torch

from ...core.generation.generation import Candidate, TokenStep, next_tokens
from ...core.generation.generation_config import GenerationConfig
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Network
from .opened import Inspected, Reading, Token, spell


@dataclass(frozen=True)
class LayerSays:
    """What one layer would have said."""

    layer: int  # 0: what enters the first layer
    candidates: tuple[tuple[Candidate, ...], ...]  # at each of the n tokens, the likeliest first


@dataclass(frozen=True)
class LensView:
    """What each layer would have said at each token: what comes next (GPT-2), or what stands there (BERT)."""

    tokens: tuple[Token, ...]
    layers: tuple[LayerSays, ...]


@torch.inference_mode()
def view_lens(inspected: Inspected, reading: Reading, *, most: int = 5) -> LensView:
    """The `most` likeliest tokens of every layer at every token.

    Raises:
        HeadwayError: the model has no head over the vocabulary.
    """
    states = inspected.activations(reading).hidden_states
    backbone = inspected.network.backbone
    says = []
    for layer, hidden in enumerate(states):
        if isinstance(backbone, GPT2) and layer < len(states) - 1:  # the last ones are normed already
            hidden = backbone.final_norm(hidden)
        best = inspected.words_of(hidden).softmax(-1).topk(min(most, backbone.config.vocab_size))
        rows = []
        for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            words = spell(inspected.tokenizer, ids)
            rows.append(tuple(Candidate(*one) for one in zip(ids, words, probabilities, strict=True)))
        says.append(LayerSays(layer, tuple(rows)))
    return LensView(reading.tokens, tuple(says))


def view_next_tokens(
    inspected: Inspected, text: str, *, steps: int = 10, likeliest: int = 10
) -> tuple[TokenStep, ...]:
    """What GPT-2 goes on with, and what else was likely at each step; nothing for any other model, or a full context.

    Raises:
        HeadwayError: the text is empty, and the vocabulary has no end-of-text token.
    """
    backbone, head = inspected.network.backbone, inspected.vocabulary_head
    room = backbone.config.max_positions - len(inspected.tokenizer.encode(text).ids)
    if head is None or not isinstance(backbone, GPT2) or room < 1:
        return ()
    config = GenerationConfig(max_new_tokens=min(steps, room))
    network = Network(backbone, head).eval()
    return tuple(next_tokens(network, inspected.tokenizer, text, config, likeliest=likeliest))

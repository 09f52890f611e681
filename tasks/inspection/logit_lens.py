"""The logit lens: the hidden states of every layer through the head over the vocabulary.

nostalgebraist 2020 (https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens). GPT-2's head
reads the output of its final norm; BERT's masked-word head contains a transform and a norm.

Shapes: n tokens, C hidden size, V vocabulary.
"""

from dataclasses import dataclass

import torch

from ...core.generation.generation import Candidate, TokenStep, next_tokens
from ...core.generation.generation_config import GenerationConfig
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Network
from .inspected_model import EncodedText, InspectedModel, Token, token_texts


@dataclass(frozen=True)
class LayerPredictions:
    """The most likely tokens according to one layer."""

    layer: int  # 0: the input of the first layer
    candidates: tuple[tuple[Candidate, ...], ...]  # at each of the n tokens, the most likely first


@dataclass(frozen=True)
class LogitLens:
    """The predictions of each layer at each token: of the next token (GPT-2), or of this one (BERT)."""

    tokens: tuple[Token, ...]
    layers: tuple[LayerPredictions, ...]


@torch.inference_mode()
def apply_logit_lens(inspected: InspectedModel, encoded: EncodedText, *, top: int = 5) -> LogitLens:
    """The `top` most likely tokens of every layer at every token.

    Raises:
        HeadwayError: the model has no head over the vocabulary.
    """
    states = inspected.activations(encoded).hidden_states
    backbone = inspected.network.backbone
    layers = []
    for layer, hidden in enumerate(states):
        if isinstance(backbone, GPT2) and layer < len(states) - 1:  # the last states are normalized already
            hidden = backbone.final_norm(hidden)
        best = inspected.vocabulary_logits(hidden).softmax(-1).topk(min(top, backbone.config.vocab_size))
        rows = []
        for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            texts = token_texts(inspected.tokenizer, ids)
            rows.append(tuple(Candidate(*one) for one in zip(ids, texts, probabilities, strict=True)))
        layers.append(LayerPredictions(layer, tuple(rows)))
    return LogitLens(encoded.tokens, tuple(layers))


def next_token_steps(inspected: InspectedModel, text: str, *, steps: int = 10, top: int = 10) -> tuple[TokenStep, ...]:
    """GPT-2's continuation of a text, and the `top` most likely tokens at each step.

    It is empty for any other model, and if the text fills the context.

    Raises:
        HeadwayError: the text is empty, and the vocabulary has no end-of-text token.
    """
    backbone, head = inspected.network.backbone, inspected.vocabulary_head
    room = backbone.config.max_positions - len(inspected.tokenizer.encode(text).ids)
    if head is None or not isinstance(backbone, GPT2) or room < 1:
        return ()
    config = GenerationConfig(max_new_tokens=min(steps, room))
    network = Network(backbone, head).eval()
    return tuple(next_tokens(network, inspected.tokenizer, text, config, likeliest=top))

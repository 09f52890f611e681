"""The memory that training needs, and how many tokens one forward pass can hold.

Memory is computed, not measured: as in Rajbhandari et al. 2020 (ZeRO, https://arxiv.org/abs/1910.02054, section 3.1)
and, for activations, Korthikanti et al. 2022 (https://arxiv.org/abs/2205.05198, section 4).

Shapes: T tokens, n tokens of a text, C hidden size, H heads.
"""

from dataclasses import dataclass

import torch

from ..device import memory_for_training
from ..models.encoder_decoder import EncoderDecoderConfig
from ..models.heads import Config, SingleConfig
from ..models.transformer import TransformerConfig

FP32 = 4  # bytes per number
HALF = 2
ADAMW = 16  # bytes per parameter in fp32: weight, gradient, and AdamW's two moments
SHARE = {"cpu": 0.25}  # of the memory for activations: other programs need the memory of a CPU, too
SHARE_ON_DEVICE = 0.6  # the rest is for the backward pass, the logits of a chunk, and gaps between tensors
IN_HALF = 0.7  # the activations of autocast are partly in fp32
MIN_TOKENS = 512
MAX_TOKENS = {"cpu": 4096}  # small passes fit the cache better
MAX_TOKENS_ON_DEVICE = 131_072  # far beyond that, larger passes are no faster
UNKNOWN_MEMORY = 16_384  # tokens


@dataclass(frozen=True)
class TrainingMemory:
    """What the memory of a training run depends on.

    Args:
        config: of the model.
        trained: number of trained parameters.
        length: tokens of the longest text.
        half: whether autocast computes in bf16 or fp16.
        checkpointed: whether activations are computed again in the backward pass.
    """

    config: Config
    trained: int
    length: int
    half: bool = False
    checkpointed: bool = False

    def tokens_at_once(self, device: torch.device) -> int:
        """The number of tokens that one forward pass can hold; the same on every call on a CPU."""
        memory = memory_for_training(device)
        return UNKNOWN_MEMORY if memory is None else self.tokens_in(memory, device.type)

    def tokens_in(self, memory: int, device_type: str) -> int:
        """A power of two: a share of the memory, without the optimizer's, divided by the activations of a token.

        Args:
            memory: bytes that are free once the weights are on the device.
            device_type: cpu, cuda, ...
        """
        states = self.trained * (ADAMW - FP32 + HALF * self.half)  # autocast keeps the weights in half precision
        share = SHARE.get(device_type, SHARE_ON_DEVICE)
        fitting = int(share * (memory - states) / self._activations(device_type))
        most = MAX_TOKENS.get(device_type, MAX_TOKENS_ON_DEVICE)
        return 2 ** (min(max(fitting, MIN_TOKENS), most).bit_length() - 1)

    def _activations(self, device_type: str) -> float:
        """Bytes per token; that of one more layer for the gradients of the layer that the backward pass computes."""
        # Only the attention of the CPU stores its weights.
        length = min(self.length, self.config.max_positions) if device_type == "cpu" else 0
        config = _larger_part(self.config)
        layer = estimate_activations(config, 1, length) / config.num_layers
        layers = config.num_layers + 1
        if self.checkpointed:
            return 2 * layer + layers * FP32 * config.hidden_size
        return layers * layer * (IN_HALF if self.half else 1)


def _larger_part(config: Config) -> SingleConfig:
    """A model, or that part of an encoder-decoder whose tokens need more memory: a token belongs to one part."""
    if not isinstance(config, EncoderDecoderConfig):
        return config
    return max(config.encoder, config.decoder, key=lambda part: estimate_activations(part, 1, 0))


def estimate_activations(config: Config, tokens: int, length: int) -> int:
    """The bytes that a forward pass in fp32 stores for the backward pass, with dropout (Korthikanti et al.).

    A layer stores 34 T C + 5 T n H bytes with 16-bit numbers. Of these, 2 T C + T n H are dropout masks of one byte
    per element; the rest doubles in fp32. Its 16 T C for the feed-forward layer assume an intermediate size of 4 C.
    Logits over a vocabulary are not stored (vocabulary_loss.py). Cross-attention stores as much as self-attention, for
    a source of the same length.

    Args:
        config: of the model.
        tokens: T, in total, of an encoder-decoder in the source and the target.
        length: n, of each text.
    """
    config = _larger_part(config)
    size, inner = config.hidden_size, config.intermediate_size
    linear = 2 * (16 * size + 4 * inner) + 2 * size
    attention = (2 * 4 + 1) * config.num_heads * length
    if isinstance(config, TransformerConfig) or config.cross_attention:
        linear += 2 * 12 * size + size
        attention *= 2
    return tokens * config.num_layers * (linear + attention)

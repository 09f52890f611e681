"""A last layer for BERT whose output is the mean of the tokens' vectors, so that a head on `[CLS]` reads that mean.

Sentence encoders represent a text by the mean over its tokens (Reimers & Gurevych 2019,
https://arxiv.org/abs/1908.10084), while the published classes for classification read `[CLS]`. An ordinary layer can
compute the mean: with queries and keys of zero every token attends equally to all tokens, values are copied, and the
norm that follows removes the scale, which makes what the layer adds to its input so large that the input no longer
counts. The feed-forward part is zero. Every program that reads such a model gives the same outputs.

C hidden.
"""

from dataclasses import replace

import torch
from torch import nn

from .bert import Bert, BertBlock
from .heads import Backbone

SCALE = 1000.0  # of the mean, relative to the layer's input; numbers up to 65 fit into fp16


def can_average(backbone: Backbone) -> bool:
    """Whether `with_mean_block` applies: to BERT and its relatives without shared layers."""
    return isinstance(backbone, Bert) and not backbone.config.share_layers and not averages(backbone)


def averages(backbone: Backbone) -> bool:
    """Whether the last layer computes the mean of the tokens' vectors."""
    last = backbone.blocks[-1] if isinstance(backbone, Bert) else None
    if not isinstance(last, BertBlock) or not isinstance(last.attn.qkv, nn.Linear) or last.attn.qkv.weight.is_meta:
        return False
    size = backbone.config.hidden_size
    return not last.attn.qkv.weight[: 2 * size].any() and not last.mlp.down.weight.any()


def with_mean_block(backbone: Bert, num_layers: int) -> Bert:
    """The first layers of a backbone, which are shared with it, and a new layer for the mean of their outputs.

    The vector of every token is then the mean of all, scaled by a norm without weights.

    Args:
        backbone: a BERT; it stays unchanged.
        num_layers: number of layers to keep, at least 1.
    """
    config = replace(backbone.config, num_layers=num_layers + 1)
    with torch.device("meta"):
        averaging = Bert(config)
    for name, module in backbone.named_children():
        setattr(averaging, name, module)
    averaging.blocks = nn.ModuleList([*backbone.blocks[:num_layers], _mean_block(backbone)])
    return averaging.train(backbone.training)


@torch.no_grad()
def _mean_block(backbone: Bert) -> BertBlock:
    size, like = backbone.config.hidden_size, backbone.token_embedding.weight
    block = BertBlock(backbone.config).to(like.device, like.dtype)
    for linear in (block.attn.qkv, block.attn.out, block.mlp.up, block.mlp.down):
        linear.weight.zero_()
        assert linear.bias is not None
        linear.bias.zero_()
    block.attn.qkv.weight[2 * size :].fill_diagonal_(1.0)
    block.attn.out.weight.fill_diagonal_(SCALE)
    return block

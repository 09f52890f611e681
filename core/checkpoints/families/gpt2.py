"""GPT-2.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
DistilGPT-2, DialoGPT and the GPT-2s of other languages are GPT-2s with other weights.
"""

from collections.abc import Mapping
from typing import Any

from ...models.gpt2 import GPT2Config, LanguageModelHead
from ...models.heads import SequenceHead, SpanHead, TokenHead
from .bert import CLASSIFIER, SPAN
from .family import Family, PublishedHead, Source, Table

NAMES = {
    "vocab_size": "vocab_size",
    "max_positions": "n_positions",
    "hidden_size": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "intermediate_size": "n_inner",
    "activation": "activation_function",
    "norm_eps": "layer_norm_epsilon",
    "dropout": "resid_pdrop",
    "embedding_dropout": "embd_pdrop",
    "attention_dropout": "attn_pdrop",
    "head_dropout": "classifier_dropout",
    "init_std": "initializer_range",
    "scale_attention": "scale_attn_weights",
    "scale_attention_by_layer": "scale_attn_by_inverse_layer_idx",
    "tie_embeddings": "tie_word_embeddings",
}
BACKBONE: Table = {
    "token_embedding.weight": Source("wte.weight"),
    "position_embedding.weight": Source("wpe.weight"),
    "blocks.{i}.norm1.{p}": Source("h.{i}.ln_1.{p}"),
    "blocks.{i}.attn.qkv.{p}": Source("h.{i}.attn.c_attn.{p}", transpose=True),
    "blocks.{i}.attn.out.{p}": Source("h.{i}.attn.c_proj.{p}", transpose=True),
    "blocks.{i}.norm2.{p}": Source("h.{i}.ln_2.{p}"),
    "blocks.{i}.mlp.up.{p}": Source("h.{i}.mlp.c_fc.{p}", transpose=True),
    "blocks.{i}.mlp.down.{p}": Source("h.{i}.mlp.c_proj.{p}", transpose=True),
    "final_norm.{p}": Source("ln_f.{p}"),
}
CROSS_ATTENTION: Table = {
    "blocks.{i}.cross_norm.{p}": Source("h.{i}.ln_cross_attn.{p}"),
    "blocks.{i}.cross_attn.q.{p}": Source("h.{i}.crossattention.q_attn.{p}", transpose=True),
    "blocks.{i}.cross_attn.kv.{p}": Source("h.{i}.crossattention.c_attn.{p}", transpose=True),
    "blocks.{i}.cross_attn.out.{p}": Source("h.{i}.crossattention.c_proj.{p}", transpose=True),
}
HEADS = {
    "Model": PublishedHead(None),
    "LMHeadModel": PublishedHead(LanguageModelHead, {"lm_head.weight": Source("lm_head.weight", tied=True)}),
    "ForSequenceClassification": PublishedHead(
        SequenceHead, {"classifier.weight": Source("score.weight")}, labelled=True
    ),
    "ForTokenClassification": PublishedHead(TokenHead, CLASSIFIER, labelled=True),
    "ForQuestionAnswering": PublishedHead(SpanHead, SPAN),
}


def _read(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    # The published token-classification class reads classifier_dropout, then hidden_dropout.
    if published.get("hidden_dropout") is not None:
        ours = {"head_dropout": published["hidden_dropout"], **ours}
    return {"intermediate_size": 4 * ours.get("hidden_size", GPT2Config.hidden_size), **ours}


def _write(published: dict[str, Any], config: GPT2Config) -> dict[str, Any]:
    n_inner = None if config.intermediate_size == 4 * config.hidden_size else config.intermediate_size
    return {**published, "n_ctx": config.max_positions, "n_inner": n_inner}


GPT2 = Family(
    "gpt2", "GPT-2", "GPT2", GPT2Config(), NAMES, {"add_cross_attention": False}, "transformer.", BACKBONE, HEADS,
    cross_attention=CROSS_ATTENTION, read=_read, write=_write,
)  # fmt: skip

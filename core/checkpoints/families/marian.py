"""Marian: the Transformer of Vaswani et al., as the models for translation of Helsinki-NLP are published.

Junczys-Dowmunt et al. 2018 (https://arxiv.org/abs/1804.00344), Tiedemann and Thottingal 2020 (OPUS-MT).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import HeadwayError
from ...models.transformer import TransformerConfig, TransformerHead
from .family import Family, PublishedHead, Source, Table

NAMES = {
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
    "hidden_size": "d_model",
    "num_encoder_layers": "encoder_layers",
    "num_layers": "decoder_layers",
    "num_encoder_heads": "encoder_attention_heads",
    "num_heads": "decoder_attention_heads",
    "encoder_intermediate_size": "encoder_ffn_dim",
    "intermediate_size": "decoder_ffn_dim",
    "activation": "activation_function",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "scale_embedding": "scale_embedding",
    "start_id": "decoder_start_token_id",
    "end_id": "eos_token_id",
    "pad_id": "pad_token_id",
}
SUPPORTED = {
    "tie_word_embeddings": True,
    "share_encoder_decoder_embeddings": True,
    "static_position_embeddings": True,
    "normalize_embedding": False,
    "normalize_before": False,
    "add_final_layer_norm": False,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "is_decoder": False,
}


def _attention(ours: str, published: str) -> Table:
    return {
        f"{ours}.qkv.{{p}}": Source(*(f"{published}.{part}_proj.{{p}}" for part in ("q", "k", "v"))),
        f"{ours}.out.{{p}}": Source(f"{published}.out_proj.{{p}}"),
    }


def _layer(ours: str, published: str) -> Table:
    return {
        **_attention(f"{ours}.attn", f"{published}.self_attn"),
        f"{ours}.norm1.{{p}}": Source(f"{published}.self_attn_layer_norm.{{p}}"),
        f"{ours}.mlp.up.{{p}}": Source(f"{published}.fc1.{{p}}"),
        f"{ours}.mlp.down.{{p}}": Source(f"{published}.fc2.{{p}}"),
        f"{ours}.norm2.{{p}}": Source(f"{published}.final_layer_norm.{{p}}"),
    }


CROSS = "decoder.layers.{i}.encoder_attn"
BACKBONE: Table = {
    "token_embedding.weight": Source(
        "shared.weight", repeated=("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    ),
    **_layer("encoder_blocks.{i}", "encoder.layers.{i}"),
    **_layer("blocks.{i}", "decoder.layers.{i}"),
    "blocks.{i}.cross_attn.q.{p}": Source(f"{CROSS}.q_proj.{{p}}"),
    "blocks.{i}.cross_attn.kv.{p}": Source(f"{CROSS}.k_proj.{{p}}", f"{CROSS}.v_proj.{{p}}"),
    "blocks.{i}.cross_attn.out.{p}": Source(f"{CROSS}.out_proj.{{p}}"),
    "blocks.{i}.cross_norm.{p}": Source("decoder.layers.{i}.encoder_attn_layer_norm.{p}"),
}
HEAD: Table = {
    "lm_head.weight": Source("lm_head.weight", tied=True),
    "lm_head.bias": Source("final_logits_bias", row=True),
}


# Of a config.json without fields.
DEFAULTS = TransformerConfig(
    vocab_size=58101, max_positions=1024, hidden_size=1024, num_encoder_layers=12, num_layers=12,
    num_encoder_heads=16, num_heads=16, encoder_intermediate_size=4096, intermediate_size=4096, activation="gelu",
    scale_embedding=False, start_id=58100, end_id=0, pad_id=58100,
)  # fmt: skip


def _read(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    sizes = published.get("decoder_vocab_size"), published.get("vocab_size")
    if sizes[0] not in (None, sizes[1]):
        raise HeadwayError(
            f"config.json has decoder_vocab_size={sizes[0]} and vocab_size={sizes[1]}; Marian supports one vocabulary "
            "for both languages only."
        )
    config = replace(DEFAULTS, **ours)
    for name in ("start_id", "end_id", "pad_id"):
        if getattr(config, name) >= config.vocab_size:
            raise HeadwayError(
                f"config.json has {NAMES[name]}={getattr(config, name)}, but a vocabulary of {config.vocab_size} "
                "tokens."
            )
    if config.hidden_size % config.num_encoder_heads:
        raise HeadwayError(
            f"config.json has encoder_attention_heads={config.num_encoder_heads}, among which a hidden size of "
            f"{config.hidden_size} cannot be divided."
        )
    return ours


def _write(published: dict[str, Any], config: TransformerConfig) -> dict[str, Any]:
    return {
        **published,
        "decoder_vocab_size": config.vocab_size,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "bos_token_id": None,
        "forced_eos_token_id": None,
    }


MARIAN = Family(
    "marian",
    "Marian",
    "Marian",
    DEFAULTS,
    NAMES,
    SUPPORTED,
    "model.",
    BACKBONE,
    {"Model": PublishedHead(None), "MTModel": PublishedHead(TransformerHead, HEAD)},
    read=_read,
    write=_write,
)

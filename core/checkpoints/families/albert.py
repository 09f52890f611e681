"""ALBERT: one layer that is applied several times, and embeddings of another size than the hidden states.

Lan et al. 2020 (https://arxiv.org/abs/1909.11942). The published layer has no dropout after its feed-forward part, and
the published models have dropout in their heads only. The second pretraining head says whether two segments are in
their order.
"""

from collections.abc import Mapping
from typing import Any

from ...models.bert import BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from ...models.heads import ChoiceHead, SequenceHead, SpanHead, TokenHead
from .bert import BACKBONE as BERT_BACKBONE
from .bert import CLASSIFIER, NAMES, SPAN, SUPPORTED
from .family import Family, PublishedHead, Source, Table

LAYER = "encoder.albert_layer_groups.0.albert_layers.0."
BACKBONE: Table = {
    **{ours: source for ours, source in BERT_BACKBONE.items() if not ours.startswith("blocks.")},
    "embedding_projection.{p}": Source("encoder.embedding_hidden_mapping_in.{p}"),
    "blocks.{i}.attn.qkv.{p}": Source(*(f"{LAYER}attention.{part}.{{p}}" for part in ("query", "key", "value"))),
    "blocks.{i}.attn.out.{p}": Source(f"{LAYER}attention.dense.{{p}}"),
    "blocks.{i}.norm1.{p}": Source(f"{LAYER}attention.LayerNorm.{{p}}"),
    "blocks.{i}.mlp.up.{p}": Source(f"{LAYER}ffn.{{p}}"),
    "blocks.{i}.mlp.down.{p}": Source(f"{LAYER}ffn_output.{{p}}"),
    "blocks.{i}.norm2.{p}": Source(f"{LAYER}full_layer_layer_norm.{{p}}"),
}
MASKED_LM: Table = {
    "dense.{p}": Source("predictions.dense.{p}"),
    "norm.{p}": Source("predictions.LayerNorm.{p}"),
    "lm_head.weight": Source("predictions.decoder.weight", tied=True),
    "lm_head.bias": Source("predictions.bias", copy="predictions.decoder.bias"),
}
POOLER: Table = {"pooler.dense.{p}": Source("pooler.{p}")}
PRETRAINING: Table = {
    **{f"masked_lm.{ours}": source for ours, source in MASKED_LM.items()},
    **POOLER,
    "next_sentence.{p}": Source("sop_classifier.classifier.{p}"),
}


def _write(published: dict[str, Any], config: BertConfig) -> dict[str, Any]:  # noqa: ARG001
    return {**published, "num_hidden_groups": 1, "inner_group_num": 1}


def _read(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    return {"embedding_size": 128, "hidden_size": 4096, **ours}


ALBERT = Family(
    "albert",
    "ALBERT",
    "Albert",
    BertConfig(
        family="albert", vocab_size=30000, embedding_size=128, hidden_size=4096, num_heads=64, intermediate_size=16384,
        activation="gelu_tanh", dropout=0.0, attention_dropout=0.0, share_layers=True,
    ),
    {**NAMES, "embedding_size": "embedding_size", "head_dropout": "classifier_dropout_prob"},
    {**SUPPORTED, "num_hidden_groups": 1, "inner_group_num": 1},
    "albert.",
    BACKBONE,
    {
        "Model": PublishedHead(BertPooler, {"dense.{p}": Source("pooler.{p}")}),
        "ForMaskedLM": PublishedHead(MaskedLMHead, MASKED_LM),
        "ForPreTraining": PublishedHead(PretrainingHead, PRETRAINING),
        "ForSequenceClassification": PublishedHead(SequenceHead, {**POOLER, **CLASSIFIER}, labelled=True),
        "ForTokenClassification": PublishedHead(TokenHead, CLASSIFIER, labelled=True),
        "ForQuestionAnswering": PublishedHead(SpanHead, SPAN),
        "ForMultipleChoice": PublishedHead(ChoiceHead, {**POOLER, **CLASSIFIER}),
    },
    sentence_order=True,
    read=_read,
    write=_write,
)  # fmt: skip

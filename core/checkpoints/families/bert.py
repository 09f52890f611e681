"""BERT, and ERNIE, which is BERT with an optional embedding of the task.

Devlin et al. 2019 (https://arxiv.org/abs/1810.04805), Sun et al. 2020 (https://arxiv.org/abs/1907.12412).
BioBERT, SciBERT, ClinicalBERT, BERTje, multilingual BERT and many others are BERTs with other weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...models.bert import BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from ...models.heads import ChoiceHead, NextSentenceHead, SequenceHead, SpanHead, TokenHead
from .family import Family, PublishedHead, Source, Table

NAMES = {
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "head_dropout": "classifier_dropout",
    "init_std": "initializer_range",
    "tie_embeddings": "tie_word_embeddings",
}
SUPPORTED = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}

BACKBONE: Table = {
    "token_embedding.weight": Source("embeddings.word_embeddings.weight"),
    "position_embedding.weight": Source("embeddings.position_embeddings.weight"),
    "segment_embedding.weight": Source("embeddings.token_type_embeddings.weight"),
    "embedding_norm.{p}": Source("embeddings.LayerNorm.{p}"),
    "blocks.{i}.attn.qkv.{p}": Source(
        "encoder.layer.{i}.attention.self.query.{p}",
        "encoder.layer.{i}.attention.self.key.{p}",
        "encoder.layer.{i}.attention.self.value.{p}",
    ),
    "blocks.{i}.attn.out.{p}": Source("encoder.layer.{i}.attention.output.dense.{p}"),
    "blocks.{i}.norm1.{p}": Source("encoder.layer.{i}.attention.output.LayerNorm.{p}"),
    "blocks.{i}.mlp.up.{p}": Source("encoder.layer.{i}.intermediate.dense.{p}"),
    "blocks.{i}.mlp.down.{p}": Source("encoder.layer.{i}.output.dense.{p}"),
    "blocks.{i}.norm2.{p}": Source("encoder.layer.{i}.output.LayerNorm.{p}"),
}
CROSS_ATTENTION: Table = {
    "blocks.{i}.cross_attn.q.{p}": Source("encoder.layer.{i}.crossattention.self.query.{p}"),
    "blocks.{i}.cross_attn.kv.{p}": Source(
        "encoder.layer.{i}.crossattention.self.key.{p}", "encoder.layer.{i}.crossattention.self.value.{p}"
    ),
    "blocks.{i}.cross_attn.out.{p}": Source("encoder.layer.{i}.crossattention.output.dense.{p}"),
    "blocks.{i}.cross_norm.{p}": Source("encoder.layer.{i}.crossattention.output.LayerNorm.{p}"),
}
MASKED_LM: Table = {
    "dense.{p}": Source("cls.predictions.transform.dense.{p}"),
    "norm.{p}": Source("cls.predictions.transform.LayerNorm.{p}"),
    "lm_head.weight": Source("cls.predictions.decoder.weight", tied=True),
    "lm_head.bias": Source("cls.predictions.bias", copy="cls.predictions.decoder.bias"),
}
POOLER: Table = {"pooler.dense.{p}": Source("pooler.dense.{p}")}
BASE_POOLER: Table = {"dense.{p}": Source("pooler.dense.{p}")}  # of the base class, whose head it is
CLASSIFIER: Table = {"classifier.{p}": Source("classifier.{p}")}
SPAN: Table = {"classifier.{p}": Source("qa_outputs.{p}")}
NEXT_SENTENCE = Source("cls.seq_relationship.{p}")
PRETRAINING: Table = {
    **{f"masked_lm.{ours}": source for ours, source in MASKED_LM.items()},
    **POOLER,
    "next_sentence.{p}": NEXT_SENTENCE,
}
HEADS = {
    "Model": PublishedHead(BertPooler, BASE_POOLER),
    "ForMaskedLM": PublishedHead(MaskedLMHead, MASKED_LM),
    "LMHeadModel": PublishedHead(MaskedLMHead, MASKED_LM),
    "ForPreTraining": PublishedHead(PretrainingHead, PRETRAINING),
    "ForSequenceClassification": PublishedHead(SequenceHead, {**POOLER, **CLASSIFIER}, labelled=True),
    "ForNextSentencePrediction": PublishedHead(NextSentenceHead, {**POOLER, "classifier.{p}": NEXT_SENTENCE}),
    "ForMultipleChoice": PublishedHead(ChoiceHead, {**POOLER, **CLASSIFIER}),
    "ForTokenClassification": PublishedHead(TokenHead, CLASSIFIER, labelled=True),
    "ForQuestionAnswering": PublishedHead(SpanHead, SPAN),
}


def read_head_dropout(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """The head's dropout is that of the layers unless config.json states another one."""
    return {"head_dropout": ours.get("dropout", BertConfig.dropout), **ours}


BERT = Family(
    "bert", "BERT", "Bert", BertConfig(), NAMES, SUPPORTED, "bert.", BACKBONE, HEADS, cross_attention=CROSS_ATTENTION,
    read=read_head_dropout,
)  # fmt: skip


def _read_ernie(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    if not published.get("use_task_id"):
        ours["num_task_types"] = 0
    return read_head_dropout(ours, published)


def _write_ernie(published: dict[str, Any], config: BertConfig) -> dict[str, Any]:
    if not config.num_task_types:
        published.pop("task_type_vocab_size")
    return {**published, "use_task_id": config.num_task_types > 0}


ERNIE = replace(
    BERT,
    model_type="ernie",
    title="ERNIE",
    classes="Ernie",
    config=BertConfig(family="ernie", num_task_types=0),
    names={**NAMES, "num_task_types": "task_type_vocab_size"},
    prefix="ernie.",
    backbone={**BACKBONE, "task_embedding.weight": Source("embeddings.task_type_embeddings.weight")},
    heads={name: head for name, head in HEADS.items() if name != "LMHeadModel"},
    read=_read_ernie,
    write=_write_ernie,
)

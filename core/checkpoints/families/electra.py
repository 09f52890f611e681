"""ELECTRA: embeddings of another size than the hidden states.

Clark et al. 2020 (https://arxiv.org/abs/2003.10555). The discriminator is the backbone that tasks are trained on; the
generator, a smaller model of the same type, predicts masked tokens.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...models.bert import BertConfig, MaskedLMHead
from ...models.heads import ChoiceHead, SequenceHead, SpanHead, TokenHead
from .bert import BACKBONE, BERT, CLASSIFIER, NAMES, SPAN, SUPPORTED, read_head_dropout
from .family import PublishedHead, Source, Table
from .roberta import TWO_LAYERS

MASKED_LM: Table = {
    "dense.{p}": Source("generator_predictions.dense.{p}"),
    "norm.{p}": Source("generator_predictions.LayerNorm.{p}"),
    "lm_head.weight": Source("generator_lm_head.weight", tied=True),
    "lm_head.bias": Source("generator_lm_head.bias"),
}
DISCRIMINATOR: Table = {  # of ElectraForPreTraining: whether a token was replaced
    "dense.{p}": Source("discriminator_predictions.dense.{p}"),
    "classifier.{p}": Source("discriminator_predictions.dense_prediction.{p}"),
}
SUMMARY: Table = {"pooler.dense.{p}": Source("sequence_summary.summary.{p}"), **CLASSIFIER}


def _read(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    ours = {"embedding_size": 128, "hidden_size": 256, **ours}
    if ours["embedding_size"] == ours["hidden_size"]:
        ours["embedding_size"] = None  # there is no linear layer between them
    return read_head_dropout(ours, published)


def _write(published: dict[str, Any], config: BertConfig) -> dict[str, Any]:
    return {**published, "embedding_size": config.embedding_size or config.hidden_size}


ELECTRA = replace(
    BERT,
    model_type="electra",
    title="ELECTRA",
    classes="Electra",
    config=BertConfig(
        family="electra", embedding_size=128, hidden_size=256, num_heads=4, intermediate_size=1024,
        pooler_activation="gelu", pooler_dropout=True, lm_activation="gelu",
        choice_dropout=0.1,
    ),
    names={**NAMES, "embedding_size": "embedding_size", "choice_dropout": "summary_last_dropout"},
    supported={**SUPPORTED, "summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
    prefix="electra.",
    backbone={**BACKBONE, "embedding_projection.{p}": Source("embeddings_project.{p}")},
    heads={
        "Model": PublishedHead(None),
        "ForMaskedLM": PublishedHead(MaskedLMHead, MASKED_LM),
        "ForSequenceClassification": PublishedHead(SequenceHead, TWO_LAYERS, labelled=True),
        "ForTokenClassification": PublishedHead(TokenHead, CLASSIFIER, labelled=True),
        "ForQuestionAnswering": PublishedHead(SpanHead, SPAN),
        "ForMultipleChoice": PublishedHead(ChoiceHead, SUMMARY),
    },
    headless={"ForPreTraining": DISCRIMINATOR},
    read=_read,
    write=_write,
)  # fmt: skip

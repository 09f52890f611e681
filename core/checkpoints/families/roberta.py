"""RoBERTa, XLM-R and CamemBERT.

Liu et al. 2019 (https://arxiv.org/abs/1907.11692), Conneau et al. 2020 (https://arxiv.org/abs/1911.02116), Martin et
al. 2020 (https://arxiv.org/abs/1911.03894). They differ from BERT in positions that start after the id of the padding
token, in one segment, and in a classifier with a dropout before its first layer. The three differ from each other in
their vocabularies only.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...models.bert import BertConfig, BertPooler, MaskedLMHead
from ...models.heads import ChoiceHead, SequenceHead, SpanHead, TokenHead
from .bert import BACKBONE, BASE_POOLER, BERT, CLASSIFIER, POOLER, SPAN, read_head_dropout
from .family import PublishedHead, Source, Table

DEFAULT_PAD_ID = 1
MASKED_LM: Table = {
    "dense.{p}": Source("lm_head.dense.{p}"),
    "norm.{p}": Source("lm_head.layer_norm.{p}"),
    "lm_head.weight": Source("lm_head.decoder.weight", tied=True),
    "lm_head.bias": Source("lm_head.bias", copy="lm_head.decoder.bias"),
}
# The classifier has two layers; the first one stands for BERT's pooler.
TWO_LAYERS: Table = {
    "pooler.dense.{p}": Source("classifier.dense.{p}"),
    "classifier.{p}": Source("classifier.out_proj.{p}"),
}


def _read(ours: dict[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    pad_id = published.get("pad_token_id")
    offset = 1 + (DEFAULT_PAD_ID if pad_id is None else pad_id)
    positions = ours.get("max_positions", 512)
    changed = {"position_offset": offset, "max_positions": positions - offset}
    # The head for multiple choice has no separate dropout.
    changed["choice_dropout"] = ours.get("dropout", BertConfig.dropout)
    return read_head_dropout({**ours, **changed}, published)


def _write(published: dict[str, Any], config: BertConfig) -> dict[str, Any]:
    rows = config.max_positions + config.position_offset
    return {**published, "max_position_embeddings": rows, "pad_token_id": config.position_offset - 1}


ROBERTA = replace(
    BERT,
    model_type="roberta",
    title="RoBERTa",
    classes="Roberta",
    config=BertConfig(
        family="roberta", vocab_size=50265, max_positions=510, position_offset=1 + DEFAULT_PAD_ID,
        pooler_dropout=True, choice_dropout=0.1, lm_activation="gelu",
    ),
    prefix="roberta.",
    backbone=BACKBONE,
    heads={
        "Model": PublishedHead(BertPooler, BASE_POOLER),
        "ForMaskedLM": PublishedHead(MaskedLMHead, MASKED_LM),
        "ForSequenceClassification": PublishedHead(SequenceHead, TWO_LAYERS, labelled=True),
        "ForTokenClassification": PublishedHead(TokenHead, CLASSIFIER, labelled=True),
        "ForQuestionAnswering": PublishedHead(SpanHead, SPAN),
        "ForMultipleChoice": PublishedHead(ChoiceHead, {**POOLER, **CLASSIFIER}),
    },
    read=_read,
    write=_write,
)  # fmt: skip
XLM_ROBERTA = replace(
    ROBERTA,
    model_type="xlm-roberta",
    title="XLM-R",
    classes="XLMRoberta",
    config=replace(ROBERTA.config, family="xlm-roberta", vocab_size=30522),
)
CAMEMBERT = replace(
    ROBERTA,
    model_type="camembert",
    title="CamemBERT",
    classes="Camembert",
    config=replace(ROBERTA.config, family="camembert", vocab_size=30522),
)

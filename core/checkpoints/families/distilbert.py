"""DistilBERT: half of BERT's layers, without segments and without a pooler.

Sanh et al. 2019 (https://arxiv.org/abs/1910.01108).
"""

from ...models.bert import BertConfig, MaskedLMHead
from ...models.heads import ChoiceHead, SequenceHead, SpanHead, TokenHead
from .bert import CLASSIFIER, SPAN
from .family import Family, PublishedHead, Source, Table

NAMES = {
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "activation": "activation",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "head_dropout": "seq_classif_dropout",
    "span_dropout": "qa_dropout",
    "init_std": "initializer_range",
    "tie_embeddings": "tie_word_embeddings",
}
BACKBONE: Table = {
    "token_embedding.weight": Source("embeddings.word_embeddings.weight"),
    "position_embedding.weight": Source("embeddings.position_embeddings.weight"),
    "embedding_norm.{p}": Source("embeddings.LayerNorm.{p}"),
    "blocks.{i}.attn.qkv.{p}": Source(
        "transformer.layer.{i}.attention.q_lin.{p}",
        "transformer.layer.{i}.attention.k_lin.{p}",
        "transformer.layer.{i}.attention.v_lin.{p}",
    ),
    "blocks.{i}.attn.out.{p}": Source("transformer.layer.{i}.attention.out_lin.{p}"),
    "blocks.{i}.norm1.{p}": Source("transformer.layer.{i}.sa_layer_norm.{p}"),
    "blocks.{i}.mlp.up.{p}": Source("transformer.layer.{i}.ffn.lin1.{p}"),
    "blocks.{i}.mlp.down.{p}": Source("transformer.layer.{i}.ffn.lin2.{p}"),
    "blocks.{i}.norm2.{p}": Source("transformer.layer.{i}.output_layer_norm.{p}"),
}
MASKED_LM: Table = {
    "dense.{p}": Source("vocab_transform.{p}"),
    "norm.{p}": Source("vocab_layer_norm.{p}"),
    "lm_head.weight": Source("vocab_projector.weight", tied=True),
    "lm_head.bias": Source("vocab_projector.bias"),
}
TWO_LAYERS: Table = {"pooler.dense.{p}": Source("pre_classifier.{p}"), **CLASSIFIER}

DISTILBERT = Family(
    "distilbert",
    "DistilBERT",
    "DistilBert",
    BertConfig(
        family="distilbert", num_segments=0, num_layers=6, pooler_activation="relu", head_dropout=0.2,
        span_dropout=0.1, token_dropout=0.1,
    ),
    NAMES,
    {},
    "distilbert.",
    BACKBONE,
    {
        "Model": PublishedHead(None),
        "ForMaskedLM": PublishedHead(MaskedLMHead, MASKED_LM),
        "ForSequenceClassification": PublishedHead(SequenceHead, TWO_LAYERS, labelled=True),
        "ForTokenClassification": PublishedHead(TokenHead, CLASSIFIER, labelled=True),
        "ForQuestionAnswering": PublishedHead(SpanHead, SPAN),
        "ForMultipleChoice": PublishedHead(ChoiceHead, TWO_LAYERS),
    },
    read=lambda ours, published: {**ours, "token_dropout": ours.get("dropout", BertConfig.dropout)},  # noqa: ARG005
)  # fmt: skip

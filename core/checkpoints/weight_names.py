"""The name tables: our parameters and the published tensors of BERT and GPT-2, for reading and writing.

The tables map our names to the published ones, without the prefix `bert.` or `transformer.` that some files give the
backbone's tensors. `{i}` stands for every layer, `{p}` for `weight` and `bias`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..models.bert import BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from ..models.gpt2 import LanguageModelHead
from ..models.heads import Backbone, Config, SequenceHead, SpanHead, TokenHead


class Source:
    """The published tensors that one of our parameters is made of.

    Args:
        names: the published tensors; several are concatenated along the first dimension.
        transpose: matrices are stored as (inputs, outputs).
        copy: a second name of the same tensor in some files; it is read first, and written as well.
        tied: the tensor is the token embedding, unless config.json has `"tie_word_embeddings": false`.
    """

    def __init__(self, *names: str, transpose: bool = False, copy: str | None = None, tied: bool = False) -> None:
        self.names = names
        self.transpose = transpose
        self.copy = copy
        self.tied = tied

    def fill(self, **values: str) -> "Source":
        """The source with its placeholders replaced."""
        copy = self.copy and self.copy.format(**values)
        return Source(*(n.format(**values) for n in self.names), transpose=self.transpose, copy=copy, tied=self.tied)

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of each published tensor, given the shape of our parameter."""
        first, *rest = ours
        shape = (first // len(self.names), *rest)
        return shape[::-1] if self.transpose else shape


Table = Mapping[str, Source]

BERT_BACKBONE: Table = {
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
BERT_MASKED_LM: Table = {
    "dense.{p}": Source("cls.predictions.transform.dense.{p}"),
    "norm.{p}": Source("cls.predictions.transform.LayerNorm.{p}"),
    "lm_head.weight": Source("cls.predictions.decoder.weight", tied=True),
    "lm_head.bias": Source("cls.predictions.bias", copy="cls.predictions.decoder.bias"),
}
GPT2_BACKBONE: Table = {
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
BACKBONES: dict[str, Table] = {"bert": BERT_BACKBONE, "gpt2": GPT2_BACKBONE}  # by model type

# Constant buffers that older versions of transformers wrote.
IGNORED = re.compile(r"embeddings\.(position_ids|token_type_ids)|h\.\d+\.attn\.(masked_)?bias")


@dataclass(frozen=True)
class Architecture:
    """A published class: a backbone with a certain head.

    Args:
        model: the model type of the backbone, a key of BACKBONES.
        head: our class of the head; None: no head.
        table: the name table of the head.
        labelled: the head's outputs are the labels of config.json.
    """

    model: str
    head: type[nn.Module] | None
    table: Table = field(default_factory=dict)
    labelled: bool = False


_POOLER: Table = {"pooler.dense.{p}": Source("pooler.dense.{p}")}
_CLASSIFIER: Table = {"classifier.{p}": Source("classifier.{p}")}
_NEXT_SENTENCE = Source("cls.seq_relationship.{p}")
_SPAN: Table = {"classifier.{p}": Source("qa_outputs.{p}")}
_PRETRAINING: Table = {
    **{f"masked_lm.{ours}": source for ours, source in BERT_MASKED_LM.items()},
    **_POOLER,
    "next_sentence.{p}": _NEXT_SENTENCE,
}

# Of two classes with the same head, the first one is written.
ARCHITECTURES: dict[str, Architecture] = {
    "BertModel": Architecture("bert", BertPooler, {"dense.{p}": Source("pooler.dense.{p}")}),
    "BertForMaskedLM": Architecture("bert", MaskedLMHead, BERT_MASKED_LM),
    "BertLMHeadModel": Architecture("bert", MaskedLMHead, BERT_MASKED_LM),
    "BertForPreTraining": Architecture("bert", PretrainingHead, _PRETRAINING),
    "BertForSequenceClassification": Architecture("bert", SequenceHead, {**_POOLER, **_CLASSIFIER}, labelled=True),
    "BertForNextSentencePrediction": Architecture("bert", SequenceHead, {**_POOLER, "classifier.{p}": _NEXT_SENTENCE}),
    "BertForTokenClassification": Architecture("bert", TokenHead, _CLASSIFIER, labelled=True),
    "BertForQuestionAnswering": Architecture("bert", SpanHead, _SPAN),
    "GPT2Model": Architecture("gpt2", None),
    "GPT2LMHeadModel": Architecture(
        "gpt2", LanguageModelHead, {"lm_head.weight": Source("lm_head.weight", tied=True)}
    ),
    "GPT2ForSequenceClassification": Architecture(
        "gpt2", SequenceHead, {"classifier.weight": Source("score.weight")}, labelled=True
    ),
    "GPT2ForTokenClassification": Architecture("gpt2", TokenHead, _CLASSIFIER, labelled=True),
    "GPT2ForQuestionAnswering": Architecture("gpt2", SpanHead, _SPAN),
}
BASE_ARCHITECTURES = {"bert": "BertModel", "gpt2": "GPT2Model"}
PREFIXES = {"bert": "bert.", "gpt2": "transformer."}


def expand(table: Table, num_layers: int = 0) -> dict[str, Source]:
    """The table with every placeholder replaced: all parameters of a model with `num_layers` layers."""

    def values(name: str) -> Iterator[dict[str, str]]:
        for i in range(num_layers) if "{i}" in name else [0]:
            for p in ("weight", "bias") if "{p}" in name else [""]:
                yield {"i": str(i), "p": p}

    return {name.format(**v): source.fill(**v) for name, source in table.items() for v in values(name)}


def plain_name(published: str) -> str:
    """A published name as in the tables: without prefix, and with the present names of a norm's weight and bias."""
    name = re.sub(r"^(bert|transformer)\.", "", published)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def is_backbone(plain: str, model: str) -> bool:
    """Whether a published name, without prefix, belongs to the backbone."""
    return plain.split(".")[0] in {source.names[0].split(".")[0] for source in BACKBONES[model].values()}


def prefixed(plain: str, model: str) -> str:
    """A name of the tables as in files with a head: tensors of the backbone and of BERT's pooler have a prefix."""
    inner = is_backbone(plain, model) or plain.startswith("pooler.")
    return PREFIXES[model] + plain if inner else plain


def model_of(config: Config) -> str:
    """The published model type of a configuration."""
    return "bert" if isinstance(config, BertConfig) else "gpt2"


def architecture_of(config: Config, head: nn.Module | None) -> str | None:
    """The published class of a backbone with a head; None if the head has no published form."""
    model = model_of(config)
    if head is None:
        return BASE_ARCHITECTURES[model]
    return next((name for name, a in ARCHITECTURES.items() if a.model == model and a.head is type(head)), None)


def build_head(published: str, backbone: Backbone, outputs: int) -> nn.Module | None:
    """The head of a published class with random weights; `outputs` applies to heads with a free number of outputs."""
    head, config = ARCHITECTURES[published].head, backbone.config
    if head is None:
        return None
    if published == "BertForNextSentencePrediction":
        config = replace(config, head_dropout=0.0)  # as published
    embedding = backbone.token_embedding
    second_argument: dict[type[nn.Module], Any] = {
        SequenceHead: outputs,
        TokenHead: outputs,
        MaskedLMHead: embedding,
        PretrainingHead: embedding,
        LanguageModelHead: embedding,
    }
    return head(config, second_argument[head]) if head in second_argument else head(config)

"""What a family of published models is: the names in its config.json, of its tensors and of its classes.

A family adds no arithmetic: it sets the fields of BertConfig or GPT2Config, and maps our parameters to its tensors.
The tables map our names to the published ones, without the prefix (`bert.`, `transformer.`) that some files give the
backbone's tensors. `{i}` stands for every layer, `{p}` for `weight` and `bias`.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ...errors import HeadwayError
from ...models.encoder_decoder import EncoderDecoderConfig
from ...models.heads import Config, SingleConfig

# Published activation -> ours (a key of ACTIVATIONS in layers.py). Of several, the first is the one that is written.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
PUBLISHED_ACTIVATIONS = {ours: published for published, ours in reversed(ACTIVATION_NAMES.items())}


class Source:
    """The published tensors that one of our parameters is made of.

    Args:
        names: the published tensors; several are concatenated along the first dimension.
        transpose: matrices are stored as (inputs, outputs).
        copy: a second name of the same tensor in some files; it is read first, and written as well.
        tied: the tensor is the token embedding, unless config.json has `"tie_word_embeddings": false`.
        row: a vector is stored as a matrix of one row.
        repeated: further names under which some files store the same tensor again.
    """

    def __init__(
        self,
        *names: str,
        transpose: bool = False,
        copy: str | None = None,
        tied: bool = False,
        row: bool = False,
        repeated: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self.transpose = transpose
        self.copy = copy
        self.tied = tied
        self.row = row
        self.repeated = repeated

    def fill(self, **values: str) -> "Source":
        """The source with its placeholders replaced."""
        filled = copy(self)
        filled.names = tuple(name.format(**values) for name in self.names)
        filled.copy = self.copy and self.copy.format(**values)
        return filled

    def under(self, prefix: str) -> "Source":
        """The source of the same parameter in a file that puts a prefix before the names."""
        moved = copy(self)
        moved.names = tuple(prefix + name for name in self.names)
        moved.copy = self.copy and prefix + self.copy
        return moved

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of each published tensor, given the shape of our parameter."""
        first, *rest = ours
        shape = (first // len(self.names), *rest)
        if self.row:
            return (1, *shape)
        return shape[::-1] if self.transpose else shape


Table = Mapping[str, Source]


def expand(table: Table, num_layers: int = 0) -> dict[str, Source]:
    """The table with every placeholder replaced: all parameters of a model with `num_layers` layers."""

    def values(name: str) -> Iterator[dict[str, str]]:
        for i in range(num_layers) if "{i}" in name else [0]:
            for p in ("weight", "bias") if "{p}" in name else [""]:
                yield {"i": str(i), "p": p}

    return {name.format(**v): source.fill(**v) for name, source in table.items() for v in values(name)}


@dataclass(frozen=True)
class PublishedHead:
    """A published class's head.

    Args:
        module: our class of the head; None: no head.
        table: its tensors.
        labelled: its outputs are the labels of config.json.
    """

    module: type[nn.Module] | None
    table: Table = field(default_factory=dict)
    labelled: bool = False


@dataclass(frozen=True)
class Family:
    """A published model type.

    Args:
        model_type: in config.json.
        title: its usual name.
        classes: the beginning of its class names.
        config: our configuration of a model whose config.json is empty: the type's defaults, and what all its models
            have in common.
        names: our fields of the configuration -> names in config.json.
        supported: fields of config.json with the only value that is implemented.
        prefix: of the backbone's tensors in files with a head.
        backbone: our parameters -> its tensors.
        heads: the end of a class name ("ForMaskedLM") -> its head. Of two with the same module, the first is written.
        sentence_order: whether the second pretraining head says if two segments are in their order, instead of whether
            the second one follows the first.
        headless: the ends of further class names that are read as the base class, and the tensors of their heads,
            which no task uses.
        cross_attention: our parameters of cross-attention -> its tensors; none: it is no decoder.
        read: changes our fields after they are read from config.json.
        write: changes the fields of config.json before they are written.
    """

    model_type: str
    title: str
    classes: str
    config: Config
    names: Mapping[str, str]
    supported: Mapping[str, Any]
    prefix: str
    backbone: Table
    heads: Mapping[str, PublishedHead]
    sentence_order: bool = False
    headless: Mapping[str, Table] = field(default_factory=dict)
    cross_attention: Table = field(default_factory=dict)
    read: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = lambda ours, published: ours  # noqa: ARG005
    write: Callable[[dict[str, Any], Any], dict[str, Any]] = lambda published, config: published  # noqa: ARG005

    def read_config(self, published: Mapping[str, Any]) -> SingleConfig:
        """Our configuration of a config.json; null counts as absent.

        Raises:
            HeadwayError: a field asks for arithmetic that is not implemented; the message names it.
        """
        for name, only in self.supported.items():
            if published.get(name) not in (only, None):
                raise HeadwayError(f"config.json has {name}={published[name]!r}; {self.title} supports {only!r} only.")
        ours = {ours: published[name] for ours, name in self.names.items() if published.get(name) is not None}
        if "activation" in ours:
            activation = ours["activation"]
            if activation not in ACTIVATION_NAMES:
                name, known = self.names["activation"], ", ".join(ACTIVATION_NAMES)
                raise HeadwayError(f"config.json has {name}={activation!r}; supported are {known}.")
            ours["activation"] = ACTIVATION_NAMES[activation]
        assert not isinstance(self.config, EncoderDecoderConfig)
        return replace(self.config, **self.read(ours, published))

    def write_config(self, config: Config) -> dict[str, Any]:
        """The fields of a config.json."""
        published = {name: getattr(config, ours) for ours, name in self.names.items()}
        if "activation" in self.names:
            name = self.names["activation"]
            published[name] = PUBLISHED_ACTIVATIONS[published[name]]
        return {"model_type": self.model_type, **self.write(published, config)}

    @property
    def with_article(self) -> str:
        """The title with its article: "a BERT", "an XLM-R"."""
        return f"{'an' if self.title[0].upper() in 'AEIOUX' else 'a'} {self.title}"

    @property
    def base_class(self) -> str:
        """The class of the backbone without a task's head."""
        return f"{self.classes}Model"

    def is_backbone(self, plain: str) -> bool:
        """Whether a published name, without prefix, belongs to the backbone."""
        return plain.split(".")[0] in {source.names[0].split(".")[0] for source in self.backbone.values()}

    def plain_name(self, published: str) -> str:
        """A published name as in the tables: without prefix, and with a norm's present names of weight and bias."""
        name = published.removeprefix(self.prefix)
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    def prefixed(self, plain: str) -> str:
        """A name of the tables as in files with a head: tensors of the backbone and of the pooler have a prefix."""
        return self.prefix + plain if self.is_backbone(plain) or plain.startswith("pooler.") else plain

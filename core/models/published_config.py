"""Fields of a published config.json: their names and values, and ours, in both directions by one table."""

from collections.abc import Mapping
from typing import Any

from ..errors import HeadwayError

# Published activation -> ours (a key of ACTIVATIONS in layers.py). Of several, the first is the one that is written.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
PUBLISHED_ACTIVATIONS = {ours: published for published, ours in reversed(ACTIVATION_NAMES.items())}


def read_fields(published: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Our fields that a config.json states.

    Args:
        published: the content of config.json; null counts as absent.
        names: our field names and the published ones.

    Raises:
        HeadwayError: the activation is not implemented.
    """
    fields = {ours: published[name] for ours, name in names.items() if published.get(name) is not None}
    if "activation" in fields:
        activation = fields["activation"]
        if activation not in ACTIVATION_NAMES:
            raise HeadwayError(
                f"config.json has {names['activation']}={activation!r}; supported are {', '.join(ACTIVATION_NAMES)}."
            )
        fields["activation"] = ACTIVATION_NAMES[activation]
    return fields


def write_fields(config: object, names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a configuration under their published names."""
    fields = {name: getattr(config, ours) for ours, name in names.items()}
    name = names["activation"]
    return {**fields, name: PUBLISHED_ACTIVATIONS[fields[name]]}


def refuse_unsupported(published: Mapping[str, Any], supported: Mapping[str, Any], model: str) -> None:
    """Raises HeadwayError if a field has another value than the only one that is implemented."""
    for name, only in supported.items():
        if published.get(name) not in (only, None):
            raise HeadwayError(f"config.json has {name}={published[name]!r}; {model} supports {only!r} only.")

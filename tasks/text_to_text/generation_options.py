"""The generation options of a text-to-text model: those that its folder stores, and a user's, which come first."""

from collections.abc import Mapping
from typing import Any

GENERATION = (
    "max_new_tokens", "num_beams", "length_penalty", "temperature", "top_k", "top_p", "repetition_penalty",
    "no_repeat_ngram_size", "seed",
)  # fmt: skip
SAMPLING = ("temperature", "top_k", "top_p", "min_p")


def overrule(stored: Mapping[str, Any], given: Mapping[str, Any], *, as_written: bool = False) -> dict[str, Any]:
    """The stored and the given options, without stored ones that contradict the given ones.

    Args:
        stored: fields of GenerationConfig.
        given: the same, valid.
        as_written: whether the text is shown while it is generated, so that there is no beam search.
    """
    found = dict(stored)
    samples = any(given.get(name) for name in SAMPLING) or given.get("context") == "slide"
    if as_written or samples or ("num_beams" not in given and given.get("num_return_sequences", 1) > 1):
        found.pop("num_beams", None)
    if given.get("num_beams", 1) > 1 or given.get("temperature") == 0:
        found = {name: value for name, value in found.items() if name not in SAMPLING}
    return {**found, **given}

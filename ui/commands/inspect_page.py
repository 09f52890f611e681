"""The internals of a model for one text, as a single HTML file that works without the internet.

Attention weights are compressed: a byte holds 255 times the square root of a weight, the heads of a layer are deflated
together, and neighbouring tokens of a long text are merged into units.

Shapes: L layers, H heads, T tokens, U units of neighbouring tokens.
"""

import base64
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..html_page import draw_page

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.generation.generation import TokenStep
    from ...tasks.inspection import AttentionMaps, Attribution, EncodedText, InspectedModel, LogitLens, Parameters

MAX_BYTES = 24_000_000  # of attention weights, before compression


@dataclass(frozen=True)
class Inspection:
    """The content of a page; what a model does not have is empty or None."""

    model: str
    facts: str  # "BERT, 6 layers of 12 heads, ..."
    answer: str
    encoded: "EncodedText"
    attributions: "tuple[Attribution, ...]"
    attention: "AttentionMaps"
    lens: "LogitLens | None"
    next_tokens: "tuple[TokenStep, ...]"
    parameters: "Parameters"


def inspect_texts(opened: "InspectedModel", texts: Mapping[str, str], explain: str | None = None) -> Inspection:
    """Computes the content of the page for texts.

    Args:
        opened: The model.
        texts: The texts by the names of the model's fields.
        explain: The output to attribute to the words. Default: the prediction.

    Raises:
        HeadwayError: The texts are not those that the model reads, or there is no such output.
    """
    from ...tasks.inspection import (
        apply_logit_lens,
        attention_maps,
        choose_output,
        count_parameters,
        explainable_outputs,
        integrated_gradients,
        leave_one_out,
        next_token_steps,
    )

    encoded = opened.encode(**texts)
    attributions = ()
    outputs = explainable_outputs(opened, encoded) if explain is not None or opened.task is not None else []
    if outputs or explain is not None:
        output = choose_output(outputs, explain)
        attributions = integrated_gradients(opened, encoded, output), leave_one_out(opened, encoded, output)
    prediction = opened.predict(encoded)
    generates = opened.task is None and not encoded.num_truncated and len(encoded.texts) == 1
    folder = Path(opened.name)
    return Inspection(
        model=folder.resolve().name if folder.is_dir() else opened.name,  # not the path: the page may be shared
        facts=describe(opened),
        answer="" if prediction is None else f"Prediction: {' '.join(prediction.brief.split())}",
        encoded=encoded,
        attributions=attributions,
        attention=attention_maps(opened, encoded),
        lens=apply_logit_lens(opened, encoded) if opened.vocabulary_head is not None else None,
        next_tokens=next_token_steps(opened, encoded.texts[0]) if generates else (),
        parameters=count_parameters(opened.network),
    )


def describe(opened: "InspectedModel") -> str:
    """The kind and size of a model on one line."""
    from ...core.checkpoints.families.registry import family_of

    config = opened.network.config
    kind = family_of(config).title
    head = opened.model.task.title.lower() if opened.model is not None else "no task head"
    return (
        f"{kind}, {head}; {config.num_layers} layers of {config.num_heads} heads, hidden size {config.hidden_size:,}, "
        f"vocabulary of {config.vocab_size:,} tokens, context of {config.max_positions:,} tokens"
    )


def render_page(found: Inspection) -> str:
    """The complete HTML page."""
    page, _ = draw_page("inspect", f"{found.model}: internals", page_data(found))
    return page


def page_data(found: Inspection) -> dict[str, Any]:
    """The data that the page's script reads."""
    encoded = found.encoded
    tokens, cut = len(encoded.tokens), encoded.num_truncated
    return {
        "model": found.model,
        "facts": found.facts,
        "answer": found.answer,
        "texts": encoded.texts,
        "unread": (
            f"The model's context holds {tokens:,} tokens; the last {cut:,} of the text are not shown." if cut else ""
        ),
        "tokens": [token.text for token in encoded.tokens],
        "words": [{"part": word.part, "start": word.start, "end": word.end} for word in encoded.words],
        "attributions": [_attribution_data(one) for one in found.attributions],
        "attention": _attention_data(found.attention),
        "lens": None if found.lens is None else _lens_data(found.lens),
        "next": [
            {"token": step.token, "likeliest": [(one.token, _round(one.probability)) for one in step.likeliest]}
            for step in found.next_tokens
        ],
        "parameters": {
            "total": found.parameters.total,
            "matrices": [(one.name, one.shape, one.count) for one in found.parameters.matrices],
            "memory": [(one.purpose, one.bytes, one.calculation) for one in found.parameters.memory],
        },
    }


def _attribution_data(one: "Attribution") -> dict[str, Any]:
    shares = [None if share is None else _round(share) for share in one.by_word]
    values = {name: getattr(one, name) for name in ("method", "output", "unit", "value", "gap")}
    return {**values, "blank": one.baseline, "words": shares}


def _lens_data(view: "LogitLens") -> dict[str, Any]:
    """Every candidate's text once, and for each layer the indices and probabilities of its candidates."""
    indices: dict[str, int] = {}
    layers = [
        [
            [(indices.setdefault(one.token, len(indices)), _round(one.probability)) for one in candidates]
            for candidates in layer.candidates
        ]
        for layer in view.layers
    ]
    return {"vocabulary": list(indices), "layers": layers}


def _attention_data(view: "AttentionMaps") -> dict[str, Any]:
    layers, heads, count, _ = view.weights.shape
    size = 1
    while layers * heads * math.ceil(count / size) ** 2 > MAX_BYTES:
        size += 1
    texts = [token.text for token in view.tokens]
    special = [token.start is None for token in view.tokens]
    units = [
        {"text": _joined(texts[i : i + size]), "special": all(special[i : i + size])} for i in range(0, count, size)
    ]
    return {
        "causal": view.causal,
        "heads": heads,
        "tokens_a_unit": size,
        "units": units,
        "figures": [{name: _round(value) for name, value in asdict(one).items()} for one in view.heads],
        "layers": [_compressed(pool(layer, size)) for layer in view.weights],
        "piece": _piece_data(texts, size),
    }


def _piece_data(tokens: Sequence[str], size: int) -> dict[str, Any] | None:
    """The times of the units and the notes of a piece of music; None if the tokens are not events."""
    from ...tasks.events import token_notes, token_seconds

    seconds = token_seconds(tokens)
    if seconds is None:
        return None
    notes = [(pitch, seconds[on], seconds[off], on // size, off // size) for pitch, on, off in token_notes(tokens)]
    return {"seconds": seconds[::size], "notes": notes}


def _joined(texts: Sequence[str]) -> str:
    """The text of a unit; GPT-2's tokens contain their spaces, WordPiece's do not."""
    spaced = any(text.startswith(" ") for text in texts)
    return ("" if spaced else " ").join(texts).replace(" ##", "")


def pool(weights: "Tensor", size: int) -> "Tensor":
    """Attention between units of `size` neighbouring tokens, (H, T, T) -> (H, U, U); rows still sum to 1."""
    if size == 1:
        return weights
    columns = _stack(part.sum(-1) for part in weights.split(size, dim=-1))  # (H, T, U): from tokens to units
    return _stack(part.mean(-1) for part in columns.transpose(-1, -2).split(size, dim=-1)).transpose(-1, -2)


def _stack(parts: "Iterable[Tensor]") -> "Tensor":
    import torch

    return torch.stack(list(parts), dim=-1)


def _compressed(weights: "Tensor") -> str:
    import torch

    levels = (weights.clamp(0, 1).sqrt() * 255).round().to(torch.uint8)
    return base64.b64encode(zlib.compress(levels.contiguous().numpy().tobytes(), 9)).decode()


def _round(value: float) -> float:
    return float(f"{value:.4g}")

"""A look inside a model as one HTML file that opens without the internet.

Attention is packed: a byte is 255 times a weight's square root, a layer's heads are deflated together, and
neighbouring tokens of a long text are taken together.

Shapes: L layers, H heads, n tokens, m units of neighbouring tokens.
"""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..html_page import draw_page

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.generation.generation import TokenStep
    from ...tasks.inspection import AttentionView, Attribution, LensView, Parameters, Reading

MOST_BYTES = 24_000_000  # of attention, before it is deflated


@dataclass(frozen=True)
class Inspection:
    """What a page shows; what a model does not have is empty."""

    model: str
    facts: str  # "BERT, 6 layers of 12 heads, ..."
    answer: str
    reading: "Reading"
    attributions: "tuple[Attribution, ...]"
    attention: "AttentionView"
    lens: "LensView | None"
    next_tokens: "tuple[TokenStep, ...]"
    parameters: "Parameters"


def render_page(found: Inspection) -> str:
    """The page, whole."""
    page, _ = draw_page("inspect", f"{found.model}: a look inside", page_data(found))
    return page


def page_data(found: Inspection) -> dict[str, Any]:
    """What the page's script reads."""
    reading = found.reading
    read = f"The page shows the first {len(reading.tokens):,} tokens, which the model reads at once"
    return {
        "model": found.model,
        "facts": found.facts,
        "answer": found.answer,
        "texts": reading.texts,
        "unread": f"{read}; {reading.unread:,} more are left out." if reading.unread else "",
        "tokens": [token.text for token in reading.tokens],
        "words": [{"part": word.part, "start": word.start, "end": word.end} for word in reading.words],
        "attributions": [_attribution(one) for one in found.attributions],
        "attention": _attention(found.attention),
        "lens": None if found.lens is None else _lens(found.lens),
        "next": [
            {"token": step.token, "likeliest": [(one.token, _short(one.probability)) for one in step.likeliest]}
            for step in found.next_tokens
        ],
        "parameters": {
            "total": found.parameters.total,
            "matrices": [(one.name, one.shape, one.times) for one in found.parameters.matrices],
            "memory": [(need.what, need.bytes, need.how) for need in found.parameters.memory],
        },
    }


def _attribution(one: "Attribution") -> dict[str, Any]:
    shares = [None if share is None else _short(share) for share in one.by_word]
    names = ("method", "output", "unit", "value", "blank", "gap")
    return {**{name: getattr(one, name) for name in names}, "words": shares}


def _lens(view: "LensView") -> dict[str, Any]:
    """Every candidate's text once; a layer has its number and probability."""
    numbers: dict[str, int] = {}
    layers = [
        [
            [(numbers.setdefault(one.token, len(numbers)), _short(one.probability)) for one in candidates]
            for candidates in says.candidates
        ]
        for says in view.layers
    ]
    return {"vocabulary": list(numbers), "layers": layers}


def _attention(view: "AttentionView") -> dict[str, Any]:
    layers, heads, count, _ = view.weights.shape
    together = 1
    while layers * heads * _groups(count, together) ** 2 > MOST_BYTES:
        together += 1
    texts = [token.text for token in view.tokens]
    special = [token.start is None for token in view.tokens]
    units = [
        {"text": _joined(texts[i : i + together]), "special": all(special[i : i + together])}
        for i in range(0, count, together)
    ]
    return {
        "causal": view.causal,
        "heads": heads,
        "tokens_a_unit": together,
        "units": units,
        "figures": [{name: _short(value) for name, value in asdict(one).items()} for one in view.heads],
        "layers": [_packed(pool(layer, together)) for layer in view.weights],
    }


def _groups(count: int, together: int) -> int:
    return -(-count // together)


def _joined(texts: Sequence[str]) -> str:
    """Tokens that are taken together: GPT-2's have their spaces, WordPiece's do not."""
    spaced = any(text.startswith(" ") for text in texts)
    return ("" if spaced else " ").join(texts).replace(" ##", "")


def pool(weights: "Tensor", together: int) -> "Tensor":
    """Attention of neighbouring tokens taken together, (H, n, n) -> (H, m, m); a row still sums to 1."""
    if together == 1:
        return weights
    columns = _stack(part.sum(-1) for part in weights.split(together, dim=-1))  # what a token gives to each unit
    return _stack(part.mean(-1) for part in columns.transpose(-1, -2).split(together, dim=-1)).transpose(-1, -2)


def _stack(parts: "Iterable[Tensor]") -> "Tensor":
    import torch

    return torch.stack(list(parts), dim=-1)


def _packed(weights: "Tensor") -> str:
    import torch

    levels = (weights.clamp(0, 1).sqrt() * 255).round().to(torch.uint8)
    return base64.b64encode(zlib.compress(levels.contiguous().numpy().tobytes(), 9)).decode()


def _short(value: float) -> float:
    return float(f"{value:.4g}")

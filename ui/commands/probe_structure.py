"""The tables and the JSON of `headway probe --structure`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..terminal import bar, section, table

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.inspection import LayerStructure, StructureResult


def show_structure(console: "Console", found: "StructureResult", data: str) -> None:
    """Shows the scores of each layer beside those of random weights."""
    if found.notes:
        section(console, "Data", *found.notes)
    rows = [
        _row(f"layer {one.layer}" if one.layer else "embeddings", one, random)
        for one, random in zip(found.layers, found.random_layers, strict=True)
    ]
    rows.append(_row("neighbours attached", found.chain, None))
    seeds = len(found.chain.scores)
    splits = f"mean of {seeds} random splits" if seeds > 1 else "one random split"
    best, first = found.best, found.layers[0].mean.uuas
    random = max(one.mean.uuas for one in found.random_layers)
    section(
        console,
        f"Structural probes of rank {found.rank} on {found.sentences:,} sentences of {data}, {splits}",
        table(rows),
        "",
        f"Best layer: {best.layer or 'the embeddings'}, UUAS {best.mean.uuas:.3f} (embeddings {first:.3f}, best layer "
        f"with random weights {random:.3f}).",
        "UUAS: share of the true edges among the words that the probe's distances attach to each other, without "
        "punctuation. Spearman's correlations are averaged by sentence length.",
    )


def _row(name: str, one: "LayerStructure", random: "LayerStructure | None") -> dict[str, Any]:
    mean = one.mean
    return {
        "": name,
        "UUAS": mean.uuas,
        "distance": mean.distance_spearman,
        "root": mean.root_accuracy,
        "depth": mean.depth_spearman,
        "UUAS, random weights": "" if random is None else f"{random.mean.uuas:.3f}",
        " ": bar(mean.uuas),
    }


def structure_as_json(found: "StructureResult") -> dict[str, Any]:
    """The scores by layer, as mean and by seed."""

    def row(one: "LayerStructure") -> dict[str, Any]:
        layer = {} if one.layer is None else {"layer": one.layer}
        return {**layer, **asdict(one.mean), "scores": [asdict(scores) for scores in one.scores]}

    return {
        "sentences": found.sentences,
        "rank": found.rank,
        "best_layer": found.best.layer,
        "layers": [row(one) for one in found.layers],
        "random_layers": [row(one) for one in found.random_layers],
        "chain": row(found.chain),
    }

"""The page of `headway probe --structure --output`: spanning trees drawn beside the true ones, for every layer."""

from typing import TYPE_CHECKING, Any

from ..html_page import draw_page

if TYPE_CHECKING:
    from ...tasks.inspection import LayerStructure, StructureResult


def render_page(found: "StructureResult", model: str) -> str:
    """The complete HTML page.

    Args:
        found: the scores and trees.
        model: the name of the model.
    """
    page, _ = draw_page("structure", f"{model}: trees", page_data(found, model))
    return page


def page_data(found: "StructureResult", model: str) -> dict[str, Any]:
    """The data that the page's script reads."""
    seeds = len(found.chain.scores)
    return {
        "model": model,
        "facts": f"Structural probes of rank {found.rank} on {found.sentences:,} sentences, "
        + (f"mean of {seeds} random splits" if seeds > 1 else "one random split"),
        "best": found.best.layer,
        "layers": [_scores(one) for one in found.layers],
        "random": [_scores(one) for one in found.random_layers],
        "chain": _scores(found.chain),
        "trees": [
            {
                "words": tree.words,
                "gold": sorted(tree.gold),
                "predicted": [sorted(edges) for edges in tree.predicted],
            }
            for tree in found.trees
        ],
    }


def _scores(one: "LayerStructure") -> list[float]:
    mean = one.mean
    return [round(value, 4) for value in (mean.uuas, mean.distance_spearman, mean.root_accuracy, mean.depth_spearman)]

"""The plots of `headway probe`: the score of each layer, as mean and range over the random splits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...tasks.inspection import ProbeResult, StructureResult

SIZE = (7.2, 4.4)  # inches
DPI = 150  # of a PNG
BLUE, ORANGE, GREEN, PURPLE, GREY = "#245cd6", "#d66012", "#1b8a4b", "#8b3fc7", "#5b6472"
LINE: dict[str, Any] = {"marker": "o", "markersize": 5, "linewidth": 2}
MAX_TICKS = 14  # layers on the axis; deeper models show every second one


def save_plot(found: "ProbeResult", model: str, path: Path, format: str) -> None:
    """Plots the scores of a probe.

    Args:
        found: The scores.
        model: The name of the model, for the title.
        path: The file to write.
        format: "svg" or "png".
    """
    figure, axes = _new_figure()
    layers = [one.layer or 0 for one in found.layers]
    lowest, highest = ([pick(one.scores) for one in found.layers] for pick in (min, max))
    axes.fill_between(layers, lowest, highest, color=BLUE, alpha=0.18, linewidth=0, label="worst to best split")
    axes.plot(layers, [one.mean for one in found.layers], **LINE, color=BLUE, label="mean")
    axes.axhline(found.mix.mean, color=ORANGE, label=f"mix of all layers: {found.mix.mean:.3f}")
    axes.axhline(
        found.majority.mean, color=GREY, linestyle="--", label=f"most common label: {found.majority.mean:.3f}"
    )
    axes.set_title(f"Linear probes on {model}", loc="left", parse_math=False)
    axes.set_ylabel(f"{found.metric} ({len(found.mix.scores)} random splits)")
    _save(figure, axes, len(layers), path, format)


def save_structure_plot(found: "StructureResult", model: str, path: Path, format: str) -> None:
    """Plots the scores of structural probes on the model and on random weights.

    Args:
        found: The scores.
        model: The name of the model, for the title.
        path: The file to write.
        format: "svg" or "png".
    """
    figure, axes = _new_figure()
    layers = range(len(found.layers))
    for name, label, color in (
        ("uuas", "attachment (UUAS)", BLUE),
        ("distance_spearman", "distance (Spearman)", ORANGE),
        ("root_accuracy", "root (accuracy)", GREEN),
        ("depth_spearman", "depth (Spearman)", PURPLE),
    ):
        for scores, style, alpha, shown in (
            (found.layers, "-", 1.0, label),
            (found.random_layers, ":", 0.7, "random weights" if name == "uuas" else None),
        ):
            values = [getattr(one.mean, name) for one in scores]
            axes.plot(layers, values, **LINE, color=color, linestyle=style, alpha=alpha, label=shown)
    chain = found.chain.mean.uuas
    axes.axhline(chain, color=GREY, linestyle="--", label=f"neighbours attached (UUAS): {chain:.3f}")
    axes.set_title(f"Structural probes on {model}", loc="left", parse_math=False)
    axes.set_ylabel(f"score ({found.sentences:,} sentences)")
    _save(figure, axes, len(layers), path, format)


def _new_figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: "Figure", axes: "Axes", layers: int, path: Path, format: str) -> None:
    import matplotlib

    step = 1 if layers <= MAX_TICKS else 2
    axes.set_xlabel("layer (emb.: embeddings)")
    axes.set_xticks(range(0, layers, step), ["emb.", *map(str, range(step, layers, step))])
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    # Text stays text, and the same scores give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headway"}):
        figure.savefig(path, format=format, metadata={"Date": None} if format == "svg" else None)

"""The plot of `headway probe`: the score of each layer, as mean and range over the random splits."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...tasks.inspection import ProbeResult

SIZE = (7.2, 4.4)  # inches
DPI = 150  # of a PNG
BLUE, ORANGE, GREY = "#245cd6", "#d66012", "#5b6472"
MAX_TICKS = 14  # layers on the axis; deeper models show every second one


def save_plot(found: "ProbeResult", model: str, path: Path, format: str) -> None:
    """Plots the scores of a probe.

    Args:
        found: The scores.
        model: The name of the model, for the title.
        path: The file to write.
        format: "svg" or "png".
    """
    import matplotlib
    from matplotlib.figure import Figure

    layers = [one.layer or 0 for one in found.layers]
    means = [one.mean for one in found.layers]
    lowest, highest = ([pick(one.scores) for one in found.layers] for pick in (min, max))
    step = 1 if len(layers) <= MAX_TICKS else 2
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(layers, lowest, highest, color=BLUE, alpha=0.18, linewidth=0, label="worst to best split")
    axes.plot(layers, means, color=BLUE, marker="o", markersize=5, linewidth=2, label="mean")
    axes.axhline(found.mix.mean, color=ORANGE, label=f"mix of all layers: {found.mix.mean:.3f}")
    axes.axhline(
        found.majority.mean, color=GREY, linestyle="--", label=f"most common label: {found.majority.mean:.3f}"
    )
    axes.set_title(f"Linear probes on {model}", loc="left", parse_math=False)
    axes.set_xlabel("layer (emb.: embeddings)")
    axes.set_ylabel(f"{found.metric} ({len(found.mix.scores)} random splits)")
    axes.set_xticks(layers[::step], ["emb.", *map(str, layers[step::step])])
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    # Text stays text, and the same scores give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headway"}):
        figure.savefig(path, format=format, metadata={"Date": None} if format == "svg" else None)

"""The tab Evaluate: a labelled file, and what it says about one model, about several, and about its own labels."""

from functools import partial
from typing import TYPE_CHECKING

import gradio as gr

from ..events import current_tab, refresh_models
from ..kept_form import QUIET, keep_form
from ..tab_context import TabContext
from .evaluate_compare import draw_compare_part
from .evaluate_curve import draw_curve_part
from .evaluate_data import draw_labelled_file
from .evaluate_labels import draw_labels_part, reader_names
from .evaluate_report import draw_report_part

if TYPE_CHECKING:
    from ...model_registry import ModelRegistry

TITLE = "Evaluate"


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, current_tab()
    data = draw_labelled_file()
    with gr.Tabs(elem_id="evaluations"):
        with gr.Tab("One model"):
            model, *one = draw_report_part(registry, data)
        with gr.Tab("Compare"):
            models, *several = draw_compare_part(registry, data)
        with gr.Tab("Label errors"):
            readers, *own = draw_labels_part(registry, data)
        with gr.Tab("Curve"):
            curve_lists, *curve = draw_curve_part(registry, data)
    read = data.read
    for outputs, empty in (one, several, own, curve):
        read = read.then(empty, None, outputs, **QUIET)
    opened = refresh_models(model, partial(trained_models, registry), tab.select)
    lists = {models: trained_models, readers: reader_names, **curve_lists}
    opened.then(lambda: [gr.Dropdown(choices=names(registry)) for names in lists.values()], None, [*lists], **QUIET)
    keep_form(context.page, "evaluate", [data.file, model, models, readers])


def trained_models(registry: "ModelRegistry") -> list[str]:
    """The models with a task head."""
    return [entry.name for entry in registry.entries() if entry.task is not None]

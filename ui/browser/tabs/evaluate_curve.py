"""The part of the tab Evaluate for a learning curve: how many labelled rows are enough.

The curve is measured in a separate process. Its finished runs are stored in a folder that follows from the files and
the options, so that a cancelled curve continues when it is started again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from ....core.errors import HeadwayError
from ....core.options import options_of
from ....tasks.learning_curves.learning_curve import OF_ALL_RUNS, learning_curve
from ....tasks.learning_curves.options import CurveOptions
from ....tasks.learning_curves.runs import RUNS
from ...curve_files import PAGE, render_curve, write_curve
from ..background import require_upload, run_in_background
from ..drawing import caption, draw_frame, hint
from ..events import FILES, bind
from ..form import option_component, read_options
from ..kept_form import QUIET
from ..run_drawing import form_message
from .evaluate_data import LabelledFile, form_errors, label_columns, without_paths
from .generate import language_models
from .train_form import model_to_open

if TYPE_CHECKING:
    from ...model_registry import ModelRegistry

NO_CURVE = "The scores by the number of labelled rows appear here."
MODELS = ("model", "prompt_model", "zero_shot_model")
SHOWN = ("methods", "sizes", "seeds", "minutes", *MODELS)  # the others are in an accordion


@dataclass(frozen=True)
class Curve:
    """What is measured.

    Args:
        file: of the labelled rows.
        test: the file of the test rows; None: a part of the others.
        labels: the columns of the labels.
        options: of the curve, by name.
        names: of the models in the form, by their folders.
        folder: of the results.
        device: of the models.
    """

    file: str
    test: str | None
    labels: dict[str, Any]
    options: dict[str, Any]
    names: dict[str, str]
    folder: Path
    device: str

    @property
    def shown(self) -> dict[str, str]:
        """What stands for a path in messages."""
        return self.names if self.test is None else {self.test: Path(self.test).name, **self.names}


def draw_curve_part(
    registry: "ModelRegistry", data: LabelledFile
) -> tuple[dict[gr.Dropdown, Callable[["ModelRegistry"], list[str]]], list[Any], Callable[[], Any]]:
    """Draws the part.

    Args:
        registry: the models.
        data: the labelled file.

    Returns:
        The lists of models with the functions that say what is in them, the outputs, and a function that returns their
        empty values.
    """
    known = {one.name: one for one in options_of(CurveOptions)}
    values: dict[str, Any] = {}
    lists: dict[gr.Dropdown, Callable[[ModelRegistry], list[str]]] = {}
    with gr.Row():
        for name, names in zip(MODELS, (trainable_models, language_models, entailment_models), strict=True):
            values[name] = _model_list(known[name], names(registry))
            lists[values[name]] = names
    with gr.Row():
        values |= {name: option_component(known[name]) for name in SHOWN if name not in MODELS}
    with gr.Accordion("Test and prompt", open=False, elem_id="curve-options"), gr.Row():
        test = gr.File(label="Test rows; default: a quarter of the file", height=120, elem_id="curve-test")
        values |= {name: option_component(one) for name, one in known.items() if name not in SHOWN}
    with gr.Row(elem_classes="hw-buttons"):
        start = gr.Button("Measure", variant="primary", min_width=120)
        cancel = gr.Button("Cancel", visible=False, min_width=120)
        download = gr.DownloadButton("Download", visible=False, min_width=120, elem_id="download-curve")
    errors = gr.HTML()
    shown = gr.HTML(hint(NO_CURVE), elem_id="curve")
    outputs = [shown, cancel, download]
    given = [data.file, data.labels, test, *(values[name] for name in known)]
    options: dict[str, Any] = {"queue": FILES, "on_error": empty()}
    measuring = bind(start.click, partial(measure, registry), given, outputs, errors, **options)
    cancel.click(empty, None, outputs, cancels=[measuring], **QUIET)
    return lists, outputs, empty


def _model_list(option: Any, names: list[str]) -> gr.Dropdown:
    required = option.default is not None
    value = option.default if option.default in names or not required else next(iter(names), None)
    label = option.name.replace("_", " ").capitalize()
    return gr.Dropdown(names, value=value, label=label, info=option.help, allow_custom_value=True, min_width=240)


def trainable_models(registry: "ModelRegistry") -> list[str]:
    """The models that read texts."""
    return [entry.name for entry in registry.text_readers()]


def entailment_models(registry: "ModelRegistry") -> list[str]:
    """The classifiers of pairs that know entailment."""
    return [entry.name for entry in registry.entries() if registry.knows_entailment(entry)]


def empty() -> tuple[Any, ...]:
    """No curve."""
    hidden = gr.update(visible=False)
    return hint(NO_CURVE), hidden, hidden


def measure(registry: "ModelRegistry", *given: Any) -> Iterator[tuple[Any, ...]]:
    """The page of the curve, after the progress.

    Args:
        registry: the models.
        *given: the values of the form: the file, its label columns, the test file, and those of CurveOptions.
    """
    curve = _read(registry, *given)
    hidden, cancel = gr.update(visible=False), gr.update(visible=True)
    with form_errors(curve.file, curve.shown):
        running = run_in_background(_measure, curve)
        while True:
            try:
                seconds = next(running)
            except StopIteration as end:
                page = end.value
                break
            finished = len(list((curve.folder / RUNS).glob("*.json")))
            yield caption(f"{finished:,} runs are finished, {seconds:.0f} s. Cancelling keeps them."), cancel, hidden
    name = f"{Path(curve.file).stem}-curve.html"
    button = gr.DownloadButton(f"Download {name}", value=str(curve.folder / PAGE), visible=True)
    yield draw_frame(page, f"Learning curve of {Path(curve.file).name}"), hidden, button


def _read(registry: "ModelRegistry", *given: Any) -> Curve:
    file, labels, test, *values = given
    if not file:
        raise HeadwayError("Upload a file with texts and labels.")
    require_upload(file)
    known = options_of(CurveOptions)
    named = dict(zip((one.name for one in known), values, strict=True))
    chosen = read_options(known, {name: value for name, value in named.items() if name not in MODELS})
    models = {name: model_to_open(registry, named[name]) for name in MODELS if named[name]}
    options = {**chosen, **models}
    names = {folder: named[name] for name, folder in models.items()}
    own = {name: value for name, value in options.items() if name not in OF_ALL_RUNS}
    key = json.dumps([str(file), str(test), labels, own, registry.device], sort_keys=True, default=str)
    folder = Path(get_upload_folder()) / "headway-curves" / hashlib.sha256(key.encode()).hexdigest()[:16]
    return Curve(str(file), test and str(test), label_columns(labels), options, names, folder, registry.device)


def _measure(curve: Curve) -> str:
    """Measures the curve and writes its files; returns the page."""
    found = learning_curve(
        curve.file,
        curve.test,
        options=CurveOptions(**curve.options),
        output=curve.folder,
        resume=True,
        columns=curve.labels,
        device=curve.device,
    )
    notes = tuple(form_message(without_paths(note, curve.file, curve.shown)) for note in found.notes)
    found = replace(found, notes=notes, advice=form_message(found.advice))
    write_curve(curve.folder, found)
    return render_curve(found)

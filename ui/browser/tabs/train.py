"""The tab Train: a form from an uploaded file to a training run, and the panel of the runs.

Training runs in separate processes (../../runs): the page only shows their state, so it may be closed and reopened.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks.base.data_source import DataSource
from ...runs.double_click import SubmitOnce
from ...runs.job import Job, Request
from ..drawing import hint
from ..events import FILES, bind
from ..kept_form import QUIET, keep_form
from ..pasted_cells import write_pasted
from ..runs_panel import draw_runs, run_choices
from ..tab_context import TabContext
from .train_check import check
from .train_data import message_for, read_file, redraw_rows, take_sample
from .train_form import FormOutputs, FormValues, TrainForm, choose_task, draw_form, model_names, model_to_open

if TYPE_CHECKING:
    from ...model_registry import ModelRegistry
    from ...runs.jobs import Jobs

TITLE = "Train"


def draw(context: TabContext) -> None:
    """Draws the tab."""
    with gr.Accordion("New run", open=True, elem_id="new-run") as accordion:
        form, outputs = draw_form(context.registry)
        errors = gr.HTML(elem_id="train-error")
    runs, timer, update_after = draw_runs(context)
    submit = partial(start_run, context.registry, context.jobs, submit=SubmitOnce(context.jobs).submit)
    started = bind(form.start.click, submit, form.inputs, [accordion, runs, timer], errors, queue=None)
    update_after(started.success)
    _bind_form(context, form, outputs, errors)


def _bind_form(context: TabContext, form: TrainForm, outputs: FormOutputs, errors: gr.HTML) -> None:
    registry = context.registry
    columns = list(form.columns.values())
    quick: dict[str, Any] = {"show_progress": "minimal"}
    reading: list[Any] = []  # events that Cancel stops

    def check_after(bound: Any) -> None:
        """Runs the data check, which is slower, after an event that changes its inputs."""
        shown = [outputs.report, outputs.cancel, form.start]
        reading.append(
            bind(
                bound.success,
                partial(check, registry),
                form.inputs,
                shown,
                errors,
                queue=FILES,
                show_progress="hidden",
            )
        )

    def read_after(trigger: Any, *, infer: bool) -> Any:
        read = [
            outputs.first_rows, outputs.cancel, outputs.steps, outputs.reason, form.task, *columns, form.name,
            form.read_from, form.start,
        ]  # fmt: skip
        reading.append(bind(trigger, partial(read_file, infer), form.inputs, read, errors, queue=FILES, **quick))
        return reading[-1]

    def choose_task_after(bound: Any) -> Any:
        given, changed = [form.task, form.model, form.preset], [form.model, form.preset, *form.options.values()]
        return bind(bound.success, partial(choose_task, registry), given, changed, errors, queue=None, **quick)

    keep_form(context.page, "train", form.inputs)
    bind(outputs.samples.click, take_sample, [], [form.data], errors, queue=None, show_progress="hidden")
    bind(outputs.pasted.input, write_pasted, [outputs.pasted], [form.data], errors, queue=None, show_progress="hidden")
    check_after(choose_task_after(read_after([form.data.change], infer=True)))
    check_after(choose_task_after(read_after(form.task.input, infer=False)))
    changed = [form.header.input, *(getattr(one, "blur", None) or one.input for one in form.reading.values())]
    check_after(read_after(changed, infer=False))
    chosen = [column.input for column in columns]
    redrawn = [outputs.first_rows, outputs.cancel]
    reading.append(bind(chosen, redraw_rows, form.inputs, redrawn, errors, queue=FILES, **quick))
    check_after(reading[-1])
    check_after(bind([form.held_out.change, form.test.change], lambda: (), [], [], errors, queue=None, **quick))
    check_after(bind([form.model.input, form.preset.input], lambda: (), [], [], errors, queue=None, **quick))
    outputs.cancel.click(
        lambda: (gr.Button(visible=False), hint("Cancelled.")),
        None,
        [outputs.cancel, outputs.report],
        cancels=reading,
        **QUIET,
    )
    context.page.load(
        lambda task: gr.Dropdown(choices=list(model_names(registry, task))), form.task, form.model, **QUIET
    )


def start_run(
    registry: "ModelRegistry", jobs: "Jobs", *values: Any, submit: Callable[..., Job] | None = None
) -> tuple[Any, ...]:
    """Puts the run into the queue, by `submit` or `jobs.submit`, and folds the form.

    Raises:
        HeadwayError: a value is missing or invalid.
    """
    form = FormValues.read(values)
    if form.data is None:
        raise HeadwayError("There is no training data. Upload a file, or choose a sample.")
    if not form.model:
        raise HeadwayError("Choose a base model.")
    request = Request(
        name=form.name or form.data.stem,
        task=form.task,
        model=model_to_open(registry, form.model),
        data=form.data,
        eval_data=form.held_out,
        columns=form.columns,
        options=form.options,
        training=form.training,
        eval_fraction=form.fraction,
        test_data=form.test,
        test_fraction=form.test_fraction,
        folds=form.folds,
        seeds=form.seeds,
        header=form.reading.header,
        reading={name: value for name, value in form.reading.given.items() if name != "header"},
        shown_model=form.model,
    )
    try:
        _check_repeats(request, form)
        job = (submit or jobs.submit)(request, taken=[entry.name for entry in registry.entries()])
    except HeadwayError as error:
        raise HeadwayError(message_for(error, form)) from error
    return gr.Accordion(open=False), gr.Radio(choices=run_choices(jobs), value=job.id), gr.Timer(active=True)


def _check_repeats(request: Request, form: FormValues) -> None:
    """Raises HeadwayError if folds or seeds make no sense for the task or the data."""
    if (repeats := request.repeats) is not None:
        fractions = {"eval_fraction": request.eval_fraction, "test_fraction": request.test_fraction}
        source = DataSource(request.data, request.eval_data, test=request.test_data, **fractions)
        repeats.check(form.create_task(), source)

"""The training runs in the browser: the list, the selected run, and its buttons.

The panel reads the state from the disk, once a second while a run is active, and updates what has changed.
"""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from ...core.atomic_files import atomic_file
from ...core.errors import HeadwayError
from .drawing import draw_code
from .events import FILES, bind
from .run_drawing import STATES, draw_curves, draw_data, draw_head, draw_results
from .tab_context import TabContext

if TYPE_CHECKING:
    from ..runs.job import Job, Status
    from ..runs.jobs import Jobs

POLL_SECONDS = 1.0  # while a run is active
DRAWN = ("head", "curves", "results", "data", "log")  # HTML of the selected run
BUTTONS = ("predict", "pack", "stop", "kill")  # buttons with a fixed label
CLICK_SAVE_JS = "() => setTimeout(() => document.querySelector('#save-model')?.click(), 300)"


def draw_runs(context: TabContext) -> tuple[gr.Radio, gr.Timer, Any]:
    """Draws the panel.

    Returns:
        The list of runs, the timer of the updates, and a function that adds an update after an event.
    """
    jobs = context.jobs
    timer = gr.Timer(POLL_SECONDS, active=False)
    seen = gr.State({})
    with gr.Row(equal_height=False, visible=False) as panel:
        with gr.Column(scale=1, min_width=220):
            runs = gr.Radio([], label="Runs", elem_id="runs", elem_classes="hw-runs")
        with gr.Column(scale=3, min_width=300):
            head = gr.HTML(elem_id="run-head")
            with gr.Row(elem_classes="hw-buttons"):
                labels = ("Predict", "Download", "Stop", "Stop now", "Resume", "Remove")
                predict, pack_up, stop, kill, resume, remove = buttons = [
                    gr.Button(label, size="sm", visible=False, min_width=100, variant="secondary" if i else "primary")
                    for i, label in enumerate(labels)
                ]
                save = gr.DownloadButton("Save", size="sm", visible=False, min_width=100, elem_id="save-model")
            errors = gr.HTML(elem_id="run-error")
            curves = gr.HTML(elem_id="curves")
            results = gr.HTML(elem_id="results")
            with gr.Accordion("Data", open=False):
                data = gr.HTML()
            with gr.Accordion("Log", open=False):
                log = gr.HTML(elem_id="log")
    outputs = [panel, runs, head, curves, results, data, log, *buttons, save, timer, seen]

    def update_after(trigger: Any) -> Any:
        return trigger(
            partial(update, jobs), [runs, seen], outputs, show_progress="hidden", queue=False, api_visibility="private"
        )

    for trigger in (timer.tick, runs.input, context.page.load):
        update_after(trigger)
    for button, action in ((stop, jobs.stop), (kill, jobs.kill), (resume, jobs.resume), (remove, jobs.remove)):
        done = bind(button.click, partial(act, jobs, action), [runs], [], errors, queue=None, show_progress="hidden")
        update_after(done.then)
    bind(predict.click, partial(open_model, jobs), [runs], [context.tabs, context.model], errors, queue=None)
    packed = bind(pack_up.click, partial(pack, jobs), [runs], [save], errors, queue=FILES)
    packed.success(None, None, None, js=CLICK_SAVE_JS, api_visibility="private")
    return runs, timer, update_after


def run_choices(jobs: "Jobs") -> list[tuple[str, str]]:
    """The runs with their states, newest first."""
    return [(f"{job.request.name} ({STATES[jobs.status(job).state]})", job.id) for job in jobs.all()]


def update(jobs: "Jobs", selected: str | None, seen: dict[str, Any]) -> tuple[Any, ...]:
    """Updates for the components of the panel.

    Args:
        jobs: the training runs.
        selected: id of the selected run.
        seen: what the page shows, as returned by the previous call; unchanged parts are skipped.
    """
    found = jobs.all()
    statuses = {job.id: jobs.status(job) for job in found}
    active = any(status.active for status in statuses.values())
    if selected not in statuses:
        running = (job.id for job in found if statuses[job.id].state in ("running", "stopping"))
        selected = next(running, found[0].id if found else None)
        seen = {}
    shown: dict[str, Any] = {"panel": bool(found), "timer": active}
    shown["runs"] = [(f"{job.request.name} ({STATES[statuses[job.id].state]})", job.id) for job in found]
    job = next((job for job in found if job.id == selected), None)
    if job is not None:
        shown |= _describe_run(jobs, job, statuses[job.id])
    changed = {name: value for name, value in shown.items() if seen.get(name) != value}

    def update_of(name: str, component: Callable[[Any], Any]) -> Any:
        return component(changed[name]) if name in changed else gr.skip()

    def radio(choices: Any) -> gr.Radio:
        # Later updates leave the value alone: the user may have selected another run meanwhile.
        return gr.Radio(choices=choices) if seen else gr.Radio(choices=choices, value=selected)

    def visible(value: Any) -> gr.Button:
        return gr.Button(visible=value)

    return (
        update_of("panel", lambda value: gr.Row(visible=value)),
        update_of("runs", radio),
        *(changed.get(name, gr.skip()) for name in DRAWN),
        *(update_of(name, visible) for name in BUTTONS),
        update_of("resume", lambda label: gr.Button(label or "Resume", visible=bool(label))),
        update_of("remove", visible),
        update_of("save", lambda _: gr.DownloadButton(visible=False, value=None)),
        update_of("timer", lambda value: gr.Timer(active=value)),
        shown,
    )


def _describe_run(jobs: "Jobs", job: "Job", status: "Status") -> dict[str, Any]:
    """What the panel shows of the selected run."""
    history = jobs.history(job)
    over = not status.active
    usable = status.state == "done" and job.has_model
    return {
        "head": draw_head(job, status, history, jobs.runs_before(job) if status.state == "waiting" else 0),
        "curves": draw_curves(history),
        "results": draw_results(job, history) if over else "",
        "data": draw_data(history),
        "log": draw_code(job.log),
        "predict": usable,
        "pack": usable,
        "stop": status.state in ("waiting", "running"),
        "kill": status.state == "stopping",
        "resume": _resume_label(job.resume_point) if over and not usable else "",
        "remove": over,
        "save": job.id,
    }


def _resume_label(point: str | None) -> str:
    return "Restart" if point is None else f"Resume from {point}"


def act(jobs: "Jobs", action: Callable[["Job"], None], selected: str | None) -> tuple[()]:
    """Stops, kills, resumes or removes the selected run."""
    action(jobs.find(selected or ""))
    return ()


def open_model(jobs: "Jobs", selected: str | None) -> tuple[Any, Any]:
    """Opens the tab Predict with the model of the run."""
    return gr.Tabs(selected="predict"), jobs.find(selected or "").request.name


def pack(jobs: "Jobs", selected: str | None) -> Any:
    """Packs the model folder into a zip file for download; a file packed earlier is reused."""
    job = jobs.find(selected or "")
    if not job.has_model:
        raise HeadwayError(f"The folder of {job.request.name} was removed. Train the model again.")
    modified = int((job.output / "config.json").stat().st_mtime)
    packed = Path(get_upload_folder()) / "headway-models" / f"{job.id}-{modified}" / f"{job.request.name}.zip"
    if not packed.exists():
        packed.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(packed) as path, zipfile.ZipFile(path, "w") as archive:
            for file in sorted(job.output.rglob("*")):
                # weights do not compress
                compression = zipfile.ZIP_STORED if file.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
                archive.write(file, Path(job.request.name) / file.relative_to(job.output), compression)
    return gr.DownloadButton(f"Save {packed.name}", value=str(packed), visible=True)

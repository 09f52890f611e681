"""The training runs in the browser: which there are, how the chosen one is, and what can be done with it.

It looks at what lies on the disk, again and again while something is under way, and shows what has changed.
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
    from ..runs.job import Job
    from ..runs.jobs import Jobs

SECONDS_BETWEEN_LOOKS = 1.0  # while something is under way
PRESS = "() => setTimeout(() => document.querySelector('#save-model')?.click(), 300)"


def draw_runs(context: TabContext) -> tuple[gr.Radio, gr.Timer, Any]:
    """Draws them.

    Returns:
        The list, the clock by which it is looked at, and what makes an event be followed by a look.
    """
    jobs = context.jobs
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    seen = gr.State({})
    with gr.Row(equal_height=False, visible=False) as panel:
        with gr.Column(scale=1, min_width=220):
            runs = gr.Radio([], label="Runs", elem_id="runs", elem_classes="hw-runs")
        with gr.Column(scale=3, min_width=300):
            head = gr.HTML(elem_id="run-head")
            with gr.Row(elem_classes="hw-buttons"):
                names = ("Try it", "Download", "Stop", "Stop at once", "Resume", "Remove from the list")
                try_it, pack_up, stop, kill, resume, remove = (
                    gr.Button(
                        name, size="sm", visible=False, min_width=100, variant="primary" if i == 0 else "secondary"
                    )
                    for i, name in enumerate(names)
                )
                save = gr.DownloadButton("Save", size="sm", visible=False, min_width=100, elem_id="save-model")
            told = gr.HTML(elem_id="run-told")
            curves = gr.HTML(elem_id="curves")
            results = gr.HTML(elem_id="results")
            with gr.Accordion("How the data was read", open=False):
                data = gr.HTML()
            with gr.Accordion("Log", open=False):
                log = gr.HTML(elem_id="log")
    buttons = [try_it, pack_up, stop, kill, resume, remove]
    outputs = [panel, runs, head, curves, results, data, log, *buttons, save, timer, seen]

    def refresh(trigger: Any) -> Any:
        return trigger(
            partial(look, jobs),
            [runs, seen],
            outputs,
            show_progress="hidden",
            queue=False,
            api_visibility="private",
        )

    for trigger in (timer.tick, runs.input, context.page.load):
        refresh(trigger)
    for button, what in ((stop, jobs.stop), (kill, jobs.kill), (resume, jobs.resume), (remove, jobs.remove)):
        done = bind(button.click, partial(act, jobs, what), [runs], [], told, queue=None, show_progress="hidden")
        refresh(done.then)
    bind(try_it.click, partial(open_in_try, jobs), [runs], [context.tabs, context.model], told, queue=None)
    packed = bind(pack_up.click, partial(pack, jobs), [runs], [save], told, queue=FILES)
    packed.success(None, None, None, js=PRESS, api_visibility="private")
    return runs, timer, refresh


def run_choices(jobs: "Jobs") -> list[tuple[str, str]]:
    """The runs, the newest first, with how they are."""
    return [(f"{job.request.name} ({STATES[jobs.status(job).state]})", job.id) for job in jobs.all()]


def look(jobs: "Jobs", selected: str | None, seen: dict[str, Any]) -> tuple[Any, ...]:
    """All that is shown of the runs; what has not changed since it was shown is left alone."""
    found = jobs.all()
    statuses = {job.id: jobs.status(job) for job in found}
    busy = any(status.active for status in statuses.values())
    if selected not in statuses:
        computing = (job.id for job in found if statuses[job.id].state in ("running", "stopping"))
        selected = next(computing, found[0].id if found else None)
        seen = {}
    shown: dict[str, Any] = {"panel": bool(found), "timer": busy}
    shown["runs"] = [(f"{job.request.name} ({STATES[statuses[job.id].state]})", job.id) for job in found]
    job = next((job for job in found if job.id == selected), None)
    if job is not None:
        status, history = statuses[job.id], jobs.history(job)
        place = jobs.runs_before(job) if status.state == "waiting" else 0
        over = not status.active
        usable = status.state == "done" and job.has_model
        shown |= {
            "head": draw_head(job, status, history, place),
            "curves": draw_curves(history),
            "results": draw_results(job, history) if over else "",
            "data": draw_data(history),
            "log": draw_code(job.log),
            "try": usable,
            "pack": usable,
            "stop": status.state in ("waiting", "running"),
            "kill": status.state == "stopping",
            "resume": over and not usable and _resume_name(job.checkpoint_step),
            "remove": over,
            "save": selected,
        }
    fresh = {name: value for name, value in shown.items() if seen.get(name) != value}

    def button(name: str) -> Any:
        return gr.Button(visible=fresh[name]) if name in fresh else gr.skip()

    def text(name: str) -> Any:
        return fresh.get(name, gr.skip())

    radio: Any = gr.skip()
    if "runs" in fresh:
        # The value is given where it is first shown only: a click of this very moment is not to be undone.
        radio = gr.Radio(choices=fresh["runs"]) if seen else gr.Radio(choices=fresh["runs"], value=selected)
    again = fresh.get("resume")
    return (
        gr.Row(visible=fresh["panel"]) if "panel" in fresh else gr.skip(),
        radio,
        *map(text, ("head", "curves", "results", "data", "log")),
        *map(button, ("try", "pack", "stop", "kill")),
        gr.Button(again or "Resume", visible=bool(again)) if "resume" in fresh else gr.skip(),
        button("remove"),
        gr.DownloadButton(visible=False, value=None) if "save" in fresh else gr.skip(),
        gr.Timer(active=busy) if "timer" in fresh else gr.skip(),
        shown,
    )


def _resume_name(step: int | None) -> str:
    return "Start again" if step is None else f"Resume from step {step:,}"


def act(jobs: "Jobs", what: Callable[["Job"], None], selected: str | None) -> tuple[()]:
    """Stops, resumes or removes the run that is selected."""
    what(jobs.find(selected or ""))
    return ()


def open_in_try(jobs: "Jobs", selected: str | None) -> tuple[Any, Any]:
    """The tab Try with the model of the run."""
    return gr.Tabs(selected="try"), jobs.find(selected or "").request.name


def pack(jobs: "Jobs", selected: str | None) -> Any:
    """The model folder as one file, made when it is first asked for."""
    job = jobs.find(selected or "")
    if not job.has_model:
        raise HeadwayError(f"{job.request.name} is not in the folder of runs any more.")
    made = int((job.output / "config.json").stat().st_mtime)
    packed = Path(get_upload_folder()) / "headway-models" / f"{job.id}-{made}" / f"{job.request.name}.zip"
    if not packed.exists():
        packed.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(packed) as path, zipfile.ZipFile(path, "w") as archive:
            for file in sorted(job.output.rglob("*")):
                # Weights do not get smaller; what they are packed into opens on any machine.
                how = zipfile.ZIP_STORED if file.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
                archive.write(file, Path(job.request.name) / file.relative_to(job.output), how)
    return gr.DownloadButton(f"Save {packed.name}", value=str(packed), visible=True)

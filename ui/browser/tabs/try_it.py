"""The tab Try: a model of the shelf, asked about a text, about every row of a file, or for sentences that are alike.

The form is made of the fields that the model's task declares, the answer of the views that its predictions have.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import TASKS
from ....tasks.base.display import ScoreBar, ScoreBars
from ....tasks.data.read import stream_rows
from ....tasks.data.write import RowWriter, with_prediction
from ....tasks.embedding.search import search
from ....tasks.samples import sample_texts
from ...terminal import duration, figure
from ..drawing import PICK, draw_bars, draw_choices, draw_progress, draw_table, draw_views, facts, hint, note, quiet
from ..events import FILES, bind, keep_listed
from ..tab_context import TabContext

if TYPE_CHECKING:
    from ....tasks import TaskModel
    from ....tasks.base.task import Task
    from ....tasks.data.examples import Field
    from ...model_registry import ModelRegistry

TITLE = "Try"
ROWS_AT_ONCE = 256  # of a file, between two looks at how far it is
PREVIEW = 5  # rows
MOST_NAMES = 20  # of labels, in a line
SIMILAR = 10  # sentences
OUTPUTS = {"CSV": ".csv", "JSON lines": ".jsonl"}
EMPTY = "The answer appears here."


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry = context.registry
    most = max(len(task.inputs) for task in TASKS.values())
    context.model.render()
    about = gr.HTML()
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            texts = [gr.Textbox("", visible=False, lines=2, max_lines=14) for _ in range(most)]
            ask = gr.Button("Ask", variant="primary")
            examples = gr.HTML(js_on_load=PICK)
        with gr.Column(min_width=300):
            told = gr.HTML()
            answer = gr.HTML(hint(EMPTY), elem_id="answer", min_height=120)
    form = [about, *texts, examples, answer]
    chosen = bind(
        context.model.change, partial(choose, registry, most), [context.model], form, told, show_progress="hidden"
    )
    with gr.Accordion("A whole file", open=False):
        _draw_file(registry, context.model, chosen, most)
    with gr.Accordion("Similar sentences", open=False):
        _draw_similar(registry, context.model)

    bind([ask.click, texts[0].submit], partial(ask_model, registry), [context.model, *texts], [answer], told)
    picked = bind(examples.click, partial(pick, registry, most), [context.model], texts, told, show_progress="hidden")
    bind(picked.success, partial(ask_model, registry), [context.model, *texts], [answer], told)
    keep_listed(context.model, partial(model_names, registry), context.page.load)


def model_names(registry: "ModelRegistry") -> list[str]:
    """The models on the shelf that answer something."""
    return [entry.name for entry in registry.entries() if entry.task is not None]


# The form.


def choose(registry: "ModelRegistry", most: int, name: str | None) -> tuple[Any, ...]:
    """What the form becomes for a model: about it, its texts, its examples, and no answer."""
    if not name:
        raise HeadwayError("Choose a model first. There is none here yet: train one, or name a folder at the start.")
    opened = registry.task_model(name)
    fields = opened.task.fields
    shown = [
        gr.Textbox(label=_label(field), visible=True, lines=2 if len(fields) == 1 else 1 + (i > 0))
        for i, field in enumerate(fields)
    ]
    hidden = [gr.Textbox(visible=False) for _ in range(most - len(fields))]
    samples = [" / ".join(" ".join(text.split()) for text in one.values()) for one in sample_texts(opened.task)]
    return (describe(opened), *shown, *hidden, draw_choices(samples, "Examples"), hint(EMPTY))


def _label(field: "Field") -> str:
    return field.label if field.required else f"{field.label} (may be empty)"


def describe(opened: "TaskModel") -> str:
    """What a model does, in a line."""
    task, config = opened.task, opened.config
    named = {task.title: f"{config.num_layers} layers of {config.hidden_size:,}, {_kind(opened)}"}
    if task.label_names:
        more = f" and {len(task.label_names) - MOST_NAMES:,} more" if len(task.label_names) > MOST_NAMES else ""
        named["Knows"] = ", ".join(task.label_names[:MOST_NAMES]) + more
    for metric, value in list((opened.info.get("metrics") or {}).items())[:1]:
        named["Held out"] = f"{metric.replace('_', ' ')} {figure(value, 3)}"
    return facts(named)


def _kind(opened: "TaskModel") -> str:
    return "GPT-2" if type(opened.config).__name__.startswith("GPT2") else "BERT"


def pick(registry: "ModelRegistry", most: int, name: str, event: gr.EventData) -> Any:
    """The texts of the example that was clicked."""
    task = registry.task_model(name).task
    sample = sample_texts(task)[event.choice]
    given = [sample.get(field.name, "") for field in task.fields]
    texts = (*given, *([""] * (most - len(given))))
    return texts if most > 1 else texts[0]


# One question.


def ask_model(registry: "ModelRegistry", name: str | None, *texts: str | None) -> str:
    """What a model says about texts, given in the order of its task's fields."""
    if not name:
        raise HeadwayError("Choose a model first.")
    opened = registry.task_model(name)
    given = _given(opened.task, texts)
    return draw_views(opened.task.display(opened.predict(given), given))


def _given(task: "Task", texts: Sequence[str | None]) -> dict[str, str]:
    given = {}
    for field, text in zip(task.fields, texts, strict=False):
        if text and text.strip():
            given[field.name] = text
        elif field.required:
            raise HeadwayError(f"{field.label} is empty. Write something there, or click on an example.")
    return given


# A file.


def _draw_file(registry: "ModelRegistry", model: gr.Dropdown, chosen: Any, most: int) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            file = gr.File(label="CSV, TSV, JSON, JSON lines, Parquet, CoNLL or SQuAD", height=140)
            columns = [gr.Dropdown(visible=False, allow_custom_value=True) for _ in range(most)]
            output = gr.Radio(list(OUTPUTS), value="CSV", label="Result as")
            with gr.Row():
                start = gr.Button("Ask about every row", variant="primary", interactive=False)
                stop = gr.Button("Stop", visible=False)
        with gr.Column(min_width=300):
            told = gr.HTML()
            shown = gr.HTML(hint("The rows come back as they were, with the answers beside them."), elem_id="rows")
            download = gr.DownloadButton("Download", visible=False, variant="primary")
    looked = [*columns, start, shown, download]
    for trigger in ([file.upload, file.clear], chosen.then):
        look = partial(look_at, registry, most)
        bind(trigger, look, [model, file], looked, told, queue=FILES, show_progress="hidden")
    started = bind(
        start.click,
        partial(ask_about_rows, registry),
        [model, file, output, *columns],
        [shown, start, stop, download],
        told,
        queue=FILES,
    )
    stop.click(
        lambda: (gr.Button(interactive=True), gr.Button(visible=False), quiet("Stopped; nothing is kept of it.")),
        None,
        [start, stop, shown],
        cancels=[started],
        queue=False,
        api_visibility="private",
    )


def look_at(registry: "ModelRegistry", most: int, name: str | None, file: str | None) -> tuple[Any, ...]:
    """What is known of a file that was uploaded: its columns, which of them are read, and its first rows."""
    none = [gr.Dropdown(visible=False) for _ in range(most)]
    if not file or not name:
        return (
            *none,
            gr.Button(interactive=False),
            hint("Choose a model and a file."),
            gr.DownloadButton(visible=False),
        )
    task = registry.task_model(name).task
    stream = stream_rows(file)
    try:
        texts, notes = task.columns(stream, {}, need_label=False).texts, ""
    except HeadwayError:
        texts, notes = {}, note(f"It cannot be told which column is which. Choose: {_reads(task)}.")
    choices = [
        gr.Dropdown(
            label=f"Column of: {_label(field)}",
            choices=[*([] if field.required else [""]), *stream.columns],
            value=texts.get(field.name, "" if not field.required else None),
            visible=True,
        )
        for field in task.fields
    ]
    first = [row for _, (_, row) in zip(range(PREVIEW), stream, strict=False)]
    shown = notes + draw_table(first, f"The first rows of {Path(file).name} ({stream.kind})")
    hidden = none[len(choices) :]
    return (*choices, *hidden, gr.Button(interactive=True), shown, gr.DownloadButton(visible=False))


def _reads(task: "Task") -> str:
    return " and ".join(field.label.lower() for field in task.fields)


def ask_about_rows(
    registry: "ModelRegistry", name: str, file: str | None, output: str, *columns: str | None
) -> Iterator[tuple[Any, ...]]:
    """Asks about every row of a file, telling how far it is, and leaves a file with rows and answers.

    Yields:
        What is shown, the buttons to start and stop, and the one to download.
    """
    if not file:
        raise HeadwayError("Upload a file first.")
    model = registry.task_model(name)
    chosen = {
        field.name: column for field, column in zip(model.task.fields, columns, strict=False) if column is not None
    }
    stream = stream_rows(file)
    model.task.columns(stream, chosen, need_label=False)  # a column that is not there is told before anything is read
    busy = gr.Button(interactive=False), gr.Button(visible=True), gr.DownloadButton(visible=False)
    yield quiet("Reading the file ..."), *busy
    try:
        total = sum(1 for _ in stream)  # and a row that cannot be read, before anything is computed
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            path = Path(folder) / f"{Path(file).stem}-answers{OUTPUTS[output]}"
            first: list[dict[str, Any]] = []
            began = looked = time.monotonic()
            with RowWriter(path, stream.columns) as writer:
                for row, prediction in model.predict_rows(stream, chosen, at_once=ROWS_AT_ONCE):
                    answer = prediction.to_json()
                    writer.write(row, answer)
                    if len(first) < PREVIEW:
                        *own, brief = with_prediction(row, {"answer": prediction.brief}).items()
                        first.append(dict([brief, *own]))  # where it is seen, however wide the file is
                    if time.monotonic() - looked > 0.3:
                        looked = time.monotonic()
                        left = (looked - began) / writer.written * (total - writer.written)
                        told = f"{writer.written:,} of {total:,} rows, {duration(left)} left"
                        yield draw_progress(writer.written, total, told), *busy
                done = writer.written
            seconds = time.monotonic() - began
            told = f"{done:,} rows in {duration(seconds)} ({done / max(seconds, 1e-9):,.0f} a second)"
            shown = draw_progress(done, done, told) + draw_table(first, "The first of them")
            ready = gr.DownloadButton(f"Download {path.name}", value=path, visible=True)
            yield shown, gr.Button(interactive=True), gr.Button(visible=False), ready
    except HeadwayError:
        yield gr.skip(), gr.Button(interactive=True), gr.Button(visible=False), gr.skip()
        raise


# Sentences that are alike.


def _draw_similar(registry: "ModelRegistry", model: gr.Dropdown) -> None:
    sentences = [text for one in sample_texts(TASKS["sentence-similarity"]()) for text in one.values()]
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            query = gr.Textbox(label="Which of them means this?", value="Where can I park?", max_lines=4)
            lines = gr.Textbox(label="Sentences, one a line", value="\n".join(sentences), lines=6, max_lines=14)
            find = gr.Button("Find", variant="primary")
        with gr.Column(min_width=300):
            told = gr.HTML()
            found = gr.HTML(
                hint("The nearest sentences appear here, by the vectors that the model makes of texts."),
                elem_id="similar",
            )
    bind([find.click, query.submit], partial(find_similar, registry), [model, query, lines], [found], told)


def find_similar(registry: "ModelRegistry", name: str | None, query: str, lines: str) -> str:
    """The sentences that are nearest to a query by a model's vectors."""
    sentences = [{"text": line.strip()} for line in lines.splitlines() if line.strip()]
    if not name or not query.strip() or not sentences:
        raise HeadwayError("Something is missing: choose a model, write what to look for, and sentences, one a line.")
    hits = search(registry.embedder(name), query, stream_rows(sentences), column="text", top=SIMILAR)
    return draw_bars(
        ScoreBars(tuple(ScoreBar(hit.row["text"], hit.score, chosen=not i) for i, hit in enumerate(hits)))
    )

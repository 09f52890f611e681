"""The tab Predict: a model's prediction for texts, for every row of a file, and semantic search in sentences.

The form follows from the fields of the model's task, the output from the display elements of its predictions.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.checkpoints.families.registry import family_of
from ....core.errors import HeadwayError
from ....tasks import TASKS, read_table
from ....tasks.base.display import ScoreBar, ScoreBars
from ....tasks.base.held_out_texts import stored_texts
from ....tasks.data.read import stream_rows
from ....tasks.data.rows import SAMPLE_ROWS
from ....tasks.data.write import RowWriter, with_prediction
from ....tasks.embedding.search import search
from ....tasks.samples import sample_texts
from ...commands.results import with_length
from ...terminal import duration, format_value
from ..background import checked_rows, process_file
from ..drawing import (
    CHOICE_CLICK_JS,
    alert,
    caption,
    draw_bars,
    draw_certainty,
    draw_choices,
    draw_display,
    draw_facts,
    draw_progress,
    draw_table,
    hint,
    truncation,
)
from ..events import FILES, bind, refresh_models
from ..kept_form import keep_form
from ..model_panels import FORMATS, draw_management, draw_paste
from ..outdated import asked_js, mark_outdated
from ..tab_context import TabContext
from .predict_zero_shot import draw_zero_shot, offer_zero_shot

if TYPE_CHECKING:
    from ....tasks import TaskModel
    from ....tasks.base.task import Task
    from ....tasks.data.examples import Field
    from ...model_registry import ModelRegistry

TITLE = "Predict"
CHUNK_ROWS = 256  # rows predicted between two progress updates
PROGRESS_SECONDS = 0.3  # between two progress updates
PREVIEW_ROWS = 5
MAX_LABELS = 20  # in the description of a model
NUM_SIMILAR = 10  # sentences
SHORT_LINE = 60  # characters
OUTPUT_FORMATS = {"CSV": ".csv", "Excel": ".xlsx", "JSON lines": ".jsonl"}
NO_PREDICTION = "The prediction appears here."
NO_ROWS = "The rows and their predictions appear here."
NO_SIMILAR = "The most similar sentences, by the model's embeddings, appear here."


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry = context.registry
    num_fields = max(len(task.inputs) for task in TASKS.values())
    context.model.render()
    about = gr.HTML()
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            texts = [gr.Textbox("", visible=False, lines=2, max_lines=14) for _ in range(num_fields)]
            start = gr.Button("Predict", variant="primary")
            examples = gr.HTML(js_on_load=CHOICE_CLICK_JS)
        with gr.Column(min_width=300):
            errors = gr.HTML()
            prediction = gr.HTML(hint(NO_PREDICTION), elem_id="prediction", min_height=120)
    chosen = bind(
        context.model.change,
        partial(choose_model, registry, num_fields),
        [context.model],
        [about, *texts, examples, prediction],
        errors,
        on_error=[""],
        show_progress="hidden",
    )
    with gr.Accordion("Predictions for a file", open=False):
        _draw_file(registry, context.model, chosen, num_fields)
    with gr.Accordion("Similar sentences", open=False, elem_id="similar-sentences") as similar:
        _draw_similar(registry, context.model)
    with gr.Accordion("Your own labels", open=False, visible=False, elem_id="zero-shot") as zero_shot:
        draw_zero_shot(registry, context.model)
    shown: dict[str, Any] = {"queue": None, "show_progress": "hidden"}
    bind(chosen.then, partial(offer_similar, registry), [context.model], [similar], errors, **shown)
    bind(chosen.then, partial(offer_zero_shot, registry), [context.model], [zero_shot], errors, **shown)
    with gr.Accordion("Rename or delete the model", open=False):
        draw_management(context, partial(model_names, registry))

    question = [context.model, *texts]
    predict_event = partial(predict, registry), question, [prediction], errors
    options: dict[str, Any] = {"js": asked_js("prediction", question), "on_error": [hint(NO_PREDICTION)]}
    predicted = bind([start.click, texts[0].submit], *predict_event, **options)
    take = partial(take_example, registry, num_fields)
    taken = bind(examples.click, take, [context.model], texts, errors, show_progress="hidden")
    answered = [predicted, bind(taken.success, *predict_event, **options)]
    mark_outdated(answered, question, "prediction", watched=texts)
    restored = keep_form(context.page, "predict", question)
    refresh_models(context.model, partial(model_names, registry), restored.then)


def model_names(registry: "ModelRegistry") -> list[str]:
    """The models with a task head."""
    return [entry.name for entry in registry.entries() if entry.task is not None]


# One input.


def choose_model(registry: "ModelRegistry", num_fields: int, name: str | None) -> tuple[Any, ...]:
    """Updates for a chosen model: its description, text boxes and examples, and an empty prediction."""
    if not name:
        raise HeadwayError("There is no model yet. Train one, or start the app with a model folder.")
    opened = registry.task_model(name)
    fields = opened.task.fields
    shown = [
        gr.Textbox(
            label=field_label(field),
            placeholder=field.hint,
            visible=True,
            lines=2 if len(fields) == 1 else 1 + (i > 0),
        )
        for i, field in enumerate(fields)
    ]
    hidden = [gr.Textbox(visible=False) for _ in range(num_fields - len(fields))]
    examples = draw_examples(example_inputs(opened))
    return (describe_model(opened), *shown, *hidden, examples, hint(NO_PREDICTION))


def field_label(field: "Field") -> str:
    """The label of a text box."""
    return field.label if field.required else f"{field.label} (optional)"


def draw_examples(samples: Sequence[Mapping[str, str]]) -> str:
    """Example inputs as choices."""
    return draw_choices([" / ".join(map(_on_one_line, one.values())) for one in samples], "Examples")


def _on_one_line(text: str) -> str:
    """A text without line breaks: short lines, such as choices, are separated by bars."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return (" | " if all(len(line) <= SHORT_LINE for line in lines) else " ").join(lines)


def describe_model(opened: "TaskModel") -> str:
    """The task, size, labels and main metric of a model in a line."""
    task, config = opened.task, opened.config
    kind = family_of(config).title
    facts = {task.title: f"{kind}, {config.num_layers} layers, hidden size {config.hidden_size:,}"}
    if names := task.label_names:
        more = f" and {len(names) - MAX_LABELS:,} more" if len(names) > MAX_LABELS else ""
        facts["Labels"] = ", ".join(names[:MAX_LABELS]) + more
    for metric, value in list((opened.info.get("metrics") or {}).items())[:1]:
        facts["Held-out"] = f"{metric.replace('_', ' ').replace('f1', 'F1')} {format_value(value, 3)}"
    return draw_facts(facts)


def take_example(registry: "ModelRegistry", num_fields: int, name: str, event: gr.EventData) -> Any:
    """The texts of the clicked example."""
    opened = registry.task_model(name)
    return example_texts(example_inputs(opened)[event.choice], opened.task.fields, num_fields)


def example_inputs(opened: "TaskModel") -> list[dict[str, str]]:
    """Held-out texts of the model's own data, or else sample texts of its task."""
    return stored_texts(opened.task, opened.info) or sample_texts(opened.task)


def example_texts(sample: Mapping[str, str], fields: "Sequence[Field]", num_fields: int) -> Any:
    """The texts of an example in the order of the text boxes, empty for hidden boxes."""
    given = [sample.get(field.name, "") for field in fields]
    texts = (*given, *([""] * (num_fields - len(given))))
    return texts if num_fields > 1 else texts[0]


def predict(registry: "ModelRegistry", name: str | None, *texts: str | None) -> str:
    """The prediction for texts, given in the order of the task's fields."""
    if not name:
        raise HeadwayError("Choose a model.")
    opened = registry.task_model(name)
    given = read_texts(opened.task.fields, texts)
    prediction = opened.predict(given)
    shown = draw_display(opened.task.display(prediction, given))
    return truncation(prediction.length) + draw_certainty(prediction) + shown


def read_texts(fields: "Sequence[Field]", texts: Sequence[str | None]) -> dict[str, str]:
    """The texts by field, without empty optional ones.

    Raises:
        HeadwayError: a required text is empty.
    """
    given = {}
    for field, text in zip(fields, texts, strict=False):
        if text and text.strip():
            given[field.name] = text
        elif field.required:
            raise HeadwayError(f"{field.label} is empty. Enter a text, or choose an example.")
    return given


# A file.


def _draw_file(registry: "ModelRegistry", model: gr.Dropdown, chosen: Any, num_fields: int) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            file = gr.File(label=FORMATS, height=140)
            draw_paste(file, errors := gr.HTML(render=False), elem_id="paste-rows")
            columns = [gr.Dropdown(visible=False, allow_custom_value=True) for _ in range(num_fields)]
            output = gr.Radio(list(OUTPUT_FORMATS), value="CSV", label="Output format")
            with gr.Row():
                start = gr.Button("Predict all rows", variant="primary", interactive=False)
                stop = gr.Button("Stop", visible=False)
        with gr.Column(min_width=300):
            errors.render()
            shown = gr.HTML(hint(NO_ROWS), elem_id="rows")
            download = gr.DownloadButton("Download", visible=False, variant="primary")
    previewed = [*columns, start, shown, download]
    options: dict[str, Any] = {"queue": FILES, "show_progress": "hidden", "on_error": _no_rows(num_fields, NO_ROWS)}
    for trigger in ([file.change], chosen.then):
        bind(trigger, partial(preview_file, registry, num_fields), [model, file], previewed, errors, **options)
    started = bind(
        start.click,
        partial(predict_file, registry),
        [model, file, output, *columns],
        [shown, start, stop, download],
        errors,
        queue=FILES,
    )
    stop.click(
        lambda: (gr.Button(interactive=True), gr.Button(visible=False), caption("Stopped without results.")),
        None,
        [start, stop, shown],
        cancels=[started],
        queue=False,
        api_visibility="private",
    )


def _no_rows(num_fields: int, message: str) -> tuple[Any, ...]:
    """Updates without a readable file: no columns, no start, a message, no download."""
    hidden = [gr.update(visible=False)] * num_fields
    return *hidden, gr.update(interactive=False), hint(message), gr.update(visible=False)


def preview_file(
    registry: "ModelRegistry", num_fields: int, name: str | None, file: str | None
) -> Iterator[tuple[Any, ...]]:
    """Updates for an uploaded file: its columns, the inferred ones chosen, and its first rows."""
    if not file or not name:
        yield _no_rows(num_fields, "Choose a model and a file.")
        return
    model = registry.task_model(name)
    task = model.task
    hidden, no_download = [gr.Dropdown(visible=False)] * num_fields, gr.DownloadButton(visible=False)
    reading = process_file(file, partial(read_table, file, limit=SAMPLE_ROWS))
    while True:
        try:
            message = next(reading)
        except StopIteration as end:
            table = end.value
            break
        yield *hidden, gr.Button(interactive=False), message, no_download
    try:
        texts, message = model.columns(table, {}).texts, ""
    except HeadwayError:
        texts, message = {}, alert(f"The columns cannot be inferred. Choose: {_field_names(task)}.")
    choices = [
        gr.Dropdown(
            label=f"Column: {field_label(field)}",
            choices=[*([] if field.required else [""]), *table.columns],
            value=texts.get(field.name, "" if not field.required else None),
            visible=True,
        )
        for field in task.fields
    ]
    shown = message + draw_table(table.rows[:PREVIEW_ROWS], f"First rows of {Path(file).name} ({table.kind})")
    yield *choices, *hidden[len(choices) :], gr.Button(interactive=True), shown, no_download


def _field_names(task: "Task") -> str:
    return " and ".join(field.label.lower() for field in task.fields)


def predict_file(
    registry: "ModelRegistry", name: str, file: str | None, output: str, *columns: str | None
) -> Iterator[tuple[Any, ...]]:
    """Predicts every row of a file and offers the rows with their predictions for download.

    Yields:
        Updates of the output, the buttons Predict and Stop, and the download button.
    """
    if not file:
        raise HeadwayError("Upload a file first.")
    model = registry.task_model(name)
    fields = model.task.fields
    chosen = {field.name: column for field, column in zip(fields, columns, strict=False) if column is not None}
    running = gr.Button(interactive=False), gr.Button(visible=True), gr.DownloadButton(visible=False)
    idle = gr.Button(interactive=True), gr.Button(visible=False)
    yield caption("Reading the file …"), *running
    try:
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            reading = checked_rows(file, Path(folder))  # raises for a malformed row before anything is computed
            while True:
                try:
                    message = next(reading)
                except StopIteration as end:
                    stream, total = end.value
                    break
                yield message, *running
            mapping = model.columns(stream, chosen)  # raises for a missing column
            path = Path(folder) / f"{Path(file).stem}-predictions{OUTPUT_FORMATS[output]}"
            first: list[dict[str, Any]] = []
            num_truncated = 0
            start = updated = time.monotonic()
            with RowWriter(path, stream.columns) as writer:
                for row, prediction in model.predict_rows(stream, mapping, at_once=CHUNK_ROWS):
                    writer.write(row, with_length(prediction, model.task.truncates))
                    num_truncated += prediction.truncated
                    if len(first) < PREVIEW_ROWS:
                        *cells, shown = with_prediction(row, {"prediction": prediction.summary}).items()
                        first.append(dict([shown, *cells]))  # the prediction first, visible in a wide table
                    if time.monotonic() - updated > PROGRESS_SECONDS:
                        updated = time.monotonic()
                        left = (updated - start) / writer.num_rows * (total - writer.num_rows)
                        message = f"{writer.num_rows:,} of {total:,} rows, {duration(left)} left"
                        yield draw_progress(writer.num_rows, total, message), *running
                done = writer.num_rows
            seconds = time.monotonic() - start
            message = f"{done:,} rows in {duration(seconds)} ({done / max(seconds, 1e-9):,.0f} per second)"
            truncated = f"{num_truncated:,} of {done:,} texts are too long for the model and were truncated."
            shown = draw_progress(done, done, message) + alert(truncated if num_truncated else "")
            shown += draw_table(first, "First rows")
            # Gradio copies the file before the generator continues and deletes the folder.
            yield shown, *idle, gr.DownloadButton(f"Download {path.name}", value=path, visible=True)
    except HeadwayError:
        yield gr.skip(), *idle, gr.skip()
        raise


# Similar sentences.


def _draw_similar(registry: "ModelRegistry", model: gr.Dropdown) -> None:
    task = next(task for task in TASKS.values() if task.headless)  # its samples are pairs of similar sentences
    sentences = [text for one in sample_texts(task()) for text in one.values()]
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            query = gr.Textbox(label="Query", value="Where can I park?", max_lines=4)
            lines = gr.Textbox(label="Sentences (one per line)", value="\n".join(sentences), lines=6, max_lines=14)
            start = gr.Button("Search", variant="primary")
        with gr.Column(min_width=300):
            errors = gr.HTML()
            found = gr.HTML(hint(NO_SIMILAR), elem_id="similar")
    question = [model, query, lines]
    options: dict[str, Any] = {"js": asked_js("similar", question), "on_error": [hint(NO_SIMILAR)]}
    search = bind([start.click, query.submit], partial(find_similar, registry), question, [found], errors, **options)
    mark_outdated([search], question, "similar", watched=[query, lines])


def offer_similar(registry: "ModelRegistry", name: str | None) -> gr.Accordion:
    """Shows the search for similar sentences for models that read a text alone, which can be embedded."""
    able = {entry.name for entry in registry.text_readers()} | {None, ""}
    return gr.Accordion(visible=name in able or "/" in str(name))


def find_similar(registry: "ModelRegistry", name: str | None, query: str, lines: str) -> str:
    """The sentences whose embeddings are most similar to the query's."""
    sentences = [{"text": line.strip()} for line in lines.splitlines() if line.strip()]
    if not name or not query.strip() or not sentences:
        raise HeadwayError("Choose a model, and enter a query and at least one sentence.")
    embedder = registry.embedder(name)
    hits = search(embedder, query, stream_rows(sentences), column="text", top=NUM_SIMILAR)
    bars = ScoreBars(tuple(ScoreBar(hit.row["text"], hit.score, chosen=not i) for i, hit in enumerate(hits)))
    lengths = embedder.measure([query, *(one["text"] for one in sentences)])
    longest = max(lengths, key=lambda length: length.num_unread)
    return truncation(longest) + draw_bars(bars)

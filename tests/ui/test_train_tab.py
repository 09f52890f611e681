"""The tab Train without a browser: what its form makes of a file and of what is said, and what it shows of runs."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from headway.core.checkpoints.hub import BUILT_IN
from headway.core.errors import HeadwayError
from headway.core.options import options_of
from headway.core.training.training_config import TrainConfig
from headway.tasks import TASKS, read_table
from headway.tasks.base.check import check_data
from headway.ui.browser.form import draw_option, read_options
from headway.ui.browser.run_drawing import (
    draw_curves,
    draw_data,
    draw_head,
    draw_report,
    draw_results,
    draw_rows,
    spoken,
)
from headway.ui.browser.runs_panel import look
from headway.ui.browser.tabs import train
from headway.ui.browser.tabs.train import NOT_HERE, begin, check, choose_task, model_to_open, read_file, suggest
from headway.ui.model_registry import ModelRegistry
from headway.ui.options import column_options, task_options, training_options
from headway.ui.runs.job import History, Status
from headway.ui.runs.jobs import Jobs
from reviews import write_reviews

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)> \"' & 🙂"


class Page(HTMLParser):
    """The elements and the text of a piece of HTML."""

    def __init__(self, drawn: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(drawn)
        self.close()
        assert not {"script", "img", "iframe"} & set(self.tags)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def jobs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Runs that nobody begins."""
    monkeypatch.setattr(Jobs, "_start", lambda *_: None)
    with Jobs(folder / "runs") as found:
        yield found


@pytest.fixture
def registry(tiny: Path, folder: Path) -> ModelRegistry:
    return ModelRegistry([tiny], runs=folder / "runs")


def values(file: Path | None, base: str, **changed: Any) -> list[Any]:
    """What the form gives, in its order."""
    form: dict[str, Any] = {
        "data": file and str(file), "held_out": None, "task": "text-classification",
        "header": "It is told", "fraction": 0.1, "model": base, "name": "reviews",
    }  # fmt: skip
    form |= {f"column_{option.name}": [] if option.name == "label" else None for option in column_options()}
    here = [option for option in (*training_options(), *task_options()) if option.name not in NOT_HERE]
    form |= {option.name: draw_option(option).value for option in here}
    assert changed.keys() <= form.keys()
    return list((form | changed).values())


# The form.


@pytest.mark.parametrize("kind", [TrainConfig, *TASKS.values()])
def test_options_that_are_left_alone_are_not_set(kind):
    options = options_of(kind)
    assert options
    assert read_options(options, {option.name: draw_option(option).value for option in options}) == {}


def test_options_that_are_filled_in_are_set_in_their_types():
    options = options_of(TrainConfig)
    filled = {option.name: draw_option(option).value for option in options}
    filled |= {
        "epochs": 5,
        "max_steps": " 7",
        "precision": "fp32",
        "dropout": "0",
        "max_grad_norm": None,
        "keep": "last",
    }
    found = read_options(options, filled)
    assert found == {
        "epochs": 5.0, "max_steps": 7, "precision": "fp32", "dropout": 0.0, "max_grad_norm": None, "keep": "last"
    }  # fmt: skip
    assert isinstance(found["epochs"], float)
    TrainConfig(**found)
    labels = read_options(options_of(TASKS["text-classification"]), {"labels": "good\n bad \n\n", "frozen": True})
    assert labels == {"labels": ["good", "bad"], "frozen": True}


def test_nothing_in_the_form_speaks_to_other_machines_or_names_a_path():
    here = {option.name for option in (*training_options(), *task_options())} - set(NOT_HERE)
    assert not {"trackers", "teacher"} & here


def test_every_task_has_its_options_and_a_model_to_begin_from(registry):
    for name, task in TASKS.items():
        model, *rest = choose_task(registry, name)
        assert model.value in BUILT_IN
        shown = [one["visible"] for one in rest[:-3]]
        assert sum(shown) == len([one for one in options_of(task) if one.name not in NOT_HERE])
    assert suggest("mini-bert") == (6, 3e-4, 16)
    assert suggest("another") == (3.0, 5e-5, 32)


# The data.


def test_a_file_is_read_guessed_and_checked(registry, folder, tiny):
    data = write_reviews(folder / "reviews.csv")
    first, rest, guessed, task, *columns, name = read_file(True, *values(data, tiny.name))
    assert "what a good film" in Page(first).text
    assert (rest.visible, task, name) == (True, "text-classification", "reviews")
    assert "A guess" in guessed
    chosen = {option.name: column.value for option, column in zip(column_options(), columns, strict=True)}
    assert (chosen["text"], chosen["pair"], chosen["label"]) == ("text", "", ["label"])
    settled = values(data, tiny.name, column_text="text", column_pair="", column_label=["label"])
    told = Page(check(registry, *settled)).text
    assert "64 examples can be used" in told
    assert "Nothing is wrong" in told
    wrong = values(data, tiny.name, column_text="label", column_label=["label"])
    assert "both name column" in Page(check(registry, *wrong)).text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'text,label\na film,good\na "bad" film,bad,oh,no\n', "odd.csv, line 3"),
        (b"", "odd.csv"),
        (b"PK\x03\x04 a spreadsheet", "spreadsheet"),
        (b"\xff\xfet\x00", "UTF-16"),
        (f"text,label\n{HOSTILE},{HOSTILE},{HOSTILE}\n".encode(), "odd.csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained_without_its_place_on_the_server(folder, tiny, content, words):
    (folder / "odd.csv").write_bytes(content)
    first, rest, *_ = read_file(True, *values(folder / "odd.csv", tiny.name))
    assert words in Page(first).text
    assert str(folder) not in first
    assert not rest.visible


def test_columns_that_cannot_be_told_are_asked_for_beside_the_first_rows(folder, tiny):
    (folder / "odd.csv").write_text("first,second\n" + "a long text of words,another text of words\n" * 9)
    first, rest, *_ = read_file(False, *values(folder / "odd.csv", tiny.name))
    assert "cannot tell" in Page(first).text
    assert "another text of words" in Page(first).text
    assert rest.visible


def test_messages_speak_of_the_form_and_not_of_the_command_line():
    assert spoken("Name it with --label, or say --class-weight=balanced.") == (
        "Name it with “Label”, or say “Class weight”=balanced."
    )
    assert spoken("Rows are wrong in 2 ways; `headway check` lists all of them.").endswith(
        "the check lists all of them."
    )


# The start.


def test_a_run_is_asked_for_as_the_form_says(registry, jobs, folder, tiny):
    data = write_reviews(folder / "reviews.csv")
    filled = values(data, tiny.name, name="../../my run", epochs=2, column_text="text", column_label=["label"])
    new, runs, timer = begin(registry, jobs, *filled)
    (job,) = jobs.all()
    assert (new.open, runs.value, timer.active) == (False, job.id, True)
    assert job.request.name == "my-run"
    assert (job.request.model, job.request.shown_model) == (str(tiny.resolve()), tiny.name)
    assert job.request.training == {"epochs": 2.0}
    assert job.request.columns == {"text": "text", "label": ["label"]}
    assert begin(registry, jobs, *values(data, "mini-bert", name="mini-bert"))[1].value == jobs.all()[0].id
    assert jobs.all()[0].request.name == "mini-bert-2"  # the name of a model on the shelf


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": None}, "no file yet"),
        ({"model": ""}, "Choose a model"),
        ({"model": "/etc"}, "no model '/etc'"),
        ({"model": "../models"}, "no model"),
        ({"epochs": None}, "“Epochs” None is invalid"),
        ({"max_length": "3"}, "“Max length” 3"),
        ({"max_length": "many"}, "many is not a whole number"),
    ],
)
def test_what_is_missing_is_said(registry, jobs, folder, tiny, changed, words):
    data = write_reviews(folder / "reviews.csv")
    with pytest.raises(HeadwayError, match=words):
        begin(registry, jobs, *values(data, tiny.name, **changed))
    assert jobs.all() == []


def test_a_built_in_model_is_opened_by_its_name_and_a_folder_by_its_place(registry, tiny):
    assert model_to_open(registry, "mini-bert") == "mini-bert"
    assert model_to_open(registry, tiny.name) == str(tiny.resolve())


# The runs.


def test_what_has_not_changed_is_left_alone(registry, jobs, folder, tiny):
    empty = look(jobs, None, {})
    assert not empty[0].visible
    begin(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name))
    *shown, seen = look(jobs, None, empty[-1])
    panel, runs, head, *_ = shown
    assert (panel.visible, runs.value) == (True, jobs.all()[0].id)
    assert "waiting" in Page(head).text
    *again, _ = look(jobs, runs.value, seen)
    assert all(isinstance(one, dict) and one == {"__type__": "update"} for one in again)
    jobs.stop(jobs.all()[0])
    *after, _ = look(jobs, runs.value, seen)
    assert after[1].choices[0][0] == "reviews (stopped)"
    assert after[1].value is None  # a click of this very moment is not undone
    assert "Removed from the queue" in Page(after[2]).text
    assert any(getattr(one, "value", "") == "Start again" for one in after)


def test_hostile_text_stays_text_wherever_it_is_shown(jobs, registry, folder, tiny):
    data = [{"text": f"{HOSTILE} {i}", "label": f"{HOSTILE}{i % 2}", HOSTILE: [HOSTILE]} for i in range(9)]
    table = read_table(data)
    settled = TASKS["text-classification"]().columns(table, {}, need_label=True)
    page = Page(draw_rows(table, settled, {"text": HOSTILE, "pair": ""}))
    assert page.text.count("<script>alert(1)</script>") > 9
    report = check_data(TASKS["text-classification"](), data)
    assert "<script>" in Page(draw_report(report)).text

    begin(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name))
    (job,) = jobs.all()
    account = {
        "confusion": {"labels": [HOSTILE, None], "counts": [[1, 2], [0, 0]]},
        "mistakes": [{"where": HOSTILE, "texts": [HOSTILE], "right": HOSTILE, "predicted": HOSTILE, "size": 1.0}],
    }
    job.write("account.json", account)
    history = story(
        {"event": "prepared", "notes": [HOSTILE]},
        trained({"accuracy": 0.5, HOSTILE: 1.0}, [{"label": HOSTILE, "f1": 0.5}]),
    )
    for drawn in (
        draw_head(job, Status("failed", HOSTILE), history, 0),
        draw_head(job, Status("stopped", HOSTILE), history, 0),
        draw_data(history),
        draw_results(job, history),
    ):
        assert "<img src=x" in Page(drawn).text


def story(*events: dict[str, Any]) -> History:
    history = History(Path("nowhere"))
    for event in events:
        history._add(json.loads(json.dumps(event)))
    return history


def trained(metrics: dict[str, float], per_label: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "event": "trained", "metrics": metrics, "per_label": per_label, "examples": 9, "eval_examples": 2, "steps": 4,
        "seconds": 61.0, "best_step": 2, "stopped_early": True,
    }  # fmt: skip


@pytest.mark.parametrize("losses", [[0.5], [0.0, 0.0], [1e-7, 2e-7], [1e6, -1e6], [0.1] * 5000])
def test_curves_are_drawn_from_any_numbers(losses):
    steps = [{"event": "step", "step": i, "loss": loss} for i, loss in enumerate(losses, 1)]
    history = story(
        {"event": "started", "total_steps": len(losses), "resumed_from": None},
        *steps,
        {"event": "evaluated", "step": 1, "metrics": {"f1": None}},
        {"event": "evaluated", "step": 1, "metrics": {"f1": 0.5}},
    )
    drawn = draw_curves(history)
    assert Page(drawn).tags.count("svg") == 2
    assert "nan" not in drawn
    assert len(drawn) < 10_000


def test_each_state_of_a_run_is_said(jobs, registry, folder, tiny):
    begin(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name))
    (job,) = jobs.all()
    started = {"event": "started", "total_steps": 4, "resumed_from": None}
    step = {"event": "step", "step": 2, "loss": 0.5, "epoch": 1.0, "seconds_left": 61, "tokens_per_second": 9.0}
    done = {**step, "step": 4}
    for status, place, events, words in (
        (Status("waiting"), 2, [], "2 runs are before it"),
        (Status("waiting"), 0, [], "It starts in a moment"),
        (Status("running"), 0, [], "The training process starts"),
        (Status("running"), 0, [{"event": "prepared", "notes": []}], "made ready"),
        (Status("running"), 0, [started, step], "Step 2 of 4, epoch 1.0, about 1:01 left"),
        (Status("running"), 0, [started, done], "measured and saved"),
        (Status("stopping"), 0, [started, step], "ends after this step"),
        (Status("done"), 0, [trained({}, [])], "4 steps in 1:01, kept as it was after step 2, stopped early"),
    ):
        assert words in Page(draw_head(job, status, story(*events), place)).text
    assert "nothing is measured" in draw_results(job, story(trained({}, [])))
    assert train.TITLE == "Train"

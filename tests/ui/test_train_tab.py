"""The tab Train without a browser: its form, the data, starting a run, and the display of runs."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from headway.core.checkpoints.hub import BUILT_IN
from headway.core.errors import HeadwayError
from headway.core.options import options_of
from headway.core.training.training_config import TrainConfig
from headway.tasks import TASKS, read_table
from headway.tasks.base.check import check_data
from headway.tasks.data.read_options import ReadOptions
from headway.ui.browser import background
from headway.ui.browser.form import option_component, read_options
from headway.ui.browser.pasted_cells import write_pasted
from headway.ui.browser.presets import PRESETS
from headway.ui.browser.run_drawing import (
    draw_curves,
    draw_data,
    draw_head,
    draw_report,
    draw_results,
    draw_rows,
    form_message,
)
from headway.ui.browser.runs_panel import update
from headway.ui.browser.tabs import train_check, train_data
from headway.ui.browser.tabs.train import start_run
from headway.ui.browser.tabs.train_form import (
    HIDDEN_OPTIONS,
    FormValues,
    choose_task,
    field_labels,
    model_names,
    model_to_open,
    shown_reading_options,
    shown_task_options,
    shown_training_options,
)
from headway.ui.model_registry import ModelRegistry, NoSuchModel
from headway.ui.options import column_options, task_options, training_options
from headway.ui.runs.job import History, Job, Status
from headway.ui.runs.worker import settings_of
from page_elements import Page
from reviews import REVIEWS, write_reviews
from task_inputs import SAMPLES

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)> \"' & 🙂"


def safe_page(drawn: str) -> Page:
    """Parses HTML and asserts that it has no element or attribute that runs code or loads something."""
    page = Page(drawn)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    return page


@pytest.fixture
def registry(tiny: Path, folder: Path) -> ModelRegistry:
    return ModelRegistry([tiny], runs=folder / "runs")


def values(file: Path | None, base: str, **changed: Any) -> list[Any]:
    """The values of the form, in order."""
    form: dict[str, Any] = {
        "data": file and str(file), "held_out": None, "test": None, "task": "text-classification",
        "header": "Automatic", "fraction": 0.1, "test_fraction": "", "folds": "", "seeds": "", "model": base,
        "name": "reviews", "read_from": "", "preset": "Balanced",
    }  # fmt: skip
    form |= {option.name: option_component(option).value for option in shown_reading_options()}
    form |= {f"column_{option.name}": [] if option.name == "label" else None for option in column_options(group=True)}
    shown = [option for option in (*training_options(), *task_options()) if option.name not in HIDDEN_OPTIONS]
    form |= {option.name: option_component(option).value for option in shown}
    assert changed.keys() <= form.keys()
    return list((form | changed).values())


def read_file(infer: bool, *form: Any) -> tuple[Any, ...]:
    """The last updates after a file was read."""
    return list(train_data.read_file(infer, *form))[-1]


def check(registry: ModelRegistry, *form: Any) -> tuple[Any, Any]:
    """The last report, and the button Start."""
    report, _, start = list(train_check.check(registry, *form))[-1]
    return report, start


# The form.


@pytest.mark.parametrize("kind", [TrainConfig, ReadOptions, *TASKS.values()])
def test_unchanged_options_are_not_set(kind):
    options = options_of(kind)
    assert options
    assert read_options(options, {option.name: option_component(option).value for option in options}) == {}


def test_changed_options_are_set_with_their_types():
    options = options_of(TrainConfig)
    filled = {option.name: option_component(option).value for option in options}
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


def test_no_option_of_the_form_contacts_other_machines_or_names_a_path():
    shown = {one.name for one in (*shown_training_options(), *shown_task_options(), *shown_reading_options())}
    assert not {"trackers", "teacher", "left_out"} & shown


def test_every_task_shows_its_options_and_has_a_base_model(registry):
    for name, task in TASKS.items():
        model, preset, *rest = choose_task(registry, name, None, None)
        assert model.value in BUILT_IN
        assert preset.value in [choice for choice, _ in preset.choices]
        shown = [one["visible"] for one in rest]
        assert sum(shown) == len([one for one in options_of(task) if one.name not in HIDDEN_OPTIONS])


def test_choosing_a_task_keeps_the_model_and_the_preset_that_it_can_use(registry, tiny):
    for task, kept in (("token-classification", True), ("text-generation", False)):
        model, preset, *_ = choose_task(registry, task, tiny.name, "Quick")
        assert ("value" in model.constructor_args) != kept  # an update without a value leaves it alone
        assert "value" not in preset.constructor_args
    assert choose_task(registry, "token-classification", tiny.name, "Frozen features")[1].value == "Balanced"


def test_a_preset_gives_way_to_the_options_of_the_form(tiny):
    def read(**changed: Any) -> FormValues:
        return FormValues.read(values(None, tiny.name, **changed))

    assert read().training == {}
    assert read(preset="Quick").training == {"effort": "quick"}
    assert read(preset="Thorough", epochs=4).training == {"effort": "thorough", "epochs": 4.0}
    assert read(preset="Frozen features").create_task().frozen
    assert read(preset="Frozen features", task="question-answering").options == {}
    for preset in PRESETS.values():
        TrainConfig(**preset.training)


def test_test_data_and_its_fraction_reach_the_run_and_run_yaml(registry, jobs, folder, tiny):
    (folder / "new").mkdir()
    data, test = write_reviews(folder / "reviews.csv"), write_reviews(folder / "new" / "reviews.csv", "words,label")
    start_run(registry, jobs, *values(data, tiny.name, test=str(test), test_fraction=" 0.2"))
    (job,) = jobs.all()
    request = Job(job.folder).request
    assert request.test_data is not None
    assert request.test_data.read_bytes() == test.read_bytes()
    assert request.test_data != request.data
    assert request.test_fraction == 0.2
    settings = settings_of(request)
    assert (settings["test-data"], settings["test-fraction"]) == (str(request.test_data), 0.2)
    assert "test-fraction" not in settings_of(replace(request, test_fraction=None))
    with pytest.raises(HeadwayError, match="Test fraction: a tenth is not a number"):
        FormValues.read(values(data, tiny.name, test_fraction="a tenth"))


def test_folds_and_seeds_reach_the_run_and_impossible_ones_are_explained_with_the_labels_of_the_form(
    registry, jobs, folder, tiny
):
    data = str(write_reviews(folder / "reviews.csv"))
    start_run(registry, jobs, *values(data, tiny.name, folds=" 3"))
    start_run(registry, jobs, *values(data, tiny.name, seeds="2", fraction=0.2, name="seeds"))
    seeds, folds = (job.request for job in jobs.all())
    assert (folds.folds, folds.seeds) == (3, None)
    assert settings_of(folds)["folds"] == 3
    assert (seeds.folds, seeds.seeds) == (None, 2)
    assert settings_of(seeds)["seeds"] == 2
    for changed, message in (
        ({"folds": "x"}, "Folds: x is not a whole number"),
        ({"folds": "3", "seeds": "3"}, "“Folds” and “Seeds” are two different"),
        ({"folds": "1"}, "“Folds” 1: an integer from 2"),
        ({"folds": "3", "held_out": data}, "remove “Held-out data”"),
        ({"folds": "3", "fraction": 0.2}, "“Held-out fraction” has no meaning"),
        ({"seeds": "3", "preset": "Frozen features"}, "“Seeds” compares runs of the training loop"),
        ({"folds": "3", "task": "fill-mask"}, "“Folds” predicts the label"),
    ):
        with pytest.raises(HeadwayError, match=re.escape(message)):
            start_run(registry, jobs, *values(data, tiny.name, **changed))
    assert len(jobs.all()) == 2


# The data.


def test_the_task_and_columns_of_a_file_are_inferred_and_checked(registry, folder, tiny):
    data = write_reviews(folder / "reviews.csv")
    first, _, rest, reason, task, *columns, name, read_from, start = read_file(True, *values(data, tiny.name))
    assert "what a good film" in safe_page(first).text
    assert (rest.visible, task, name.placeholder) == (True, "text-classification", "reviews")
    assert name.value is None  # what the user typed stays
    assert (read_from, start.interactive) == (str(data), True)
    assert "Inferred from the file" in reason
    chosen = {option.name: column.value for option, column in zip(column_options(group=True), columns, strict=True)}
    assert (chosen["text"], chosen["pair"], chosen["label"]) == ("text", "", ["label"])
    inferred = values(data, tiny.name, column_text="text", column_pair="", column_label=["label"])
    report, start = check(registry, *inferred)
    report = safe_page(report).text
    assert "64 usable examples" in report
    assert "No problems found" in report
    assert start.interactive
    wrong = values(data, tiny.name, column_text="label", column_label=["label"])
    report, start = check(registry, *wrong)
    assert "both name column" in safe_page(report).text
    assert not start.interactive


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'text,label\na film,good\na "bad" film,bad,oh,no\n', "odd.csv, line 3"),
        (b"", "odd.csv"),
        (b"PK\x03\x04 a spreadsheet", "spreadsheet"),
        (f"text,label\n{HOSTILE},{HOSTILE},{HOSTILE}\n".encode(), "odd.csv"),
    ],
)
def test_an_unreadable_file_is_explained_without_its_path(folder, tiny, content, message):
    (folder / "odd.csv").write_bytes(content)
    first, _, rest, *_ = read_file(True, *values(folder / "odd.csv", tiny.name))
    assert message in safe_page(first).text
    assert str(folder) not in first
    assert not rest.visible


def test_columns_that_cannot_be_inferred_are_asked_for(registry, folder, tiny):
    (folder / "odd.csv").write_text("first,second\n" + "a long text of words,another text of words\n" * 9)
    form = values(folder / "odd.csv", tiny.name)
    first, _, rest, *_, start = read_file(False, *form)
    assert "another text of words" in safe_page(first).text
    assert "cannot infer" not in first
    assert (rest.visible, start.interactive) == (True, False)
    report, start = check(registry, *form)
    assert "Choose the column of the text of each row" in safe_page(report).text
    assert not start.interactive


def test_messages_name_options_by_the_labels_of_the_form():
    assert form_message("Name it with --label, or say --class-weight=balanced.") == (
        "Name it with “Label”, or say “Class weight”=balanced."
    )
    assert form_message("Rows have 2 kinds of errors; `headway check` lists all of them.").endswith(
        "the check lists all of them."
    )


def test_no_message_for_a_sample_and_a_task_speaks_of_the_command_line(registry):
    for sample in sorted(SAMPLES.glob("*.*")):
        for task in TASKS if sample.suffix != ".md" else ():
            *_, columns = read_columns(values(sample, "", task=task))
            report, start = check(registry, *values(sample, "", task=task, **columns))
            assert not re.search(r"--[a-z]|COLUMN|headway ", safe_page(report).text), (sample, task)
            assert isinstance(start.interactive, bool)


def read_columns(form: list[Any], *, infer: bool = False) -> tuple[Any, ...]:
    """The updates after reading a file, and the columns that they choose as values of the form."""
    found = read_file(infer, *form)
    names = [f"column_{option.name}" for option in column_options(group=True)]
    return *found, {name: column.value for name, column in zip(names, found[5:-3], strict=True)}


def test_pasted_cells_become_a_file(folder, monkeypatch):
    monkeypatch.setattr("headway.ui.browser.pasted_cells.get_upload_folder", lambda: str(folder))
    pasted = write_pasted('text\tlabel\na good film\tgood\n"two\nlines"\tbad\n')
    assert [row for _, row in read_table(pasted)] == [
        {"text": "a good film", "label": "good"}, {"text": "two\nlines", "label": "bad"}
    ]  # fmt: skip
    assert [row for _, row in read_table(write_pasted("text,label\na,b\n"))] == [{"text": "a", "label": "b"}]
    assert write_pasted(" \n") is None


def test_columns_and_task_stay_when_the_page_is_loaded_again(folder, tiny):
    lines = [f"{text},{label},{i % 3}" for i, (text, label) in enumerate(REVIEWS)]
    (folder / "stars.csv").write_text("\n".join(["text,mood,stars", *lines]))
    chosen = {"column_text": "text", "column_pair": "", "column_label": ["stars"], "task": "text-classification"}
    restored = values(folder / "stars.csv", tiny.name, read_from=str(folder / "stars.csv"), **chosen)
    *_, columns = read_columns(restored, infer=True)
    assert (columns["column_label"], columns["column_text"]) == (["stars"], "text")
    assert read_file(True, *restored)[4] == "text-classification"


def test_a_large_file_is_checked_in_parts_in_another_process(registry, folder, tiny, monkeypatch):
    monkeypatch.setattr(background, "LARGE", 100)
    monkeypatch.setattr(train_check, "LARGE", 100)
    monkeypatch.setattr(train_check, "SAMPLE_ROWS", 10)
    data = write_reviews(folder / "reviews.csv")
    filled = values(data, tiny.name, column_text="text", column_pair="", column_label=["label"])
    updates = list(train_data.read_file(True, *filled))
    assert "what a good film" in updates[-1][0]
    reports = list(train_check.check(registry, *filled))
    assert any("Of the first 10 rows" in report and cancel.visible for report, cancel, _ in reports)
    assert "64 usable examples" in reports[-1][0]
    assert not reports[-1][1].visible
    broken = values(folder / "missing.csv", tiny.name)
    assert "was deleted from the server" in list(train_data.read_file(True, *broken))[-1][0]


# Starting a run.


def test_a_run_is_queued_with_the_values_of_the_form(registry, jobs, folder, tiny):
    data = write_reviews(folder / "reviews.csv")
    filled = values(data, tiny.name, name="../../my run", epochs=2, column_text="text", column_label=["label"])
    new, runs, timer = start_run(registry, jobs, *filled)
    (job,) = jobs.all()
    assert (new.open, runs.value, timer.active) == (False, job.id, True)
    assert job.request.name == "my-run"
    assert (job.request.model, job.request.shown_model) == (str(tiny.resolve()), tiny.name)
    assert job.request.training == {"epochs": 2.0}
    assert job.request.columns == {"text": "text", "label": ["label"]}
    assert start_run(registry, jobs, *values(data, "mini-bert", name="mini-bert"))[1].value == jobs.all()[0].id
    assert jobs.all()[0].request.name == "mini-bert-2"  # the name of a model is in use


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": None}, "no training data"),
        ({"model": ""}, "Choose a base model"),
        ({"model": "/etc"}, "no model '/etc'"),
        ({"model": "../models"}, "no model"),
        ({"epochs": "0"}, "“Epochs” 0.0 is invalid"),
        ({"max_length": "3"}, "“Max length” 3"),
        ({"max_length": "many"}, "many is not a whole number"),
    ],
)
def test_missing_and_invalid_values_are_errors(registry, jobs, folder, tiny, changed, message):
    data = write_reviews(folder / "reviews.csv")
    with pytest.raises(HeadwayError, match=message):
        start_run(registry, jobs, *values(data, tiny.name, **changed))
    assert jobs.all() == []


def test_pairs_of_built_in_models_are_offered_where_an_encoder_decoder_can_be_trained(registry):
    assert "mini-bert+mini-gpt2" in model_names(registry, "text-to-text")
    assert not any("+" in name for name in model_names(registry, "text-generation"))


def test_a_built_in_model_is_opened_by_name_and_a_folder_by_path(registry, tiny):
    assert model_to_open(registry, "mini-bert") == "mini-bert"
    assert model_to_open(registry, tiny.name) == str(tiny.resolve())
    assert model_to_open(registry, f"{tiny.name}+mini-gpt2") == f"{tiny.resolve()}+mini-gpt2"
    with pytest.raises(NoSuchModel, match="There is no model 'nothing'"):
        model_to_open(registry, "mini-bert+nothing")


# The runs.


def test_unchanged_parts_of_the_panel_are_not_updated(registry, jobs, folder, tiny):
    empty = update(jobs, None, {})
    assert not empty[0].visible
    start_run(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name))
    *shown, seen = update(jobs, None, empty[-1])
    panel, runs, head, *_ = shown
    assert (panel.visible, runs.value) == (True, jobs.all()[0].id)
    assert "waiting" in safe_page(head).text
    *again, _ = update(jobs, runs.value, seen)
    assert all(isinstance(one, dict) and one == {"__type__": "update"} for one in again)
    jobs.stop(jobs.all()[0])
    *after, _ = update(jobs, runs.value, seen)
    assert after[1].choices[0][0] == "reviews (stopped)"
    assert after[1].value is None  # keeps a selection made meanwhile
    assert "Removed from the queue" in safe_page(after[2]).text
    assert any(getattr(one, "value", "") == "Restart" for one in after)


def test_every_column_of_choices_is_marked():
    rows = [
        {"context": "a", "id": i, "ending0": "b", "ending1": "c", "ending2": "d", "label": i % 3} for i in range(9)
    ]
    table = read_table(rows)
    mapping = TASKS["multiple-choice"]().columns(table, {}, need_label=True)
    page = safe_page(draw_rows(table, mapping, field_labels("multiple-choice")))
    assert page.text.count("Choices") == 3


def test_hostile_text_stays_text(jobs, registry, folder, tiny):
    data = [{"text": f"{HOSTILE} {i}", "label": f"{HOSTILE}{i % 2}", HOSTILE: [HOSTILE]} for i in range(9)]
    table = read_table(data)
    inferred = TASKS["text-classification"]().columns(table, {}, need_label=True)
    page = safe_page(draw_rows(table, inferred, {"text": HOSTILE, "pair": ""}))
    assert page.text.count("<script>alert(1)</script>") > 9
    report = check_data(TASKS["text-classification"](), data)
    assert "<script>" in safe_page(draw_report(report)).text

    start_run(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name))
    (job,) = jobs.all()
    account = {
        "confusion": {"labels": [HOSTILE, None], "counts": [[1, 2], [0, 0]]},
        "mistakes": [{"where": HOSTILE, "texts": [HOSTILE], "right": HOSTILE, "predicted": HOSTILE, "size": 1.0}],
    }
    job.write("account.json", account)
    history = history_of(
        {"event": "prepared", "notes": [HOSTILE]},
        trained({"accuracy": 0.5, HOSTILE: 1.0}, [{"label": HOSTILE, "f1": 0.5}]),
    )
    for drawn in (
        draw_head(job, Status("failed", HOSTILE), history, 0),
        draw_head(job, Status("stopped", HOSTILE), history, 0),
        draw_data(history),
        draw_results(job, history),
    ):
        assert "<img src=x" in safe_page(drawn).text


def history_of(*events: dict[str, Any]) -> History:
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
def test_curves_are_drawn_for_any_values(losses):
    steps = [{"event": "step", "step": i, "loss": loss} for i, loss in enumerate(losses, 1)]
    history = history_of(
        {"event": "started", "total_steps": len(losses), "resumed_from": None},
        *steps,
        {"event": "evaluated", "step": 1, "metrics": {"f1": None}},
        {"event": "evaluated", "step": 1, "metrics": {"f1": 0.5}},
    )
    drawn = draw_curves(history)
    assert len(safe_page(drawn).named("svg")) == 2
    assert "nan" not in drawn
    assert len(drawn) < 10_000


def test_each_state_of_a_run_is_described(jobs, registry, folder, tiny):
    start_run(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name))
    (job,) = jobs.all()
    started = {"event": "started", "total_steps": 4, "resumed_from": None}
    step = {"event": "step", "step": 2, "loss": 0.5, "epoch": 1.0, "seconds_left": 61, "tokens_per_second": 9.0}
    done = {**step, "step": 4}
    for status, runs_before, events, message in (
        (Status("waiting"), 2, [], "Waiting for 2 other runs"),
        (Status("waiting"), 0, [], "Starting …"),
        (Status("running"), 0, [], "Starting the training process"),
        (Status("running"), 0, [{"event": "prepared", "notes": []}], "Preparing the data and the model"),
        (Status("running"), 0, [started, step], "Step 2 of 4, epoch 1.0, about 1:01 left"),
        (Status("running"), 0, [started, done], "Evaluating and saving"),
        (Status("stopping"), 0, [started, step], "Stopping after this step"),
        (Status("done"), 0, [trained({}, [])], "4 steps in 1:01, best weights from step 2, stopped early"),
    ):
        assert message in safe_page(draw_head(job, status, history_of(*events), runs_before)).text
    said = "accuracy 0.3 is no better than always predicting 'red' (0.3). Few steps (4): increase --epochs"
    chosen = {"scored_on": "2 held-out rows, cross-fitted", "notes": ["--test-fraction 0.1 measures them on others"]}
    page = draw_results(job, history_of({**trained({"accuracy": 0.3}, []), **chosen, "nothing_learnt": said}))
    assert "Metrics on 2 held-out rows, cross-fitted" in page
    assert "“Test fraction” 0.1 measures" in page
    assert "no better than always predicting" in page
    assert "increase “Epochs”" in page
    proposed = draw_results(
        job, history_of({**trained({"accuracy": 0.3}, []), "proposal": "Train with --frozen: ..."})
    )
    assert "Train with “Frozen”" in proposed
    assert "there are no metrics" in draw_results(job, history_of(trained({}, [])))


def test_the_fold_that_is_trained_and_the_mean_and_spread_of_all_are_shown(jobs, registry, folder, tiny):
    start_run(registry, jobs, *values(write_reviews(folder / "reviews.csv"), tiny.name, folds="2"))
    (job,) = jobs.all()
    step = {"event": "step", "step": 3, "loss": 0.5, "epoch": 1.0, "seconds_left": 61, "tokens_per_second": 9.0}
    events = [
        {"event": "repeatstarted", "kind": "folds", "number": 1, "count": 2},
        {"event": "started", "total_steps": 4, "resumed_from": None},
        {**step, "step": 4},
        {"event": "repeatfinished", "kind": "folds", "number": 1, "count": 2, "metrics": {"accuracy": 0.75}},
        {"event": "repeatstarted", "kind": "folds", "number": 2, "count": 2},
        {"event": "started", "total_steps": 4, "resumed_from": None},
        step,
    ]
    history = history_of(*events)
    head = safe_page(draw_head(job, Status("running"), history, 0)).text
    assert "Step 3 of 4" in head
    assert "Now: fold 2 of 2. fold 1: accuracy 0.750" in head
    assert [number for number, _ in history.losses] == [3]
    last = {"event": "repeatstarted", "kind": "folds", "number": 3, "count": 2}
    assert "Now: all rows" in draw_head(job, Status("running"), history_of(*events, last), 0)
    runs = [{"metrics": {"accuracy": value}} for value in (0.75, 0.25)]
    summary = {"count": 2, "mean": {"accuracy": 0.5}, "spread": {"accuracy": 0.354}, "runs": runs}
    for name, more in (("folds", {}), ("seeds", {"kept": 7})):
        found = history_of({**trained({"accuracy": 0.5}, []), name: {**summary, **more}})
        text = safe_page(draw_results(job, found)).text
        assert f"2 {name}: mean and spread" in text
        assert "0.354" in text
        assert ("The model of seed 7 is kept" in text) == (name == "seeds")

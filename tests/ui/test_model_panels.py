"""The panels for the chosen model: metrics on a file, renaming and deleting, and its own held-out examples."""

import json
import shutil
from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.tasks import TextClassification, load
from headway.tasks.base.held_out_texts import stored_texts
from headway.ui.browser.model_panels import delete_model, rename_model
from headway.ui.browser.tabs.predict import choose_model, example_inputs
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs.job import Request
from headway.ui.runs.jobs import Jobs
from page_elements import Page
from reviews import REVIEWS, write_reviews


@pytest.fixture
def own(jobs: Jobs, folder: Path, trained_once: Path) -> ModelRegistry:
    """A model trained here with its finished run, and one given at the start."""
    shutil.copytree(trained_once, folder / "given")
    job = jobs.submit(Request("mine", "text-classification", "mini-bert", write_reviews(folder / "reviews.csv")))
    shutil.copytree(trained_once, folder / "runs" / "mine")
    job.end("done", "")
    return ModelRegistry([folder / "given"], runs=folder / "runs", built_in=False)


def test_a_model_is_renamed_with_its_run(own, jobs):
    name, new = rename_model(own, jobs, "mine", "../my model")
    assert (name, new) == ("", "my-model")
    assert [entry.name for entry in own.entries()] == ["given", "my-model"]
    assert jobs.all()[0].request.name == "my-model"
    assert jobs.all()[0].has_model
    assert rename_model(own, jobs, "my-model", "given")[1] == "given-2"  # the name of another model


def test_a_model_is_deleted_and_its_run_stays(own, jobs):
    question, following = delete_model(own, jobs, "mine")
    assert (question.visible, following) == (False, "given")
    assert [entry.name for entry in own.entries()] == ["given"]
    assert list(jobs.runs.iterdir()) == [jobs.folder]
    assert jobs.status(jobs.all()[0]).state == "done"


def test_only_a_model_trained_here_is_renamed_or_deleted(own, jobs):
    for change in (lambda: delete_model(own, jobs, "given"), lambda: rename_model(own, jobs, "given", "x")):
        with pytest.raises(HeadwayError, match="was not trained here"):
            change()
    with pytest.raises(HeadwayError, match="no model"):
        delete_model(own, jobs, "../given")
    with pytest.raises(HeadwayError, match="Enter the new name"):
        rename_model(own, jobs, "mine", " ")
    assert {entry.name for entry in own.entries()} == {"given", "mine"}


def test_the_examples_of_a_model_are_held_out_texts_of_its_own_data(tiny, folder):
    options = {"max_steps": 1, "eval_fraction": 0.25}
    TextClassification().on(tiny).fit(write_reviews(folder / "reviews.csv"), output=folder / "own", **options)
    model = load(folder / "own")
    examples = example_inputs(model)
    assert len(examples) == 4
    assert {one["text"] for one in examples} <= {text for text, _ in REVIEWS}
    registry = ModelRegistry([folder / "own"], built_in=False)
    assert examples[0]["text"] in Page(choose_model(registry, 3, "own")[-2]).text
    assert "`--keep-examples 0`" in (folder / "own" / "README.md").read_text()
    without = TextClassification(keep_examples=0).on(tiny)
    without.fit(folder / "reviews.csv", output=folder / "none", **options)
    assert json.loads((folder / "none" / "headway.json").read_text())["examples"] == []
    assert "--keep-examples" not in (folder / "none" / "README.md").read_text()


@pytest.mark.parametrize("stored", [None, "text", [{}], [{"text": 3}], [{"other": "a"}], [["a"]], 7])
def test_stored_examples_of_another_form_are_ignored(stored):
    assert stored_texts(TextClassification(), {"examples": stored}) == []

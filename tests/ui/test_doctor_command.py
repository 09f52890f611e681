"""headway doctor: what it prints, its exit code, and its self-test."""

import json
import re
import sys

import pytest
from headway.core.doctor import storage
from headway.core.errors import HeadwayError
from headway.core.extras import EXTRAS
from headway.tasks import self_test
from headway.tasks.base.model import TaskModel
from headway.ui.commands import doctor


def test_a_working_installation_passes_and_says_so(headway):
    ran = headway("doctor", "--device", "cpu", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["works"]
    assert found["self_test"]["passed"]
    assert found["self_test"]["last_loss"] < found["self_test"]["first_loss"] - 0.1
    assert found["versions"]["torch"]
    assert found["extras"]["ui"] == {"installed": True, "missing": []}
    assert found["hub"]["state"] == "offline"
    assert [one for one in found["problems"] if one["level"] == "error"] == []
    assert "passed in" in ran.err
    for title in ("Versions", "Extras", "Machine", "Devices", "Folders", "Hub", "Self-test"):
        assert re.search(rf"^{title}$", ran.err, re.MULTILINE), title


def test_without_any_extra_it_works_and_names_the_commands(headway, monkeypatch):
    for module in {module for names in EXTRAS.values() for module in names}:
        monkeypatch.setitem(sys.modules, module, None)
    ran = headway("doctor", "--no-self-test")
    assert ran.code == 0, ran.err
    assert "Self-test" not in ran.out
    for extra in EXTRAS:
        assert f'not installed: pip install "headway[{extra}]"' in ran.out


def test_a_problem_that_stops_headway_gives_the_exit_code_1(headway, monkeypatch):
    def without_space(use: str, path: str, change: str) -> storage.Folder:
        return storage.Folder(use, path, change, 0, "No space left on device")

    monkeypatch.setattr(storage, "_folder", without_space)
    ran = headway("doctor", "--no-self-test")
    assert ran.code == doctor.BROKEN == 1
    assert re.search(r"error +No file can be written to .* \(temporary files\): No space left on device\.", ran.out)
    assert re.search(r"warning +No file can be written to .* \(models of the Hub\)", ran.out)


def test_a_batch_that_differs_from_its_texts_fails_the_self_test(headway, monkeypatch):
    right = TaskModel.predict

    def predict(self: TaskModel, texts, *more, **options):
        found = right(self, texts, *more, **options)
        if isinstance(texts, list):
            first = next(iter(found[0].scores))
            found[0].scores[first] += 0.01
        return found

    monkeypatch.setattr(TaskModel, "predict", predict)
    tested = self_test.self_test("cpu")
    assert tested.failures == ("a text has other probabilities in a batch than alone: by 1.0e-02",)
    monkeypatch.setattr(self_test, "self_test", lambda _: tested)
    ran = headway("doctor")
    assert ran.code == 1
    assert "failed in" in ran.out
    assert "The self-test gives wrong results: a text has other probabilities" in ran.out


def test_a_computation_that_fails_is_reported_as_a_problem(headway, monkeypatch):
    def train(*_: object, **__: object):
        raise RuntimeError("no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(TaskModel, "train", train)
    with pytest.raises(HeadwayError, match=r"^RuntimeError: no kernel image is available$"):
        self_test.self_test("cpu")
    ran = headway("doctor")
    assert ran.code == 1
    assert "The self-test ends with an error. RuntimeError: no kernel image is available" in ran.out
    assert "headway doctor --device cpu" in ran.out

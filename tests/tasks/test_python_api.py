"""The Python API as data scientists use it: tables and plain objects in, probabilities out, models that travel."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from headway.core.errors import ArgumentError, HeadwayError
from headway.core.models.layers import ACTIVATIONS
from headway.core.training.training_config import TrainConfig
from headway.tasks import Embedder, FillMask, Prompt, SentenceSimilarity, TextClassification, TokenClassification, load
from headway.tasks.base.model import TaskModel
from headway.tasks.base.predictor import Predictor
from headway.tasks.data.read import stream_rows

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")
TEXTS = [f"my parcel {i}" if i % 2 else f"where is the money {i}" for i in range(24)]
LABELS = ["ab"[i % 2] for i in range(24)]


@pytest.fixture
def model(bert_folder: Path) -> TaskModel:
    return TextClassification().on(bert_folder)


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("python") / "model"
    TextClassification().on(bert_folder).fit(TEXTS, LABELS, output=output, config=FAST)
    return output


@pytest.fixture
def trained(folder: Path) -> TaskModel:
    return load(folder)


def refused(call: Any, *parts: str, error: type[Exception] = HeadwayError) -> None:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


# Inputs


def test_every_kind_of_input_gives_the_same_predictions(trained: TaskModel, tmp_path: Path):
    texts = TEXTS[:5]
    expected = trained.predict(texts)
    frame = pd.DataFrame({"id": range(5), "text": texts})
    path = tmp_path / "in.csv"
    frame.to_csv(path, index=False)
    kinds: list[Any] = [
        *(frame, frame["text"], frame["text"].to_numpy(), path, iter(texts), ({"text": text} for text in texts)),
        *([(text,) for text in texts], tuple, stream_rows(path)),
    ]
    for kind in kinds:
        given = [(text,) for text in texts] if kind is tuple else kind
        assert trained.predict(given) == expected, kind
    assert trained.predict(frame.rename(columns={"text": "a", "id": "b"}), columns={"text": "a"}) == expected


def test_rows_of_every_kind_are_returned_with_their_predictions(trained: TaskModel, tmp_path: Path):
    texts = TEXTS[:5]
    expected = trained.predict(texts)
    frame = pd.DataFrame({"id": range(5), "text": texts})
    path = tmp_path / "in.csv"
    frame.to_csv(path, index=False)
    for given in (frame, str(path), path, frame.to_dict("records"), iter(frame.to_dict("records"))):
        found = list(trained.predict_rows(given))
        assert [one for _, one in found] == expected
        assert [str(row["id"]) for row, _ in found] == list("01234")
    assert [row for row, _ in trained.predict_rows(texts)] == [{"text": text} for text in texts]
    assert [one for _, one in trained.predict_rows(iter(texts))] == expected


def test_a_generator_is_read_as_its_predictions_are_read(trained: TaskModel):
    drawn = []

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(2000):
            drawn.append(i)
            yield {"text": f"parcel {i}", "n": i}

    found = trained.predict_rows(rows(), at_once=2)
    assert [next(found)[0]["n"] for _ in range(3)] == [0, 1, 2]
    assert len(drawn) <= 1000
    assert sum(1 for _ in found) == 1997


def test_a_generator_that_is_read_again_is_refused():
    stream = stream_rows({"text": str(i)} for i in range(1500))
    assert len(list(stream)) == 1500
    refused(lambda: list(stream), "only once", "list")
    short = stream_rows({"text": str(i)} for i in range(15))
    assert list(short) == list(short)
    assert len(list(short)) == 15
    refused(lambda: stream_rows(iter([])), "no row")
    refused(lambda: list(stream_rows(iter([{"text": "a"}, 3]))), "row 2", "int")


def test_a_string_that_names_a_file_is_not_predicted_as_a_text(
    trained: TaskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("text\nmy parcel\n")
    refused(lambda: trained.predict("in.csv"), "in.csv is a file", "Path('in.csv')", "['in.csv']")
    assert trained.predict(Path("in.csv")) == [trained.predict("my parcel")]
    assert len(trained.predict(["in.csv"])) == 1


@pytest.mark.parametrize("given", [None, 3, 1.5])
def test_what_is_no_input_is_refused(trained: TaskModel, given: Any):
    refused(lambda: trained.predict(given), "predict() takes a text", type(given).__name__)


def test_inferred_columns_are_named_where_somebody_looks(
    trained: TaskModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    frame = pd.DataFrame({"n": range(4), "said": ["my parcel has arrived", "where is the money", "here", "a cat sat"]})
    trained.predict(frame)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("headway.tasks.base.predictor.is_interactive", lambda: True)
    trained.predict(frame)
    assert 'text: column "said"' in capsys.readouterr().err
    trained.predict(frame, columns={"text": "said"})
    trained.predict("my parcel")
    assert capsys.readouterr().err == ""


# Probabilities


def test_probabilities_are_an_array_in_the_order_of_the_labels(trained: TaskModel):
    found = trained.predict_proba(TEXTS)
    assert found.shape == (24, 2)
    assert found.dtype == np.float64
    assert np.allclose(found.sum(1), 1, rtol=0, atol=1e-15)
    assert trained.labels == ("a", "b")
    assert [trained.labels[i] for i in found.argmax(1)] == [one.label for one in trained.predict(TEXTS)]
    assert trained.predict_proba("my parcel").shape == (1, 2)
    assert trained.predict_proba([]).shape == (0, 2)
    assert trained.predict_proba(pd.DataFrame({"text": TEXTS})).tolist() == found.tolist()


def test_models_without_probabilities_of_labels_say_so(bert_folder: Path):
    numbers = TextClassification().on(bert_folder)
    numbers.fit(TEXTS, [i / 7 for i in range(24)], config=FAST)
    assert numbers.task.problem_type == "regression"
    refused(lambda: numbers.predict_proba(TEXTS), "does not predict a probability", "predict()")
    refused(lambda: TextClassification().on(bert_folder).predict_proba("a"), "no trained head")


# Labelled data


def test_every_kind_of_labelled_data_trains_the_same_model(bert_folder: Path, tmp_path: Path):
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    frame = pd.DataFrame(rows)
    path = tmp_path / "train.csv"
    frame.to_csv(path, index=False)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((rows,), {}),
        ((frame,), {}),
        ((path,), {}),
        ((list(zip(TEXTS, LABELS, strict=True)),), {}),
        ((TEXTS, LABELS), {}),
        ((frame["text"], frame["label"]), {}),
        ((frame[["text"]], frame["label"]), {}),
        ((np.array(TEXTS), np.array(LABELS)), {}),
        ((TEXTS,), {"labels": LABELS}),
        (((TEXTS, LABELS),), {}),
        ((iter(rows),), {}),
        ((iter(list(zip(TEXTS, LABELS, strict=True))),), {}),
    ]
    weights = []
    for given, named in calls:
        model = TextClassification().on(bert_folder)
        model.fit(*given, **named, config=FAST)
        assert model.labels == ("a", "b")
        weights.append(model.network.get_submodule("head.classifier").weight)
    assert all(torch.equal(one, weights[0]) for one in weights)


def test_the_second_argument_is_evaluation_data_or_labels(bert_folder: Path):
    pairs = list(zip(TEXTS, LABELS, strict=True))
    held_out = TEXTS[:6], LABELS[:6]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((pairs, pairs[:6]), {}),
        ((pairs,), {"eval_data": held_out}),
        ((TEXTS, LABELS, held_out), {}),
        ((TEXTS, LABELS), {"eval_data": pairs[:6]}),
        ((TEXTS, pairs[:6]), {"labels": LABELS}),
        ((TEXTS,), {"labels": LABELS, "eval_data": held_out}),
    ]
    for given, named in calls:
        model = TextClassification().on(bert_folder)
        assert model.fit(*given, **named, config=FAST).eval_examples == 6
    refused(lambda: model.fit(TEXTS, LABELS, held_out, labels=LABELS), "labels twice", error=ArgumentError)
    refused(lambda: model.fit(pairs, held_out, eval_data=held_out), "eval_data twice", error=ArgumentError)
    refused(lambda: model.fit(TEXTS, LABELS, held_out, "out"), "by position", error=ArgumentError)
    assert model.evaluate(TEXTS, LABELS).metrics == model.evaluate(pairs).metrics


def test_labels_of_every_task_are_given_apart(bert_folder: Path):
    several = TextClassification().on(bert_folder)
    several.fit(TEXTS, [("a",), ("a", "b"), ("b", "c"), ()] * 6, config=FAST)
    assert (several.task.problem_type, several.labels) == ("multi_label_classification", ("a", "b", "c"))
    pairs = TextClassification().on(bert_folder)
    pairs.fit([(text, "the money") for text in TEXTS], LABELS, config=FAST)
    assert pairs.task.paired
    assert len(pairs.predict([("my parcel", "the money")])) == 1
    similar = SentenceSimilarity().on(bert_folder)
    similar.fit([(text, "the money") for text in TEXTS], [i / 23 for i in range(24)], config=FAST)
    assert similar.task.objective == "scores"
    words = [["my", "parcel"], ["where", "is", "Ada"]] * 4
    tagger = TokenClassification().on(bert_folder)
    tagger.fit(words, [["O", "B-X"], ["O", "O", "B-PER"]] * 4, config=FAST)
    assert tagger.labels == ("PER", "X")
    assert FillMask().on(bert_folder).fit(TEXTS, TEXTS[:8], config=FAST).eval_examples > 0


def test_a_frame_of_labels_has_one_column_of_0_and_1_per_label(bert_folder: Path):
    chosen = [[], ["b"], ["a", "c"], ["a"]] * 5
    texts = [f"text {number} about {' '.join(names)}" for number, names in enumerate(chosen)]
    flags = pd.DataFrame([[name in names for name in "abc"] for names in chosen], columns=list("abc")).astype(int)
    by_lists = TextClassification().on(bert_folder)
    expected = by_lists.fit(texts, chosen, config=FAST).metrics
    for labels in (flags, flags.astype(bool)):
        by_frame = TextClassification().on(bert_folder)
        assert by_frame.fit(pd.Series(texts), labels, config=FAST).metrics == expected
        assert by_frame.labels == by_lists.labels
        assert by_frame.evaluate(texts, labels).metrics == by_lists.evaluate(texts, chosen).metrics
    single = TextClassification().on(bert_folder)
    single.fit(texts, pd.DataFrame({"kind": ["x", "y"] * 10}), config=FAST)
    assert tuple(single.labels) == ("x", "y")


def test_columns_of_0_and_1_without_names_are_not_taken_for_lists_of_labels(model: TaskModel):
    flags = [[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
    for labels in (flags, np.array(flags), np.array(flags, dtype=bool)):
        refused(lambda labels=labels: model.fit(list("abcd"), labels), "3 columns of 0 and 1", "DataFrame")
    refused(lambda: model.fit(list("ab"), pd.DataFrame({"x": [1, 2], "y": [0, 1]})), "x, y", "not all 0 or 1")


def test_wrong_labels_are_refused(model: TaskModel):
    refused(lambda: model.fit(TEXTS, LABELS[:-1]), "24 texts and 23 labels")
    refused(lambda: model.fit(TEXTS), "row 1", "(text, label) or (text, pair, label)", "fit(texts, labels)")
    refused(lambda: model.fit([("a", "b", "c", "d")]), "row 1")
    refused(lambda: model.fit("train.csv", labels=LABELS), "columns=")


# Arguments


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"lr": 1e-3}, ("fit() has no argument lr", "learning_rate=")),
        ({"learning_rat": 1e-3}, ("Did you mean learning_rate=",)),
        ({"text": "body"}, ('columns={"text": ...}',)),
        ({"label_column": "y"}, ('columns={"label": ...}',)),
        ({"y": LABELS}, ("Use labels=",)),
        ({"max_length": 64}, ("option of the task", "TextClassification(max_length=...)")),
        ({"fp16": True}, ('Use precision="fp16"',)),
        ({"verbose": 0}, ("Use progress=",)),
        ({"zzz": 0}, ("Its arguments are: data, eval_data",)),
    ],
)
def test_an_unknown_argument_is_named_with_what_was_meant(model: TaskModel, given: dict[str, Any], parts: tuple[str]):
    refused(lambda: model.fit(TEXTS, LABELS, **given), *parts)
    refused(lambda: model.fit(TEXTS, LABELS, **given), error=ArgumentError)
    refused(lambda: model.fit(TEXTS, LABELS, **given), error=TypeError)


def test_an_unknown_argument_of_a_prediction_is_named(trained: TaskModel, tmp_path: Path):
    wrong: Any = trained
    refused(lambda: wrong.predict_rows(TEXTS, chosen={}), "predict_rows() has no argument chosen", "columns=")
    refused(lambda: wrong.predict(TEXTS, text="a"), 'columns={"text": ...}')
    refused(lambda: wrong.predict(TEXTS, batch_size=3), "Its arguments are: inputs, columns")
    refused(lambda: wrong.evaluate(TEXTS, y=LABELS), "Use labels=")
    refused(lambda: wrong.save(output_dir=tmp_path), "Use output=")


def test_the_message_about_a_column_names_the_argument_of_python(model: TaskModel, trained: TaskModel, tmp_path: Path):
    frame = pd.DataFrame({"said": ["my parcel has arrived"] * 2, "meant": ["the money is here"] * 2, "n": [1, 2]})
    refused(lambda: trained.predict(frame), 'Give columns={"text": COLUMN}')
    labelled = frame[["said"]].assign(one=["a", "b"], two=["c", "d"])
    refused(lambda: model.fit(labelled), 'Give columns={"label": COLUMN}')
    frame.to_csv(tmp_path / "in.csv", index=False)
    refused(lambda: trained.predict(tmp_path / "in.csv"), "Give --text COLUMN")


# Training without an output


def test_a_model_without_an_output_is_saved_later(model: TaskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert model.fit(TEXTS, LABELS, config=FAST).output is None
    assert list(tmp_path.iterdir()) == []
    before = model.predict(TEXTS)
    model.save(tmp_path / "saved")
    assert load(tmp_path / "saved").predict(TEXTS) == before
    assert load(tmp_path / "saved").info["metrics"] == model.info["metrics"]


def test_progress_is_shown_where_somebody_looks(model: TaskModel, capsys: pytest.CaptureFixture[str]):
    model.fit(TEXTS, LABELS, config=FAST)
    model.fit(TEXTS, LABELS, config=FAST, progress=False)
    assert capsys.readouterr() == ("", "")
    model.fit(TEXTS, LABELS, config=FAST, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for part in ("24 rows", 'text: column "text"', "2/2", "loss", "2 held-out rows: accuracy"):
        assert part in shown.err


def test_progress_is_shown_in_a_notebook(monkeypatch: pytest.MonkeyPatch):
    from types import SimpleNamespace

    from headway.tasks.base.progress import is_interactive

    assert not is_interactive()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert is_interactive()
    del shell.kernel
    assert not is_interactive()


def test_the_repr_names_task_backbone_and_labels(model: TaskModel, trained: TaskModel):
    assert repr(model).startswith("<TaskModel: text-classification on ")
    assert repr(model).endswith("(BERT); not trained>")
    assert repr(trained).endswith("(BERT); 2 labels: a, b; trained>")


# Models that travel


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_same_after_pickling(name: str):
    assert pickle.loads(pickle.dumps(ACTIVATIONS[name])) is copy.deepcopy(ACTIVATIONS[name]) is ACTIVATIONS[name]


def test_a_trained_bert_and_gpt2_are_pickled_and_copied(tiny_model: Path):
    model = TextClassification().on(tiny_model)
    model.fit(TEXTS, LABELS, config=FAST)
    expected = model.predict_proba(TEXTS)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert np.allclose(twin.predict_proba(TEXTS), expected, atol=1e-6)


def test_embedders_and_prompts_are_pickled_and_copied(
    bert_folder: Path, gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(bert_folder.parent)
    embedder = Embedder(bert_folder.name, normalize=True)
    prompt = Prompt(labels=("a", "b"), template="{text} {label}").on(gpt2_folder)
    vectors, label = embedder.embed(TEXTS), prompt.predict("my parcel")
    assert "tiny-bert" in repr(embedder)
    assert "2 labels: a, b" in repr(prompt)
    contents = [pickle.dumps(one) for one in (embedder, prompt)]
    twins = [copy.deepcopy(one) for one in (embedder, prompt)]
    monkeypatch.chdir(tmp_path)
    for same, again in (map(pickle.loads, contents), twins):
        assert np.array_equal(same.embed(TEXTS), vectors)
        assert again.predict("my parcel") == label


@pytest.mark.parametrize("predicts_first", [True, False])
def test_a_model_is_pickled_and_copied(folder: Path, tmp_path: Path, predicts_first: bool):
    model = load(folder)
    expected = load(folder).predict_proba(TEXTS)
    if predicts_first:
        model.predict(TEXTS)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert np.allclose(twin.predict_proba(TEXTS), expected, atol=1e-6)
        assert repr(twin) == repr(model)
        twin.save(tmp_path / f"twin-{predicts_first}", overwrite=True)
    assert np.allclose(load(tmp_path / f"twin-{predicts_first}").predict_proba(TEXTS), expected, atol=1e-6)
    assert np.allclose(model.predict_proba(TEXTS), expected, atol=1e-6)


def test_a_pickled_model_needs_no_folder_and_can_be_trained_again(bert_folder: Path, folder: Path, tmp_path: Path):
    import shutil

    shutil.copytree(folder, tmp_path / "moved")
    model = load(tmp_path / "moved")
    content = pickle.dumps(model)
    shutil.rmtree(tmp_path / "moved")
    assert pickle.loads(content).predict("my parcel") == load(folder).predict("my parcel")
    fitted = TextClassification().on(bert_folder)
    fitted.fit(TEXTS, LABELS, config=FAST)
    again = pickle.loads(pickle.dumps(fitted))
    again.fit(TEXTS, LABELS, config=FAST)
    assert np.allclose(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-6)


SPAWNED = """
import multiprocessing, sys
from headway.tasks import load
from joblib import Parallel, delayed

def main():
    model = load(sys.argv[1])
    texts = [f"my parcel {i}" for i in range(8)]
    expected = [one.label for one in model.predict(texts)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(model.predict, [texts[:4], texts[4:]])
    assert [one.label for part in found for one in part] == expected
    found = Parallel(n_jobs=2)(delayed(model.predict)(part) for part in (texts[:4], texts[4:]))
    assert [one.label for part in found for one in part] == expected

if __name__ == "__main__":
    main()
"""


def test_processes_of_multiprocessing_and_joblib_predict(folder: Path, tmp_path: Path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_threads_share_the_first_prediction(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from headway.tasks.base import prepared as module

    prepared = []
    prepare = module.prepare_for_inference

    def watched(*given: Any) -> Any:
        prepared.append(given)
        return prepare(*given)

    monkeypatch.setattr(module, "prepare_for_inference", watched)
    expected = load(folder).predict(TEXTS)
    prepared.clear()
    model, start, found = load(folder), threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        found.append(model.predict(TEXTS))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
    assert len(prepared) == 1


def test_every_public_method_is_documented_and_typed():
    for owner in (Predictor, TaskModel):
        for name, method in vars(owner).items():
            if not name.startswith("_") and callable(method):
                assert method.__doc__, name
                assert "return" in method.__annotations__, name

"""Many rows: they are kept in files, take little memory, and train as rows in memory do."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.tasks import SentenceSimilarity, TextClassification, TokenClassification
from headway.tasks.base import inference, training_data
from headway.tasks.base.results import Prepared
from headway.tasks.data import spool as spool_module
from headway.tasks.data.features import Features, group_windows
from headway.tasks.data.read import read_table
from headway.tasks.data.spool import Blocks, FileList, Selection, select, spool
from headway.tasks.data.stored_windows import StoredWindows

MAX_BYTES_PER_ROW = 200
WORDS = ["bank", "money", "parcel", "letter", "late", "order", "refund", "account", "card", "post", "payment"]
CONFIG = TrainConfig(max_steps=3, device="cpu", precision="fp32", seed=4)


def write_rows(path: Path, count: int) -> Path:
    chance = random.Random(0)
    lines = (f"{' '.join(chance.choices(WORDS, k=9))} {i},{chance.choice('abc')}\n" for i in range(count))
    path.write_text("text,label\n" + "".join(lines))
    return path


@pytest.fixture
def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (spool_module, "IN_MEMORY"),
        (training_data, "IN_MEMORY"),
        (inference, "EXAMPLES_AT_ONCE"),
    ):
        monkeypatch.setattr(module, name, 7)
    monkeypatch.setattr(spool_module, "ITEMS_PER_BLOCK", 4)


@pytest.mark.usefixtures("few_in_memory")
def test_a_list_in_a_file_is_read_as_the_list_in_memory(tmp_path: Path):
    items = [{"text": f"row {i}", "number": i / 3, "words": ["a", None]} for i in range(30)]
    found = spool(iter(items), tmp_path / "new" / "rows")
    assert isinstance(found, FileList)
    assert list(found) == items
    assert [found[i] for i in (0, 29, 13, -1, -30)] == [items[i] for i in (0, 29, 13, -1, -30)]
    assert (found[3:9], found[:2], found[28:40]) == (items[3:9], items[:2], items[28:])
    with pytest.raises(IndexError):
        found[30]
    some = select(found, np.array([2, 3, 17, 29]))
    assert isinstance(some, Selection)
    assert list(some) == [some[i] for i in range(4)] == some[:] == [items[i] for i in (2, 3, 17, 29)]
    assert list(pickle.loads(pickle.dumps(some))) == list(some)


def test_a_short_list_stays_in_memory_and_writes_no_file(tmp_path: Path):
    found = spool(range(spool_module.IN_MEMORY), tmp_path / "rows")
    assert isinstance(found, list)
    assert not (tmp_path / "rows").exists()
    assert isinstance(spool(range(spool_module.IN_MEMORY + 1), None), list)


@pytest.mark.usefixtures("few_in_memory")
def test_rows_in_a_file_have_the_places_and_the_fingerprint_of_rows_in_memory(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"t {i}"} | ({"more": 1} if i == 20 else {}) for i in range(30)]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    plain, filed = read_table(path), read_table(path, folder=tmp_path / "files")
    assert not isinstance(filed.rows, list)
    assert filed.columns == plain.columns == ("text", "more")
    assert list(filed.rows) == list(plain.rows)
    assert list(filed.places) == list(plain.places)
    assert filed.where(29) == plain.where(29)
    assert filed.fingerprint() == plain.fingerprint()
    kept = [3, 9, 28]
    assert list(filed.select(kept)) == list(plain.select(kept))


@pytest.mark.usefixtures("few_in_memory")
def test_items_that_cannot_be_pickled_stay_in_memory(tmp_path: Path):
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    odd = {5: threading.Lock(), 6: lambda: 0, 13: (i for i in ()), 29: nested}
    items = [{"text": f"row {i}", "extra": odd.get(i)} for i in range(30)]
    found = spool(iter(items), tmp_path / "rows")
    assert isinstance(found, FileList)
    assert [row["text"] for row in found] == [row["text"] for row in items]
    assert all(found[i]["extra"] is value for i, value in odd.items())
    assert [row["extra"] for row in select(found, np.array([5, 20, 29]))] == [odd[5], None, nested]
    assert len(found._unpicklable) == 3


@pytest.mark.usefixtures("few_in_memory")
def test_rows_with_objects_that_cannot_be_pickled_train(bert_folder: Path):
    rows = [{"text": f"the bank {i}", "label": "ab"[i % 2], "lock": threading.Lock()} for i in range(40)]
    events = list(TextClassification().on(bert_folder).train(rows, config=CONFIG))
    assert next(event for event in events if isinstance(event, Prepared)).examples == 36


@pytest.mark.usefixtures("few_in_memory")
def test_held_out_examples_can_be_read_after_the_files_of_the_run_are_deleted(bert_folder: Path, tmp_path: Path):
    data = write_rows(tmp_path / "rows.csv", 90)
    for eval_data, count in ((None, 9), (write_rows(tmp_path / "others.csv", 20), 20)):
        model = TextClassification().on(bert_folder)
        model.fit(data, eval_data=eval_data, config=CONFIG, progress=False)
        assert model.held_out is not None
        found = pickle.loads(pickle.dumps(model.held_out)).examples
        assert len(found) == count
        assert [one.text for one in found] == [one.text for one in model.held_out.examples]


@pytest.mark.posix
@pytest.mark.parametrize("size", [100, 5_000, 9_000, 30_000])
def test_a_full_disk_is_reported_whether_or_not_the_last_bytes_are_still_in_a_buffer(size: int, tmp_path: Path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(HeadwayError, match="the disk is full"):
            Blocks.write((b"x" * size for _ in range(5_000)), tmp_path / "blocks")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def same(one: Features, other: Features) -> bool:
    return all(repr(getattr(one, name)) == repr(getattr(other, name)) for name in vars(one))


@pytest.mark.parametrize("task", ["classification", "pairs", "tagging", "similarity"])
def test_windows_in_a_file_are_those_that_were_encoded(task: str, bert_folder: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(bert_folder)
    long = "the money of the bank " * 12
    made: dict[str, tuple[Any, list[dict[str, Any]]]] = {
        "classification": (
            TextClassification(),
            [{"text": "the bank", "label": ["a", "b"]}, {"text": long, "label": []}, {"text": "post", "label": ["b"]}],
        ),
        "pairs": (
            TextClassification(),
            [{"text": long, "pair": "late", "label": "1.5"}, {"text": "a", "pair": "b", "label": "2.25"}],
        ),
        "tagging": (
            TokenClassification(),
            [{"tokens": long.split(), "tags": ["B-X", *["O"] * 59]}, {"tokens": ["post"], "tags": ["O"]}],
        ),
        "similarity": (SentenceSimilarity(), [{"text": "a", "pair": long}, {"text": "the bank", "pair": "post"}]),
    }
    unlabelled, rows = made[task]
    table = read_table(rows)
    columns = unlabelled.columns(table, {}, need_label=True)
    labelled, _ = unlabelled.infer_labels(table, columns)
    encoded = group_windows(labelled.encode(labelled.examples(table, columns), tokenizer, 16))
    stored = StoredWindows.write(iter(encoded), tmp_path / "tokens")
    assert stored.lengths.tolist() == inference.sequence_lengths(encoded).tolist()
    for i, windows in enumerate(encoded):
        assert len(stored[i]) == len(windows)
        assert all(same(one, other) for one, other in zip(stored[i], windows, strict=True))
    assert max(len(windows) for windows in encoded) > 1
    assert len(stored[:]) == len(encoded)


def weights_and_report(folder: Path, data: Path, output: Path) -> tuple[dict[str, torch.Tensor], Any, Any]:
    model = TextClassification(class_weight="balanced").on(folder)
    events = list(model.train(data, output=output, config=CONFIG))
    prepared = next(event for event in events if isinstance(event, Prepared))
    return dict(model.network.state_dict()), prepared.report, events[-1]


def test_training_on_rows_in_files_equals_training_on_rows_in_memory(
    bert_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    path = write_rows(tmp_path / "rows.csv", 90)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[5], lines[6][:-1] + "z", "x,a", ",b", f"{'bank ' * 60},a", ""]))
    weights, report, trained = weights_and_report(bert_folder, path, tmp_path / "memory")
    request.getfixturevalue("few_in_memory")
    other_weights, other_report, other_trained = weights_and_report(bert_folder, path, tmp_path / "files")
    assert other_report == report
    assert {"duplicate", "conflict", "short", "long"} <= {finding.kind for finding in report.findings}
    assert other_trained.metrics == trained.metrics
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["files", "memory", "rows.csv"]


TOGETHER = """
import json, sys
from pathlib import Path
from headway.core.errors import HeadwayError
from headway.core.training.distributed import processes
from headway.core.training.training_config import TrainConfig
from headway.tasks import FillMask, TextClassification
from headway.tasks.base import training_data
from headway.tasks.data import spool

training_data.IN_MEMORY = spool.IN_MEMORY = 20
base, data, folder = map(Path, sys.argv[1:])
calls = []
for name in ("read_table", "check_examples", "open_documents"):
    def counted(*args, name=name, original=getattr(training_data, name), **options):
        calls.append(name)
        return original(*args, **options)
    setattr(training_data, name, counted)
config = TrainConfig(max_steps=2, device="cpu", precision="fp32", learning_rate=1e-3)
losses = []
for task in (TextClassification(), FillMask()):
    events = task.on(base).train(data, output=folder / task.name, config=config)
    losses += [event.loss for event in events if type(event).__name__ == "Step"]
bad = data.with_name("bad.csv")
rows = [{"text": f"the bank {i}", "label": "ab"[i % 2], "extra": lambda: 0} for i in range(60)]
messages = []
for wrong in (bad, rows):
    try:
        list(TextClassification().on(base).train(wrong, output=folder / "bad", config=config))
    except HeadwayError as error:
        messages.append(str(error))
(folder / f"report-{processes().rank}.json").write_text(json.dumps([calls, losses, messages]))
"""


def test_one_process_of_a_machine_reads_the_data_and_the_others_map_its_files(bert_folder: Path, tmp_path: Path):
    data, folder = write_rows(tmp_path / "rows.csv", 60), tmp_path / "runs"
    folder.mkdir()
    (tmp_path / "bad.csv").write_text("text,label\n" + "some text,a\n" * 30)
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(script), str(bert_folder), str(data), str(folder)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (calls, losses, messages), (other_calls, other_losses, other_messages) = (
        json.loads((folder / f"report-{rank}.json").read_text()) for rank in (0, 1)
    )
    assert calls == ["read_table", "check_examples", "open_documents", "read_table", "read_table"]
    assert other_calls == []
    assert losses == other_losses
    assert len(losses) == 4
    assert "every row has the label 'a'" in messages[0]
    assert "object that other processes cannot receive" in messages[1]
    assert messages == other_messages
    assert not [one for one in folder.iterdir() if one.name.startswith(".")]


def test_weights_shares_and_scales_are_those_of_the_training_rows_only():
    chance = random.Random(0)
    texts = [f"{chance.choice(WORDS)} {i}" for i in range(200)]

    def inferred(task: TextClassification, labels: list[str]) -> tuple[TextClassification, list[int]]:
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        found = training_data.read_labelled(training_data.DataSource(rows), task, None)
        assert found.evaluation is not None
        return found.task, [example.row for example in found.evaluation[1]]

    numbers = [f"{chance.random():.4f}" for _ in texts]
    before, held_out = inferred(TextClassification(), numbers)
    shifted = [f"{float(one) + 9:.4f}" if i in held_out else one for i, one in enumerate(numbers)]
    after, same_rows = inferred(TextClassification(), shifted)
    assert same_rows == held_out
    assert (after.target_mean, after.target_std) == (before.target_mean, before.target_std)
    assert before.target_mean == pytest.approx(
        np.mean([float(one) for i, one in enumerate(numbers) if i not in held_out])
    )

    several = TextClassification(problem_type="multi_label_classification", class_weight="balanced")
    labels = ["a;b" if i % 3 else "a;c" for i in range(len(texts))]  # the first label decides on the split
    before, held_out = inferred(several, labels)
    after, same_rows = inferred(several, ["a;b;c;d" if i in held_out else one for i, one in enumerate(labels)])
    assert same_rows == held_out
    assert (before.labels, after.labels) == (("a", "b", "c"), ("a", "b", "c", "d"))
    assert (after.shares[:3], after.weights[:3]) == (before.shares, before.weights)
    assert after.shares[3] == 0.5 / (len(texts) - len(held_out) + 1)

    counts = [i for i in range(200) if i % 4 == 0]
    balanced, held_out = inferred(
        TextClassification(class_weight="balanced"), ["ab"[i in counts] for i in range(len(texts))]
    )
    rare = len(set(counts) - set(held_out))
    rest = len(texts) - len(held_out) - rare
    assert balanced.weights[1] / balanced.weights[0] == pytest.approx(rest / rare)


def peak_memory(data: Path, folder: Path, output: Path) -> int:
    events = TextClassification().on(folder).train(data, output=output, config=CONFIG)
    tracemalloc.start()
    for event in events:
        if type(event).__name__ == "Step":
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events.close()
    return peak


def test_a_row_takes_less_than_200_bytes_of_memory_before_and_in_training(bert_folder: Path, tmp_path: Path):
    few, many = 8_000, 24_000
    peaks = [peak_memory(write_rows(tmp_path / f"{n}.csv", n), bert_folder, tmp_path / f"out{n}") for n in (few, many)]
    assert (peaks[1] - peaks[0]) / (many - few) < MAX_BYTES_PER_ROW

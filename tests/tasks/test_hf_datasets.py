"""Data sets of the `datasets` library, and Parquet files."""

from random import Random

import pytest
from data_files import assert_error, reading, write
from headway.core.errors import HeadwayError
from headway.tasks.data.read import read_table


@pytest.fixture
def labelled_set():
    import datasets

    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": names,
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-X"])),
            "deep": {"one": names},
        }
    )
    rows = {"text": ["a", "b"], "label": [1, -1], "tags": [[0, 1], []], "deep": [{"one": 0}, {"one": 1}]}
    return datasets.Dataset.from_dict(rows, features=features)


NAMED = [
    {"text": "a", "label": "pos", "tags": ["O", "B-X"], "deep": {"one": "neg"}},
    {"text": "b", "label": None, "tags": [], "deep": {"one": "pos"}},
]


def test_class_ids_of_a_data_set_become_names(labelled_set):
    table = read_table(labelled_set)
    assert table.rows == NAMED
    assert read_table(labelled_set.to_iterable_dataset()).rows == NAMED


def test_a_data_set_saved_to_disk_is_read(tmp_path, labelled_set):
    import datasets

    labelled_set.save_to_disk(str(tmp_path / "one"))
    assert read_table(tmp_path / "one").rows == NAMED
    datasets.DatasetDict({"train": labelled_set, "test": labelled_set}).save_to_disk(str(tmp_path / "two"))
    table = read_table(tmp_path / "two")
    assert table.rows == NAMED
    assert table.source == str(tmp_path / "two" / "train")
    datasets.DatasetDict({"a": labelled_set, "b": labelled_set}).save_to_disk(str(tmp_path / "three"))
    assert_error(reading(tmp_path / "three"), "several splits", tmp_path / "three" / "b")
    assert_error(lambda: read_table(datasets.DatasetDict({"a": labelled_set})), "one split")


def test_parquet_keeps_the_class_names_written_by_datasets(tmp_path, labelled_set):
    path = tmp_path / "a.parquet"
    labelled_set.to_parquet(str(path))
    table = read_table(path)
    assert (table.kind, table.rows) == ("Parquet", NAMED)
    assert table.where(1) == f"{path}, record 2"


def test_parquet_of_other_writers_is_read_and_a_truncated_file_is_an_error(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(n) for n in range(2500)], "x": [float("nan")] * 2500}), str(path))
    table = read_table(path)
    assert len(table) == 2500
    assert table.rows[2499] == {"text": "2499", "x": None}
    whole = path.read_bytes()
    assert_error(
        reading(write(tmp_path, "b.parquet", whole[:500])), "b.parquet", "not a complete Parquet file", "again"
    )
    assert_error(reading(write(tmp_path, "b.txt", whole)), "b.txt", "a Parquet file", ".parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), str(path))
    assert_error(reading(path), path, "empty")


def test_a_hub_name_may_have_a_configuration_and_a_split(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split in ("train", "test"):
        write(folder, f"{split}.jsonl", "".join(f'{{"text": "{split} {n}", "label": "{n}"}}\n' for n in range(5)))
    table = read_table(f"hub:{folder}")
    assert (table.source, table.rows[0]["text"]) == (f"hub:{folder}:train", "train 0")
    assert read_table(f"hub:{folder}:test").rows[4] == {"text": "test 4", "label": "4"}
    assert len(read_table(f"hub:{folder}:default:test[:2]")) == 2
    assert len(read_table(f"hub:{folder}:default")) == 5
    assert_error(reading(f"hub:{folder}:nosplit"), "hub:", "nosplit", "hub:NAME:CONFIG:SPLIT")
    assert_error(reading("hub:"), "Write hub:NAME")
    assert_error(reading("hub:a:b:c:d"), "Write hub:NAME")


def test_a_data_set_that_cannot_be_loaded_is_an_error(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    assert_error(
        reading("hub:someone/nothing:train"), "hub:someone/nothing:train", "cannot be loaded", "Check the name"
    )
    assert_error(reading("hub:nothing"), "hub:nothing", "cannot be loaded")


@pytest.mark.parametrize(
    "metadata",
    [b"{", b"\xff", b'{"info": 3}', b'{"info": {"features": {"text": {"_type": "x"}}}}', b"[" * 5000],
)
def test_damaged_metadata_of_parquet_is_an_error(tmp_path, metadata):
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.table({"text": ["a", "b"], "label": [0, 1]}).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet", store_schema=True)
    assert_error(reading(tmp_path / "a.parquet"), "a.parquet", "metadata are damaged", "again")


def test_a_text_of_parquet_that_is_not_unicode_is_an_error(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet as pq

    texts = pa.array([b"good", b"bad \xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts, "label": ["x", "y"]}), tmp_path / "a.parquet")
    assert_error(reading(tmp_path / "a.parquet"), "a.parquet", "a text is not UTF-8", "again")


def test_parquet_with_changed_bytes_is_read_or_refused(tmp_path, labelled_set):
    labelled_set.to_parquet(str(tmp_path / "a.parquet"))
    whole = (tmp_path / "a.parquet").read_bytes()
    random, refused = Random(0), 0
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(3):
            changed[random.randrange(len(changed))] = random.randrange(256)
        try:
            read_table(write(tmp_path, "b.parquet", bytes(changed)))
        except HeadwayError:
            refused += 1
    assert refused > 20

"""Files of vectors are complete, in order, and keep the rows unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
from headway.core.errors import HeadwayError
from headway.tasks.embedding.vectors_file import VectorsWriter, read_vectors

ROWS = [{"id": i, "text": f"text {i}", "vector": None if i else "mine"} for i in range(5)]
VECTORS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def write(path: Path, **options) -> Path:
    with VectorsWriter(path, 3, **options) as writer:
        writer.write(ROWS[:2], VECTORS[:2])
        writer.write(ROWS[2:], VECTORS[2:])
    return path


def test_npy_has_the_vectors_only(tmp_path):
    path = write(tmp_path / "vectors.npy")
    np.testing.assert_array_equal(np.load(path), VECTORS)
    np.testing.assert_array_equal(read_vectors(path), VECTORS)
    assert isinstance(read_vectors(path), np.memmap)


def test_npy_may_be_empty(tmp_path):
    with VectorsWriter(tmp_path / "vectors.npy", 3):
        pass
    assert np.load(tmp_path / "vectors.npy").shape == (0, 3)


def test_parquet_has_rows_and_vectors(tmp_path):
    from pyarrow import parquet

    table = parquet.read_table(write(tmp_path / "vectors.parquet"))
    assert table.column_names == ["id", "text", "vector", "predicted_vector"]
    assert table.drop_columns("predicted_vector").to_pylist() == ROWS
    np.testing.assert_array_equal(np.array(table["predicted_vector"].to_pylist(), dtype=np.float32), VECTORS)


def test_json_lines_have_rows_and_vectors(tmp_path):
    rows = [json.loads(line) for line in write(tmp_path / "vectors.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.array([row.pop("predicted_vector") for row in rows], dtype=np.float32), VECTORS)
    assert rows == ROWS


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".jsonl"])
def test_an_interrupted_write_leaves_no_file(tmp_path, ending):
    def stop() -> None:
        with VectorsWriter(tmp_path / f"vectors{ending}", 3) as writer:
            writer.write(ROWS, VECTORS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    write(tmp_path / "vectors.npy")
    with pytest.raises(HeadwayError, match=r"vectors\.npy"):
        write(tmp_path / "vectors.npy")
    write(tmp_path / "vectors.npy", overwrite=True)


def test_an_unknown_suffix_is_rejected(tmp_path):
    with pytest.raises(HeadwayError, match=r"\.npy, \.parquet"):
        VectorsWriter(tmp_path / "vectors.txt", 3)


def test_rows_that_do_not_fit_into_parquet_are_named(tmp_path):
    def mix() -> None:
        with VectorsWriter(tmp_path / "vectors.parquet", 3) as writer:
            writer.write([{"id": 1}], VECTORS[:1])
            writer.write([{"id": "one"}], VECTORS[:1])

    with pytest.raises(HeadwayError, match="rows 2 to 2 do not fit"):
        mix()


def test_parquet_without_rows_is_rejected(tmp_path):
    with pytest.raises(HeadwayError, match="no row"), VectorsWriter(tmp_path / "vectors.parquet", 3):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"not numpy", b""])
def test_a_file_without_vectors_is_rejected(tmp_path, content):
    if content is not None:
        (tmp_path / "vectors.npy").write_bytes(content)
    with pytest.raises(HeadwayError, match=r"vectors\.npy"):
        read_vectors(tmp_path / "vectors.npy")


def test_another_array_is_rejected(tmp_path):
    np.save(tmp_path / "numbers.npy", np.arange(3))
    with pytest.raises(HeadwayError, match="1-dimensional array of int64"):
        read_vectors(tmp_path / "numbers.npy")
    with pytest.raises(HeadwayError, match=r"are read from \.npy"):
        read_vectors(tmp_path / "vectors.parquet")

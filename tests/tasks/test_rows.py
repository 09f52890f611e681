"""Tables and streams from Python objects, and what all of them have in common."""

import datetime
import json
import subprocess
import sys
import tracemalloc
from decimal import Decimal
from functools import partial

from data_files import assert_error, write
from headway.tasks.data.read import read_table, stream_rows
from headway.tasks.data.rows import Table


def test_rows_passed_as_dicts_are_copied_as_plain_python():
    import numpy as np

    rows = [{"text": "a", "n": np.int64(3), "x": float("nan"), "v": np.array([1.5, float("nan")]), 5: ("p", "q")}]
    table = read_table(rows)
    assert table.rows == [{"text": "a", "n": 3, "x": None, "v": [1.5, None], "5": ["p", "q"]}]
    assert type(table.rows[0]["n"]) is int
    assert (table.source, table.kind, table.where(0)) == ("the given rows", "rows", "the given rows, row 1")
    assert rows[0][5] == ("p", "q")


def test_a_data_frame_is_a_table():
    import pandas as pd

    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "when": [pd.Timestamp("2024-01-02"), pd.NaT, pd.NaT],
            "x": [0.5, float("nan"), 2],
        }
    )
    assert read_table(frame).rows == [
        {"text": "a", "n": 1, "when": "2024-01-02T00:00:00", "x": 0.5},
        {"text": None, "n": None, "when": None, "x": None},
        {"text": "c", "n": 3, "when": None, "x": 2.0},
    ]
    assert_error(lambda: read_table(pd.DataFrame([[1, 2]], columns=["a", "a"])), '"a" twice')
    assert_error(lambda: read_table(pd.DataFrame({"a": []})), "no rows")


def test_dates_become_text_and_decimals_become_floats():
    row = {"day": datetime.date(2024, 1, 2), "price": Decimal("1.5"), "bad": Decimal("NaN")}
    assert read_table([row]).rows == [{"day": "2024-01-02", "price": 1.5, "bad": None}]


def test_a_value_that_contains_itself_is_an_error():
    import pandas as pd

    cycle: list[object] = []
    cycle.append(cycle)
    rows = [{"text": "a", "extra": None}, {"text": "b", "extra": cycle}]
    for source in (rows, iter(rows), pd.DataFrame(rows)):
        assert_error(partial(read_table, source), "the given rows, row 2", "contains itself", "Remove it")


def test_an_object_that_is_not_a_table_is_an_error():
    assert_error(lambda: read_table([{"text": "a"}, "b"]), "the given rows, row 2", "str", "dict")
    assert_error(lambda: read_table({"a": ["x"], "b": []}), "a: 1, b: 0", "Fill")
    assert_error(lambda: read_table([]), "Give at least one")
    assert_error(lambda: read_table(7), "int is not a table", "Give a file name")


def test_a_table_is_a_source_and_can_be_limited():
    table = read_table([{"text": str(number)} for number in range(5)])
    assert read_table(table) is table
    assert read_table(table, limit=2).rows == table.rows[:2]
    assert list(stream_rows(table)) == list(table)
    assert read_table(stream_rows(table)) == table


def test_a_stream_takes_constant_memory_and_can_be_read_again(tmp_path):
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for number in range(40_000):
            file.write(json.dumps({"text": f"{number} " * 40, "label": number % 2}) + "\n")
    stream = stream_rows(path)
    tracemalloc.start()
    count = sum(1 for _ in stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40_000
    assert peak < path.stat().st_size / 10
    place, row = next(iter(stream))
    assert (stream.where(place), row["label"]) == (f"{path}, line 1", 0)


def test_reading_a_text_file_imports_no_table_library(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,b\n")
    code = (
        "import sys; from headway.tasks.data.read import read_table; import headway.tasks.data.columns\n"
        f"assert len(read_table({str(path)!r})) == 1\n"
        "print([name for name in ('pandas', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_a_fingerprint_depends_on_the_content_only(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "text,label\né,1\nb,0\n"))
    same = [
        read_table(write(tmp_path, "b.tsv", "text\tlabel\r\né\t1\r\nb\t0\r\n")),
        read_table([{"text": "é", "label": "1"}, {"text": "b", "label": "0"}]),
        Table("elsewhere", "rows", table.columns, True, table.rows, [8, 9]),
    ]
    prints = {one.fingerprint() for one in (table, *same)}
    assert len(prints) == 1
    assert len(prints.pop()) == 16
    others = [
        read_table([{"text": "é", "label": "0"}, {"text": "b", "label": "1"}]),
        read_table([{"text": "b", "label": "0"}, {"text": "é", "label": "1"}]),
        read_table([{"text": "é", "label": 1}, {"text": "b", "label": 0}]),
        read_table([{"label": "1", "text": "é"}, {"label": "0", "text": "b"}]),
    ]
    assert len({one.fingerprint() for one in (table, *others)}) == 5

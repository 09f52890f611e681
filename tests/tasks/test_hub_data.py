"""Data sets of a local fake hub: reading, caching and errors."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_hub import FakeHub
from headway.core.errors import HeadwayError
from headway.tasks.data.read import read_table

NAME = "someone/reviews"
SPLITS = {
    "train.csv": b"text,label\na good film,good\na bad film,bad\n",
    "test.csv": b"text,label\nfine,good\n",
}
TWO_LANGUAGES = {
    "README.md": b"---\nconfigs:\n"
    b"- config_name: en\n  data_files: en.csv\n"
    b"- config_name: de\n  data_files: de.csv\n---\n",
    "en.csv": b"text,label\nhello,greeting\n",
    "de.csv": b"text,label\nhallo,greeting\n",
}


@pytest.fixture
def patched_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeHub, pytest.MonkeyPatch]]:
    from datasets import config
    from huggingface_hub import HfFileSystem

    monkeypatch.chdir(tmp_path)
    with FakeHub() as hub, hub.used_here(tmp_path / "home") as patch:
        patch.setattr(config, "HF_HUB_OFFLINE", False)
        patch.setattr(config, "HF_ENDPOINT", hub.url)
        patch.setattr(config, "HUB_DATASETS_URL", hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}")
        patch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
        HfFileSystem.clear_instance_cache()
        yield hub, patch
        HfFileSystem.clear_instance_cache()


@pytest.fixture
def hub(patched_hub: tuple[FakeHub, pytest.MonkeyPatch]) -> FakeHub:
    """An empty hub that this process and `datasets` use, with an empty cache."""
    return patched_hub[0]


@pytest.fixture
def offline(patched_hub: tuple[FakeHub, pytest.MonkeyPatch]):
    """A function that switches to offline mode."""

    def go_offline() -> None:
        patched_hub[1].setattr("datasets.config.HF_HUB_OFFLINE", True)
        patched_hub[1].setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    return go_offline


def refused(source: str, *parts: str) -> None:
    """Asserts that reading fails with a message of one line that contains every part."""
    with pytest.raises(HeadwayError) as caught:
        read_table(source)
    text = str(caught.value)
    assert "\n" not in text
    assert [part for part in (source, "cannot be loaded", *parts) if part not in text] == [], text


def test_the_rows_of_a_split_are_read(hub):
    hub.publish(NAME, SPLITS, kind="datasets")
    table = read_table(f"hub:{NAME}")
    assert (table.source, table.columns) == (f"hub:{NAME}:train", ("text", "label"))
    assert table.rows == [{"text": "a good film", "label": "good"}, {"text": "a bad film", "label": "bad"}]
    assert read_table(f"hub:{NAME}:test").rows == [{"text": "fine", "label": "good"}]
    assert len(read_table(f"hub:{NAME}:train[:1]")) == 1


def test_parquet_of_the_hub_keeps_its_class_names(hub, tmp_path):
    from datasets import ClassLabel, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = pa.table({"text": ["fine", "dull"], "label": [1, 0]}).cast(features.arrow_schema)
    pq.write_table(rows, tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    hub.publish(NAME, {"data/train-00000-of-00001.parquet": content}, kind="datasets")
    assert read_table(f"hub:{NAME}").rows == [{"text": "fine", "label": "good"}, {"text": "dull", "label": "bad"}]


def test_a_configuration_is_chosen_by_its_name(hub, offline):
    hub.publish(NAME, TWO_LANGUAGES, kind="datasets")
    assert read_table(f"hub:{NAME}:de").rows == [{"text": "hallo", "label": "greeting"}]
    assert "en.csv" not in hub.downloaded()
    assert read_table(f"hub:{NAME}:en:train").rows == [{"text": "hello", "label": "greeting"}]
    refused(f"hub:{NAME}", "['en', 'de']", "hub:NAME:CONFIG:SPLIT")
    offline()
    assert read_table(f"hub:{NAME}:de").rows == [{"text": "hallo", "label": "greeting"}]


@pytest.mark.parametrize("trouble", ["down", "offline", "out of order"])
def test_a_cached_data_set_is_read_without_the_hub(hub, offline, trouble):
    hub.publish(NAME, SPLITS, kind="datasets")
    before = read_table(f"hub:{NAME}")
    if trouble == "down":
        hub.stop()
    elif trouble == "offline":
        hub.requests.clear()
        offline()
    else:
        hub.status = 503
    assert read_table(f"hub:{NAME}").rows == before.rows
    if trouble == "offline":
        assert hub.requests == []
    if trouble == "down":
        hub.start()


def test_a_data_set_that_is_not_cached_needs_the_hub(hub, offline):
    hub.publish(NAME, SPLITS, kind="datasets")
    hub.stop()
    refused(f"hub:{NAME}", "Couldn't reach", "try again with a connection")
    hub.start()
    offline()
    refused(f"hub:{NAME}", "Couldn't reach", "Offline", "try again with a connection")


def test_an_interrupted_download_is_not_used_later(hub, monkeypatch):
    rows = "".join(f"text {number},label\n" for number in range(1000))
    hub.publish(NAME, {"train.csv": f"text,label\n{rows}".encode()}, kind="datasets")
    hub.break_after["train.csv"] = 400
    refused(f"hub:{NAME}", "closed connection", "try again with a connection")
    with monkeypatch.context() as now:
        now.setattr("datasets.config.HF_HUB_OFFLINE", True)
        now.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        refused(f"hub:{NAME}", "Couldn't reach", "try again with a connection")
    hub.break_after.clear()
    assert len(read_table(f"hub:{NAME}")) == 1000


def test_an_unknown_name_is_an_error(hub):
    refused(f"hub:{NAME}", "doesn't exist on the Hub", "Check the name", "HF_TOKEN")


def test_a_gated_data_set_needs_a_token(hub):
    hub.publish(NAME, SPLITS, kind="datasets", gated=True)
    refused(f"hub:{NAME}", "gated", "HF_TOKEN")


def test_a_data_set_script_is_not_run(hub):
    hub.publish(NAME, SPLITS | {"reviews.py": b"raise SystemExit"}, kind="datasets")
    refused(f"hub:{NAME}", "reviews.py", "a Python script, which Headway does not run", "choose a copy in Parquet")


def test_a_repository_without_data_is_an_error(hub):
    hub.publish(NAME, {"README.md": b"soon"}, kind="datasets")
    refused(f"hub:{NAME}", "data files", "Check the name")


def test_the_error_of_an_unknown_split_or_configuration_lists_the_known_ones(hub):
    hub.publish(NAME, SPLITS, kind="datasets")
    refused(f"hub:{NAME}:dev", '"dev"', "['train', 'test']", "hub:NAME:CONFIG:SPLIT")
    refused(f"hub:{NAME}:de:train", "'de'", "['default']", "hub:NAME:CONFIG:SPLIT")


def test_files_with_different_columns_are_an_error(hub):
    files = {"train-1.csv": b"text,label\na,b\n", "train-2.csv": b"text,sort,more\na,b,c\n"}
    hub.publish(NAME, files, kind="datasets")
    refused(f"hub:{NAME}", "different", "label", "sort")

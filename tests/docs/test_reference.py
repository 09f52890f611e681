"""The generated parts of the guide hold what the code has: commands, options, formats and messages."""

import re
import sys
from pathlib import Path

import pytest
from guide_blocks import DOCS

sys.path.insert(0, str(DOCS / "_extensions"))

from command_pages import command_list, command_pages, parsed
from error_pages import error_list, error_messages
from format_tables import column_table, format_table
from generated_pages import MARK, PARTS
from guide_markdown import code, escape
from headway.core.training.training_config import TrainConfig
from headway.tasks import TASKS
from headway.tasks.data.read_options import INFER
from headway.tasks.data.reading.file_format import SourceFile
from headway.tasks.data.reading.formats import FILE_FORMATS, find_format
from headway.ui.cli import COMMANDS
from option_docs import add_options

pytestmark = pytest.mark.docs
# How a message says what to do: a verb, or what is allowed.
WAY_OUT = re.compile(
    r"\b(accept|add|annotate|ask|at least|at most|check|choose|convert|copy|correct|decompress|delete|did you mean|"
    r"divide|download|drop|enter|evaluate|export|fill|fix|free|from \d|give|install|keep|"
    r"move|search|an integer|a number|"
    r"a whole number|it has|its labels|launch|learn|leave|load|make|may be|must|name|needs?|number it|omit|one of|"
    r"one or several|only|open|pipe|put|read|remove|rename|repeat|replace|restore|resume|run|save|say|see|select|"
    r"separated|set|shorten|show|spell|start|stop|supports|supported|train|try|unpack|update|upload|use|wait|write)\b"
    r"|\bare:?\s|⟨[^⟩]*⟩\.?$",  # a list of what is possible, or advice that is written elsewhere
    re.I,
)


def test_every_option_of_every_command_is_on_its_page():
    pages = command_pages()
    assert pages.keys() == COMMANDS.keys()
    assert all(f"commands/{name}.md" in command_list() for name in COMMANDS)
    for name, page in pages.items():
        options = [option for one in parsed(name).params for option in (*one.opts, *one.secondary_opts)]
        for option in options:
            assert not option.startswith("-") or f" {option}" in page, (name, option)
        assert page.count("```{option}") == sum(one.opts[0].startswith("-") for one in parsed(name).params)
    assert "YAML: `learning-rate:`" in pages["train"]
    assert "Default: `32`. YAML: `batch-size:`" in pages["train"]
    assert "YAML: `config" not in pages["train"]


def test_every_suffix_of_the_table_of_formats_belongs_to_its_format(tmp_path: Path):
    found = 0
    for one in FILE_FORMATS:
        for suffix in re.findall(r"`(\.\w+)`", one.files):
            path = tmp_path / f"data{suffix}"
            path.write_text("a line\n", encoding="utf-8")
            assert find_format(SourceFile(path, INFER)) is one, suffix
            found += 1
    assert found >= 13
    assert all(one.title in format_table() for one in FILE_FORMATS)


def test_every_text_of_every_task_is_in_the_table_of_columns():
    rows = column_table().splitlines()[2:]
    for name, task in TASKS.items():
        named = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert len(named) == len(task.inputs) + (not task.self_supervised)
        assert all(any(f"`{alias}`" in row for row in named) for field in task.inputs for alias in field.aliases)


def test_every_message_of_an_error_says_what_to_do():
    messages = error_messages()
    assert len(messages) >= 700
    assert {one.room.split(".")[0] for one in messages} == {"core", "tasks", "ui"}
    # Reading config.json adds "Choose another model." to the messages of the families.
    complete = [one for one in messages if not one.place.startswith("core/checkpoints/families/")]
    silent = [f"{one.place}: {one.text}" for one in complete if not WAY_OUT.search(one.text)]
    assert silent == []


def test_messages_are_listed_with_their_way_out():
    listed = error_list()
    assert "*destination* already exists.\n: Choose another `--output`, or use `--overwrite` to replace it." in listed
    assert listed.count("\n: ") >= 600


def test_every_mark_of_a_page_has_its_part():
    marks = [mark for page in DOCS.rglob("*.md") for mark in MARK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(marks) == sorted(PARTS)


def test_the_options_of_a_dataclass_are_its_documented_arguments():
    lines = ["How.", "", "Raises:", "    HeadwayError: a value."]
    add_options(None, "class", "", TrainConfig, None, lines)
    assert lines[1:4] == ["", "", "Args:"]
    assert any(line.startswith("    batch_size: Examples per batch") for line in lines)
    assert lines[-3:] == ["", "Raises:", "    HeadwayError: a value."]
    lines = ["A task.", "", "Args:", "    seed: documented by hand.", "", "Raises:"]
    add_options(None, "class", "", TrainConfig, None, lines)
    assert lines.count("Args:") == 1
    assert sum(line.startswith("    seed:") for line in lines) == 1
    assert lines[3].startswith("    epochs: Passes over")


def test_plain_text_becomes_markdown_that_shows_it():
    assert escape("a*b <c> --few-shot `x*y`") == r"a\*b \<c\> `--few-shot` `x*y`"
    assert code("a`b") == "`` a`b ``"

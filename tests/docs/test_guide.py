"""Every code block of README and of the guide does what its page says (guide_blocks.py: how a page says it)."""

from collections import Counter
from pathlib import Path

import pytest
from guide_blocks import CHECKOUT, Block, blocks, pages
from guide_runner import PageRunner, check_install, commands, has_shell_syntax, matches
from stand_ins import write_stand_ins

TESTED = [page for page in pages() if blocks(page)]


@pytest.mark.docs
@pytest.mark.parametrize("page", TESTED, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_the_code_of_a_page_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    wordpiece_folder: Path,
    byte_level_folder: Path,
    minilm: Path,
):
    found = blocks(page)
    code = "\n".join(one.content for one in found if one.language in ("sh", "python", "yaml"))
    written = {one.value for one in found if one.test == "file"}
    tokenizers = {"wordpiece": wordpiece_folder, "byte-level": byte_level_folder}
    write_stand_ins(code, written, tmp_path, tokenizers, minilm)
    monkeypatch.setattr("headway.tasks.inspection.structural_probe.MAX_EPOCHS", 1)
    monkeypatch.delenv("COLUMNS", raising=False)  # pages show lines of any length; workers of pytest-xdist set it
    monkeypatch.chdir(tmp_path)
    runner = PageRunner(page, monkeypatch.setenv, lambda: capfd.readouterr().out)
    try:
        for block in found:
            runner.run(block)
    finally:
        runner.stop()


def page_of(tmp_path: Path, text: str) -> list[Block]:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    return blocks(tmp_path / "page.md")


def test_a_block_is_tested_as_the_comment_before_it_says(tmp_path: Path):
    file, output = "<!-- file: a.csv -->\n```csv\ntext,label\n```", "<!-- output -->\n```text\nx\n```"
    assert page_of(tmp_path, f"A\n\n{file}\n\n```sh\nheadway tasks\n```\n{output}\n") == [
        Block("csv", "text,label\n", 5, "file", "a.csv"),
        Block("sh", "headway tasks\n", 9),
        Block("text", "x\n", 13, "output"),
    ]
    within = "- a\n\n  ````{note}\n  ```sh\n  x\n  ```\n  ````\n"
    assert page_of(tmp_path, within) == [Block("sh", "x\n", 5)]
    with pytest.raises(ValueError, match=r"page\.md:1: write file"):
        page_of(tmp_path, "<!-- not run -->\n```sh\nx\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:1: the block has no end"):
        page_of(tmp_path, "```sh\nx\n")


def test_a_command_ends_where_the_shell_ends_it():
    block = "# a comment\nheadway predict a \\\n  'b\nc' --x\n\nheadway tasks | head\n"
    assert list(commands(block)) == ["headway predict a   'b\nc' --x", "headway tasks | head"]
    assert [has_shell_syntax(one) for one in ("a 'b | c'", 'a "$b"', "a | b", 'x "songs/*.mid"')] == [0, 1, 1, 0]


def test_three_dots_stand_for_anything_that_is_printed():
    assert matches("one  \ntwo 0.123\nthree\n", "one\ntwo ...\nthree\n")
    assert matches("a\nb\nc\nd\n", "a\n...\nd\n")
    assert not matches("a\nb\n", "a\n")
    assert not matches("a\nb\n", "b\n...\n")


def test_a_page_installs_only_extras_that_exist():
    check_install('pip install ".[test]"')
    with pytest.raises(AssertionError, match="no-such-extra"):
        check_install('pip install "headway[test,no-such-extra]"')


def test_blocks_that_do_not_do_what_they_say_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    runner = PageRunner(tmp_path / "page.md", monkeypatch.setenv, lambda: "printed\n")
    runner.run(Block("csv", "text,label\n", 1, "file", "folder/a.csv"))
    assert (tmp_path / "folder/a.csv").read_text() == "text,label\n"
    runner.run(Block("python", "a = 1\n", 1))
    runner.run(Block("python", "assert a == 1\n", 1))
    runner.run(Block("text", "printed", 1, "output"))
    runner.run(Block("sh", "false", 1, "not run", "it fails"))
    runner.run(Block("sh", "headway evaluate missing --data a.csv", 1, "fails"))
    for block in (
        Block("text", "other", 1, "output"),
        Block("sh", "false", 1),
        Block("sh", "headway evaluate missing --data a.csv", 1),
        Block("sh", "headway tasks", 1, "fails"),
        Block("python", "a", 1, "fails"),
        Block("python", "a", 1, "add", "--x"),
        Block("text", "a", 1, "add", "--x"),
    ):
        with pytest.raises(AssertionError, match=r"page\.md:1"):
            runner.run(block)
    with pytest.raises(ValueError, match="Expecting"):
        runner.run(Block("json", "{", 1))


def test_every_page_of_the_guide_is_found_once():
    assert len(pages()) >= 8
    assert max(Counter(pages()).values()) == 1

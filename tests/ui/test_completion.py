"""The command line is completed by Bash, Zsh, Fish and PowerShell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "import sys; from headway.ui.cli import main; sys.exit(main())"
WITHOUT_TORCH = f"import sys; sys.modules['torch'] = None; {MAIN}"
CHOSEN_SHELL = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # as the value of the option


def headway(*arguments: str, program: str = MAIN, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("shell", "registers"),
    [
        ("bash", "complete -o default -F _headway_completion headway"),
        ("zsh", "compdef _headway_completion headway"),
        ("fish", "complete --command headway"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName headway"),
    ],
)
def test_each_shell_has_a_script(shell: str, registers: str):
    script = headway("--show-completion", shell, **CHOSEN_SHELL)
    assert registers in script
    assert f"_HEADWAY_COMPLETE=complete_{shell}" in script.replace(" ", "").replace('"', "")


@pytest.mark.posix
def test_completion_is_installed_for_bash(tmp_path: Path):
    headway("--install-completion", "bash", HOME=str(tmp_path), **CHOSEN_SHELL)
    assert "_headway_completion" in (tmp_path / ".bash_completions/headway.sh").read_text()
    assert ".bash_completions/headway.sh" in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("shell", "line", "found"),
    [("zsh", "headway pre", '"predict":'), ("fish", "headway lab", "label-errors\t"),
     ("powershell", "headway gen", "generate:::")],
)  # fmt: skip
def test_a_command_is_completed_with_what_it_does(shell: str, line: str, found: str):
    answer = headway(
        program=WITHOUT_TORCH,
        _HEADWAY_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_WORD_TO_COMPLETE=line.split()[-1],
    )
    assert found in answer


@pytest.mark.posix
@pytest.mark.parametrize(
    ("words", "found"),
    [(["pre"], ["predict"]), (["train", "text-classification", "--learning"], ["--learning-rate"]),
     (["train", "--data", "some"], [])],
)  # fmt: skip
def test_bash_completes_commands_and_options_and_leaves_files_to_its_default(
    words: list[str], found: list[str], tmp_path: Path
):
    command = tmp_path / "headway"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{MAIN}" "$@"\n')
    command.chmod(0o755)
    script = headway("--show-completion", "bash", **CHOSEN_SHELL)
    asked = f'COMP_WORDS=(headway {" ".join(words)}); COMP_CWORD={len(words)}; _headway_completion "{command}"'
    program = f'{script}\n{asked}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == found


def test_files_are_completed_without_loading_the_command():
    line = "headway\ntrain\n--data\nsome"
    assert not headway(
        program=WITHOUT_TORCH, _HEADWAY_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD="3"
    ).strip()

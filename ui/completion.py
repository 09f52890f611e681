"""Completion of the command line by the shell: what `headway --install-completion` installs asks here.

The scripts are those of Typer, for Bash, Zsh, Fish and PowerShell. They call `headway` with the words of the line in
the environment. https://typer.tiangolo.com/tutorial/options-autocompletion/
"""

import os

VARIABLE = "_HEADWAY_COMPLETE"  # set by the scripts
WORDS = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")  # the line: of Bash, of the other shells


def completed_command() -> str | None:
    """The command whose options are completed; empty if something else is, None if no shell asks.

    Commands are imported to list their options only: files are then completed without a delay.
    """
    if VARIABLE not in os.environ:
        return None
    line = next((os.environ[name] for name in WORDS if name in os.environ), "")
    words = line.split()
    return words[1] if len(words) > 2 and words[-1].startswith("-") and not line[-1].isspace() else ""

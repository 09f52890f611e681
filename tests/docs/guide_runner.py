"""Runs the blocks of a page in order, as a reader would who copies them, in a folder of the page's own.

- A command `headway ...` runs in this process, which saves the time to import its libraries; a line with pipes and
  other parts of the shell runs in bash. `export NAME=value` is remembered for the page.
- `headway serve` and `headway ui` are started in the background at a free port, which replaces theirs in the blocks
  after them; the next line runs when its /health answers, and the servers stop at the end of the page.
- `pip install ...` is not run; its extras must be those of pyproject.toml.
- The python blocks of a page share their names.
- guide_blocks.py knows the comments; stand_ins.py writes the files and models that a page expects its reader to have.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from guide_blocks import CHECKOUT, Block
from headway.ui.cli import main

SERVERS = {"serve": 8000, "ui": 7860}  # command -> the port that its documentation names
HEALTH = {"serve": "/health", "ui": "/api/health"}
SHELL = set("|&;<>$*?`()~#")  # what only a shell understands, outside of quotes
ASSIGNMENT = re.compile(r"(\w+)=(\S*) +")
SECONDS_TO_START = 120
USER_ERROR = 2


class PageRunner:
    """Runs the blocks of a page in the working directory.

    Args:
        page: for messages.
        set_variable: sets an environment variable until the end of the test.
        read_output: returns what was printed since the last call.
    """

    def __init__(self, page: Path, set_variable: Callable[[str, str], None], read_output: Callable[[], str]) -> None:
        self.page, self.set_variable, self.read_output = page, set_variable, read_output
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.ports: dict[int, int] = {}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.printed = ""

    def run(self, block: Block) -> None:
        """Runs or checks a block, as the comment before it says.

        Raises:
            AssertionError: the block does not do what the page says.
        """
        where = f"{self.page.name}:{block.line}"
        if block.test == "file":
            Path(block.value).parent.mkdir(parents=True, exist_ok=True)
            Path(block.value).write_text(block.content, encoding="utf-8")
        elif block.test == "output":
            assert matches(self.printed, block.content), f"{where}: printed was\n{self.printed}"
        elif block.test != "not run" and block.language in ("sh", "python"):
            run = self._run_shell if block.language == "sh" else self._run_python
            run(block, where)
            self.printed = self.read_output()
        elif block.test:
            assert block.test == "not run", f"{where}: {block.test} is for blocks of sh and python"
        if block.language == "json":
            json.loads(block.content)
        elif block.language == "yaml":
            yaml.safe_load(block.content)

    def stop(self) -> None:
        """Stops the servers."""
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            server.wait(60)

    def _run_python(self, block: Block, where: str) -> None:
        from headway.core.errors import HeadwayError

        assert block.test in ("", "fails"), f"{where}: {block.test} is for blocks of sh"
        code = compile("\n" * (block.line - 1) + self._with_ports(block.content), str(self.page), "exec")
        try:
            exec(code, self.names)
        except HeadwayError as error:
            if block.test != "fails":
                raise
            print(error)
        else:
            assert block.test != "fails", f"{where}: did not fail"

    def _run_shell(self, block: Block, where: str) -> None:
        lines = list(commands(block.content))
        for position, line in enumerate(lines, start=1):
            expected = USER_ERROR if block.test == "fails" and position == len(lines) else 0
            code = self._run_line(line, block.value.split() if block.test == "add" else [])
            assert code == expected, f"{where}: {line}\nexit code {code}\n{self.read_output()}"

    def _run_line(self, line: str, added: list[str]) -> int:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.set_variable(name, *shlex.split(value))
            return 0
        if re.match(r"(python3? -m )?pip install\b", line):
            check_install(line)
            return 0
        environment: dict[str, str] = {}
        while assigned := ASSIGNMENT.match(line):
            environment[assigned[1]] = assigned[2]
            line = line[assigned.end() :]
        words = shlex.split(line)
        if words[:1] == ["headway"] and words[1] in SERVERS:
            return self._start(words[1:], environment)
        if words[0] != "headway" or environment or has_shell_syntax(line):
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            environment = {**os.environ, "PYTHONWARNINGS": "", **environment, "PATH": path}
            return subprocess.run(["bash", "-ec", self._with_ports(line)], env=environment).returncode
        return main([*words[1:], *added])

    def _start(self, words: list[str], environment: Mapping[str, str]) -> int:
        words = [word for word in words if word != "&"]
        named = words[words.index("--port") + 1] if "--port" in words else SERVERS[words[0]]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = self.ports[int(named)] = free.getsockname()[1]
        headway = [sys.executable, "-m", "headway.ui.cli"]
        server = subprocess.Popen([*headway, *words, "--port", str(port)], env={**os.environ, **environment})
        self.servers.append(server)
        for _ in range(SECONDS_TO_START):
            assert server.poll() is None, f"{words} ended with exit code {server.returncode}"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{HEALTH[words[0]]}", timeout=5).close()
                return 0
            except OSError:
                time.sleep(1)
        raise AssertionError(f"{words} does not answer")

    def _with_ports(self, text: str) -> str:
        for named, port in self.ports.items():
            text = re.sub(rf":{named}\b", f":{port}", text)
        return text


def commands(block: str) -> Iterator[str]:
    """The commands of a block of shell; a command continues after a backslash or within quotes."""
    command = ""
    for line in block.splitlines():
        command += line.removesuffix("\\") if line.endswith("\\") else f"{line}\n"
        if line.endswith("\\") or not command.strip() or command.lstrip().startswith("#"):
            command = command if line.endswith("\\") else ""
            continue
        try:
            shlex.split(command)
        except ValueError:  # an open quotation mark
            continue
        yield command.strip()
        command = ""
    assert not command, f"an unfinished command: {command}"


def has_shell_syntax(line: str) -> bool:
    """Whether a line has characters outside of quotes that only a shell understands."""
    return bool(SHELL & set(re.sub(r"'[^']*'|\"[^\"$`]*\"", "", line)))


def matches(printed: str, shown: str) -> bool:
    """Whether a page shows what was printed; `...` stands for anything; spaces at the end of a line do not count."""
    expected = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
    actual = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    return re.fullmatch(".*".join(map(re.escape, expected.split("..."))), actual, re.S) is not None


def check_install(line: str) -> None:
    """Raises AssertionError if a line installs extras that Headway does not have."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"(?:headway|\.)\[([\w,-]+)\]", line):
        unknown = set(extras.split(",")) - project["optional-dependencies"].keys()
        assert not unknown, f"{line}: there are no extras {unknown}"

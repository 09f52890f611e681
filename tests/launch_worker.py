"""Small launches for several tests: processes that are forked after the imports, which take most of the time.

`launch` runs a function of this file in several processes. As a script, `launch_worker.py NAME SIZE FOLDER`: each
process writes what the function returns to FOLDER/RANK.json.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from headway.core.errors import HeadwayError, SharedError
from headway.core.training.turns import in_turns
from torch import distributed


def launch(name: str, size: int, folder: Path) -> list[Any]:
    """What a function of this file returns in each process of a launch."""
    command = [sys.executable, "-W", "error", __file__, name, str(size), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def commands(folder: Path) -> list[int]:
    """The exit codes of the commands in FOLDER/commands.json; the messages are in FOLDER/messages-RANK.txt."""
    from headway.ui.cli import main

    path = folder / f"messages-{os.environ['RANK']}.txt"
    with path.open("w") as messages, redirect_stdout(messages), redirect_stderr(messages):
        return [main(command) for command in json.loads((folder / "commands.json").read_text())]


def turns(folder: Path) -> dict[str, object]:
    """What each process gets from `in_turns`: of streams of several lengths, and with errors."""
    held: list[int] = []

    def square(part: int) -> int:
        held.append(part)
        if part == 99:
            raise HeadwayError("part 99 cannot be computed")
        return part * part

    def broken(count: int):
        yield from range(count)
        raise HeadwayError(f"part {count} cannot be read")

    def collect(parts: object, limit: int = 1000) -> list[object]:
        found: list[object] = []
        try:
            for part, result in in_turns(parts, square):
                found.append([part, result])
                if len(found) == limit:
                    break
        except HeadwayError as error:
            found.append([type(error).__name__, str(error)])
        return found

    report: dict[str, object] = {str(count): collect(range(count)) for count in (0, 1, 2, 3, 7)}
    for place in (0, 1, 2, 4):
        report[f"error {place}"] = collect([99 if i == place else i for i in range(8)])
        report[f"unreadable {place}"] = collect(broken(place))
    report["stopped"] = collect(range(8), limit=2)
    held.clear()
    report["after"] = collect(range(6))
    report["computed"] = held
    return report


def main(name: str, size: int, folder: Path) -> int:
    """Runs a function in `size` processes and returns the number of those that failed."""
    for module in ("headway.tasks", "headway.ui.commands.predict") if name == "commands" else ():
        importlib.import_module(module)
    torch.set_num_threads(1)
    port = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False).port
    children = [_start(globals()[name], rank, size, port, folder) for rank in range(size)]
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def _start(work: Callable[[Path], object], rank: int, size: int, port: int, folder: Path) -> int:
    if child := os.fork():
        return child
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {variable: str(value) for variable, value in variables.items()}
    try:
        (folder / f"{rank}.json").write_text(json.dumps(work(folder)))
    except SharedError:
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))

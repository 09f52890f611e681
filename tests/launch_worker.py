"""Small launches for several tests: processes that are forked after the imports, which take most of the time.

`launch` runs a function of this file in several processes. As a script, `launch_worker.py NAME SIZES FOLDER`: a launch
for each size, one after the other. Each process writes what the function returns to FOLDER/SIZE-RANK.json.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from headway.core.errors import HeadwayError, SharedError
from headway.core.training import failures
from headway.core.training.distributed import broadcast_object, processes
from headway.core.training.failures import failing_together
from headway.core.training.training import fit
from headway.core.training.training_events import Event, Saved, Started, Step
from headway.core.training.turns import in_turns
from torch import distributed

IMPORTS = {
    "commands": ("headway.tasks", "headway.ui.commands.predict"),
    "scratch": ("headway.tasks", "headway.ui.commands.train", "accelerate.tracking", "torch._dynamo"),
    "train": ("train_worker", "accelerate.tracking", "torch._dynamo"),
}


def launch(name: str, size: int, folder: Path) -> list[Any]:
    """What a function of this file returns in each process of a launch."""
    return launch_each(name, [size], folder)[0]


def launch_each(name: str, sizes: Sequence[int], folder: Path) -> list[list[Any]]:
    """The same for launches of several sizes, one after the other."""
    done = start(name, sizes, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return [[json.loads((folder / f"{size}-{rank}.json").read_text()) for rank in range(size)] for size in sizes]


def start(name: str, sizes: Sequence[int], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs a function of this file in several processes; FOLDER/ends.json has their exit codes, and after how long."""
    command = [sys.executable, "-W", "error", __file__, name, ",".join(map(str, sizes)), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


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


def train(folder: Path) -> dict[str, Any]:
    """A run of 6 steps without dropout in FOLDER, resumed if it was started and interrupted after 5 steps if not.

    By the clock of the main process a checkpoint is due after 4 steps, by those of the others from the start.
    """
    from train_worker import DISTRIBUTED, Data, tiny_bert

    resume = (folder / "run").exists()
    minutes = 100.0 * processes().rank
    time.monotonic, unpatched = lambda: 60 * minutes, time.monotonic
    data, network, config = Data(33), tiny_bert(), replace(DISTRIBUTED, max_steps=6, save_steps=None)
    events = fit(
        network, config.sampler(data.lengths), data.collate, data.loss, config, run_folder=folder / "run",
        resume=True, stop=lambda: not resume and minutes == 16,
    )  # fmt: skip
    seen: list[Event] = []
    with suppress(KeyboardInterrupt):
        for event in events:
            minutes += 4 * isinstance(event, Step)
            if isinstance(event, Started):
                random = torch.rand(1).item()
            seen.append(event)
    time.monotonic = unpatched
    started = cast(Started, seen[0])
    return {
        "resumed_from": started.resumed_from,
        "notes": started.notes,
        "random": random,
        "losses": {event.step: event.loss for event in seen if isinstance(event, Step)},
        "saved": [event.step for event in seen if isinstance(event, Saved)],
    }


def restart(folder: Path) -> dict[str, Any]:
    """A run of 6 steps; in its first attempt, the last process kills itself after step 5."""
    from train_worker import DISTRIBUTED, Data, tiny_bert

    data, network, config = Data(33), tiny_bert(), replace(DISTRIBUTED, max_steps=6, save_steps=2)
    is_first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    seen: list[Event] = []
    for event in fit(
        network, config.sampler(data.lengths), data.collate, data.loss, config, run_folder=folder / "run", resume=True
    ):
        seen.append(event)
        if is_first and isinstance(event, Step) and event.step == 5 and processes().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    started = cast(Started, seen[0])
    return {"resumed_from": started.resumed_from, "losses": [one.loss for one in seen if isinstance(one, Step)]}


def compare(folder: Path) -> None:
    """The runs that test_distributed.py compares with those of one process."""
    from train_worker import run_in_all_processes

    run_in_all_processes(folder)


def scratch(folder: Path) -> int:
    """The exit code of a run from scratch, as on machines without a common disk; the vocabulary takes its time."""
    from headway.tasks.language_modeling import from_scratch
    from headway.ui.cli import main

    rank = int(os.environ["RANK"])
    socket.gethostname = lambda: f"machine-{rank}"
    distributed.distributed_c10d.default_pg_timeout = timedelta(seconds=3)  # of collective operations
    learn = from_scratch.learn_tokenizer

    def learn_slowly(*arguments: Any) -> Any:
        time.sleep(5)
        return learn(*arguments)

    from_scratch.learn_tokenizer = learn_slowly
    place = folder / f"machine-{rank}"
    place.mkdir()
    os.chdir(place)
    Path("data.txt").write_text("\n".join(["the quick brown fox", "a lazy dog", "the cat sat on the mat"] * 8))
    command = "train fill-mask --size tiny --learn-tokenizer 60 --documents lines --data data.txt --output model"
    with (folder / f"messages-{rank}.txt").open("w") as messages, redirect_stdout(messages), redirect_stderr(messages):
        return main([*command.split(), "--max-steps", "2", "--batch-size", "8", "--device", "cpu", "--json"])


def fail(folder: Path) -> None:
    """The last process fails in a way that FOLDER/way.txt names; the others wait for it."""
    failures.BEAT, failures.GRACE, failures.SILENT_BEATS = 0.1, 2.0, 20
    is_last = processes().rank == processes().world_size - 1
    way = (folder / "way.txt").read_text()
    try:
        with failing_together():
            broadcast_object(None)
            if way == "all raise":
                time.sleep(0.3 * processes().rank)
                raise ValueError("an error")
            if (is_last and way == "killed") or (processes().is_main and way == "main killed"):
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGKILL)
            if is_last and way == "raises":
                raise ValueError("an error")
            if is_last and way == "finishes":
                return
            if way == "finishes":
                time.sleep(5)
            elif way == "raises":
                broadcast_object(None)
                distributed.all_reduce(torch.ones(1))
            else:
                time.sleep(30)
    except ValueError:
        time.sleep(3 if way == "all raise" else 8)  # lives on


def main(name: str, sizes: Sequence[int], folder: Path) -> int:
    """Runs a function in launches of these sizes and returns the number of processes that failed."""
    sys.path.append(str(Path(__file__).parent / "core"))
    for module in IMPORTS.get(name, ()):
        importlib.import_module(module)
    torch.set_num_threads(1)
    return sum(_launch(globals()[name], size, folder) for size in sizes)


def _launch(work: Callable[[Path], object], size: int, folder: Path) -> int:
    port = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False).port
    began = time.monotonic()
    ranks = {_start(work, rank, size, port, folder): rank for rank in range(size)}
    ends: dict[int, list[float]] = {}
    while len(ends) < size:
        child, status = os.wait()
        ends[ranks[child]] = [os.waitstatus_to_exitcode(status), time.monotonic() - began]
    (folder / "ends.json").write_text(json.dumps([ends[rank] for rank in range(size)]))
    return sum(code != 0 for code, _ in ends.values())


def _start(work: Callable[[Path], object], rank: int, size: int, port: int, folder: Path) -> int:
    if child := os.fork():
        return child
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {variable: str(value) for variable, value in variables.items()}
    try:
        (folder / f"{size}-{rank}.json").write_text(json.dumps(work(folder)))
    except SharedError:
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "launched":  # by a launcher
        sys.path.append(str(Path(__file__).parent / "core"))
        *works, place = sys.argv[2:]
        for work in works:
            report = Path(place, f"{work}-{os.environ['RANK']}.json")
            report.write_text(json.dumps(globals()[work](Path(place))))
        sys.exit(0)
    sys.exit(main(sys.argv[1], [int(size) for size in sys.argv[2].split(",")], Path(sys.argv[3])))

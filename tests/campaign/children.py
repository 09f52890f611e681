"""Runs cases in forked processes, so that a crash or a hang is a result and not the end of the campaign."""

import os
import pickle
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

CASES_PER_CHILD = 100
MEMORY = 4 * 2**30  # that a child may allocate


def failures(cases: Iterable[int], check: Callable[[int], object], seconds: float) -> dict[int, str]:
    """The cases that fail: `check` raises, takes too long, or ends the process.

    Args:
        cases: their numbers.
        check: raises if a case fails.
        seconds: that one case may take.
    """
    found: dict[int, str] = {}
    waiting = list(cases)
    while waiting:
        part, waiting = waiting[:CASES_PER_CHILD], waiting[CASES_PER_CHILD:]
        done = _run_child(part, check, seconds, found)
        waiting = part[done:] + waiting
    return found


def _run_child(part: list[int], check: Callable[[int], object], seconds: float, found: dict[int, str]) -> int:
    """Runs cases in one child until one ends it; returns how many have a result."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(part, check, seconds, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as results:
        done = 0
        while True:
            try:
                failed = pickle.load(results)
            except EOFError:
                break
            if failed:
                found[part[done]] = failed
            done += 1
    status = os.waitpid(child, 0)[1]
    if done < len(part):
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status)
        found[part[done]] = "no end" if killed == signal.SIGALRM else f"ended the process with {status}"
        done += 1
    return done


def _child(part: list[int], check: Callable[[int], object], seconds: float, writing: int) -> None:
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it ends the process, even in compiled code
        for number in part:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            began, failed = time.perf_counter(), ""
            try:
                check(number)
            except BaseException:
                failed = traceback.format_exc(limit=-4)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not failed and (taken := time.perf_counter() - began) > seconds / 2:
                failed = f"took {taken:.1f} s"
            os.write(writing, pickle.dumps(failed[-3000:]))
    finally:
        os._exit(0)


def summary(found: dict[int, str]) -> str:
    """The failures by their last lines, with the number of cases and one of them whole."""
    kinds: dict[str, list[int]] = {}
    for number, failed in found.items():
        lines = [line for line in failed.strip().splitlines() if line.startswith("  File") or not line.startswith(" ")]
        kinds.setdefault("\n".join(line.strip()[:160] for line in lines[-3:]), []).append(number)
    return "\n\n".join(
        f"{len(numbers)} cases, such as {numbers[:5]}:\n{kind}"
        for kind, numbers in sorted(kinds.items(), key=lambda one: -len(one[1]))
    )

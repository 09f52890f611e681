"""The cores and the memory that this process may use, which in a container are fewer than the machine has.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .problems import Problem, gigabytes

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
# Files with the limit and with the use, below the folder of a control group: version 2, version 1.
MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
LOW_MEMORY = 2e9  # bytes; training mini-bert needs about one


@dataclass(frozen=True)
class Machine:
    """The system, its processor and what this process may use of it."""

    system: str
    processor: str
    cores: int  # of the machine
    usable_cores: int  # granted by quotas and affinity
    threads: int  # that torch will use
    memory: int  # bytes of the machine
    memory_limit: int | None  # bytes that the container grants; None: no limit
    available_memory: int  # bytes that can be used now

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def this_machine() -> Machine:
    """Reads what the system and the container grant."""
    import psutil
    import torch
    from joblib import cpu_count  # reads the quotas of both versions of control groups, and the affinity

    from ..cpu import use_available_cores

    use_available_cores()
    memory = psutil.virtual_memory()
    groups = [(limit, used) for limit, used in memory_of_groups() if limit < memory.total]
    limit = min((limit for limit, _ in groups), default=None)
    available = min([memory.available, *(max(limit - used, 0) for limit, used in groups)])
    return Machine(
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        usable_cores=cpu_count(),
        threads=torch.get_num_threads(),
        memory=memory.total,
        memory_limit=limit,
        available_memory=available,
    )


def memory_of_groups(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[tuple[int, int]]:
    """The limit and the use, in bytes, of every control group around this process that has a limit.

    Args:
        root: where the control groups are mounted.
        membership: the file that names those of this process.
    """
    if not membership.is_file():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # In a container the mounted folder is often the group itself, so its name does not lead anywhere.
        folder = root / "memory" if controllers else root
        path = Path(name.lstrip("/"))
        for group in (folder / path, *(folder / parent for parent in path.parents)):
            for limit, used in MEMORY_FILES:
                numbers = [_number(group / file) for file in (limit, used)]
                if numbers[0] is not None:
                    yield numbers[0], numbers[1] or 0


def _number(file: Path) -> int | None:
    """The content of a file of a control group; None if it is missing or "max"."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _processor() -> str:
    """The name of the processor."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def machine_problems(machine: Machine) -> Iterator[Problem]:
    """Too many threads, too little memory."""
    if machine.threads > machine.usable_cores:
        message = (
            f"OMP_NUM_THREADS makes torch use {machine.threads} threads, but this process may use only "
            f"{machine.usable_cores} of {machine.cores} cores, which makes everything slower."
        )
        yield Problem("warning", message, "Unset OMP_NUM_THREADS: Headway then uses the granted cores.")
    if machine.available_memory < LOW_MEMORY:
        limit = f" (the container grants {gigabytes(machine.memory_limit)})" if machine.memory_limit else ""
        yield Problem(
            "warning",
            f"Only {gigabytes(machine.available_memory)} of memory is available{limit}.",
            "Grant the container more memory, or end other programs. Small models need little: --model mini-bert.",
        )

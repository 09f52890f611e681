"""headway doctor: what an installation consists of, what is wrong with it, and how that is fixed."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..options import DEVICE, JSON, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from ...core.doctor.machine import Machine
    from ...core.doctor.problems import Problem
    from ...core.doctor.storage import Hub
    from ...tasks.self_test import SelfTest

LEVEL_STYLES = {"error": "red", "warning": "yellow"}
BROKEN = 1  # exit code
AUTO = "auto: the precision of training by default; slow: possible, but not faster than fp32"


def doctor(
    self_test: Annotated[
        bool, typer.Option(help="Train mini-bert for a few steps and check its predictions, in about ten seconds.")
    ] = True,
    device: Annotated[str, DEVICE] = "auto",
    json: Annotated[bool, JSON] = False,
) -> None:
    """Check the installation: packages, devices, memory, folders, the Hub, and a short training run.

    The exit code is 1 if something stops Headway from working, and 0 otherwise. Nothing is uploaded or downloaded.
    """
    from ...core.device import check_device
    from ...core.doctor import devices, machine, packages, storage
    from ..terminal import print_json, screen

    check_device(device)
    console = screen(to_stderr=json)
    versions, extras = packages.versions(), packages.missing_of_extras()
    _show_packages(console, versions, extras)
    this, found = machine.this_machine(), devices.devices()
    _show_machine(console, this)
    _show_devices(console, found)
    folders, hub = storage.folders(), storage.ask_hub()
    _show_storage(console, folders, hub)
    problems = [
        *packages.package_problems(),
        *machine.machine_problems(this),
        *devices.device_problems(),
        *storage.folder_problems(folders),
        *storage.hub_problems(hub),
    ]
    tested = _test(console, device, problems) if self_test else None
    _show_problems(console, problems)
    broken = any(problem.level == "error" for problem in problems)
    if json:
        print_json(
            {
                "works": not broken,
                "versions": versions,
                "extras": {name: {"installed": not missing, "missing": missing} for name, missing in extras.items()},
                "machine": this.to_json(),
                "devices": [one.to_json() for one in found],
                "folders": [one.to_json() for one in folders],
                "hub": hub.to_json(),
                "self_test": tested and tested.to_json(),
                "problems": [one.to_json() for one in problems],
            }
        )
    if broken:
        raise typer.Exit(BROKEN)


def _show_packages(console: "Console", versions: dict[str, str | None], extras: dict[str, list[str]]) -> None:
    from ...core.extras import install_command
    from ..terminal import section, table

    section(console, "Versions", table([{"package": name, "version": one or "-"} for name, one in versions.items()]))
    rows = [
        {"extra": name, "": f"not installed: {install_command(name)}" if missing else "installed"}
        for name, missing in extras.items()
    ]
    section(console, "Extras", table(rows))


def _show_machine(console: "Console", machine: "Machine") -> None:
    from ...core.doctor.problems import gigabytes
    from ..terminal import section

    limit = f"; the container grants {gigabytes(machine.memory_limit)}" if machine.memory_limit else ""
    section(
        console,
        "Machine",
        machine.system,
        machine.processor,
        f"cores: {machine.usable_cores} of {machine.cores} may be used; torch uses {machine.threads} "
        f"thread{'s' * (machine.threads != 1)}",
        f"memory: {gigabytes(machine.memory)}{limit}; {gigabytes(machine.available_memory)} available",
    )


def _show_devices(console: "Console", devices: Any) -> None:
    from ...core.doctor.problems import gigabytes
    from ..terminal import section, table

    rows = [
        {
            "device": one.name,
            "name": one.title,
            "memory": gigabytes(one.memory) if one.memory else "",
            **{name: getattr(one, name) for name in ("fp32", "bf16", "fp16", "int8")},
            "auto": one.auto,
        }
        for one in devices
    ]
    section(console, "Devices", table(rows), *(f"{one.name}: {one.details}" for one in devices), AUTO)


def _show_storage(console: "Console", folders: Any, hub: "Hub") -> None:
    from ...core.doctor.problems import gigabytes
    from ..terminal import section, table

    rows = [
        {"for": one.use, "folder": one.path, "free": "unknown" if one.free is None else gigabytes(one.free)}
        for one in folders
    ]
    section(console, "Folders", table(rows))
    section(console, "Hub", _describe_hub(hub))


def _describe_hub(hub: "Hub") -> str:
    if hub.state == "offline":
        return f"{hub.url}: offline mode (HF_HUB_OFFLINE or --offline), so it was not asked"
    if hub.state == "unreachable":
        return f"{hub.url}: cannot be reached"
    token = {"none": "no token", "refused": "the token is refused"}.get(hub.token, f"logged in as {hub.user}")
    return f"{hub.url}: reachable in {hub.seconds:.1f} s; {token}"


def _test(console: "Console", device: str, problems: "list[Problem]") -> "SelfTest | None":
    """Runs the self-test, shows it and adds its failures to the problems."""
    from ...core.doctor.problems import Problem
    from ...core.errors import HeadwayError
    from ...tasks.self_test import MODEL, STEPS, self_test
    from ..terminal import section

    again = "Try headway doctor --device cpu. If that fails too, install torch again; else check the device's driver."
    try:
        tested = self_test(device)
    except HeadwayError as error:
        section(console, "Self-test", "failed")
        problems.append(Problem("error", f"The self-test ends with an error. {error}", again))
        return None
    section(
        console,
        "Self-test",
        f"{MODEL} trained for {STEPS} steps on {tested.device} in {tested.precision}: "
        f"loss {tested.first_loss:.3f} to {tested.last_loss:.3f}",
        *_differences(tested),
        f"{'failed' if tested.failures else 'passed'} in {tested.seconds:.1f} s",
    )
    problems += [Problem("error", f"The self-test gives wrong results: {one}.", again) for one in tested.failures]
    return tested


def _differences(tested: "SelfTest") -> Iterator[str]:
    yield f"largest difference of a probability in a batch and alone: {tested.packed_difference:.0e}"
    if tested.device_difference is not None:
        yield f"largest difference of a probability on {tested.device} and on the CPU: {tested.device_difference:.0e}"


def _show_problems(console: "Console", problems: "list[Problem]") -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from ..terminal import section

    if not problems:
        section(console, "Result", Text("no problems found", style="green"))
        return
    section(console, "Problems")
    grid = Table.grid(padding=(0, 2, 0, 0))
    for one in problems:
        grid.add_row(Text(one.level, style=LEVEL_STYLES[one.level]), Text(f"{one.message} {one.solution}"))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def doctor_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(doctor)

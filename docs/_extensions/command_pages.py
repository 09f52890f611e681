"""The command reference: one page per command, from the commands themselves."""

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import typer
from guide_markdown import code, escape
from headway.ui.cli import COMMANDS, _unwrapped_help
from headway.ui.options import ALIASES, NOT_IN_CONFIG
from typer.main import get_command

PANEL = "Options"
COMMON = ("config", "offline", "debug")


def command_pages() -> dict[str, str]:
    """Name of a command -> its page."""
    return {name: _page(name, summary) for name, (_, summary) in COMMANDS.items()}


def command_list() -> str:
    """Every command with its line in `headway --help`."""
    lines = (
        f"[`headway {name}`](commands/{name}.md)\n: {escape(summary)}\n" for name, (_, summary) in COMMANDS.items()
    )
    short = ", ".join(f"`--{short}` for `--{long.replace('=', ' ')}`" for short, long in sorted(ALIASES.items()))
    return "\n".join(lines) + f"\n## Other names\n\nThese are accepted as well: {short}.\n"


def parsed(name: str) -> Any:
    """The command as Typer understands it."""
    module = import_module(f".{COMMANDS[name][0]}", "headway.ui")
    function = getattr(module, f"{name.replace('-', '_')}_command")()
    app = typer.Typer(add_completion=False)
    app.command(name, help=_unwrapped_help(function))(function)
    return get_command(app)


def _page(name: str, summary: str) -> str:
    command = parsed(name)
    arguments = [one for one in command.params if not one.opts[0].startswith("-")]
    options = [one for one in command.params if one not in arguments]
    usage = " ".join(["headway", name, *map(_usage, arguments), *map(_required, options), "[OPTIONS]"])
    parts = [
        f"# headway {name}\n",
        escape(summary),
        f"```text\n{' '.join(usage.split())}\n```",
        f"```{{program}} headway {name}\n```",
    ]
    parts += [escape(part) for part in command.help.split("\n\n") if part != summary]
    if arguments:
        parts += ["## Arguments", *(f"`{one.metavar or one.name.upper()}`\n: {_described(one)}" for one in arguments)]
    for panel, group in _panels(options):
        parts += [f"## {panel}", *(_option(one) for one in group)]
    return "\n\n".join(parts) + "\n"


def _panels(options: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    def panel(one: Any) -> str:
        return "All commands" if one.name in COMMON else one.rich_help_panel or PANEL

    names = list(dict.fromkeys(map(panel, options)))
    names.sort(key=lambda name: (name != PANEL, name == "All commands"))
    for name in names:
        yield name, [one for one in options if panel(one) == name]


def _usage(argument: Any) -> str:
    shown = argument.metavar or argument.name.upper()
    shown += "..." * (argument.nargs == -1)
    return shown if argument.required else f"[{shown}]"


def _required(option: Any) -> str:
    return f"{option.opts[0]} {option.metavar}" if option.required else ""


def _option(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    if option.metavar:
        names = [f"{one} {option.metavar}" for one in names]
    facts = []
    shown = option.default
    if shown not in (None, False, (), [], "") and "Default:" not in (option.help or ""):
        facts.append(f"Default: {code(','.join(map(str, shown)) if isinstance(shown, list | tuple) else str(shown))}.")
    if option.multiple and "repeated" not in (option.help or ""):
        facts.append("May be repeated.")
    if option.envvar:
        facts.append(f"Environment variable: {code(str(option.envvar))}.")
    if option.name not in NOT_IN_CONFIG:
        facts.append(f"YAML: {code(option.opts[0].removeprefix('--') + ':')}")
    required = "Required. " if option.required else ""
    body = f"{required}{escape(option.help or '')}"
    return f"```{{option}} {', '.join(names)}\n\n{body} {' '.join(facts)}\n```"


def _described(argument: Any) -> str:
    return escape(argument.help or "") or "The texts."

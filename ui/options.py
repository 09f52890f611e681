"""A command's options that are made from dataclass fields, and the YAML file that may hold any of them.

Tasks and the training loop say what can be set (core/options.py); nothing here knows an option by name, so that a new
task needs no new code in the command line.
"""

import difflib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from ..core.atomic_files import user_path
from ..core.errors import HeadwayError
from ..core.options import Option, When, options_of

if TYPE_CHECKING:
    from ..tasks.data.examples import Field

# What people are used to from transformers' and other trainers' command lines, and short forms -> ours.
ALIASES = {
    "model-name-or-path": "model",
    "train-file": "data",
    "validation-file": "eval-data",
    "output-dir": "output",
    "overwrite-output-dir": "overwrite",
    "num-train-epochs": "epochs",
    "per-device-train-batch-size": "batch-size",
    "lr-scheduler-type": "schedule",
    "max-seq-length": "max-length",
    "early-stopping-patience": "patience",
    "report-to": "trackers",
    "bf16": "precision=bf16",
    "fp16": "precision=fp16",
    "multi-label": "problem-type=multi_label_classification",
    "regression": "problem-type=regression",
    "num-return-sequences": "samples",
    "num-beams": "beams",
}
PER_DEVICE = "per-device-train-batch-size"  # as many as ours only where there is one process
PANELS = {
    "columns": "Columns of the data",
    "task_options": "The task",
    "options": "The task (left out: as the model folder says)",
    "training": "Training",
    "generation": "How the text goes on",
    "prompting": "The prompt",
    "embedding": "The vectors (a sentence-transformers folder says itself how)",
    "limits": "How much is taken",
}
METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}
KINDS = {int: "a whole number", float: "a number"}
NOT_IN_A_FILE = {"config", "debug", "help"}

HEADER = typer.Option("--header/--no-header", help="Whether the first row names the columns. Left out: it is told.")
PRECISION = typer.Option(
    metavar="NAME",
    help="Arithmetic: fp32; bf16 or int8, faster and a little less exact; auto takes bf16 where it is fast and moved "
    "no score when the model was trained.",
)
JSON = typer.Option("--json", help="Print one line of JSON on stdout, and everything else on stderr.")


def plain_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with every option under our own name: aliases replaced, underscores as dashes."""
    plain: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*plain, *arguments[position:]]
        name, equals, value = argument.partition("=")
        if name.startswith("--") and (equals or " " not in name):
            argument = f"--{plain_name(name[2:])}{equals}{value}"
        plain.append(argument)
    return plain


def plain_name(name: str) -> str:
    """Our name for an option, with dashes; "name=value" for a short form that says both."""
    name = name.replace("_", "-")
    if name == PER_DEVICE and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise HeadwayError(
            f"--{PER_DEVICE} counts the examples of one process, and there are several. "
            "Say --batch-size, which counts those of all together."
        )
    return ALIASES.get(name, name)


# Where options come from.


def training_options() -> list[Option]:
    """How a model is trained."""
    from ..core.training.training_config import TrainConfig

    return options_of(TrainConfig)


def task_options(when: When = "before") -> list[Option]:
    """What any task lets people set before or after training; a task refuses what it does not have."""
    from ..tasks import TASKS

    return list({found.name: found for task in TASKS.values() for found in options_of(task, when)}.values())


def column_options(*, label: bool = True) -> list[Option]:
    """Which column holds what: for every text that any task reads, and for the label if there is one."""
    from ..tasks import TASKS

    fields: dict[str, Field] = {}
    for field in (field for task in TASKS.values() for field in task.inputs):
        fields.setdefault(field.name, field)  # what several tasks read is described as the first of them has it
    found = [
        Option(
            name,
            str | None,
            None,
            f"Column of the {field.label.lower()}: its name, or its number from 0"
            f"{'' if field.required else '; empty: there is none'}.",
            (),
            None,
        )
        for name, field in fields.items()
    ]
    if label:
        help = "Column of the label. Several, also joined by commas: a 0/1 column for each label."
        found.append(Option("label", tuple[str, ...], (), help, (), None))
    return found


# What becomes of them.


def make_task(name: str, given: Mapping[str, Any]) -> Any:
    """The task of that name with the options that were given.

    Raises:
        HeadwayError: there is no such task, it has no such option, or a value is not possible.
    """
    from ..tasks import TASKS

    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise HeadwayError(f"There is no task {name!r}.{meant} The tasks are: {', '.join(TASKS)}.")
    known = options_of(TASKS[name])
    chosen: dict[str, Any] = {}
    for field, value in chosen_options(given).items():
        match = next((found for found in known if found.name == field), None)
        if match is None:
            has = ", ".join(flag(found.public_name) for found in known)
            raise HeadwayError(f"{flag(field)} is no option of {name}. It has: {has}.")
        chosen[field] = read_lines_file(value) if match.file else value
    return TASKS[name](**chosen)


def read_lines_file(path: str) -> tuple[str, ...]:
    """The lines of a small text file, without the empty ones.

    Raises:
        HeadwayError: there is no such file, it is no text, or it is empty.
    """
    from ..tasks import read_table

    table = read_table(path, header=False)
    return tuple(str(next(iter(row.values()))).strip() for row in table.rows)


def chosen_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task that were given a value."""
    return {name: value for name, value in given.items() if value not in (None, ())}


def chosen_columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that were named, as the tasks take them."""
    chosen = chosen_options(given)
    if "label" in chosen:
        chosen["label"] = [part.strip() for one in chosen["label"] for part in one.split(",")]
    return chosen


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


# Options -> the command's own.


def with_options(function: Callable[..., None], **groups: Sequence[Option]) -> Callable[..., None]:
    """A command whose options of a group are gathered into a dict: the argument of `function` with the group's name.

    Every command also has --config, --offline and --debug. Where `function` has an argument `given`, it is all
    options that have a value, as a file for --config holds them.
    """
    named = inspect.signature(function).parameters
    made = [_made_of(option, group) for group, options in groups.items() for option in options]
    parameters = [p for p in named.values() if p.name not in (*groups, "given")] + made + COMMON

    @wraps(function)
    def command(**values: Any) -> None:
        if values["offline"]:
            os.environ["HF_HUB_OFFLINE"] = "1"
        gathered: dict[str, Any] = {
            group: {option.name: _gathered(option, values[option.public_name]) for option in options}
            for group, options in groups.items()
        }
        if "given" in named:
            gathered["given"] = {
                p.name.replace("_", "-"): "none" if values[p.name] is None else values[p.name]
                for p in parameters
                if not (values[p.name] is None and p.default is None)
            }
        function(**gathered, **{name: value for name, value in values.items() if name in named})

    command.__dict__["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _gathered(option: Option, value: Any) -> Any:
    return tuple(value or ()) if _is_list(option) else value


def _is_list(option: Option) -> bool:
    return get_origin(option.type) is tuple and option.file is None


def _keyword(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _made_of(option: Option, group: str) -> inspect.Parameter:
    name = option.public_name
    # What one task has another may not have, so that a task's options have no value unless one is given.
    default = option.default if group == "training" else None
    column = group == "columns"
    info = partial(
        typer.Option,
        help=_help(option, with_default=default is None and group != "options"),
        rich_help_panel=PANELS[group],
    )
    if option.file:
        return _keyword(name, str | None, default, info(metavar="FILE"))
    if _is_list(option):
        return _keyword(name, list[str] | None, default or None, info(metavar="COLUMN" if column else "NAME"))
    if option.type is bool:
        return _keyword(name, bool | None, default, info())
    kinds = get_args(option.type) or (option.type,)
    parser = read_value(name, kinds[0], optional=len(kinds) > 1)
    return _keyword(
        name, option.type, default, info(metavar="COLUMN" if column else METAVARS[kinds[0]], parser=parser)
    )


def _help(option: Option, *, with_default: bool) -> str:
    """What an option is for, what can be said, and its default where the command line knows none."""
    parts = [option.help]
    if len(option.choices) > 1:
        parts.append(f"One of: {', '.join(option.choices)}.")
    if short := [alias for alias, meaning in ALIASES.items() if flag(meaning).startswith(f"{flag(option.name)}=")]:
        parts.append(f"In short: {', '.join(map(flag, short))}.")
    if option.alias is not None:
        parts.append(f"Also: {flag(option.name)}.")
    if with_default and option.default not in (None, ()):
        parts.append(f"Left out: {option.default}.")
    return " ".join(parts)


def read_value(name: str, kind: type, *, optional: bool = False) -> Callable[[Any], Any]:
    """Reads the text of an option; "none" means that there is none."""

    def read(value: Any) -> Any:
        if optional and kind is not str and str(value).lower() == "none":
            return None
        try:
            return kind(value)
        except ValueError as error:
            raise HeadwayError(f"{flag(name)} {value}: it must be {KINDS[kind]}{' or none' * optional}.") from error

    return read


# The file.


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes what the file says the defaults of the command."""
    if path is None:
        return None
    path = user_path(path)
    parameters = {str(p.name): p for p in context.command.params if p.name not in NOT_IN_A_FILE}
    defaults: dict[str, Any] = {}
    for key, value in _read_yaml(path).items():
        name, _, short = plain_name(str(key)).partition("=")
        name = name.replace("-", "_")
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            meant = f" Did you mean {near[0].replace('_', '-')}?" if near else ""
            raise HeadwayError(
                f"{path}: {key} is no option of headway {context.info_name}.{meant} "
                f"See: headway {context.info_name} --help"
            )
        if short and not isinstance(value, bool):
            raise HeadwayError(f"{path}: {key} is {value!r}; say true or false.")
        if value is not None and not (short and not value):
            defaults[name] = short or _as_typed(value, parameters[name])
    context.default_map = defaults
    return path


def _as_typed(value: Any, parameter: Any) -> Any:
    """A value of the file as the command line would have it."""
    if getattr(parameter, "multiple", False) or getattr(parameter, "nargs", 1) == -1:
        return [str(one) for one in (value if isinstance(value, list) else [value])]
    return value if isinstance(value, bool) else str(value)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HeadwayError(f"--config {path}: there is no such file. Check the path.") from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise HeadwayError(f"--config {path}: cannot be read as text ({error}). Name a YAML file.") from error
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise HeadwayError(f"--config {path}: no valid YAML ({why}). Correct it there.") from error
    if not isinstance(content, dict):
        raise HeadwayError(f"--config {path}: a line `option: value` for each option belongs there. Correct the file.")
    return content


COMMON = [
    _keyword(
        "config",
        Path | None,
        None,
        typer.Option(
            metavar="FILE",
            is_eager=True,
            callback=_read_config,
            help="YAML file with any of these options by their long names. What is typed wins over it.",
        ),
    ),
    _keyword("offline", bool, False, typer.Option("--offline", help="Use only what is on this machine.")),
    _keyword("debug", bool, False, typer.Option("--debug", help="Show where in the code an error arose.")),
]

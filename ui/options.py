"""Command-line options generated from dataclass fields, and the YAML file that can hold them.

Tasks and the training loop declare their options (core/options.py). No option is named here, so a new task needs no
change to the command line.
"""

import difflib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from ..core.atomic_files import user_path
from ..core.errors import HeadwayError
from ..core.options import Option, When, options_of

if TYPE_CHECKING:
    from ..tasks.data.examples import Field
    from ..tasks.data.output_options import OutputOptions

# Names from the command lines of transformers and other trainers, and short forms -> the names used here.
ALIASES = {
    "model-name-or-path": "model",
    "train-file": "data",
    "validation-file": "eval-data",
    "test-file": "test-data",
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
PER_DEVICE = "per-device-train-batch-size"  # equals --batch-size only in a run with one process
PANELS = {
    "columns": "Columns",
    "reading": "Data file",
    "writing": "Output file",
    "task_options": "Task",
    "options": "Task (default: as stored in the model folder)",
    "training": "Training",
    "generation": "Generation",
    "prompting": "Prompt",
    "embedding": "Embedding (default for a sentence-transformers folder: its own settings)",
    "limits": "Limits",
    "curve": "Learning curve",
    "rules": "Decision rules (fitted to the rows, which must not have trained the model)",
}
METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}
KINDS = {int: "an integer", float: "a number"}
NOT_IN_CONFIG = {"config", "debug", "help"}

# Options and arguments that several commands share.
MODEL = typer.Argument(metavar="MODEL", help="A folder, a built-in model, or a name on the Hub (headway models).")
TRAINED_MODEL = typer.Argument(metavar="MODEL", help="A trained model: a folder or a name on the Hub.")
TASK = typer.Argument(metavar="TASK", help="The task to train for. See: headway tasks")
TRAINING_DATA = typer.Option(metavar="FILE", help="Training data: CSV, TSV, Excel, JSON, JSON lines, Parquet, ...")
LABELLED_DATA = typer.Option(metavar="FILE", help="Labelled data, in any format that `headway train` reads.")
PRECISION = typer.Option(
    metavar="NAME",
    help="Arithmetic: fp32 (exact), or bf16 or int8 (faster, slightly less accurate). auto selects bf16 if the device "
    "is fast at it and the score measured at the end of training, on this kind of device, did not change.",
)
DEVICE = typer.Option(
    metavar="NAME", help="Device: auto (an accelerator if there is one), cpu, cuda, cuda:1, mps or xpu."
)
LONG_TEXTS = typer.Option(
    metavar="NAME",
    help="How to read texts longer than a model's limit. windows: in overlapping windows; cut: only their beginning, "
    "as sentence-transformers does. Default: as a model trained here was trained, else windows.",
)
REPORT = typer.Option(
    metavar="FILE",
    help="Write a report: intervals, labels, confusions, calibration, slices, mistakes, speed. .html: one page that "
    "works without the internet; .json: the same content for programs.",
)
SLICE = typer.Option(
    "--slice",
    metavar="COLUMN",
    help="In the report, compare the rows with each value of this column with all others. May be repeated.",
)
REFERENCE = typer.Option(
    metavar="FILE",
    help="Reference rows, usually the training data: the drift of --data from them is measured, and --data needs no "
    "labels then. In the report, rows that almost equal a reference row are listed.",
)
OVERWRITE = typer.Option("--overwrite", help="Replace the output if it exists.")
JSON_LINES = typer.Option("--json", help="Print one line of JSON per result.")
JSON = typer.Option("--json", help="Print one JSON object on stdout and everything else on stderr.")


def canonical_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with every option under its canonical name: aliases replaced, underscores turned into dashes."""
    canonical: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*canonical, *arguments[position:]]
        name, equals, value = argument.partition("=")
        if name.startswith("--") and (equals or " " not in name):
            argument = f"--{canonical_name(name[2:])}{equals}{value}"
        canonical.append(argument)
    return canonical


def canonical_name(name: str) -> str:
    """The canonical name of an option, with dashes; "name=value" for a short form that stands for both."""
    name = name.replace("_", "-")
    if name == PER_DEVICE and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise HeadwayError(
            f"--{PER_DEVICE} counts the examples of one process, but this run has several. "
            "Use --batch-size, which counts the examples of all processes together."
        )
    return ALIASES.get(name, name)


# Where options come from.


def training_options() -> list[Option]:
    """The options of the training loop."""
    from ..core.training.training_config import TrainConfig

    return options_of(TrainConfig)


def task_options(when: When = "before") -> list[Option]:
    """The options of all tasks that can be set before or after training; a task refuses those it does not have."""
    from ..tasks import TASKS, ZeroShotClassification

    found: dict[str, Option] = {}
    for task in (*TASKS.values(), *([ZeroShotClassification] if when == "after" else [])):
        for one in options_of(task, when):
            other = found.get(one.name)
            if other is not None and other.type != one.type:  # the tasks read the text themselves
                one = replace(one, type=str | None, default=None, help=f"{other.help} {task.title}: {one.help}")
            found[one.name] = one
    return list(found.values())


def reading_options() -> list[Option]:
    """The options for reading data files."""
    from ..tasks.data.read_options import ReadOptions

    return options_of(ReadOptions)


def writing_options() -> list[Option]:
    """The options for writing rows with predictions."""
    from ..tasks.data.output_options import OutputOptions

    return options_of(OutputOptions)


def column_options(*, label: bool = True, group: bool = False) -> list[Option]:
    """An option for the column of every text that a task reads and, if these are true, of the label and of groups."""
    from ..tasks import TASKS

    fields: dict[str, Field] = {}
    for field in (field for task in TASKS.values() for field in task.inputs):
        fields.setdefault(field.name, field)  # a field of several tasks is described as in the first of them
    found = [
        Option(
            name,
            str | None,
            None,
            f"Column of the {field.label.lower()}: its name, or its index starting at 0."
            f"{'' if field.required else ' Empty: no such column.'}",
            (),
            None,
        )
        for name, field in fields.items()
    ]
    if label:
        help = "Column of the label. For one 0/1 column per label: several columns, repeated or separated by commas."
        found.append(Option("label", tuple[str, ...], (), help, (), None))
    if group:
        help = (
            "Column whose equal values stay on one side when a part of the data is held out: the author, the "
            "document, the patient, ... Equal texts, apart from case and white space, always stay on one side."
        )
        found.append(Option("group", str | None, None, help, (), None))
    return found


# Option values -> tasks and columns.


def make_task(name: str, given: Mapping[str, Any]) -> Any:
    """The task of that name with the given options.

    Raises:
        HeadwayError: There is no such task, it has no such option, or a value is invalid.
    """
    from ..tasks import TASKS, ZeroShotClassification

    if name == ZeroShotClassification.name:
        raise HeadwayError(ZeroShotClassification.not_trained)
    if name not in TASKS:
        suggestion = "".join(f" Did you mean {near}?" for near in difflib.get_close_matches(name, TASKS, n=1))
        raise HeadwayError(f"There is no task {name!r}.{suggestion} The tasks are: {', '.join(TASKS)}.")
    known = options_of(TASKS[name])
    chosen: dict[str, Any] = {}
    for field, value in chosen_options(given).items():
        match = next((found for found in known if found.name == field), None)
        if match is None:
            has = ", ".join(flag(found.public_name) for found in known)
            raise HeadwayError(f"{flag(field)} is not an option of {name}. Its options are: {has}.")
        chosen[field] = read_lines_file(value) if match.file else value
    return TASKS[name](**chosen)


def read_lines_file(path: str) -> tuple[str, ...]:
    """The non-empty lines of a small text file.

    Raises:
        HeadwayError: The file does not exist, is not text, or is empty.
    """
    from ..tasks import read_table

    return tuple(str(next(iter(row.values()))).strip() for row in read_table(path, header=False).rows)


def chosen_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that have a value."""
    return {name: value for name, value in given.items() if value not in (None, ())}


def chosen_columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that were named, in the form that tasks expect."""
    chosen = chosen_options(given)
    if "label" in chosen:
        chosen["label"] = [part.strip() for one in chosen["label"] for part in one.split(",")]
    return chosen


def refuse_without_file(reading: Mapping[str, Any], data: str | None) -> None:
    """Raises HeadwayError for an option for reading a file if there is no file."""
    if data is None:
        for name in reading:
            raise HeadwayError(f"{flag(name)} applies to a data file: add --data FILE, or omit it.")


def output_options(writing: Mapping[str, Any], output: Path | None) -> "OutputOptions":
    """How an output file is written.

    Raises:
        HeadwayError: There is an option for writing a file, but no file.
    """
    from ..tasks.data.output_options import OutputOptions

    if output is None:
        for name in writing:
            raise HeadwayError(f"{flag(name)} applies to an output file: add --output FILE, or omit it.")
    return OutputOptions(**writing)


def flag(name: str) -> str:
    """The name of an option on the command line."""
    return "--" + name.replace("_", "-")


# Options -> the parameters of a command.


def with_options(function: Callable[..., None], **groups: Sequence[Option]) -> Callable[..., None]:
    """A command that gathers the options of each group into a dict, passed to `function` under the group's name.

    Every command also has --config, --offline and --debug. If `function` has a parameter `given`, it receives all
    options that have a value, as a file for --config holds them. The groups `reading` and `writing` have chosen
    options only.
    """
    named = inspect.signature(function).parameters
    generated = [_parameter_of(option, group) for group, options in groups.items() for option in options]
    parameters = [p for p in named.values() if p.name not in (*groups, "given")] + generated + COMMON

    @wraps(function)
    def command(**values: Any) -> None:
        if values["offline"]:
            os.environ["HF_HUB_OFFLINE"] = "1"
        gathered: dict[str, Any] = {
            group: {option.name: _gathered(option, values[option.public_name]) for option in options}
            for group, options in groups.items()
        }
        for group in gathered.keys() & {"reading", "writing"}:
            gathered[group] = chosen_options(gathered[group])
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


def _parameter_of(option: Option, group: str) -> inspect.Parameter:
    name = option.public_name
    # A task may lack the options of another task, so its options have no value unless one is given.
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
        return _keyword(name, list[str] | None, default or None, info(metavar="COLUMN" if column else "TEXT"))
    if option.type in (bool, bool | None):
        return _keyword(name, bool | None, default, info())
    kinds = get_args(option.type) or (option.type,)
    parser = read_value(name, kinds[0], optional=len(kinds) > 1)
    return _keyword(
        name, option.type, default, info(metavar="COLUMN" if column else METAVARS[kinds[0]], parser=parser)
    )


def _help(option: Option, *, with_default: bool) -> str:
    """The help text with the choices, the short forms and, if Typer knows no default, the default."""
    parts = [option.help]
    if len(option.choices) > 1:
        parts.append(f"Choices: {', '.join(option.choices)}.")
    name = option.name.replace("_", "-")
    values = {f"{name}={choice}" for choice in option.choices}
    if short := [alias for alias, meaning in ALIASES.items() if meaning in values]:
        parts.append(f"Short forms: {', '.join(map(flag, short))}.")
    if option.alias is not None:
        parts.append(f"Long form: {flag(option.name)}.")
    if with_default and option.default not in (None, ()):
        parts.append(f"Default: {','.join(map(str, option.default)) if _is_list(option) else option.default}.")
    return " ".join(parts)


def read_value(name: str, kind: type, *, optional: bool = False) -> Callable[[Any], Any]:
    """A parser for the value of an option; it reads "none" as None if the option is optional."""

    def read(value: Any) -> Any:
        if optional and kind is not str and str(value).lower() == "none":
            return None
        try:
            return kind(value)
        except ValueError as error:
            allowed = f"{KINDS[kind]}{' or none' * optional}"
            raise HeadwayError(f"{flag(name)} {value} is invalid; it must be {allowed}.") from error

    return read


# The YAML file.


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the values of the file the defaults of the command."""
    if path is None:
        return None
    path = user_path(path)
    parameters = {str(p.name): p for p in context.command.params if p.name not in NOT_IN_CONFIG}
    defaults: dict[str, Any] = {}
    for key, value in _read_yaml(path).items():
        name, _, short = canonical_name(str(key)).partition("=")
        name = name.replace("-", "_")
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            suggestion = f" Did you mean {near[0].replace('_', '-')}?" if near else ""
            raise HeadwayError(
                f"{path}: {key} is not an option of headway {context.info_name}.{suggestion} "
                f"See: headway {context.info_name} --help"
            )
        if short and not isinstance(value, bool):
            raise HeadwayError(f"{path}: {key} is {value!r}; it must be true or false.")
        if value is not None and not (short and not value):
            defaults[name] = short or _as_argument(value, parameters[name])
    context.default_map = defaults
    return path


def _as_argument(value: Any, parameter: Any) -> Any:
    """A value of the file in the form that the command line passes to Typer."""
    if getattr(parameter, "multiple", False) or getattr(parameter, "nargs", 1) == -1:
        return [str(one) for one in (value if isinstance(value, list) else [value])]
    return value if isinstance(value, bool) else str(value)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HeadwayError(f"--config {path}: no such file. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwayError(
            f"--config {path}: cannot be read as text ({error}). Give the path of a YAML file."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2026-02-30, brackets without end
        why = " ".join(str(error).split())
        raise HeadwayError(f"--config {path}: invalid YAML ({why}). Correct the file.") from error
    if not isinstance(content, dict):
        raise HeadwayError(f"--config {path}: expected one line `option: value` per option. Correct the file.")
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict | set | tuple) for one in values):  # by aliases, these can be endless
            raise HeadwayError(f"--config {path}: {str(name)[:99]} must be one value or a list of values.")
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
            help="YAML file with options under their long names. Options on the command line take precedence.",
        ),
    ),
    _keyword("offline", bool, False, typer.Option("--offline", help="Use only files on this machine.")),
    _keyword("debug", bool, False, typer.Option("--debug", help="Show the traceback of an error.")),
]

"""A prompt in a file: the options, the model, and the file of the examples with its fingerprint.

The file is YAML with the names of the command line. It stands for a model: `headway prompt FILE "a text"`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from ...core.atomic_files import atomic_file, new_path, user_path
from ...core.errors import HeadwayError
from ...core.options import options_of
from ..base.precision import AUTO
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.rows import Table
from .prepared_prompt import PreparedPrompt
from .prompt import Prompt, PromptModel

SUFFIXES = (".yaml", ".yml")
BESIDE = "./"  # begins the path of a model folder that is relative to the folder of the prompt
COLUMNS = ("text", "pair", "label")
MODEL, EXAMPLES, UNLABELLED, FINGERPRINT = "model", "examples", "unlabelled", "examples_fingerprint"


@dataclass(frozen=True)
class SavedPrompt:
    """A prompt with all that it needs.

    Args:
        prompt: the options.
        model: a folder, a built-in name or a Hub id.
        examples: labelled rows for demonstrations: a path, or anything that `Prompt.predict` takes.
        fingerprint: of the examples (`Table.fingerprint`), if they are a file; None: not checked.
        columns: which column holds what, in the examples and in the data.
        reading: fields of ReadOptions, for the examples.
        unlabelled: texts for batch calibration.
    """

    prompt: Prompt
    model: str
    examples: Any = None
    fingerprint: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: Any = None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file that `save` wrote; relative paths in it start at its folder.

        Raises:
            HeadwayError: there is no such file, or it does not hold a prompt.
        """
        import yaml

        path = user_path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            why = " ".join(str(error).split())
            raise HeadwayError(f"{path}: no prompt can be read ({why}). Write one: headway prompt --save.") from error
        if not isinstance(content, dict) or not isinstance(content.get(MODEL), str):
            raise HeadwayError(f"{path} does not hold a prompt. Write one: headway prompt MODEL ... --save {path}")
        given = {str(name).replace("-", "_"): value for name, value in content.items()}
        options, reading, columns = {}, {}, {}
        known = {one.name for one in options_of(Prompt)}
        for name, value in given.items():
            if name in known:
                options[name] = tuple(value) if isinstance(value, list) else value
            elif name in COLUMNS:
                columns[name] = value
            elif name in {one.name for one in fields(ReadOptions)}:
                reading[name] = value
            elif name not in (MODEL, EXAMPLES, UNLABELLED, FINGERPRINT):
                raise HeadwayError(f"{path}: {name.replace('_', '-')} is not an option of a prompt. Remove it.")
        files = {name: _found(path, given[name]) for name in (EXAMPLES, UNLABELLED) if given.get(name) is not None}
        model = given[MODEL]
        if model.startswith(BESIDE):  # never the name of a model on the Hub
            model = str(path.absolute().parent / model.removeprefix(BESIDE))
        return cls(Prompt(**options), model, files.get(EXAMPLES), given.get(FINGERPRINT), columns, reading,
                   files.get(UNLABELLED))  # fmt: skip

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the prompt; the examples stay in their file.

        Raises:
            HeadwayError: the examples are not a file, or the file exists.
        """
        import yaml

        path = new_path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise HeadwayError(f"{path}: a prompt is saved as .yaml. Use this suffix.")
        kept = _kept(path, self.model)
        inside = user_path(self.model).exists() and not Path(kept).is_absolute()
        content: dict[str, Any] = {MODEL: f"{BESIDE}{kept}" if inside else kept}
        for name, value in ((EXAMPLES, self.examples), (UNLABELLED, self.unlabelled)):
            if value is not None and not isinstance(value, str | Path):
                raise HeadwayError(f"A prompt can be saved if its {name} are a file. Write them to one first.")
            content |= {} if value is None else {name: _kept(path, value)}
        if self.examples is not None:
            content[FINGERPRINT] = read_table(self.examples, **self.reading).fingerprint()
        defaults = Prompt()
        for one in options_of(Prompt):
            if (value := getattr(self.prompt, one.name)) != getattr(defaults, one.name):
                content[one.name] = list(value) if isinstance(value, tuple) else value
        content |= {**self.columns, **self.reading}
        text = yaml.safe_dump(
            {name.replace("_", "-"): value for name, value in content.items()}, sort_keys=False, allow_unicode=True
        )
        with atomic_file(path, overwrite) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    def open(self, precision: str = AUTO, device: str = AUTO) -> PromptModel:
        """Opens the model, as `Prompt.on`.

        Raises:
            HeadwayError: also if the examples have changed.
        """
        if self.examples is not None and self.fingerprint is not None:
            check_fingerprint(read_table(self.examples, **self.reading), self.fingerprint)
        return self.prompt.on(self.model, precision, device)

    def prepare(self, model: PromptModel, *, paired: bool, data: Table) -> PreparedPrompt:
        """The prompt for labelled rows, without examples that are among them; as `PromptModel.prepare`."""
        return model.prepare(
            self.examples, self.columns, unlabelled=self.unlabelled, paired=paired, data=data, **self.reading
        )


def is_saved_prompt(name: Any) -> bool:
    """Whether the name of a model is that of a file with a prompt."""
    return isinstance(name, str | Path) and str(name).lower().endswith(SUFFIXES)


def check_fingerprint(table: Table, expected: str) -> None:
    """Raises HeadwayError if rows are not those of the fingerprint."""
    if table.fingerprint() != expected:
        raise HeadwayError(
            f"{table.source} has changed since the prompt was saved: its fingerprint is {table.fingerprint()} instead "
            f"of {expected}. Restore the file, or save the prompt again."
        )


def _kept(saved: Path, given: str | Path) -> str:
    """A path as it is written: relative to the folder of the saved prompt if it is below it, else absolute."""
    if not (path := user_path(given)).exists():
        return str(given)  # a name on the Hub, for example
    path, folder = path.absolute(), saved.absolute().parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _found(saved: Path, kept: Any) -> Any:
    """The path that `_kept` wrote."""
    path = saved.absolute().parent / str(kept)
    return str(path) if path.exists() else str(kept)

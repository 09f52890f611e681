"""The models that the page and the HTTP API may open, under the names that people see.

What comes over the network names a model, never a path, and what goes out names none either. A name is looked up among
the folders given when the program was started, the built-in models and the finished runs; a name of the Hub is taken
only where that was allowed. Opened models are kept, the ones not asked for longest are let go.
"""

import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import HeadwayError

if TYPE_CHECKING:
    from ..core.models.heads import Network
    from ..core.tokenizers.tokenizer import Tokenizer
    from ..tasks import Embedder, TaskModel
    from ..tasks.inspection import Inspected

KEPT = 4  # opened models at a time
PLACES = re.compile(r"(?<![\w:/.])/([^\s/]+/)+")  # the folders of this machine in front of a name


class NoSuchModel(HeadwayError):
    """A name that is not on the shelf."""


@dataclass(frozen=True)
class Entry:
    """A model on the shelf."""

    name: str
    folder: Path
    model: str  # bert or gpt2
    task: str | None  # what its head answers; None where there is no head of a known task


class ModelRegistry:
    """Looks models up by name, opens them when they are first asked for, and keeps a few open.

    Args:
        models: folders, built-in names and hub ids that the person named; they come first.
        runs: a folder whose finished models are on the shelf as soon as they are whole.
        built_in: whether the built-in models are on it too.
        hub: whether a name of the Hub may be asked for that was not named.
        precision: of predictions and vectors.
        kept: how many opened models are kept.

    Raises:
        HeadwayError: one of `models` does not exist or is neither a BERT nor a GPT-2; there is no such precision.
    """

    def __init__(
        self,
        models: Sequence[str | Path] = (),
        *,
        runs: Path | None = None,
        built_in: bool = True,
        hub: bool = False,
        precision: str = "auto",
        kept: int = KEPT,
    ) -> None:
        from ..core.atomic_files import user_path
        from ..core.checkpoints.hub import BUILT_IN, find_folder
        from ..tasks.base.precision import CHOICES

        if precision not in CHOICES:
            raise HeadwayError(f"--precision {precision}: say {', '.join(CHOICES[:-1])} or {CHOICES[-1]}.")
        self.runs, self.hub, self.precision, self.kept = runs, hub, precision, kept
        self._named: dict[str, Entry] = {}
        self._of_the_hub: dict[str, Entry] = {}  # that were asked for, so that the Hub is asked once
        self._left_out: set[str] = set()  # runs that cannot be read, each told of once
        self._opened: OrderedDict[tuple[str, str], tuple[Path, float, Any]] = OrderedDict()
        self._lock = threading.RLock()
        for given in models:
            folder = find_folder(given)
            path = user_path(given)
            name = str(given) if str(given) in BUILT_IN or not path.is_dir() else path.resolve().name
            if name in self._named and self._named[name].folder != folder:
                name = str(given)  # two folders of one name go by their paths
            self._named[name] = describe(name, folder)
        if built_in:
            for name, folder in BUILT_IN.items():
                self._named.setdefault(name, describe(name, folder))

    def entries(self) -> list[Entry]:
        """What is on the shelf now: what was named, the finished runs, newest first, and the built-in models."""
        from ..core.checkpoints.hub import BUILT_IN

        named = [entry for name, entry in self._named.items() if name not in BUILT_IN]
        built_in = [entry for name, entry in self._named.items() if name in BUILT_IN]
        return named + [entry for entry in self._finished_runs() if entry.name not in self._named] + built_in

    def _finished_runs(self) -> list[Entry]:
        if self.runs is None or not self.runs.is_dir():
            return []
        found = []
        for config in self.runs.glob("*/config.json"):
            name = config.parent.name
            if name.startswith(".") or name.endswith(".running"):
                continue
            try:
                if (config.parent / "headway.json").exists():
                    found.append((config.stat().st_mtime, describe(name, config.parent)))
            except (HeadwayError, OSError) as error:
                if os.path.exists(config) and name not in self._left_out:  # else it was removed at this very moment
                    self._left_out.add(name)
                    print(f"headway: {error} Until then {name} is left out of the list.", file=sys.stderr)
        return [entry for _, entry in sorted(found, key=lambda one: one[0], reverse=True)]

    def find(self, name: str) -> Entry:
        """The model of this name.

        Raises:
            NoSuchModel: there is none, or it is of the Hub and that is not allowed.
            HeadwayError: it is of the Hub and cannot be had.
        """
        from ..core.checkpoints.hub import HUB_ID, find_folder

        known = {entry.name: entry for entry in self.entries()}
        if name in known:
            return known[name]
        if self.hub and HUB_ID.fullmatch(name) and not os.path.exists(name):
            found = self._of_the_hub.get(name)
            if found is None or not found.folder.is_dir():
                try:
                    found = self._of_the_hub[name] = describe(name, find_folder(name))
                except HeadwayError as error:
                    raise HeadwayError(PLACES.sub("", str(error))) from error
            return found
        raise NoSuchModel(f"There is no model {name!r} here. There are: {', '.join(known) or 'none'}.")

    def task_model(self, name: str) -> "TaskModel":
        """The model with its task, ready to predict.

        Raises:
            HeadwayError: there is no such model, it cannot be read, or it has no head of a known task.
        """

        def opened(entry: Entry) -> "TaskModel":
            from ..tasks import load

            model = load(entry.folder)
            model.precision = self.precision
            return model

        return self._open("task", name, opened)

    def embedder(self, name: str) -> "Embedder":
        """The model as one that makes vectors of texts.

        Raises:
            HeadwayError: there is no such model, or it cannot be read.
        """

        def opened(entry: Entry) -> "Embedder":
            from ..tasks import Embedder

            return Embedder(entry.folder, precision=self.precision)

        return self._open("vectors", name, opened)

    def language_model(self, name: str) -> "tuple[Network, Tokenizer]":
        """GPT-2 with its language-model head, and its tokenizer.

        Raises:
            HeadwayError: there is no such model, it cannot be read, or it is no GPT-2.
        """

        def opened(entry: Entry) -> "tuple[Network, Tokenizer]":
            from ..tasks.language_modeling.loading import load_language_model

            return load_language_model(entry.folder, self.precision)

        return self._open("language model", name, opened)

    def inspected(self, name: str) -> "Inspected":
        """The model with its insides open, a copy of its own: heads can be switched off in it.

        Raises:
            HeadwayError: there is no such model, or it cannot be read.
        """

        def opened(entry: Entry) -> "Inspected":
            from ..tasks.inspection import open_model

            return open_model(entry.folder)

        return self._open("inside", name, opened)

    def _open(self, use: str, name: str, opened: Callable[[Entry], Any]) -> Any:
        entry = self.find(name)
        try:
            changed = (entry.folder / "config.json").stat().st_mtime  # a run may be replaced by one of the same name
        except FileNotFoundError as error:
            raise NoSuchModel(f"The model {name!r} is not here any more. Choose another one.") from error
        with self._lock:
            kept = self._opened.pop((use, entry.name), None)
            if kept is None or kept[:2] != (entry.folder, changed):
                try:
                    kept = (entry.folder, changed, opened(entry))
                except HeadwayError as error:  # whoever asks over the network is not to know where it is
                    said = str(error).replace(str(entry.folder.absolute()), entry.name)
                    raise HeadwayError(said.replace(str(entry.folder), entry.name)) from error
            self._opened[use, entry.name] = kept
            while len(self._opened) > self.kept:
                self._opened.popitem(last=False)
        return kept[2]


def describe(name: str, folder: Path) -> Entry:
    """What kind of model is in a folder, from its small files.

    Raises:
        HeadwayError: they cannot be read, or it is neither a BERT nor a GPT-2.
    """
    from ..core.checkpoints.config_file import published_class, read_config
    from ..core.checkpoints.weight_names import model_of
    from ..tasks import TASKS
    from ..tasks.base.model_folder import read_info

    raw, config = read_config(folder)
    model = model_of(config)
    task = read_info(folder).get("task")
    if task is not None and str(task) not in TASKS:
        raise HeadwayError(
            f"{folder / 'headway.json'}: there is no task {task!r} here. Use the version of Headway that saved it."
        )
    if task is None:
        published = published_class(folder, raw, model)
        heads = [known for known, one in TASKS.items() if not one.headless and published.endswith(one.architecture)]
        task = next(iter(heads), None)
    return Entry(name, folder, model, task)

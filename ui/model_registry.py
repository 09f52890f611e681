"""The models that the browser app and the HTTP API may open, by name.

Clients send the name of a model, never a path, and no response contains a path. A name stands for a folder given at
the start, a built-in model or a finished training run; a name on the Hub is accepted only if that is enabled. The most
recently used models stay open.
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
from ..core.visible import visible

if TYPE_CHECKING:
    from ..core.models.heads import Network
    from ..core.tokenizers.tokenizer import Tokenizer
    from ..tasks import Embedder, TaskModel
    from ..tasks.inspection import InspectedModel

MAX_OPEN = 4  # models
FOLDERS = re.compile(r"(?<![\w:/.])/([^\s/]+/)+|\b[A-Za-z]:\\([^\s\\]+\\)+")  # the folders of an absolute path


FileStates = frozenset[tuple[str, int, int, int]]


class NoSuchModel(HeadwayError):
    """The registry has no model of this name."""


@dataclass(frozen=True)
class Entry:
    """A model of the registry."""

    name: str
    folder: Path
    family: str  # the published model type: bert, roberta, gpt2, encoder-decoder, ...
    task: str | None  # None if it has no head of a known task

    @property
    def model(self) -> str:
        """Our model: bert, gpt2 or encoder-decoder."""
        from ..core.checkpoints.families.registry import family_named, model_of

        return model_of(family_named(self.family).config)


@dataclass(frozen=True)
class StoredModel:
    """A model with its task that is not open; the fields are as in ModelRegistry."""

    folder: Path
    precision: str
    device: str
    long_texts: str | None

    def open(self) -> "TaskModel":
        """Opens the model.

        Raises:
            HeadwayError: it cannot be read, or has no head of a known task.
        """
        from ..tasks import load

        model = load(self.folder, device=self.device)
        model.precision = self.precision
        if self.long_texts is not None and model.task.divides:
            model.set_options(long_texts=self.long_texts)
        return model


class ModelRegistry:
    """Finds models by name, opens them at the first use and keeps a few open.

    Args:
        models: folders, built-in names and Hub ids, listed first.
        runs: folder of training runs; finished runs are listed.
        built_in: whether the built-in models are listed.
        hub: whether other Hub ids may be opened.
        precision: precision of predictions and embeddings.
        device: of all models, by name.
        long_texts: how texts longer than a model's limit are read: "windows" or "cut". None: as the model says.
        max_open: maximum number of models kept open.

    Raises:
        HeadwayError: one of `models` does not exist or is of another kind, the precision is unknown, or this machine
            has no such device.
    """

    def __init__(
        self,
        models: Sequence[str | Path] = (),
        *,
        runs: Path | None = None,
        built_in: bool = True,
        hub: bool = False,
        precision: str = "auto",
        device: str = "auto",
        long_texts: str | None = None,
        max_open: int = MAX_OPEN,
    ) -> None:
        from ..core.atomic_files import user_path
        from ..core.checkpoints.hub import BUILT_IN, find_folder
        from ..core.device import check_device
        from ..tasks.base.precision import PRECISION_CHOICES

        if precision not in PRECISION_CHOICES:
            *others, last = PRECISION_CHOICES
            raise HeadwayError(f"--precision {precision}: choose {', '.join(others)} or {last}.")
        check_device(device)
        if long_texts not in (None, "windows", "cut"):
            raise HeadwayError(f"--long-texts {long_texts}: choose windows or cut.")
        self.runs, self.hub, self.max_open = runs, hub, max_open
        self.precision, self.device, self.long_texts = precision, device, long_texts
        self._named: dict[str, Entry] = {}
        self._hub_entries: dict[str, Entry] = {}  # found on the Hub, which is asked once for each
        self._unreadable: set[str] = set()  # runs that cannot be read, each reported once
        self._open_models: OrderedDict[tuple[str, str], tuple[Path, FileStates, Any]] = OrderedDict()
        self._lock = threading.RLock()
        for given in models:
            folder = find_folder(given)
            path = user_path(given)
            name = str(given) if str(given) in BUILT_IN or not path.is_dir() else path.resolve().name
            if name in self._named and self._named[name].folder != folder:
                name = str(given)  # another folder has the same name
            self._named[name] = describe(name, folder)
        if built_in:
            for name, folder in BUILT_IN.items():
                self._named.setdefault(name, describe(name, folder))

    def entries(self) -> list[Entry]:
        """All models: those given at the start, the finished runs, newest first, and the built-in models."""
        from ..core.checkpoints.hub import BUILT_IN

        named = [entry for name, entry in self._named.items() if name not in BUILT_IN]
        built_in = [entry for name, entry in self._named.items() if name in BUILT_IN]
        return named + [entry for entry in self._finished_runs() if entry.name not in self._named] + built_in

    def text_readers(self) -> list[Entry]:
        """The models that read a text alone, which can be embedded and inspected."""
        return [entry for entry in self.entries() if entry.model != "encoder-decoder"]

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
                if os.path.exists(config) and name not in self._unreadable:  # not removed meanwhile
                    self._unreadable.add(name)
                    print(f"headway: {visible(f'{error} The run {name}')} is not listed until then.", file=sys.stderr)
        return [entry for _, entry in sorted(found, key=lambda one: one[0], reverse=True)]

    def find(self, name: str) -> Entry:
        """Finds a model by name.

        Raises:
            NoSuchModel: the model does not exist, or it is on the Hub and the Hub is not enabled.
            HeadwayError: the model cannot be downloaded from the Hub.
        """
        from ..core.checkpoints.hub import HUB_ID, find_folder

        known = {entry.name: entry for entry in self.entries()}
        if name in known:
            return known[name]
        if self.hub and HUB_ID.fullmatch(name) and not os.path.exists(name):
            found = self._hub_entries.get(name)
            if found is None or not found.folder.is_dir():
                try:
                    found = self._hub_entries[name] = describe(name, find_folder(name))
                except HeadwayError as error:
                    raise HeadwayError(FOLDERS.sub("", str(error))) from error
            return found
        raise NoSuchModel(f"There is no model {name!r}. Available models: {', '.join(known) or 'none'}.")

    def trained_here(self, name: str) -> Entry:
        """Finds a model in the folder of runs, which may be renamed, deleted or changed.

        Raises:
            HeadwayError: there is no such model, or it is built in or was given at the start.
        """
        entry = self.find(name)
        if entry not in self._finished_runs():
            raise HeadwayError(f"{name} was not trained here, so it cannot be changed here. Choose another one.")
        return entry

    def task_model(self, name: str) -> "TaskModel":
        """The model with its task, ready to predict.

        Raises:
            HeadwayError: the model does not exist, cannot be read, or has no head of a known task.
        """
        return self._open("task", name, lambda entry: self._stored(entry).open())

    def zero_shot(self, name: str) -> "TaskModel":
        """The model as one that answers with any labels, which are set later (`sharing.with_options`).

        Raises:
            HeadwayError: the model does not exist, cannot be read, or is no classifier of pairs.
        """

        def open_entry(entry: Entry) -> "TaskModel":
            from ..tasks import as_zero_shot

            return as_zero_shot(self._stored(entry).open(), entry.name)

        return self._open("zero-shot", name, open_entry)

    def knows_entailment(self, entry: Entry) -> bool:
        """Whether a model is a classifier of pairs with a label that means entailment by its name."""
        from ..core.checkpoints.config_file import read_config
        from ..tasks.zero_shot.entailment import knows_entailment

        raw, _ = read_config(entry.folder)
        if entry.task is None or not knows_entailment((raw.get("id2label") or {}).values()):
            return False
        try:
            self.zero_shot(entry.name)
        except HeadwayError:  # a classifier of single texts with such a label
            return False
        return True

    def stored(self, name: str) -> "StoredModel":
        """What another process needs to open the same model.

        Raises:
            HeadwayError: the model does not exist.
        """
        return self._stored(self.find(name))

    def _stored(self, entry: Entry) -> "StoredModel":
        return StoredModel(entry.folder, self.precision, self.device, self.long_texts)

    def embedder(self, name: str) -> "Embedder":
        """The model as an embedder.

        Raises:
            HeadwayError: the model does not exist or cannot be read.
        """

        def open_entry(entry: Entry) -> "Embedder":
            from ..tasks import Embedder

            options = {} if self.long_texts is None else {"long_texts": self.long_texts}
            return Embedder(entry.folder, precision=self.precision, device=self.device, **options)

        return self._open("vectors", name, open_entry)

    def language_model(self, name: str) -> "tuple[Network, Tokenizer]":
        """The GPT-2 model with its language-model head, and its tokenizer.

        Raises:
            HeadwayError: the model does not exist, cannot be read, or is not a GPT-2 model.
        """

        def open_entry(entry: Entry) -> "tuple[Network, Tokenizer]":
            from ..tasks.language_modeling.loading import load_language_model

            return load_language_model(entry.folder, self.precision, self.device)

        return self._open("language model", name, open_entry)

    def prompted_model(self, name: str) -> "tuple[Network, Tokenizer]":
        """As `language_model`, or a masked language model with its head and its tokenizer.

        Raises:
            HeadwayError: as `language_model`, or the model has no head for masked tokens.
        """

        def open_entry(entry: Entry) -> "tuple[Network, Tokenizer]":
            from ..tasks.language_modeling.loading import load_any_language_model

            return load_any_language_model(entry.folder, self.precision, self.device)

        masked = self.find(name).model == "bert"
        return self._open("masked model", name, open_entry) if masked else self.language_model(name)

    def inspected(self, name: str) -> "InspectedModel":
        """The model opened for inspection, separate from the others because its attention heads can be disabled.

        Raises:
            HeadwayError: the model does not exist or cannot be read.
        """

        def open_entry(entry: Entry) -> "InspectedModel":
            from ..tasks.inspection import open_model

            return open_model(entry.folder, self.device)

        return self._open("inside", name, open_entry)

    def _open(self, use: str, name: str, open_entry: Callable[[Entry], Any]) -> Any:
        entry = self.find(name)
        try:
            states = file_states(entry.folder)  # other files may replace those of the same name
        except FileNotFoundError as error:
            raise NoSuchModel(f"The model {name!r} does not exist any more. Choose another one.") from error
        with self._lock:
            found = self._open_models.pop((use, entry.name), None)
            if found is None or found[:2] != (entry.folder, states):
                try:
                    found = (entry.folder, states, open_entry(entry))
                except HeadwayError as error:  # clients must not see the path
                    message = str(error).replace(str(entry.folder.absolute()), entry.name)
                    raise HeadwayError(message.replace(str(entry.folder), entry.name)) from error
            self._open_models[use, entry.name] = found
            while len(self._open_models) > self.max_open:
                self._open_models.popitem(last=False)
        return found[2]


def file_states(folder: Path) -> FileStates:
    """Name, size, modification time and inode of every file of a model folder, which show that one was replaced.

    Raises:
        FileNotFoundError: there is no model in the folder any more.
    """
    with os.scandir(folder) as files:
        found = {file.name: file.stat() for file in files if file.is_file()}
    if "config.json" not in found:
        raise FileNotFoundError(folder / "config.json")
    return frozenset((name, one.st_size, one.st_mtime_ns, one.st_ino) for name, one in found.items())


def describe(name: str, folder: Path) -> Entry:
    """Describes the model in a folder, from its small files.

    Raises:
        HeadwayError: the files cannot be read, or the model is of another kind.
    """
    from ..core.checkpoints.config_file import published_class, read_config
    from ..core.checkpoints.families.registry import family_of
    from ..tasks import TASKS
    from ..tasks.base.model_folder import read_info

    raw, config = read_config(folder)
    family = family_of(config)
    task = read_info(folder).get("task")
    if task is not None and str(task) not in TASKS:
        raise HeadwayError(
            f"{folder / 'headway.json'}: unknown task {task!r}. Use the version of Headway that saved the model."
        )
    if task is None:
        published = published_class(folder, raw, family)
        heads = [known for known, one in TASKS.items() if not one.headless and published.endswith(one.architecture)]
        task = next(iter(heads), None)
    return Entry(name, folder, family.model_type, task)

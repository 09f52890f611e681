"""The options that every task has, and how a task's fields are stored, reset and changed."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

from ...core.errors import HeadwayError
from ...core.options import check_choices, check_option, is_integer, is_of_type, option, options_of
from ...core.tokenizers.vocabulary import Model

if TYPE_CHECKING:
    from ...core.models.heads import Config
    from ...core.tokenizers.tokenizer import Tokenizer

SHORTEST_LIMIT = 8  # tokens; two texts and their special tokens need about as many


@dataclass(frozen=True)
class TaskOptions:
    """The fields of a task: options that the user sets (made with `option`), and what was found in data.

    Args:
        max_length: longest sequence in tokens.
        long_texts: "windows" or "cut".
        overlap: tokens that neighbouring windows share.
        keep_examples: number of held-out texts in the model folder.
    """

    max_length: int | None = option(
        None, "Maximum sequence length in tokens, including special tokens. Default: the model's limit."
    )
    long_texts: str = option(
        "windows",
        "How to read longer texts. windows: in overlapping windows; cut: only their beginning.",
        choices=("windows", "cut"),
        when="always",
    )
    overlap: int | None = option(
        None,
        "Minimum number of tokens that neighbouring windows share. Default: an eighth of a window or more.",
    )

    keep_examples: int = option(
        4, "Number of held-out texts that are stored in the model folder, as examples to try; 0: none."
    )

    name: ClassVar[str]
    divides: ClassVar[bool] = True  # whether a long text can be read in windows
    undivided: ClassVar[str] = "end"  # how one is read that cannot: its end, or cut as options say
    request_options: ClassVar[tuple[str, ...]] = ()  # that a request to a server may set for its own inputs
    new_model: ClassVar[Model | None] = None  # what the task trains from random weights; None: nothing

    @property
    def pipeline_tag(self) -> str:
        """The Hub's name of what the model does."""
        return self.name

    @property
    def truncates(self) -> bool:
        """Whether a part of a long input may not be read."""
        return not self.divides or self.long_texts == "cut"

    @property
    def cut_note(self) -> str:
        """The option by which a part of a long input is not read, for messages."""
        return "--long-texts cut"

    def __post_init__(self) -> None:
        check_choices(self)
        check_option(self, "keep_examples", is_integer(self.keep_examples, 0), "an integer, 0 or more")
        if self.max_length is not None and self.max_length < SHORTEST_LIMIT:
            raise HeadwayError(f"--max-length {self.max_length}: at least {SHORTEST_LIMIT} tokens are needed.")
        if self.overlap is not None and self.overlap < 0:
            raise HeadwayError(f"--overlap {self.overlap}: a number of tokens, 0 or more.")

    def limit(self, most: int, model: str) -> int:
        """The longest sequence in tokens, special tokens included.

        Args:
            most: tokens that the model reads at most.
            model: its name, for messages.

        Raises:
            HeadwayError: the options do not fit the model.
        """
        limit = self.max_length or most
        if limit > most:
            raise HeadwayError(f"--max-length {limit}: {model} reads at most {most} tokens.")
        if self.overlap is not None and self.overlap > limit // 2:
            raise HeadwayError(f"--overlap {self.overlap}: at most half a window of {limit} tokens is possible.")
        return limit

    def for_model(self, config: "Config") -> Self:  # noqa: ARG002
        """A copy for a model with this configuration."""
        return self

    def for_folder(self, folder: Path) -> Self:  # noqa: ARG002
        """A copy for training the model of a folder, with what its files say about reading texts."""
        return self

    def with_new_head(self, new: Sequence[str], tokenizer: "Tokenizer", model: str) -> Self:  # noqa: ARG002
        """A copy for a head that is not reused, before it is trained; may refuse the model.

        Args:
            new: the parameters of the head that the model's folder does not have.
            tokenizer: of the model.
            model: its name, for messages.
        """
        return self

    def reset(self) -> Self:
        """A copy with the same options, whose other fields have their default values again."""
        found: dict[str, Any] = {}
        for field in fields(self):
            if not field.metadata and field.default is not MISSING:
                found[field.name] = field.default
            elif not field.metadata and field.default_factory is not MISSING:
                found[field.name] = field.default_factory()
        return replace(self, **found)

    def with_options(self, given: Mapping[str, Any]) -> Self:
        """A copy with other values of options that may be changed on a trained model.

        Raises:
            HeadwayError: it has no such option, or the value is not possible.
        """
        types = {found.name: found.type for found in options_of(type(self), "after")}
        values: dict[str, Any] = {}
        for name, value in given.items():
            typed = f"--{name.replace('_', '-')}"
            if name not in types:
                known = ", ".join(f"--{one.replace('_', '-')}" for one in types)
                has = f"Options that can be: {known}." if known else "Remove it."
                raise HeadwayError(f"{typed} cannot be set on a trained model for {self.name}. {has}")
            # An option that another task reads as text arrives as text from the command line.
            values[name] = _read_number(typed, value) if types[name] is float and isinstance(value, str) else value
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> Self:
        """The task with these fields; lists become tuples.

        Raises:
            HeadwayError: a field is unknown, or a value is not possible.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise HeadwayError(
                f"The model folder has options of {cls.name} that this version does not know: {', '.join(unknown)}. "
                "Update Headway, or train the model again."
            )
        frozen: dict[str, Any] = {
            key: _as_tuples(value) if isinstance(value, list) else value for key, value in options.items()
        }
        types = get_type_hints(cls)
        for key, value in frozen.items():
            if not is_of_type(value, types[key]):
                raise HeadwayError(
                    f"The model folder says {key}={repr(value)[:99]} for {cls.name}, which is not possible. Copy the "
                    "folder again from its source, or train the model again."
                )
        return cls(**frozen)


def _as_tuples(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_as_tuples(value) if isinstance(value, list) else value for value in values)


def _read_number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise HeadwayError(f"{flag} {text} is invalid; it must be a number.") from error

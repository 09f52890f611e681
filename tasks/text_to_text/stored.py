"""A model for text to text where texts are continued: its template, its generation options, and where inputs are cut.

The command line, the HTTP API and the browser read them here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.hub import find_folder
from ..base.model_folder import read_info
from .generation_options import GENERATION, overrule
from .predictions import PairExample
from .template import PairTemplate
from .text_to_text import TextToText

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class StoredPrompt:
    """An input in the template of a model."""

    text: str
    ids: list[int]  # what is read of it
    num_unread: int  # tokens of the input that are cut


@dataclass(frozen=True)
class StoredTask:
    """How a model folder for text to text reads inputs and generates outputs."""

    task: TextToText

    @property
    def template(self) -> PairTemplate:
        """The template."""
        return self.task.pair_template

    def prompt(self, text: str, tokenizer: "Tokenizer", most: int, max_new_tokens: int) -> StoredPrompt:
        """What a decoder reads for an input, cut where the model's inputs are cut.

        Args:
            text: the input.
            tokenizer: of the model.
            most: tokens that the model reads at most.
            max_new_tokens: the number of tokens for which to leave room.
        """
        limit = self.task.limit(most, "the model")
        task = replace(self.task, max_new_tokens=max_new_tokens)
        (found,) = task.encode([PairExample(0, "", text)], tokenizer, limit)
        return StoredPrompt(self.template.prompt(text), found.input_ids, found.length - len(found.input_ids))

    def options(self, given: Mapping[str, Any], *, as_written: bool = False) -> dict[str, Any]:
        """The stored generation options and the given ones, which come before stored ones that contradict them.

        Args:
            given: fields of GenerationConfig.
            as_written: whether the text is shown while it is generated, so that there is no beam search.
        """
        return overrule({name: getattr(self.task, name) for name in GENERATION}, given, as_written=as_written)


def find_stored(model: str | Path) -> StoredTask | None:
    """How a model folder for text to text generates; None for another model.

    Raises:
        HeadwayError: there is no such model, or its headway.json is damaged.
    """
    info = read_info(find_folder(model))
    if info.get("task") != TextToText.name:
        return None
    return StoredTask(TextToText.from_json(info.get("options", {})))

"""From a request for generation to what the model continues: a text, or an input in the template of its task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ...core.generation.generation_config import GenerationConfig
    from ..model_registry import ModelRegistry
    from .request_bodies import GenerateRequest


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt and the options of its continuation."""

    text: str
    given: str | Sequence[int]  # to the model
    config: "GenerationConfig"
    truncated: bool  # whether a part of the input is not read

    @classmethod
    def of(cls, registry: "ModelRegistry", name: str, body: "GenerateRequest") -> Self:
        """The prompt of a request; a text-to-text model has its own template and options.

        Raises:
            HeadwayError: the model cannot be opened.
        """
        from ...core.generation.generation_config import GenerationConfig
        from ...tasks.text_to_text.stored import find_stored

        stored = None if body.plain else find_stored(registry.find(name).folder)
        if stored is None:
            return cls(body.prompt, body.prompt, GenerationConfig(**body.options), truncated=False)
        config = GenerationConfig(**stored.options(body.options, as_written=body.stream))
        network, tokenizer = registry.language_model(name)
        found = stored.prompt(body.prompt, tokenizer, network.config.max_positions, config.max_new_tokens)
        return cls(found.text, found.ids, config, found.num_unread > 0)

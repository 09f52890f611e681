"""The limits of a server, which are options of `headway serve`."""

from dataclasses import dataclass

from ...core.errors import HeadwayError
from ...core.options import option


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    max_body: float = option(2.0, "Maximum size of a request body in megabytes.")
    max_texts: int = option(256, "Maximum number of texts in a request.")
    max_characters: int = option(100_000, "Maximum length of a text in characters.")
    max_queue: int = option(256, "Maximum number of waiting requests per model; further ones are refused.")
    max_new_tokens: int = option(1024, "Maximum number of tokens that a request may generate.")
    max_samples: int = option(8, "Maximum number of samples, or beams, that a request may ask for.")
    timeout: float = option(30.0, "Maximum time of a request in seconds; of a stream, the time of each piece.")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise HeadwayError(f"--{name.replace('_', '-')} {value}: it must be above 0.")

    @property
    def max_body_bytes(self) -> int:
        """`max_body` in bytes."""
        return int(self.max_body * 1_000_000)

"""The options of generation: the command line's flags and the browser's form are made from these fields."""

from dataclasses import dataclass

from ..errors import HeadwayError
from ..options import check_choices, check_option, is_integer, is_number, option


@dataclass(frozen=True)
class GenerationConfig:
    """How a text is continued; every field carries its help text (and choices) in its metadata.

    Raises:
        HeadwayError: a value is not possible, or two do not go together; the message names them and what is allowed.
    """

    max_new_tokens: int = option(40, "New tokens at most.")
    temperature: float | None = option(
        None,
        "Above 0: draw the next token, the higher the bolder. 0: always the likeliest (greedy). "
        "None: 1 where another option asks for drawing, otherwise 0.",
    )
    top_k: int | None = option(None, "Draw from so many likeliest tokens only.")
    top_p: float | None = option(None, "Draw from the fewest likeliest tokens that have this probability together.")
    min_p: float | None = option(None, "Draw from tokens at least so likely as this share of the likeliest one.")
    repetition_penalty: float = option(1.0, "Above 1: tokens that are there already become less likely.")
    samples: int = option(1, "Texts a prompt: drawn independently or, with beams, the best so many.")
    beams: int = option(1, "Texts that a beam search for the likeliest text follows; 1: no beam search.")
    length_penalty: float = option(1.0, "A beam's score is divided by its length to this power.")
    early_stopping: str = option(
        "no",
        "When a beam search ends: yes, with as many finished texts as beams; no, when the running ones are unlikely "
        "to become better than those; never, when they cannot.",
        ("no", "yes", "never"),
    )
    stop: tuple[str, ...] = option((), "Texts that end the answer; they are not part of it.")
    context: str = option(
        "stop",
        "When the model's context is full: stop, or slide, which forgets the older half of it and goes on.",
        ("stop", "slide"),
    )
    seed: int = option(0, "Of what is drawn: the same seed gives the same texts, whatever else is in the batch.")

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "samples", "beams"):
            check_option(self, name, is_integer(getattr(self, name), 1), "an integer above 0")
        check_option(self, "top_k", is_integer(self.top_k, 1), "an integer above 0", optional=True)
        check_option(self, "seed", is_integer(self.seed, 0), "an integer, 0 or more")
        # Divided by less, logits leave the range of fp32.
        warmth = self.temperature
        fine = warmth is None or (is_number(warmth) and (warmth == 0 or warmth >= 1e-3))
        check_option(self, "temperature", fine, "0, or at least 0.001, or none")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            check_option(self, name, is_number(value) and 0 < value <= 1, "above 0 and at most 1", optional=True)
        penalty = self.repetition_penalty
        check_option(self, "repetition_penalty", is_number(penalty) and penalty > 0, "above 0")
        check_option(self, "length_penalty", is_number(self.length_penalty), "a number")
        check_choices(self)
        texts = isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop)
        check_option(self, "stop", texts, "a tuple of texts, none of them empty")
        self._need_agreement()

    @property
    def draws(self) -> bool:
        """Whether the next token is drawn at random."""
        if self.temperature is not None:
            return self.temperature > 0
        return self.beams == 1 and (self.samples > 1 or bool(self._limits()))

    def _limits(self) -> list[str]:
        """The options given that limit what is drawn from."""
        return [
            f"{name}={value}" for name in ("top_k", "top_p", "min_p") if (value := getattr(self, name)) is not None
        ]

    def _need_agreement(self) -> None:
        drawing = [f"temperature={self.temperature}"] if self.temperature else []
        drawing += self._limits()
        if self.beams > 1:
            if drawing:
                raise HeadwayError(
                    f"beams={self.beams} looks for the likeliest text, {drawing[0]} draws at random. Leave out one."
                )
            if self.samples > self.beams:
                raise HeadwayError(
                    f"samples={self.samples} of beams={self.beams} are not possible. Give as many beams at least."
                )
            if self.context == "slide":
                raise HeadwayError(
                    f"beams={self.beams} compares whole texts and does not go with context=slide. Use context=stop."
                )
        elif self.temperature == 0 and (drawing or self.samples > 1):
            drawing += [f"samples={self.samples}"]
            raise HeadwayError(
                f"temperature=0 always takes the likeliest token, {drawing[0]} draws at random. Leave out one."
            )

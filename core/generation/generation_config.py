"""The options of text generation, for the command line, configuration files, the browser and the HTTP API."""

from dataclasses import dataclass

from ..errors import HeadwayError
from ..options import check_choices, check_option, is_integer, is_number, option, with_aliases

MAX_NEW_TOKENS = 100_000  # a book
MIN_TEMPERATURE = 1e-3  # logits divided by less leave the range of fp32
MAX_TEMPERATURE = 1e6  # above it, all tokens are equally likely
MAX_REPETITION_PENALTY = 1e3  # and its inverse: logits multiplied by more leave the range of fp32
MAX_LENGTH_PENALTY = 100.0  # and its negative: lengths to a higher power leave the range of fp64


@with_aliases
@dataclass(frozen=True)
class GenerationConfig:
    """How a text is continued; each field carries its help text (and choices) in its metadata.

    Raises:
        HeadwayError: a value is not possible, or two options contradict each other; the message names them.
    """

    max_new_tokens: int = option(40, "Maximum number of new tokens.")
    temperature: float | None = option(
        None,
        "Above 0: sample the next token; higher values give more varied text. 0: always take the most likely token "
        "(greedy). None: 1 if another option needs sampling, otherwise 0.",
    )
    top_k: int | None = option(None, "Sample from the k most likely tokens.")
    top_p: float | None = option(
        None, "Sample from the smallest set of most likely tokens whose probabilities add up to p."
    )
    min_p: float | None = option(
        None, "Sample from the tokens whose probability is at least this fraction of the most likely token's."
    )
    repetition_penalty: float = option(1.0, "Above 1: tokens that occur in the text already become less likely.")
    no_repeat_ngram_size: int | None = option(None, "Never repeat a sequence of N tokens of the text.")
    num_return_sequences: int = option(
        1, "Texts per prompt: independent samples or, in a beam search, the best beams.", alias="samples"
    )
    num_beams: int = option(1, "Beams of a beam search; 1: no beam search.", alias="beams")
    length_penalty: float = option(1.0, "The score of a beam is divided by its length to this power.")
    early_stopping: str = option(
        "no",
        "When a beam search ends. yes: when there are as many finished texts as beams; no: when a better text is "
        "unlikely; never: when a better text is impossible.",
        ("no", "yes", "never"),
    )
    stop: tuple[str, ...] = option((), "Strings that end the text; they are not part of it.")
    context: str = option(
        "stop",
        "What happens when the model's context is full. stop: the text ends; slide: the older half of the context is "
        "dropped.",
        ("stop", "slide"),
    )
    seed: int = option(0, "Random seed of sampling; the same seed gives the same text in any batch.")

    def __post_init__(self) -> None:
        for name in ("num_return_sequences", "num_beams"):
            check_option(self, name, is_integer(getattr(self, name), 1), "an integer above 0")
        valid = is_integer(self.max_new_tokens, 1) and self.max_new_tokens <= MAX_NEW_TOKENS
        check_option(self, "max_new_tokens", valid, f"an integer from 1 to {MAX_NEW_TOKENS:,}")
        valid = is_integer(self.no_repeat_ngram_size, 1)
        check_option(self, "no_repeat_ngram_size", valid, "an integer above 0", optional=True)
        check_option(self, "top_k", is_integer(self.top_k, 1), "an integer above 0", optional=True)
        check_option(self, "seed", is_integer(self.seed, 0), "an integer, 0 or more")
        value = self.temperature
        valid = value is None or (is_number(value) and (value == 0 or MIN_TEMPERATURE <= value <= MAX_TEMPERATURE))
        check_option(self, "temperature", valid, f"0, or {MIN_TEMPERATURE} to {MAX_TEMPERATURE:,.0f}, or none")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            check_option(self, name, is_number(value) and 0 < value <= 1, "above 0 and at most 1", optional=True)
        penalty, most = self.repetition_penalty, MAX_REPETITION_PENALTY
        valid = is_number(penalty) and 1 / most <= penalty <= most
        check_option(self, "repetition_penalty", valid, f"{1 / most:g} to {most:,.0f}")
        valid = is_number(self.length_penalty) and abs(self.length_penalty) <= MAX_LENGTH_PENALTY
        check_option(self, "length_penalty", valid, f"-{MAX_LENGTH_PENALTY:g} to {MAX_LENGTH_PENALTY:g}")
        check_choices(self)
        texts = isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop)
        check_option(self, "stop", texts, "a tuple of non-empty strings")
        self._check_combinations()

    @property
    def do_sample(self) -> bool:
        """Whether the next token is sampled."""
        if self.temperature is not None:
            return self.temperature > 0
        return self.num_beams == 1 and (self.num_return_sequences > 1 or bool(self._filters()))

    def _filters(self) -> list[str]:
        """The options that limit which tokens are sampled from, as NAME=VALUE."""
        return [
            f"{name}={value}" for name in ("top_k", "top_p", "min_p") if (value := getattr(self, name)) is not None
        ]

    def _check_combinations(self) -> None:
        beams, texts = f"num_beams={self.num_beams}", f"num_return_sequences={self.num_return_sequences}"
        sampling = [f"temperature={self.temperature}"] if self.temperature else []
        sampling += self._filters()
        if self.num_beams > 1:
            if sampling:
                raise HeadwayError(
                    f"{beams} searches for the most likely text, but {sampling[0]} samples at random. Drop one."
                )
            if self.num_return_sequences > self.num_beams:
                raise HeadwayError(f"{texts} of {beams} are not possible. Use at least as many beams as texts.")
            if self.context == "slide":
                raise HeadwayError(f"{beams} compares whole texts and cannot use context=slide. Use context=stop.")
        elif self.temperature == 0 and (sampling or self.num_return_sequences > 1):
            option = (sampling or [texts])[0]
            raise HeadwayError(
                f"temperature=0 always takes the most likely token, but {option} samples at random. Drop one."
            )

"""The options of a learning curve, for the command line, configuration files and the browser."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ...core.options import check_choices, is_number, option
from ..prompting.scoring import DIRECT, SCORINGS

ZERO_SHOT, PROMPT, FROZEN, FEW_SHOT, FINE_TUNE = "zero-shot", "prompt", "frozen", "few-shot", "fine-tune"
METHODS = (ZERO_SHOT, PROMPT, FROZEN, FEW_SHOT, FINE_TUNE)  # the cheapest first
PROMPTING = (ZERO_SHOT, PROMPT)
SIZES = (8, 16, 32, 64, 128, 256)
MOST_SEEDS = 100


@dataclass(frozen=True)
class CurveOptions:
    """What a learning curve compares; lists may be texts with commas.

    Raises:
        HeadwayError: a value is not possible; the message names the option, the value and the possible values.
    """

    methods: tuple[str, ...] = option(
        METHODS,
        "Methods, separated by commas. zero-shot: one score without labelled rows, by entailment "
        "(--zero-shot-model) or by a prompt without demonstrations; prompt: demonstrations for a language model; "
        "frozen, few-shot and fine-tune: headway train with --frozen, with --few-shot and without either.",
    )
    sizes: tuple[int, ...] = option(
        SIZES,
        "Numbers of labelled rows, separated by commas: rows in total, not per label. Each label has about its share "
        "of the data, and at least one row.",
    )
    seeds: int = option(
        5,
        "Number of draws of the rows of each size, which are also the seeds of training. In one draw, the smaller "
        "sizes are parts of the larger ones.",
    )
    minutes: float | None = option(
        None,
        "Time for all runs, those that are stored already included. Each method has an equal part, and what quick "
        "methods leave is for the others; a run is left out if it would probably take too long, judged by the runs "
        "before. Small sizes come first, each with 3 draws.",
    )
    model: str = option("mini-bert", "Model of frozen, few-shot and fine-tune: a folder, a built-in model or a name.")
    prompt_model: str = option(
        "mini-gpt2", "Language model of prompt, GPT-2 or BERT, and of zero-shot without --zero-shot-model."
    )
    zero_shot_model: str | None = option(
        None,
        "Classifier of pairs trained for natural language inference (on the Hub: names with mnli or nli), with which "
        "zero-shot answers by entailment. Default: none; zero-shot prompts --prompt-model without demonstrations.",
    )
    hypothesis: str | None = option(
        None, "Sentence of --zero-shot-model for each label. Default: This text is about {label}."
    )
    metric: str | None = option(None, "Metric of the curve. Default: accuracy, or f1 where texts have several labels.")
    test_rows: int = option(1000, "Maximum number of test rows; of more, a random part is used.")
    shots: int = option(8, "Number of demonstrations of the method prompt, chosen from the rows of its size.")
    scoring: str = option(
        DIRECT,
        "How prompts score labels, as for headway prompt; knn compares with all rows, so that more of them help. "
        "zero-shot has no rows, and direct in the place of knn.",
        choices=SCORINGS,
    )
    template: str | None = option(None, "Template of prompts, as for headway prompt.")
    verbalize: tuple[str, ...] = option((), "How prompts and hypotheses spell labels: 0=negative,1=positive.")

    def __post_init__(self) -> None:
        for name in ("methods", "sizes", "verbalize"):
            object.__setattr__(self, name, tuple(dict.fromkeys(_parts(getattr(self, name)))))
        check_choices(self)
        for method in self.methods:
            if method not in METHODS:
                raise HeadwayError(f"--methods {method}: one or several of {', '.join(METHODS)}.")
        if not self.methods:
            raise HeadwayError(f"--methods is empty: name one or several of {', '.join(METHODS)}.")
        object.__setattr__(self, "sizes", tuple(sorted(_whole("sizes", size, 2) for size in self.sizes)))
        if not self.sizes:
            raise HeadwayError("--sizes is empty: name numbers of rows, for example --sizes 8,16,32.")
        for name, least in (("seeds", 1), ("test_rows", 1), ("shots", 1)):
            object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        if self.seeds > MOST_SEEDS:
            raise HeadwayError(f"--seeds {self.seeds}: an integer from 1 to {MOST_SEEDS}.")
        if self.hypothesis is not None and self.zero_shot_model is None:
            raise HeadwayError("--hypothesis is the sentence of --zero-shot-model: name a model, or omit it.")
        if self.minutes is not None and not (is_number(self.minutes) and self.minutes > 0):
            raise HeadwayError(f"--minutes {self.minutes}: a number above 0.")


def _parts(value: Any) -> list[str]:
    """The parts of a list whose elements may be joined by commas."""
    values: Iterable[Any] = (value,) if isinstance(value, str | int) else value
    return [part.strip() for one in values for part in str(one).split(",") if part.strip()]


def _whole(name: str, value: Any, least: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or int(text) < least:
        raise HeadwayError(f"--{name.replace('_', '-')} {value}: a whole number, {least} or more.")
    return int(text)

"""Few-shot prompting: GPT-2 chooses among labels, or writes an answer, from a description and some worked examples.

Brown et al. 2020 (https://arxiv.org/abs/2005.14165). Nothing is trained: a prompt with its labels stands in for a
trained classifier and gives the same kind of predictions. How a prompt is laid out is in templates.py, which examples
it shows in demonstrations.py, how likely labels are in label_scores.py, what is taken out again in calibration.py,
the model that is asked in model.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import HeadwayError
from ...core.options import check_choices, option
from ..base.precision import AUTO
from ..data.labels import ONE, SEVERAL
from ..language_modeling.loading import load_language_model
from .calibration import BATCH, CONTEXTUAL, NONE
from .demonstrations import BALANCED, CHOICES, NEAREST
from .templates import Template, find_template

if TYPE_CHECKING:
    from .model import PromptModel


@dataclass(frozen=True)
class Prompt:
    """How a language model is asked: which labels there are, how texts and worked examples are laid out.

    Frozen; its fields are options. Lists become tuples, and `verbalize` may be a mapping of labels to words.

        model = Prompt(labels=["good", "bad"], template="Review: {text}\\nIt is {label}").on("gpt2")
        model.predict(texts, examples=[("what a film", "good"), ("two lost hours", "bad")])

    Raises:
        HeadwayError: a value is not possible.
    """

    labels: tuple[str, ...] = option(
        (), "What to choose among, also joined by commas; the data may then give a label's place, from 0. "
        "Left out: the labels of the examples.",
    )  # fmt: skip
    template: str | None = option(
        None,
        r"A text with {text}, {pair} for the second of a pair, and {label} where the answer goes; \n is a new line. "
        "Or the name of a built-in one: sentiment, topic, question-type, entailment, translation.",
    )
    description: str | None = option(None, "What the prompt begins with; empty: nothing. Left out: the template's.")
    verbalize: tuple[str, ...] = option(
        (), "How labels are said in the prompt: 0=negative,1=positive. Answers have the labels' own names."
    )
    problem_type: str | None = option(
        None, "What a label is; guessed from the examples if left out.", choices=(ONE, SEVERAL)
    )
    normalize: bool = option(False, "Whether a label goes by the mean of its tokens instead of their sum.")
    shots: int = option(8, "Worked examples before each text, if there are so many.")
    choice: str = option(
        BALANCED,
        "Which examples: balanced over the labels, random, the first of the file, or those nearest to each text.",
        choices=CHOICES,
    )
    nearest_by: str | None = option(
        None, "A BERT or GPT-2 whose vectors tell which examples are near. Left out: the model's own."
    )
    orders: int = option(1, "Orders of the worked examples to average over; the spread is shown.")
    calibration: str = option(
        CONTEXTUAL,
        "contextual takes out what the model says about texts without content; batch what it says on average, "
        "about --unlabelled texts or those that are asked about.",
        choices=(CONTEXTUAL, BATCH, NONE),
    )
    write: bool = option(False, "Write an answer instead of choosing one; the examples' labels are answers.")
    stop: tuple[str, ...] = option((), r"Texts that end a written answer. Left out: the end of the line, \n.")
    max_new_tokens: int = option(40, "Tokens of a written answer at most.")
    seed: int = option(0, "Of the choice of examples and of their orders.")

    def __post_init__(self) -> None:
        pairs = self.verbalize
        if isinstance(pairs, Mapping):
            object.__setattr__(self, "verbalize", tuple(f"{label}={words}" for label, words in pairs.items()))
        for name in ("labels", "verbalize", "stop"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(map(str, value)))
        for name, least in (("shots", 0), ("orders", 1), ("max_new_tokens", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise HeadwayError(f"--{name.replace('_', '-')} {value}: a whole number, {least} or more.")
        check_choices(self)
        if len(self.labels) == 1 or len(set(self.labels)) < len(self.labels):
            raise HeadwayError(f"--labels {','.join(self.labels)}: at least two are needed, and each of them once.")
        if any(not label.strip() for label in self.labels):
            raise HeadwayError("--labels: one of them is empty. Give it a name.")
        for said in self.verbalize:
            label, equals, words = said.partition("=")
            if not (equals and label.strip() and words.strip()):
                raise HeadwayError(f"--verbalize {said}: say LABEL=WORDS, as in 0=negative,1=positive.")
        if self.nearest_by and self.choice != NEAREST:
            raise HeadwayError("--nearest-by has a meaning with --choice nearest only. Add that, or leave it out.")
        if self.writes and self.labels:
            raise HeadwayError("--labels are for choosing an answer, and here one is written. Leave them out.")
        if self.writes and self.orders > 1:
            raise HeadwayError(f"--orders {self.orders}: written answers cannot be averaged. Leave it out.")

    @property
    def layout(self) -> Template | None:
        """The template; None where it depends on whether the data has pairs."""
        return None if self.template is None else find_template(self.template)

    @property
    def writes(self) -> bool:
        """Whether answers are written instead of chosen."""
        return self.write or (self.layout is not None and self.layout.writes)

    def on(self, model: str | Path, precision: str = AUTO) -> "PromptModel":
        """Puts the prompt to a GPT-2: a folder, a built-in name or a hub id.

        Args:
            model: which.
            precision: one of `headway.tasks.precision.CHOICES`.

        Raises:
            HeadwayError: there is no such model or precision, it cannot be read, or it is no GPT-2.
        """
        from .model import PromptModel

        return PromptModel(self, *load_language_model(model, precision), str(model))

"""Prompt templates: plain text with {text} and {label}, or with {input} and {output} where the answer is generated.

The built-in templates follow Brown et al. 2020 (https://arxiv.org/abs/2005.14165, appendix G): named fields, one per
line.

    Review: {text}
    Sentiment: {label}

A demonstration has its label at {label}; the query ends before {label}, or a masked language model reads masks there
and the text after it. The description, the demonstrations and the
query are separated by an empty line. prompt_encoder.py turns them into tokens. The templates of text to text are those
that a model can also be trained with: ../text_to_text/instructions.py.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from ...core.errors import HeadwayError
from ..text_to_text.instructions import INSTRUCTIONS, SUMMARIZE, find_instruction

SEPARATOR = "\n\n"
PLACEHOLDERS = ("text", "pair", "label")
WRITTEN = {"input": "text", "output": "label"}  # names of the same places in templates of text to text
MAX_NEW_TOKENS = 40  # of a generated answer
SUMMARY_TOKENS = 100  # Radford et al. 2019, section 3.6
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """The layout of a query and of a demonstration."""

    before: str  # the text before the label, with {text} and optionally {pair}; without them if the label is first
    after: str = ""
    description: str = ""
    words: Mapping[str, str] = field(default_factory=dict)  # label in the data -> how the prompt spells it
    writes: bool = False  # whether the model generates the answer instead of choosing a label
    max_new_tokens: int = MAX_NEW_TOKENS  # of a generated answer

    @classmethod
    def parse(cls, template: str) -> Self:
        """Reads a template that a user wrote. Without {label}, the answer follows at the end, after a space.

        {input} and {output} stand for {text} and {label}; with {output} the answer is generated.

        Raises:
            HeadwayError: {text} is missing, a placeholder is unknown, or {label} is repeated.
        """
        shown = repr(template)
        writes = "{output}" in template
        template = PLACEHOLDER.sub(lambda match: f"{{{WRITTEN.get(match[1], match[1])}}}", template)
        names = [match[1] for match in PLACEHOLDER.finditer(template)]
        for name in names:
            if name not in PLACEHOLDERS:
                near = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
                hint = f" Did you mean {{{near[0]}}}?" if near else ""
                raise HeadwayError(
                    f"The template {shown} has an unknown placeholder {{{name}}}.{hint} "
                    "Use {text}, {pair} (the second text of a pair) and {label}."
                )
        if "text" not in names:
            near = difflib.get_close_matches(template, BUILT_IN, n=1)
            hint = f"Did you mean the built-in template {near[0]!r}? Otherwise add it" if near else "Add it"
            raise HeadwayError(
                f"The template {shown} has no {{text}}, which stands for the text to label. "
                rf'{hint}, as in "Text: {{text}}\nLabel: {{label}}", or choose a built-in template: '
                f"{', '.join(BUILT_IN)}."
            )
        if names.count("label") > 1:
            raise HeadwayError(f"The template {shown} has {{label}} more than once. Keep one, where the answer goes.")
        before, _, after = template.partition("{label}") if "label" in names else (f"{template.rstrip()} ", "", "")
        return cls(before, after, writes=writes)

    def refuse_text_after_label(self) -> None:
        """Raises HeadwayError if a text is after {label}: only a masked language model reads it before it answers."""
        if found := PLACEHOLDER.search(self.after):
            raise HeadwayError(
                f"The template {self.text!r} has {found[0]} after {{label}}, but the query ends at {{label}}. Move it "
                "before {label}, or score the text after each label (--scoring channel)."
            )

    @property
    def text(self) -> str:
        """The template as a user writes it."""
        return f"{self.before}{{label}}{self.after}"

    @property
    def paired(self) -> bool:
        """Whether it has two texts."""
        return "{pair}" in self.before + self.after

    @property
    def label_first(self) -> bool:
        """Whether the texts follow the label."""
        return PLACEHOLDER.search(self.after) is not None

    def with_label_first(self) -> Self:
        """The same layout with the label, and what is between the texts and the label, moved before the texts.

        Raises:
            HeadwayError: there are texts before and after the label.
        """
        if self.label_first:
            if found := PLACEHOLDER.search(self.before):
                raise HeadwayError(
                    f"The template {self.text!r} has {found[0]} before {{label}} and another text after it. Move both "
                    "to the same side of {label}."
                )
            return self
        *_, last = PLACEHOLDER.finditer(self.before)
        texts, between = self.before[: last.end()], self.before[last.end() :]
        space = between[: len(between) - len(between.lstrip())] or "\n"
        return replace(self, before=between.lstrip(), after=f"{self.after.rstrip()}{space}{texts}")

    def query(self, text: str, pair: str | None = None) -> str:
        """The text up to the answer, including the white space before it; if the label is first, with {label}."""
        return self.demonstration(text, pair, "{label}") if self.label_first else _fill(self.before, text, pair)

    def demonstration(self, text: str, pair: str | None, answer: str) -> str:
        """A labelled example."""
        return f"{_fill(self.before, text, pair)}{answer}{_fill(self.after, text, pair)}".rstrip()

    def head(self, answer: str) -> str:
        """If the label is first: the answer and all that is before the texts."""
        return f"{self.before}{answer}{PLACEHOLDER.split(self.after, maxsplit=1)[0]}"

    def tail(self, text: str, pair: str | None) -> str:
        """If the label is first: the texts and what is between them."""
        places = [*PLACEHOLDER.finditer(self.after)]
        return _fill(self.after[places[0].start() : places[-1].end()], text, pair)

    @property
    def domain(self) -> str:
        """The end of the query, after the texts: "Sentiment:"."""
        *_, last = PLACEHOLDER.finditer(self.before)
        return self.before[last.end() :].strip()


def _fill(layout: str, text: str, pair: str | None) -> str:
    texts = {"text": text, "pair": pair or ""}
    return PLACEHOLDER.sub(lambda match: texts[match[1]], layout)


DEFAULT = Template("Text: {text}\nLabel: ")
DEFAULT_PAIR = Template("First text: {text}\nSecond text: {pair}\nLabel: ")
BUILT_IN: dict[str, Template] = {
    "sentiment": Template(
        "Review: {text}\nSentiment: ",
        description="Say whether each review is positive or negative.",
        words={"0": "negative", "1": "positive", "neg": "negative", "pos": "positive"},
    ),
    "topic": Template("Article: {text}\nTopic: ", description="Say what each article is about."),
    "question-type": Template(
        "Question: {text}\nThe answer is a kind of: ",
        description="Say what kind of answer each question asks for.",
        words={
            "ABBR": "abbreviation",
            "DESC": "description",
            "ENTY": "entity",
            "HUM": "person",
            "LOC": "location",
            "NUM": "number",
        },
    ),
    "entailment": Template(
        "Text: {text}\nClaim: {pair}\nDoes the claim follow? ",
        description="Say whether the claim follows from the text.",
        words={"entailment": "yes", "neutral": "maybe", "contradiction": "no", "not_entailment": "no"},
    ),
    "translation": Template("English: {text}\nFrench: ", description="Translate from English to French.", writes=True),
    **{name: Template.parse(template) for name, template in INSTRUCTIONS.items()},
}
BUILT_IN[SUMMARIZE] = replace(BUILT_IN[SUMMARIZE], max_new_tokens=SUMMARY_TOKENS)


def find_template(name_or_text: str) -> Template:
    """A built-in template by its name ("translate A to B" for any languages), or the template that a user wrote.

    Raises:
        HeadwayError: as `Template.parse`; an unknown name counts as a template without {text}.
    """
    return BUILT_IN.get(name_or_text) or Template.parse(find_instruction(name_or_text) or name_or_text)


def words_of_labels(labels: Sequence[str], verbalize: Sequence[str], template: Template) -> dict[str, str]:
    """How the prompt spells each label: as the user says, else as the template does, else the label itself.

    Args:
        labels: the labels of the prompt; empty if the answer is generated.
        verbalize: "label=words" for the labels that the user spells.
        template: its words are used if it knows all of the labels.

    Raises:
        HeadwayError: `verbalize` has an unknown label.
    """
    given = {label.strip(): words.strip() for label, _, words in (one.partition("=") for one in verbalize)}
    for label, words in given.items():
        if label not in labels:
            known = f"The labels are {', '.join(labels)}." if labels else "The answer is generated: omit --verbalize."
            raise HeadwayError(f"--verbalize {label}={words}: there is no label {label!r}. {known}")
    built_in = template.words if set(labels) <= template.words.keys() else {}
    return {label: given.get(label) or built_in.get(label, label) for label in labels}

"""Prompts as plain text with {text} and {label}, and how they become tokens.

The built-in ones ask as Brown et al. 2020 (https://arxiv.org/abs/2005.14165, appendix G) do: field names, one a line.

    Review: {text}
    Sentiment: {label}

Worked examples have their label in its place, the question ends before it. A description, the examples and the
question are joined by an empty line.

Where tokens begin. GPT-2's byte-level BPE (Radford et al. 2019) never joins what stands before white space with the
white space, but " positive" is one token. So a prompt is cut where white space begins, and the space before a label
belongs to it: "Sentiment:" + " positive". If there is none before {label}, the cut is at the last white space before
it, and what all labels have in common behind the cut goes with the text. The tokens are always those of the whole
prompt read as one.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from ...core.errors import HeadwayError
from ...core.tokenizers.tokenizer import Tokenizer
from .label_scores import Choice, Label

SEPARATOR = "\n\n"
PLACEHOLDERS = ("text", "pair", "label")
PLACE = re.compile(r"\{(\w+)\}")
LAST_SPACE = re.compile(r"\s+\S*$")


@dataclass(frozen=True)
class Template:
    """How a text is asked about."""

    before: str  # what stands before the label, with {text} and perhaps {pair}
    after: str = ""
    description: str = ""
    words: Mapping[str, str] = field(default_factory=dict)  # label as people's files have it -> as it is said
    writes: bool = False  # whether the answer is free text

    @classmethod
    def parse(cls, template: str) -> Self:
        """A person's own template; without {label} the answer comes at its end, after a space.

        Raises:
            HeadwayError: {text} is missing, a name in braces is not known, or the places do not make sense.
        """
        shown = repr(template)
        names = [match[1] for match in PLACE.finditer(template)]
        for name in names:
            if name not in PLACEHOLDERS:
                near = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
                meant = f" Did you mean {{{near[0]}}}?" if near else ""
                raise HeadwayError(
                    f"The template {shown} has {{{name}}}, which stands for nothing.{meant} "
                    "It may have {text}, {pair} (the second text of a pair) and {label}."
                )
        if "text" not in names:
            raise HeadwayError(
                f"The template {shown} has no {{text}}, the place where the text goes. "
                r'Add it, as in "Text: {text}\nLabel: {label}", or name a built-in one: ' + f"{', '.join(BUILT_IN)}."
            )
        if names.count("label") > 1:
            raise HeadwayError(f"The template {shown} has {{label}} more than once. Leave one, where the answer goes.")
        before, _, after = template.partition("{label}") if "label" in names else (f"{template.rstrip()} ", "", "")
        if PLACE.search(after):
            raise HeadwayError(
                f"The template {shown} has {{{PLACE.findall(after)[0]}}} after {{label}}, where the question has "
                "ended already. Put it before."
            )
        return cls(before, after)

    @property
    def text(self) -> str:
        """The template as a person writes it."""
        return f"{self.before}{{label}}{self.after}"

    @property
    def paired(self) -> bool:
        """Whether it asks about two texts."""
        return "{pair}" in self.before

    def question(self, text: str, pair: str | None = None) -> str:
        """What stands before the answer, with the white space before it."""
        texts = {"text": text, "pair": pair or ""}
        return PLACE.sub(lambda match: texts[match[1]], self.before)

    def demonstration(self, text: str, pair: str | None, answer: str) -> str:
        """A worked example."""
        return f"{self.question(text, pair)}{answer}{self.after}".rstrip()


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
}


def find_template(name_or_text: str) -> Template:
    """A built-in template by its name, or a person's own.

    Raises:
        HeadwayError: as `Template.parse`; a name that is not known is a template without {text}.
    """
    return BUILT_IN.get(name_or_text) or Template.parse(name_or_text)


class Encoder:
    """Questions and worked examples as tokens.

    Args:
        tokenizer: of the model.
        words: of each label; none where the answer is written.

    Raises:
        HeadwayError: two labels have the same words, or one has none.
    """

    def __init__(self, tokenizer: Tokenizer, words: Mapping[str, str]) -> None:
        self._tokenizer = tokenizer
        self._words = dict(words)
        self._blocks: dict[str, tuple[int, ...]] = {}
        self._labels: dict[str, tuple[tuple[int, ...], tuple[Label, ...]]] = {}

    def block(self, text: str, *, first: bool) -> tuple[int, ...]:
        """The tokens of a description or worked example, with what separates it from those before."""
        spaced = text if first else SEPARATOR + text
        if spaced not in self._blocks:
            self._blocks[spaced] = tuple(self._tokenizer.encode(spaced).ids)
        return self._blocks[spaced]

    def choices(self, questions: Sequence[str], *, first: bool) -> list[Choice]:
        """Questions with the labels that may answer them; `first` where nothing stands before."""
        cuts = [self._cut(question if first else SEPARATOR + question) for question in questions]
        heads = self._tokenizer.encode_batch([head for head, _ in cuts])
        choices = []
        for head, (_, tail) in zip(heads, cuts, strict=True):
            common, labels = self._labels_after(tail)
            choices.append(Choice((*head.ids, *common) or self._beginning(), labels))
        return choices

    def question(self, question: str, *, first: bool) -> tuple[int, ...]:
        """A question to which the answer is written; a space at its end is for the model to write."""
        spaced = (question if first else SEPARATOR + question).rstrip(" ")
        return tuple(self._tokenizer.encode(spaced).ids) or self._beginning()

    def _beginning(self) -> tuple[int, ...]:
        if self._tokenizer.end_of_text_id is None:
            raise HeadwayError(
                "The prompt is empty, and this vocabulary has no end-of-text token to begin with. Write a template "
                "with more than {text} in it."
            )
        return (self._tokenizer.end_of_text_id,)

    def _cut(self, question: str) -> tuple[str, str]:
        """The question up to where white space begins, and the rest, which is read together with the label."""
        bare = question.rstrip()
        if bare != question:
            return bare, question[len(bare) :]
        match = LAST_SPACE.search(question)
        return (question[: match.start()], question[match.start() :]) if match else ("", question)

    def _labels_after(self, tail: str) -> tuple[tuple[int, ...], tuple[Label, ...]]:
        """The tokens that all labels have in common before they begin, and those of each from there on."""
        if tail not in self._labels:
            self._labels[tail] = self._encode_labels(tail)
        return self._labels[tail]

    def _encode_labels(self, tail: str) -> tuple[tuple[int, ...], tuple[Label, ...]]:
        encodings = self._tokenizer.encode_batch([tail + word for word in self._words.values()])
        ids = [encoding.ids for encoding in encodings]
        shared = 0
        for place, (_, end) in enumerate(encodings[0].offsets):
            if end > len(tail) or any(one[place : place + 1] != [ids[0][place]] for one in ids):
                break
            shared += 1
        labels = tuple(tuple(one[shared:]) for one in ids)
        seen: dict[Label, str] = {}
        for (label, word), tokens in zip(self._words.items(), labels, strict=True):
            if not tokens:
                raise HeadwayError(f"The label {label!r} is said as {word!r}, which has no tokens. Give it a word.")
            if tokens in seen:
                raise HeadwayError(
                    f"The labels {seen[tokens]!r} and {label!r} are both said as {word!r}. Give each its own words "
                    f"(--verbalize {label}=WORDS)."
                )
            seen[tokens] = label
        return tuple(ids[0][:shared]), labels

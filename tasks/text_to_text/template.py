r"""The template of a pair: what a decoder reads before the output.

Radford et al. 2019, sections 3.6 and 3.7: "TL;DR:" after an article, "english sentence = french sentence". A template
is plain text with {input} and {output}; `\n` and `\t` in it are a line break and a tab. The spaces before {output} are
not a part of the prompt but of the output: in GPT-2's vocabulary " word" is one token. The encoder of an
encoder-decoder reads no output, so that it needs no line break after the input either. instructions.py has names for
templates.
"""

import re
from dataclasses import dataclass, replace
from typing import Self

from ...core.errors import HeadwayError
from .instructions import INSTRUCTIONS, find_instruction

DEFAULT = r"{input}\n{output}"
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class PairTemplate:
    """What is before the input, between input and output, and the spaces that belong to the output."""

    before: str
    between: str
    space: str

    @classmethod
    def parse(cls, template: str) -> Self:
        """Reads a template that a user wrote, or takes that of a name. Without {output}, it follows at the end.

        Raises:
            HeadwayError: {input} is missing, or a placeholder is unknown, repeated or at the wrong place.
        """
        text = find_instruction(template) or template.replace(r"\n", "\n").replace(r"\t", "\t")
        text = text if "{output}" in text else text + "{output}"
        names = PLACEHOLDER.findall(text)
        if names != ["input", "output"] or not text.endswith("{output}"):
            raise HeadwayError(
                f"--template {template!r}: it must have {{input}} once, then {{output}} once at its end, and no other "
                r'name in braces, as in "{input}\nTL;DR: {output}". Or name an instruction: '
                f"{', '.join(INSTRUCTIONS)}."
            )
        before, _, rest = text.removesuffix("{output}").partition("{input}")
        between = rest.rstrip(" ")
        return cls(before, between, rest[len(between) :])

    def for_encoder(self) -> Self:
        """The template without white space after the last text that an encoder reads."""
        return replace(self, between=self.between.rstrip())

    @property
    def text(self) -> str:
        """The template with its line breaks."""
        return f"{self.before}{{input}}{self.between}{self.space}{{output}}"

    @property
    def shown(self) -> str:
        """The template as a user writes it, on one line."""
        return self.text.replace("\n", r"\n").replace("\t", r"\t")

    def prompt(self, text: str) -> str:
        """What the model continues: the input in the template, without the spaces before the output."""
        return f"{self.before}{text}{self.between}"

    def continuation(self, output: str) -> str:
        """What follows the prompt: the output, without white space around it."""
        return self.space + output.strip()

r"""Named templates of text to text, the same in prompts and in training: {input} and, at the end, {output}.

| name | source |
|---|---|
| summarize | "TL;DR:" after the text: Radford et al. 2019, section 3.6 |
| answer | "Question:" and "Answer:", as Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix G |
| translate English to French | the prefix of Raffel et al. 2020, https://arxiv.org/abs/1910.10683, and the arrow of |
|   | Brown et al., figure 2.1; any two languages can be named |
"""

import re

SUMMARIZE = "summarize"
INSTRUCTIONS = {
    SUMMARIZE: "{input}\n\nTL;DR: {output}",
    "answer": "Question: {input}\nAnswer: {output}",
    "translate English to French": "translate English to French: {input} => {output}",
}
TRANSLATE = re.compile(r"translate [^\W\d_][\w() -]* to [^\W\d_][\w() -]*", re.IGNORECASE)


def find_pipeline(template: str) -> str | None:
    """The Hub's name of what an instruction asks for (https://huggingface.co/tasks); None if it has none."""
    name = " ".join(template.split()).removesuffix(":")
    if TRANSLATE.fullmatch(name):
        return "translation"
    return "summarization" if name == SUMMARIZE else None


def find_instruction(name: str) -> str | None:
    """The template of a name, with line breaks; None if the text is not a name."""
    name = " ".join(name.split()).removesuffix(":")
    if TRANSLATE.fullmatch(name):
        return f"{name}: {{input}} => {{output}}"
    return INSTRUCTIONS.get(name)

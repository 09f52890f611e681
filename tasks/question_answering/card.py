"""What the card of a question-answering model says about itself."""

from typing import TYPE_CHECKING

from ...core.models.gpt2 import GPT2Config
from ..base.card_text import CardText

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .question_answering import QuestionAnswering

QUESTION = "Where is the key?"
CONTEXT = "The key is under the mat, and the mat is at the door."


def card_text(task: "QuestionAnswering", network: "Network", name: str) -> CardText:
    """The card's parts: what an answer is, how to ask with Headway and without, and what to mind."""
    gpt2 = isinstance(network.config, GPT2Config)
    return CardText(
        summary="It finds the answer to a question in a context.",
        answers=_answers(task),
        shell=f'headway predict {name} "{QUESTION}" --context "{CONTEXT}"',
        python=f'print(model.predict(("{QUESTION}", "{CONTEXT}")))',
        transformers=_transformers(name, gpt2),
        fitted="the threshold of no answer was chosen" if task.threshold else "",
        limits=tuple(_limits(task, network, gpt2)),
    )


def _answers(task: "QuestionAnswering") -> str:
    what = (
        f"The answer is a part of the context, of at most {task.max_answer_length} tokens, with its place in "
        "characters and its probability."
    )
    if not task.says_none:
        return f"{what} The model always gives one."
    surer = f" by more than {task.threshold:.3f} (log-odds)" if task.threshold else ""
    return f"{what} There is none where the model is surer of that than of its best answer{surer}."


def _transformers(name: str, gpt2: bool) -> str:
    tokens = (
        'tokenizer(f"{question}<|endoftext|>{context}<|endoftext|>", return_tensors="pt")'
        if gpt2
        else 'tokenizer(question, context, return_tensors="pt")'
    )
    return "\n".join(
        (
            "from transformers import AutoModelForQuestionAnswering, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'model = AutoModelForQuestionAnswering.from_pretrained("{name}")',
            f'question = "{QUESTION}"',
            f'context = "{CONTEXT}"',
            f"inputs = {tokens}",
            "outputs = model(**inputs)",
            "start, end = outputs.start_logits.argmax(), outputs.end_logits.argmax()",
            'print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))',
        )
    )


def _limits(task: "QuestionAnswering", network: "Network", gpt2: bool) -> list[str]:
    limit = task.limit(network.config.max_positions, "")
    none = "last token" if gpt2 else "first token"
    limits = [
        f"Question and context of more than {limit:,} tokens are cut: only their beginning is read."
        if task.long_texts == "cut"
        else f"A context that does not fit into {limit:,} tokens with its question is read in overlapping windows. "
        "Plain transformers cannot read it: cut it there.",
        f"The lines for plain transformers take the best start and the best end, each by itself; both on the {none} "
        "mean that there is no answer. The end may then come before the start. Headway searches all pairs.",
    ]
    if gpt2:
        limits.append(
            "GPT-2 reads from left to right, so at the beginning of an answer it has not seen the rest of the "
            "context: a BERT of the same size finds more."
        )
    limits.append("It answers with words of the context alone, whether they are true or not.")
    return limits

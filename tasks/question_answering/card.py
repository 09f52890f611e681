"""The model card of a question-answering model."""

from typing import TYPE_CHECKING

from ...core.models.gpt2 import GPT2Config
from ..base.card_text import CardText, shell_word, string

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .question_answering import QuestionAnswering

QUESTION = "Where is the key?"
CONTEXT = "The key is under the mat, and the mat is at the door."


def question_answering_card(task: "QuestionAnswering", network: "Network", name: str) -> CardText:
    """The parts of the card: outputs, usage with and without Headway, limitations."""
    gpt2 = isinstance(network.config, GPT2Config)
    return CardText(
        summary="It finds the answer to a question in a context.",
        answers=_outputs(task),
        shell=f'headway predict {shell_word(name)} "{QUESTION}" --context "{CONTEXT}"',
        python=f'print(model.predict(("{QUESTION}", "{CONTEXT}")))',
        transformers=_transformers(name, gpt2),
        limits=tuple(_limits(task, network, gpt2)),
    )


def _outputs(task: "QuestionAnswering") -> str:
    answer = (
        f"The answer is a span of the context of at most {task.max_answer_length} tokens, with its character offsets "
        "and its probability."
    )
    if not task.says_none:
        return f"{answer} The model always predicts one."
    margin = f" by a log-odds of more than {task.threshold:.3f}" if task.threshold else ""
    return f'{answer} The model predicts "no answer" if that is more probable than its best answer{margin}.'


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
            f"tokenizer = AutoTokenizer.from_pretrained({string(name)})",
            f"model = AutoModelForQuestionAnswering.from_pretrained({string(name)})",
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
        f"Question and context of more than {limit:,} tokens are truncated."
        if task.long_texts == "cut"
        else f"A context that does not fit into {limit:,} tokens with its question is read in overlapping windows. "
        "Plain transformers cannot read it without truncation.",
        "The example for plain transformers takes the best start and the best end separately, so the end may come "
        f'before the start; both at the {none} mean "no answer". Headway searches all pairs of start and end.',
    ]
    if gpt2:
        limits.append(
            "GPT-2 reads from left to right: at the start of an answer it has not read the rest of the context. A "
            "BERT of the same size is more accurate."
        )
    limits.append("Its answers are copied from the context, whether the context is true or not.")
    return limits

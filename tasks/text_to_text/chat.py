"""Chats as pairs: the last turn of the assistant is the output, and what is before it is the input.

The forms: a list of messages with `role` and `content` (OpenAI's, https://platform.openai.com/docs/guides/text), or
with `from` and `value` (ShareGPT's).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.errors import HeadwayError

NAMES = ("messages", "conversations", "conversation", "chat", "dialog", "turns")
KEYS = (("role", "content"), ("from", "value"))
ASSISTANT = ("assistant", "gpt", "bot", "model", "chatgpt")
SYSTEM = "system"
NOTE = "the last turn of the assistant is the output, and the turns before it are the input"


def is_chat(cell: Any) -> bool:
    """Whether a cell holds messages."""
    if not isinstance(cell, list) or not cell:
        return False
    return any(all(isinstance(one, Mapping) and keys <= one.keys() for one in cell) for keys in map(set, KEYS))


def is_unanswered(cell: Any) -> bool:
    """Whether a cell holds messages of which none is the assistant's."""
    try:
        return is_chat(cell) and not any(who in ASSISTANT and text.strip() for who, text in _turns(cell))
    except HeadwayError:  # `split_chat` reports it with its row
        return False


def is_unasked(cell: Any) -> bool:
    """Whether a cell holds messages of which none has a text before the assistant's last one."""
    try:
        return is_chat(cell) and not _has_text(_divide(_turns(cell))[0])
    except HeadwayError:  # `split_chat` reports it with its row
        return False


def split_chat(cell: Any, column: str) -> tuple[str, str | None]:
    """The input and the output of a chat; None if the assistant says nothing.

    A system message and a single turn of the user are read without names, several turns with theirs: "user: ...".

    Raises:
        HeadwayError: the cell has no messages, or nothing is said before the assistant's last turn.
    """
    if not is_chat(cell):
        raise HeadwayError(
            f'column "{column}": these are not messages with "role" and "content". Correct them, or name the columns '
            "of inputs and outputs with --input and --label."
        )
    before, answer = _divide(_turns(cell))
    if not _has_text(before):
        raise HeadwayError(f'column "{column}": nothing is said before the turn of the assistant. Delete the row.')
    system = [text for who, text in before if who == SYSTEM]
    spoken = [(who, text) for who, text in before if who != SYSTEM]
    history = [text if len(spoken) == 1 else f"{who}: {text}" for who, text in spoken]
    return "\n".join([*system, *history]), answer


def _divide(turns: Sequence[tuple[str, str]]) -> tuple[Sequence[tuple[str, str]], str | None]:
    """The turns before the assistant's last one, and what it says there; all turns and None if it has none."""
    last = max((i for i, (who, _) in enumerate(turns) if who in ASSISTANT), default=None)
    return turns[:last], None if last is None else turns[last][1]


def _has_text(turns: Iterable[tuple[str, str]]) -> bool:
    return any(text.strip() for _, text in turns)


def _turns(cell: Any) -> list[tuple[str, str]]:
    """Who says what."""
    role, content = next(keys for keys in KEYS if keys[0] in cell[0])
    return [(str(one[role]).strip().lower(), _text(one[content])) for one in cell]


def _text(content: Any) -> str:
    """The text of a message, which may be a list of parts: {"type": "text", "text": "..."}.

    Raises:
        HeadwayError: a part is not a text.
    """
    if isinstance(content, list | Mapping):
        parts = [content] if isinstance(content, Mapping) else content
        texts = [one.get("text") if isinstance(one, Mapping) else one for one in parts]
        known = [text for text in texts if isinstance(text, str)]
        if len(known) < len(texts):
            raise HeadwayError(
                "a message has a part that is not a text (an image, a call of a tool, ...). Delete the row, or reduce "
                "the message to its text."
            )
        return "\n".join(known)
    return "" if content is None else str(content)

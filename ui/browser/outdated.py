"""Greys out an answer whose question has changed since it was asked; it runs in the page, without the server.

A press stores the values of the question in the page. After every change, and when the answer arrives, the current
values are compared with them. An answer becomes current again if the user restores its question.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr


def asked_js(elem_id: str, question: Sequence[Any]) -> str:
    """JavaScript that stores the question of an answer, to run before the event that answers it.

    Args:
        elem_id: id of the component that shows the answer.
        question: the components with the question, the inputs of the event.
    """
    store = f"(window.hwAsked ??= {{}})['{elem_id}'] = JSON.stringify(question)"
    return f"(...values) => {{ const question = values.slice(0, {len(question)}); {store}; return question; }}"


def changed_js(elem_id: str, question: Sequence[Any]) -> str:
    """JavaScript that compares the current question with the stored one and marks the answer if they differ."""
    return f"""(...values) => {{
      const question = values.slice(0, {len(question)}), asked = window.hwAsked?.['{elem_id}'];
      const differs = asked !== undefined && asked !== JSON.stringify(question);
      document.getElementById('{elem_id}')?.classList.toggle('hw-outdated', differs);
      return question;
    }}"""


def mark_outdated(answered: Sequence[Any], question: Sequence[Any], elem_id: str, *, watched: Sequence[Any]) -> None:
    """Marks an answer as outdated when a value of its question changes.

    Args:
        answered: the events that answer; they are bound with `js=asked_js(...)`.
        question: the components with the question.
        elem_id: id of the component that shows the answer.
        watched: the components whose changes are followed; for the others, an event bound with `js=changed_js(...)`
            does this, or one that clears the answer.
    """
    mark: dict[str, Any] = {"js": changed_js(elem_id, question), "queue": False, "api_visibility": "private"}
    for event in answered:
        event.then(None, list(question), None, show_progress="hidden", **mark)
    if watched:
        changes = [component.change for component in watched]
        gr.on(changes, None, list(question), None, trigger_mode="multiple", show_progress="hidden", **mark)

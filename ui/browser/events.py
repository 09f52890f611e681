"""Event bindings of the browser app: the queue of an event, and the display of its errors.

Predictions share one queue, so that each has the processor to itself. Files have a second queue, in which many users
are served at the same time: a large file is read in a separate process (background.py), and predictions for
the rows of several files take turns.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.context import get_render_context
from gradio.utils import get_upload_folder

from ...core.errors import HeadwayError
from .drawing import alert

PREDICTIONS, FILES = "predictions", "files"  # queues
LIMITS = {PREDICTIONS: 1, FILES: 16}  # events of a queue at the same time
PRESS_EVENTS = {"click", "submit"}


def bind(
    triggers: Any,
    function: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    error_box: gr.HTML,
    *,
    queue: str | None = PREDICTIONS,
    on_error: Sequence[Any] = (),
    **options: Any,
) -> Any:
    """Binds a function to one or several triggers and shows its HeadwayErrors.

    A press (click, submit) is ignored while an earlier one is computed. Any other event (a changed value, the end of
    another event) runs again with the latest values after the current run: Gradio would drop it, and the page would
    show outdated results.

    Bind such an event of a component only once, and further functions to `bound.then`: the page repeats an event for
    every function bound to it, including those that have finished, whose repeated results would overwrite later input.

    Args:
        triggers: `button.click`, the end of another event (`bound.then`), or a list of the former.
        function: returns the value of each output, as a tuple if there are several; or yields such values.
        inputs: input components.
        outputs: output components.
        error_box: shows the message of a HeadwayError; a successful run clears it.
        queue: PREDICTIONS or FILES; None for functions that need no queue.
        on_error: values of the first outputs after a HeadwayError, made with `gr.update` where they are not plain: a
            component made here would appear on the page. Default: the outputs keep their values.
        **options: further options of Gradio's events.
    """
    assert not any(isinstance(value, Block) for value in on_error)
    first = triggers[0] if isinstance(triggers, list) else triggers
    is_press = getattr(first, "event_name", None) in PRESS_EVENTS  # `then` and `success` have no event name
    options.setdefault("trigger_mode", "once" if is_press else "always_last")
    queueing = {"concurrency_id": queue, "concurrency_limit": LIMITS[queue]} if queue else {"concurrency_limit": None}
    if outputs and options.get("show_progress") != "hidden":
        options.setdefault("show_progress_on", outputs[0])  # shows the place in the queue and the time
    bound = (with_errors(function, len(outputs), on_error), list(inputs), [*outputs, error_box])
    if isinstance(triggers, list):
        return gr.on(triggers, *bound, api_visibility="private", **queueing, **options)
    return triggers(*bound, api_visibility="private", **queueing, **options)


def refresh_models(model: gr.Dropdown, names: Callable[[], Sequence[str]], opened: Any) -> Any:
    """Updates a list of models when its tab or the list itself is opened.

    Opening the tab also chooses the first model if none is chosen, or one that was removed. Opening the list keeps
    the choice: a late result would undo a choice made meanwhile.

    Args:
        model: the list.
        names: returns the names of the models.
        opened: trigger of the opening of the tab.

    Returns:
        The event bound to `opened`.
    """

    def choose_first(chosen: str | None) -> gr.Dropdown:
        found = list(names())
        on_hub = "/" in (chosen or "")
        return (
            gr.Dropdown(choices=found)
            if chosen in found or on_hub
            else gr.Dropdown(choices=found, value=next(iter(found), None))
        )

    options: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    model.focus(lambda: gr.Dropdown(choices=list(names())), None, model, **options)
    return opened(choose_first, model, model, **options)


def current_tab() -> gr.Tab:
    """The tab that is being drawn; its `select` event fires when a user opens it, the time to open a model."""
    tab = get_render_context()
    assert isinstance(tab, gr.Tab)
    return tab


def with_errors(function: Callable[..., Any], num_outputs: int, on_error: Sequence[Any] = ()) -> Callable[..., Any]:
    """Wraps a function so that it returns one more output: the message of a HeadwayError, or an empty string.

    Args:
        function: returns or yields its outputs.
        num_outputs: number of outputs.
        on_error: values of the first outputs after an error; the others keep theirs.
    """

    def succeeded(returned: Any) -> tuple[Any, ...]:
        return (*(returned if num_outputs > 1 else (returned,) if num_outputs else ()), "")

    def failed(error: HeadwayError) -> tuple[Any, ...]:
        return (*on_error, *(gr.skip() for _ in range(num_outputs - len(on_error))), alert(message_of(error)))

    if inspect.isgeneratorfunction(_unwrapped(function)):

        def yielding(*given: Any, **named: Any) -> Iterator[tuple[Any, ...]]:
            try:
                for outputs in function(*given, **named):
                    yield succeeded(outputs)
            except HeadwayError as error:
                yield failed(error)

        return _with_signature(yielding, function)

    def returning(*given: Any, **named: Any) -> tuple[Any, ...]:
        try:
            return succeeded(function(*given, **named))
        except HeadwayError as error:
            return failed(error)

    return _with_signature(returning, function)


def message_of(error: HeadwayError) -> str:
    """The message of an error, with the names of uploaded files instead of their paths."""
    return re.sub(rf"{re.escape(get_upload_folder())}[/\\][0-9a-f]+[/\\]", "", str(error))


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return _unwrapped(function.func) if isinstance(function, partial) else function


def _with_signature(wrapper: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Copies the signature, from which Gradio infers arguments such as `event: gr.EventData`."""
    signature = inspect.signature(function)
    wrapper.__name__, wrapper.__doc__ = _unwrapped(function).__name__, _unwrapped(function).__doc__
    wrapper.__dict__["__signature__"] = signature
    wrapper.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    return wrapper

"""How an event of the browser app is bound: its turn in the queue, and what a person sees when it fails.

Computing events wait for one another, so that each has the processor to itself and comes in its turn; what reads whole
files has a queue of its own, so that a question need not wait for a file.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.context import get_render_context
from gradio.utils import get_upload_folder

from ...core.errors import HeadwayError
from .drawing import note

QUESTIONS, FILES = "questions", "files"  # queues
PRESSED = {"click", "submit"}  # a second press while the first is answered is a slip; whatever else happens is news


def bind(
    triggers: Any,
    function: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    told_in: gr.HTML,
    *,
    queue: str | None = QUESTIONS,
    **options: Any,
) -> Any:
    """Binds a function to one or several triggers; an error that a person can mend is shown in `told_in`.

    Args:
        triggers: `button.click`, what follows an event (`bound.then`), or a list of the former.
        function: gives what each of `outputs` becomes, in a tuple where there are several; or yields that, again and
            again.
        inputs: components.
        outputs: components.
        told_in: where the sentence of a HeadwayError goes; emptied by whatever goes well.
        queue: QUESTIONS or FILES; None for what computes nothing.
        **options: of gradio's events.

    What a press starts is done once, however often it is pressed meanwhile. Everything else (a value that changed,
    an event that follows another) is done again with the latest values when the one under way is over: Gradio would
    drop it, and the page would go on showing what was true before.

    Such an event of a component is bound once, and what else follows it is bound to `bound.then`: the page repeats an
    event for every function that is bound to it, also for those that had been done, whose answers would come again
    after what a person did meanwhile.
    """
    first = triggers[0] if isinstance(triggers, list) else triggers
    pressed = getattr(first, "event_name", None) in PRESSED  # what follows another event has no name
    options.setdefault("trigger_mode", "once" if pressed else "always_last")
    turn = {"concurrency_id": queue, "concurrency_limit": 1} if queue else {"concurrency_limit": None}
    if outputs and options.get("show_progress") != "hidden":
        options.setdefault("show_progress_on", outputs[0])  # where the place in the queue is seen, and the time
    bound = (explained(function, len(outputs)), list(inputs), [*outputs, told_in])
    if isinstance(triggers, list):
        return gr.on(triggers, *bound, api_visibility="private", **turn, **options)
    return triggers(*bound, api_visibility="private", **turn, **options)


def keep_listed(model: gr.Dropdown, names: Callable[[], Sequence[str]], opened: Any) -> Any:
    """Lists the models that there are by now when the place of a list or the list itself is opened.

    The former chooses the first one where none is. The latter leaves the choice alone: an answer that comes late would
    take back what was chosen meanwhile.

    Args:
        model: the list.
        names: of the models.
        opened: the trigger that tells when the place is opened.

    Returns:
        The event at that trigger, whose `then` is for what else follows.
    """

    def first(chosen: str | None) -> gr.Dropdown:
        found = list(names())
        return gr.Dropdown(choices=found) if chosen else gr.Dropdown(choices=found, value=next(iter(found), None))

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    model.focus(lambda: gr.Dropdown(choices=list(names())), None, model, **quiet)
    return opened(first, model, model, **quiet)


def this_tab() -> gr.Tab:
    """The tab that is being drawn, whose `select` is when a person opens it: not before should a model be."""
    tab = get_render_context()
    assert isinstance(tab, gr.Tab)
    return tab


def explained(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The function with one output more: the sentence of a HeadwayError, or nothing.

    Args:
        function: gives `count` outputs, or yields them.
        count: how many.
    """

    def whole(given: Any) -> tuple[Any, ...]:
        return (*(given if count > 1 else (given,) if count else ()), "")

    def failed(error: HeadwayError) -> tuple[Any, ...]:
        return (*(gr.skip() for _ in range(count)), note(told(error)))

    if inspect.isgeneratorfunction(_bare(function)):

        def yielding(*given: Any, **named: Any) -> Iterator[tuple[Any, ...]]:
            try:
                for outputs in function(*given, **named):
                    yield whole(outputs)
            except HeadwayError as error:
                yield failed(error)

        return _like(function, yielding)

    def answering(*given: Any, **named: Any) -> tuple[Any, ...]:
        try:
            return whole(function(*given, **named))
        except HeadwayError as error:
            return failed(error)

    return _like(function, answering)


def told(error: HeadwayError) -> str:
    """The sentence of an error, with the names of uploaded files instead of where they are kept."""
    return re.sub(rf"{re.escape(get_upload_folder())}[/\\][0-9a-f]+[/\\]", "", str(error))


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    return _bare(function.func) if isinstance(function, partial) else function


def _like(function: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    """Gradio reads from a function's signature what it wants to be given besides the inputs."""
    signature = inspect.signature(function)
    made.__name__, made.__doc__ = _bare(function).__name__, _bare(function).__doc__
    made.__dict__["__signature__"] = signature
    made.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    return made

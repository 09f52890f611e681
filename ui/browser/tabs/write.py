"""The tab Write: GPT-2 goes on with a text while one looks on, shows what may come next, and offers several ways."""

import secrets
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks.language_modeling.writing import Writer
from ....tasks.samples import sample_texts
from ..drawing import PICK, draw_choices, draw_token_bars, hint, quiet
from ..events import bind, keep_listed, this_tab
from ..tab_context import TabContext

if TYPE_CHECKING:
    from ...model_registry import ModelRegistry

TITLE = "Write"
LIKELIEST = 10
BETWEEN_PIECES = 0.05  # seconds: faster is only more traffic
MOST_TOKENS = 200
TOKENS_OF_WAYS = 20  # of each of several ways on: longer ones of a beam search begin alike
ALL = 0  # of top-k: no limit


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, this_tab()
    names = language_models(registry)
    model = gr.Dropdown(names, value=next(iter(names), None), label="Model", allow_custom_value=True)
    before, offered = gr.State([]), gr.State([])
    tokens = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            text = gr.Textbox(
                "",
                label="Your text",
                lines=9,
                max_lines=24,
                elem_id="draft",
                placeholder="Begin here, or leave it empty.",
            )
            with gr.Row():
                go_on = gr.Button("Go on", variant="primary", min_width=80)
                stop = gr.Button("Stop", min_width=80)
                back = gr.Button("Undo", min_width=80)
            told = gr.HTML()
            begin = gr.HTML(draw_choices(_beginnings(), "Begin with"), js_on_load=PICK)
            with gr.Row():
                temperature = gr.Slider(
                    0, 2, 0.8, step=0.05, label="Temperature", min_width=220, info="0: the likeliest; more: bolder"
                )
                length = gr.Slider(
                    1, MOST_TOKENS, 60, step=1, label="Length", min_width=220, info="New tokens at most"
                )
            with gr.Row():
                top_k = gr.Slider(ALL, 200, 40, step=1, label="Top-k", min_width=220, info="From so many; 0: all")
                top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", min_width=220, info="From this share; 1: all")
        with gr.Column(scale=2, min_width=300):
            gr.HTML("<h4>What may come next</h4>")
            next_ones = gr.HTML(hint("The ten likeliest tokens; click on one to append it."), js_on_load=PICK)
            beams = gr.Slider(2, 8, 4, step=1, label="Ways to go on")
            show = gr.Button("Show several ways on")
            ways = gr.HTML(js_on_load=PICK)

    settings = [temperature, top_k, top_p, length]
    writing = bind(
        go_on.click, partial(write_on, registry), [model, text, before, *settings], [text, before], told,
    )  # fmt: skip
    look = partial(look_ahead, registry), [model, text], [next_ones, tokens, ways, offered], told
    bind(writing.then, *look, show_progress="hidden")
    bind([model.change, text.blur], *look, show_progress="hidden")
    picked = bind(
        next_ones.click, append, [text, before, tokens], [text, before], told, queue=None, show_progress="hidden"
    )
    bind(picked.then, *look, show_progress="hidden")
    begun = bind(begin.click, begin_with, [], [text], told, queue=None, show_progress="hidden")
    bind(begun.then, *look, show_progress="hidden")
    bind(show.click, partial(several_ways, registry), [model, text, beams], [ways, offered], told)
    taken = bind(ways.click, append, [text, before, offered], [text, before], told, queue=None, show_progress="hidden")
    bind(taken.then, *look, show_progress="hidden")
    returned = bind(back.click, take_back, [text, before], [text, before], told, queue=None, show_progress="hidden")
    bind(returned.then, *look, show_progress="hidden")
    stop.click(lambda: None, None, None, cancels=[writing], queue=False, api_visibility="private")
    keep_listed(model, partial(language_models, registry), tab.select)


def language_models(registry: "ModelRegistry") -> list[str]:
    """Every GPT-2 on the shelf."""
    return [entry.name for entry in registry.entries() if entry.model == "gpt2"]


def _beginnings() -> list[str]:
    from ....tasks import TextGeneration

    return [one["text"] for one in sample_texts(TextGeneration())]


def _writer(registry: "ModelRegistry", name: str | None) -> Writer:
    if not name:
        raise HeadwayError("Choose a GPT-2 first.")
    return Writer(*registry.language_model(name))


def write_on(
    registry: "ModelRegistry",
    name: str | None,
    text: str,
    before: list[str],
    temperature: float,
    top_k: int,
    top_p: float,
    length: int,
) -> Iterator[tuple[str, list[str]]]:
    """The text as it grows, and what it was before, to take back."""
    options: dict[str, Any] = {"max_new_tokens": int(length), "temperature": float(temperature)}
    if temperature > 0:
        options |= {"seed": secrets.randbelow(2**31)}
        options |= {"top_k": int(top_k)} if top_k > ALL else {}
        options |= {"top_p": float(top_p)} if top_p < 1 else {}
    before = [*before, text]
    shown = 0.0
    for piece in _writer(registry, name).write(text, **options):
        text += piece
        if time.monotonic() - shown > BETWEEN_PIECES:
            shown = time.monotonic()
            yield text, before
    yield text, before


def look_ahead(registry: "ModelRegistry", name: str | None, text: str) -> tuple[str, list[str | None], str, list[str]]:
    """The likeliest tokens as bars, and what each adds to the text; ways on that were shown for another are gone."""
    found = _writer(registry, name).likeliest(text, LIKELIEST)
    shown = [(_visible(one.token), one.probability, one.text is not None) for one in found]
    return draw_token_bars(shown), [one.text for one in found], "", []


def _visible(token: str) -> str:
    """A token whose spaces and line breaks can be seen."""
    return token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def append(text: str, before: list[str], offered: list[str | None], event: gr.EventData) -> tuple[str, list[str]]:
    """The text with what was clicked at its end."""
    place = event.choice
    more = offered[place] if isinstance(place, int) and 0 <= place < len(offered) else None
    return (text, before) if more is None else (text + more, [*before, text])


def begin_with(event: gr.EventData) -> str:
    """The beginning that was clicked."""
    return _beginnings()[event.choice]


def take_back(text: str, before: list[str]) -> tuple[str, list[str]]:
    """The text as it was before the last that was added."""
    return (before[-1], before[:-1]) if before else (text, before)


def several_ways(registry: "ModelRegistry", name: str | None, text: str, beams: int) -> tuple[str, list[str]]:
    """The best continuations to choose from."""
    found = _writer(registry, name).alternatives(text, int(beams), TOKENS_OF_WAYS)
    shown = [one.text.strip("\n") or "(the text ends)" for one in found]
    scores = quiet("The likeliest first; click on one to append it.")
    return scores + draw_choices(shown, long=True), [one.text for one in found]

"""The tab Generate: GPT-2 continues a text, with the probabilities of the next token and several continuations."""

import secrets
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import TextGeneration, TextToText
from ....tasks.events.event_words import WORDS
from ....tasks.language_modeling.writing import Writer
from ....tasks.samples import sample_melodies, sample_texts
from ....tasks.text_to_text.stored import StoredTask, find_stored
from ..drawing import CHOICE_CLICK_JS, caption, draw_choices, draw_token_bars, hint
from ..events import bind, current_tab, refresh_models
from ..kept_form import keep_form
from ..tab_context import TabContext

if TYPE_CHECKING:
    from ...model_registry import ModelRegistry

TITLE = "Generate"
NUM_CANDIDATES = 10  # next tokens shown
UPDATE_SECONDS = 0.05  # between two updates of the text
MAX_NEW_TOKENS = 200
CONTINUATION_TOKENS = 20  # per continuation; longer ones of a beam search share their beginning
MELODY_WORDS = 24  # of an example
TOP_K_OFF, TOP_P_OFF = 0, 1
MAX_TEMPERATURE, MAX_TOP_K = 2, 200
DEFAULTS = 0.8, 60, 40, TOP_P_OFF  # temperature, length, top-k and top-p


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, current_tab()
    names = language_models(registry)
    model = gr.Dropdown(names, value=next(iter(names), None), label="Model", allow_custom_value=True)
    about = gr.HTML()
    history = gr.State([])  # earlier texts, for Undo
    next_texts, continuation_texts = gr.State([]), gr.State([])  # the texts of the choices
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            text = gr.Textbox(
                "",
                label="Text",
                lines=9,
                max_lines=24,
                elem_id="draft",
                placeholder="Enter a text, or leave this empty.",
            )
            with gr.Row():
                start = gr.Button("Continue", variant="primary", min_width=80)
                stop = gr.Button("Stop", min_width=80)
                undo = gr.Button("Undo", min_width=80)
            errors = gr.HTML()
            examples = gr.HTML(js_on_load=CHOICE_CLICK_JS)
            settings = _draw_settings()
            settings_of = gr.Textbox("", visible=False)  # the model whose stored options the settings began with
        with gr.Column(scale=2, min_width=300):
            gr.HTML("<h4>Next token</h4>")
            candidates = gr.HTML(
                hint("The ten most likely tokens. Click one to append it."), js_on_load=CHOICE_CLICK_JS
            )
            beams = gr.Slider(2, 8, 4, step=1, label="Number of continuations")
            search = gr.Button("Show continuations")
            continuations = gr.HTML(js_on_load=CHOICE_CLICK_JS)

    draft = [text, history]
    inputs = [model, *draft, *settings]
    generating = bind(start.click, partial(generate, registry), inputs, draft, errors)
    look_outputs = [candidates, next_texts, continuations, continuation_texts]
    look = partial(look_ahead, registry), [model, *draft], look_outputs, errors
    quick: dict[str, Any] = {"queue": None, "show_progress": "hidden"}
    add = partial(append, registry=registry)
    appended = bind(candidates.click, add, [model, *draft, next_texts], draft, errors, **quick)
    continued = bind(continuations.click, add, [model, *draft, continuation_texts], draft, errors, **quick)
    taken = bind(examples.click, partial(take_example, registry), [model], [text], errors, **quick)
    undone = bind(undo.click, take_back, draft, draft, errors, **quick)
    for event in (generating, appended, continued, taken, undone):
        bind(event.then, *look, show_progress="hidden")
    looked = bind([model.change, text.blur], *look, show_progress="hidden")
    described = partial(describe, registry), [model], [about, examples], errors
    opened = refresh_models(model, partial(language_models, registry), tab.select)
    begun = partial(begin_settings, registry), [model, settings_of], [settings_of, *settings], errors
    for event in (looked.then, opened.then):
        bind(bind(event, *described, **quick).then, *begun, **quick)
    found = [continuations, continuation_texts]
    bind(search.click, partial(find_continuations, registry), [model, *draft, beams], found, errors)
    stop.click(lambda: None, None, None, cancels=[generating], queue=False, api_visibility="private")
    keep_form(context.page, "generate", [model, text, settings_of, *settings])


def _draw_settings() -> list[gr.Slider]:
    """Draws temperature, length, top-k and top-p."""
    with gr.Row():
        temperature = gr.Slider(
            0,
            MAX_TEMPERATURE,
            DEFAULTS[0],
            step=0.05,
            label="Temperature",
            min_width=220,
            info="0: always the most likely token. Higher: more random.",
        )
        length = gr.Slider(1, MAX_NEW_TOKENS, DEFAULTS[1], step=1, label="Maximum new tokens", min_width=220)
    with gr.Row():
        top_k = gr.Slider(
            TOP_K_OFF,
            MAX_TOP_K,
            DEFAULTS[2],
            step=1,
            label="Top-k",
            min_width=220,
            info="Number of candidate tokens. 0: all.",
        )
        top_p = gr.Slider(
            0.01,
            TOP_P_OFF,
            DEFAULTS[3],
            step=0.01,
            label="Top-p",
            min_width=220,
            info="Total probability of the candidate tokens. 1: all.",
        )
    return [temperature, length, top_k, top_p]


def language_models(registry: "ModelRegistry") -> list[str]:
    """The GPT-2 models."""
    return [entry.name for entry in registry.entries() if entry.model == "gpt2"]


def describe(registry: "ModelRegistry", name: str | None) -> tuple[str, str]:
    """How a model reads a text, and examples for it."""
    stored = find_stored(registry.find(name).folder) if name else None
    beams = 1 if stored is None else stored.task.num_beams
    search = f" It is written without the beam search of the tab Predict (beams={beams})." if beams > 1 else ""
    note = "" if stored is None else hint(f"Reads an input in its template: {stored.template.shown}{search}")
    return note, draw_choices(_examples(registry, name), "Examples")


def begin_settings(registry: "ModelRegistry", name: str | None, settings_of: str) -> tuple[Any, ...]:
    """The stored options of a text-to-text model as settings, once when it is chosen; the defaults after it.

    Args:
        registry: the models.
        name: name of the model.
        settings_of: the text-to-text model whose options are shown; empty: none.

    Returns:
        The new `settings_of`, and updates for temperature, length, top-k and top-p.
    """
    stored = find_stored(registry.find(name).folder) if name else None
    shown = name if name and stored is not None else ""
    if shown == settings_of:
        return (settings_of, *[gr.skip()] * len(DEFAULTS))
    values = DEFAULTS if stored is None else _stored_settings(stored)
    most = MAX_TEMPERATURE, MAX_NEW_TOKENS, MAX_TOP_K, TOP_P_OFF
    return shown, *(gr.Slider(value=one, maximum=max(one, limit)) for one, limit in zip(values, most, strict=True))


def _stored_settings(stored: StoredTask) -> tuple[float, float, float, float]:
    config = stored.task.generation
    temperature = float(config.do_sample) if config.temperature is None else config.temperature
    return temperature, config.max_new_tokens, config.top_k or TOP_K_OFF, config.top_p or TOP_P_OFF


def _examples(registry: "ModelRegistry", name: str | None) -> list[str]:
    """Inputs for a text-to-text model, beginnings of melodies for one of events, of texts for others."""
    if name and find_stored(registry.find(name).folder) is not None:
        return [one["input"] for one in sample_texts(TextToText(reads_context=False))]
    if name and any(word in WORDS for word in registry.language_model(name)[1].vocabulary):
        return [" ".join(melody.split()[:MELODY_WORDS]) for melody in sample_melodies()]
    return [one["text"] for one in sample_texts(TextGeneration())]


def _in_template(
    registry: "ModelRegistry", name: str | None, text: str, history: Sequence[str], *, warn: bool = False
) -> str:
    """A text as the model continues it: an input is put into the template of a text-to-text model, once.

    Args:
        registry: the models.
        name: name of the model.
        text: an input, or one that is in the template and perhaps continued.
        history: earlier texts, of which `text` continues one if it is in the template.
        warn: show that the input is too long.
    """
    stored = find_stored(registry.find(name).folder) if name else None
    if name is None or stored is None:
        return text
    network, tokenizer = registry.language_model(name)

    def read(one: str) -> tuple[str, bool]:
        found = stored.prompt(one, tokenizer, network.config.max_positions, stored.task.max_new_tokens)
        return (tokenizer.decode(found.ids), True) if found.num_unread else (found.text, False)

    if any(text.startswith(read(one)[0]) for one in history):
        return text
    prompt, cut = read(text)
    if cut and warn:
        gr.Warning(f"The text is too long for the model: its {stored.task.cut_side} is not read.")
    return prompt


def _writer(registry: "ModelRegistry", name: str | None) -> Writer:
    if not name:
        raise HeadwayError("Choose a GPT-2 model.")
    return Writer(*registry.language_model(name))


def generate(
    registry: "ModelRegistry", name: str | None, text: str, history: list[str], *settings: float
) -> Iterator[tuple[str, list[str]]]:
    """Continues a text.

    Args:
        registry: the models.
        name: name of the model.
        text: the text so far.
        history: earlier texts.
        *settings: temperature, length, top-k and top-p.

    Yields:
        The growing text, and the history with the text so far.
    """
    temperature, length, top_k, top_p = settings
    options: dict[str, Any] = {"max_new_tokens": int(length), "temperature": float(temperature)}
    if temperature > 0:
        options |= {"seed": secrets.randbelow(2**31)}
        options |= {"top_k": int(top_k) if top_k != TOP_K_OFF else None}
        options |= {"top_p": float(top_p) if top_p != TOP_P_OFF else None}
    prompt = _in_template(registry, name, text, history, warn=True)
    stored = find_stored(registry.find(name).folder) if name else None
    options = options if stored is None else stored.options(options, as_written=True)
    history, text = [*history, text], prompt
    updated = 0.0
    for piece in _writer(registry, name).write(text, **options):
        text += piece
        if time.monotonic() - updated > UPDATE_SECONDS:
            updated = time.monotonic()
            yield text, history
    yield text, history


def look_ahead(
    registry: "ModelRegistry", name: str | None, text: str, history: Sequence[str] = ()
) -> tuple[str, list[str | None], str, list[str]]:
    """The most likely next tokens as bars and texts; removes the continuations of an earlier text."""
    prompt = _in_template(registry, name, text, history)
    found = _writer(registry, name).likeliest(prompt, NUM_CANDIDATES)
    shown = [(_visible(one.token), one.probability, one.text is not None) for one in found]
    return draw_token_bars(shown), [one.text for one in found], "", []


def _visible(token: str) -> str:
    """A token with visible white space."""
    return token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def append(
    name: str | None,
    text: str,
    history: list[str],
    choices: list[str | None],
    event: gr.EventData,
    *,
    registry: Any,  # a ModelRegistry: Gradio finds no event beside an annotation that it cannot evaluate
) -> tuple[str, list[str]]:
    """The text with the clicked choice appended."""
    number = event.choice
    chosen = choices[number] if isinstance(number, int) and 0 <= number < len(choices) else None
    if chosen is None:
        return text, history
    return _in_template(registry, name, text, history) + chosen, [*history, text]


def take_example(registry: "ModelRegistry", name: str | None, event: gr.EventData) -> str:
    """The clicked example."""
    return _examples(registry, name)[event.choice]


def take_back(text: str, history: list[str]) -> tuple[str, list[str]]:
    """The text before the last change."""
    return (history[-1], history[:-1]) if history else (text, history)


def find_continuations(
    registry: "ModelRegistry", name: str | None, text: str, history: Sequence[str], beams: int
) -> tuple[str, list[str]]:
    """The most likely continuations, as choices and texts."""
    prompt = _in_template(registry, name, text, history)
    found = _writer(registry, name).alternatives(prompt, int(beams), CONTINUATION_TOKENS)
    shown = [one.text.strip("\n") or "(end of text)" for one in found]
    choices = draw_choices(shown, long=True)
    return caption("Most likely first. Click one to append it.") + choices, [one.text for one in found]

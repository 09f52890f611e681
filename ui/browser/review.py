"""The list of labels that are probably wrong, in which each is accepted or rejected with the mouse or the keyboard.

The decisions are kept in the page, and read from there when the corrected copy is written.
"""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from ...tasks.data.findings import count as named
from ...tasks.evaluation.example_lists import short_place, shorten
from ..terminal import format_value
from .drawing import caption

if TYPE_CHECKING:
    from ...tasks.evaluation.label_errors import LabelErrors, Suspect

MAX_SUSPECTS = 300  # shown
# For `js_on_load` of the HTML component with the list. The event "hw-accept" accepts what is open and likely enough.
REVIEW_JS = """
const items = () => [...element.querySelectorAll('.hw-suspect')];
const count = () => {
  const number = (decision) => items().filter((one) => one.dataset.decision === decision).length;
  const shown = `${number('accept')} accepted, ${number('reject')} rejected, ${number('')} open`;
  element.querySelector('.hw-count').textContent = shown;
};
const decide = (item, decision) => {
  item.dataset.decision = decision;
  for (const button of item.querySelectorAll('button[data-decide]'))
    button.setAttribute('aria-pressed', String(button.dataset.decide === decision));
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-decide]');
  if (!button) return;
  const item = button.closest('.hw-suspect');
  decide(item, item.dataset.decision === button.dataset.decide ? '' : button.dataset.decide);
  count();
});
element.addEventListener('keydown', (event) => {
  const item = event.target.closest('.hw-suspect');
  if (!item || event.ctrlKey || event.altKey || event.metaKey) return;
  const decision = {a: 'accept', r: 'reject'}[event.key.toLowerCase()];
  const step = decision ? 1 : {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  if (decision) { decide(item, decision); count(); }
  items()[items().indexOf(item) + step]?.querySelector('button[data-decide]').focus();
});
element.addEventListener('hw-accept', (event) => {
  const chosen = items().filter((one) => !one.dataset.decision && Number(one.dataset.probability) >= event.detail);
  for (const item of chosen) decide(item, 'accept');
  count();
});
"""
ACCEPT_JS = """
(probability) => document.querySelector('#suspects .hw-review')
  ?.dispatchEvent(new CustomEvent('hw-accept', {detail: probability ?? 2, bubbles: true}))
"""
# Puts the numbers of the accepted labels in the place of the first input.
ACCEPTED_JS = """
(...values) => [JSON.stringify(
  [...document.querySelectorAll('#suspects .hw-suspect[data-decision=accept]')]
    .map((one) => Number(one.dataset.number))
), ...values.slice(1)]
"""


def draw_review(found: "LabelErrors", folders: Mapping[str, str]) -> str:
    """The list.

    Args:
        found: the suspects.
        folders: paths in the notes -> names that are shown.
    """
    count, checked = len(found.suspects), found.checked
    about = f"{count:,} of {checked:,} labels are suspect ({count / max(1, checked):.1%}); {found.quality}."
    parts = [f'<p class="hw-summary">{escape(about)}</p>']
    for note in found.notes:
        for path, name in folders.items():
            note = note.replace(path, name)
        parts.append(caption(note))
    if found.unchecked:
        parts.append(caption(f"Not checked: {named(found.unchecked, 'row')} with labels that no other rows have."))
    if not count:
        return "".join(parts)
    if count > MAX_SUSPECTS:
        rest = f"Only the {MAX_SUSPECTS} most suspicious labels are shown. Correct them and search the copy again."
        parts.append(caption(rest))
    parts.append(caption("Many suspects of a weak model are its own mistakes. Keys: A accept, R reject, ↑ ↓ move."))
    is_open = f"0 accepted, 0 rejected, {min(count, MAX_SUSPECTS)} open"
    parts.append(f'<p class="hw-count" aria-live="polite">{is_open}</p>')
    items = "".join(_draw_suspect(number, one) for number, one in enumerate(found.suspects[:MAX_SUSPECTS]))
    return f'<div class="hw-review">{"".join(parts)}<ol>{items}</ol></div>'


def _draw_suspect(number: int, suspect: "Suspect") -> str:
    item = f'<span dir="auto">{escape(suspect.item)}</span>: ' if suspect.item else ""
    given = _label(suspect.given, suspect.given_probability)
    likely = _label(suspect.likely, suspect.likely_probability)
    near = "".join(
        f'<li><b dir="auto">{escape(one.label)}</b> <span dir="auto">{escape(shorten(one.text))}</span> '
        f"<small>{escape(short_place(one.where))}, similarity {one.cosine:.2f}</small></li>"
        for one in suspect.neighbours
    )
    nearest = f"<details><summary>Nearest rows</summary><ul>{near}</ul></details>" if near else ""
    probability = suspect.likely_probability
    place = escape(short_place(suspect.where))
    buttons = "".join(
        f'<button type="button" data-decide="{decision}" aria-pressed="false" aria-label="{name}, {place}">{name}'
        "</button>"
        for decision, name in (("accept", "Accept"), ("reject", "Reject"))
    )
    return (
        f'<li class="hw-suspect" data-number="{number}" data-decision="" '
        f'data-probability="{-1 if probability is None else probability:.6f}">'
        f'<div class="hw-suspect-text" dir="auto">{escape(shorten(suspect.text))}</div>'
        f'<div class="hw-suspect-labels">{item}{given} → <b>{likely}</b> <small>{place}</small></div>'
        f'{nearest}<div class="hw-decide">{buttons}</div></li>'
    )


def _label(label: str, probability: float | None) -> str:
    shown = f'<span dir="auto">{escape(shorten(label))}</span>'
    return shown if probability is None else f"{shown} <i>{format_value(probability, 2)}</i>"

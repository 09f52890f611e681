"""Keeps the values of a form when the page is reloaded, in the page's session storage, and the open tab in its URL."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Opens the tab that the URL names. A click on a tab adds it to the URL, and so to the history of the browser.
TAB_JS = """
() => {
  const buttons = () => [...document.querySelectorAll('#tabs > .tab-wrapper button[role=tab]')];
  const named = () => buttons().find((one) => `#${one.dataset.tabId}` === location.hash);
  const open = () => (location.hash ? named() : buttons()[0])?.click();
  window.addEventListener('popstate', open);
  new MutationObserver(() => {
    const selected = buttons().find((one) => one.getAttribute('aria-selected') === 'true');
    if (selected && `#${selected.dataset.tabId}` !== location.hash) {
      const first = !location.hash && selected === buttons()[0];
      if (!first) history.pushState(history.state, '', `#${selected.dataset.tabId}`);
    }
  }).observe(document.querySelector('#tabs'), {attributes: true, subtree: true, attributeFilter: ['aria-selected']});
  open();
}
"""


def keep_form(page: gr.Blocks, name: str, components: Sequence[Any]) -> Any:
    """Stores the values of components when they change, and restores them when the page is loaded again.

    Args:
        page: the page.
        name: identifies the form.
        components: of the form, whose values the page knows (not gr.State).

    Returns:
        The event that restores them.
    """
    key, count = f"headway-{name}", len(components)
    save = f"""(...values) => {{
      try {{ sessionStorage.setItem('{key}', JSON.stringify(values.slice(0, {count}))); }} catch {{ /* it is full */ }}
    }}"""
    restore = f"""() => {{
      const stored = JSON.parse(sessionStorage.getItem('{key}') ?? '[]');
      return stored.length === {count} ? stored : Array({count}).fill({{__type__: 'update'}});
    }}"""
    changes = [component.change for component in components]
    gr.on(changes, None, list(components), None, js=save, trigger_mode="multiple", **QUIET)
    return page.load(None, None, list(components), js=restore, **QUIET)

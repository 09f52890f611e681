"""The files of a learning curve: a page that works without the internet, pictures, and the numbers."""

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.atomic_files import atomic_file
from .charts import save_chart
from .html_page import static_page
from .report_page import draw_parts

if TYPE_CHECKING:
    from ..tasks.learning_curves.summary import LearningCurve

PAGE, NUMBERS = "curve.html", "curve.json"
PICTURES = {"curve.svg": False, "curve.png": False, "curve-dark.png": True}  # name -> whether it is dark


def render_curve(found: "LearningCurve") -> str:
    """The complete HTML page."""
    minutes = sum(one.seconds for one in found.runs) / 60
    facts = f"Learning curve on {found.test:,} test rows; {len(found.runs):,} runs in {minutes:,.1f} minutes."
    notes = "".join(f'<li dir="auto">{escape(one)}</li>' for one in found.notes)
    body = (
        f'<header><h1 dir="auto">{escape(found.source)}</h1><p class="quiet">{escape(facts)}</p></header>'
        f'<section><h2>Advice</h2><p dir="auto">{escape(found.advice)}</p></section>'
        f"<section>{draw_parts(found.parts[:1])}{draw_parts(found.parts[1:])}</section>"  # the picture first
        f'<section><h2>Data</h2><ul class="notes">{notes}</ul></section>'
    )
    return static_page("report", f"Learning curve: {found.source}", f"<main>{body}</main>")


def write_curve(folder: Path, found: "LearningCurve") -> None:
    """Writes all files; those of an earlier call are replaced.

    Raises:
        HeadwayError: a file cannot be written.
    """
    texts = {PAGE: render_curve(found), NUMBERS: json.dumps(found.to_json(), indent=1) + "\n"}
    for name, text in texts.items():
        with atomic_file(folder / name, overwrite=True) as new:
            new.write_bytes(text.encode("utf-8", "replace"))  # a text may contain half of a surrogate pair
    for name, dark in PICTURES.items():
        save_chart(found.chart, folder / name, dark=dark)

"""The file that `headway evaluate --report` writes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from ...core.extras import require

if TYPE_CHECKING:
    from ...tasks.base.report_parts import ReportTable
    from ...tasks.evaluation import EvaluationReport

PAGE, DATA = ".html", ".json"


def check_report(path: Path | None, slices: Sequence[str] | None) -> None:
    """Raises HeadwayError before anything is computed if the report cannot be written, or nothing shows an option."""
    if path is None:
        if slices:
            raise HeadwayError("--slice is an option of the report. Add --report FILE.")
        return
    if path.suffix.lower() not in (PAGE, DATA):
        raise HeadwayError(f"{path}: a report is written as {PAGE} or {DATA}. Choose such a name for --report.")
    if path.exists():
        raise HeadwayError(f"{path} already exists. Choose another --report.")
    if path.suffix.lower() == PAGE:
        require("plots", "The page of --report")


def write_report(path: Path, report: "EvaluationReport", drift: "ReportTable | None" = None) -> None:
    """Writes the report as its ending says, with the drift of the rows if it was measured.

    Raises:
        HeadwayError: the file exists or cannot be written.
    """
    from ...core.atomic_files import atomic_file
    from ..report_page import render_report

    if drift is not None:
        report = replace(report, parts=[*report.parts, drift])
    text = (
        render_report(report)
        if path.suffix.lower() == PAGE
        else json.dumps(_finite(report.to_json()), indent=1, allow_nan=False) + "\n"
    )
    with atomic_file(path, overwrite=False) as new:
        new.write_bytes(text.encode("utf-8", "replace"))  # a text may contain half of a surrogate pair


def _finite(content: Any) -> Any:
    """JSON has no infinite numbers: the perplexity of an untrained model may be one."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(one) for one in content] if isinstance(content, list | tuple) else content

"""The notebooks show what their code printed, and their code was run from the first cell to the last."""

import json
from itertools import chain

from guide_blocks import DOCS

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def test_every_notebook_was_run_in_order_and_without_an_error():
    assert [path.stem for path in NOTEBOOKS] == ["classification", "few-shot", "looking-inside"]
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), path.name
        outputs = list(chain.from_iterable(cell["outputs"] for cell in cells))
        assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}, path.name
        assert all(cell["outputs"] for cell in cells if "print(" in "".join(cell["source"])), path.name


def test_the_notebooks_are_small():
    assert all(path.stat().st_size < 60_000 for path in NOTEBOOKS)

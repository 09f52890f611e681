"""Cells pasted from a spreadsheet, as a file in the place of an upload."""

import csv
import io
import time
from pathlib import Path

from gradio.utils import get_upload_folder

PASTED = "pasted.csv"


def write_pasted(text: str) -> str | None:
    """Writes pasted cells to a CSV file; returns its path, or None if nothing was pasted.

    On the clipboard, a spreadsheet separates cells by tabs and quotes those that contain line breaks.
    """
    if not text.strip():
        return None
    path = upload_folder("pasted") / PASTED
    content = text.strip("\r\n") + "\n"
    with path.open("w", encoding="utf-8", newline="") as file:
        if "\t" in content:
            csv.writer(file).writerows(csv.reader(io.StringIO(content, newline=""), delimiter="\t"))
        else:
            file.write(content)
    return str(path)


def upload_folder(purpose: str) -> Path:
    """A new folder for a file that is treated as an upload."""
    folder = Path(get_upload_folder()) / f"headway-{purpose}" / f"{time.time_ns()}"
    folder.mkdir(parents=True)
    return folder

"""The tables of file formats and columns, from the lists that the reader itself uses."""

from dataclasses import fields

from guide_markdown import code, escape, table
from headway.tasks import TASKS
from headway.tasks.data.column_names import FOREIGN_COLUMNS, LABEL_COLUMNS
from headway.tasks.data.read_options import FOR_ALL_FORMATS, ReadOptions
from headway.tasks.data.reading.formats import FILE_FORMATS, FOLDER_FORMATS


def format_table() -> str:
    """Every format with the files that have it, and the options that it uses."""
    rows = [
        [one.title, one.files, ", ".join(map(_flag, sorted(one.options))) or "none"]
        for one in (*FILE_FORMATS, *FOLDER_FORMATS)
    ]
    return table(["Format", "Files", "Options"], rows)


def column_table() -> str:
    """The columns that each task looks for by name."""
    rows = []
    for name, task in TASKS.items():
        for field in task.inputs:
            names = ", ".join(code(one) for one in dict.fromkeys((field.name, *field.aliases)))
            optional = "" if field.required else " (optional)"
            rows.append([code(name), f"{escape(field.label)}{optional}", names, _flag(field.name)])
        if not task.self_supervised:
            usual = task.label_columns == LABEL_COLUMNS
            names = (
                "the [label columns](#label-columns)"
                if usual
                else ", ".join(code(one) for one in task.label_columns if one not in LABEL_COLUMNS)
                + (
                    ", then the [label columns](#label-columns)"
                    if set(LABEL_COLUMNS) <= set(task.label_columns)
                    else ""
                )
            )
            rows.append([code(name), "Label", names, "`--label`"])
    return table(["Task", "Column", "Names, in order of preference", "Option"], rows)


def label_columns() -> str:
    """The names of label columns."""
    return ", ".join(map(code, LABEL_COLUMNS)) + ".\n"


def other_languages() -> str:
    """The names of columns of spreadsheets in other languages than English."""
    return ", ".join(map(code, FOREIGN_COLUMNS)) + ".\n"


def reading_options() -> str:
    """The options for reading a file."""
    found = []
    for field in fields(ReadOptions):
        formats = [one.title for one in (*FILE_FORMATS, *FOLDER_FORMATS) if field.name in one.options]
        of = "all formats" if field.name in FOR_ALL_FORMATS else ", ".join(formats)
        found.append(f"{_flag(field.name)}\n: {escape(field.metadata['help'])} ({of})\n")
    return "\n".join(found)


def _flag(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"

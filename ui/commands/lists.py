"""headway tasks and headway models: list what is available."""

from collections.abc import Callable
from typing import Annotated

from ..options import JSON, with_options


def tasks(json: Annotated[bool, JSON] = False) -> None:
    """List the tasks that a model can be trained for."""
    from ...tasks import TASKS
    from ..terminal import print_json, screen, section, show_next, table

    rows = [
        {"task": name, "reads": ", ".join(f.label.lower() + " (optional)" * (not f.required) for f in task.inputs)}
        for name, task in TASKS.items()
    ]
    console = screen(to_stderr=json)
    section(console, "Tasks", table(rows))
    show_next(console, f"headway train {next(iter(TASKS))} --data FILE --output FOLDER")
    if json:
        print_json({"tasks": rows})


def models(json: Annotated[bool, JSON] = False) -> None:
    """List the models that can be used."""
    from ...core.checkpoints.hub import BUILT_IN
    from ...core.checkpoints.model_files import read_json
    from ..terminal import print_json, screen, section, table

    rows = []
    for name, folder in BUILT_IN.items():
        size = sum(file.stat().st_size for file in folder.iterdir())
        rows.append({"model": name, "kind": read_json(folder / "config.json")["model_type"], "MB": round(size / 1e6)})
    console = screen(to_stderr=json)
    if rows:
        section(console, "Built-in models", table(rows))
    others = [
        {"--model": "FOLDER", "": "a BERT or GPT-2 on disk: config.json, the weights and the tokenizer"},
        {"--model": "NAME", "": "a BERT or GPT-2 on the Hugging Face Hub, such as bert-base-uncased or gpt2"},
        {"--model": "", "": "(downloaded once; with --offline only if it is already on disk)"},
    ]
    section(console, "Other models", table(others))
    if json:
        print_json({"built_in": rows})


def tasks_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(tasks)


def models_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(models)

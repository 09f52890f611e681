"""headway tasks and headway models: list what is available."""

from collections.abc import Callable
from typing import Annotated

from ..options import JSON, with_options


def tasks(json: Annotated[bool, JSON] = False) -> None:
    """List the tasks that a model can be trained for, and those without training."""
    from ...tasks import TASKS, ZeroShotClassification
    from ..terminal import print_json, screen, section, show_next, table

    rows = [
        {"task": name, "reads": ", ".join(f.label.lower() + " (optional)" * (not f.required) for f in task.inputs)}
        for name, task in TASKS.items()
    ]
    console = screen(to_stderr=json)
    section(console, "Tasks", table(rows))
    untrained = [{"task": ZeroShotClassification.name, "reads": "text", "how": ZeroShotClassification.how}]
    section(console, "Without training", table(untrained))
    show_next(console, f"headway train {next(iter(TASKS))} --data FILE --output FOLDER")
    if json:
        print_json({"tasks": rows, "without_training": untrained})


def models(json: Annotated[bool, JSON] = False) -> None:
    """List the models that can be used, with their sizes and what each is good for."""
    from ...core.checkpoints.families.registry import FAMILIES
    from ...core.checkpoints.hub import BUILT_IN
    from ...core.checkpoints.model_files import read_json
    from ...core.checkpoints.published_models import MODELS
    from ..terminal import print_json, screen, section, table

    rows = []
    for name, folder in BUILT_IN.items():
        size = sum(file.stat().st_size for file in folder.iterdir())
        rows.append(
            {
                "model": name,
                "family": FAMILIES[read_json(folder / "config.json")["model_type"]].title,
                "MB": round(size / 1e6),
            }
        )
    console = screen(to_stderr=json)
    if rows:
        section(console, "Built-in models", table(rows))
    published = [
        {
            "model": model.name,
            "family": FAMILIES[model.family].title,
            "language": model.language,
            "millions": round(model.parameters / 1e6),
            "good for": model.good_for,
        }
        for model in MODELS
    ]
    section(console, "Models on the Hugging Face Hub", table(published))
    families = ", ".join(family.title for family in FAMILIES.values())
    others = [
        {"--model": "FOLDER", "": "a model on disk: config.json, the weights and the tokenizer"},
        {"--model": "NAME", "": "any other model of these families on the Hub, in its own language or for a task:"},
        {"--model": "", "": families},
        {"--model": "", "": "(downloaded once; with --offline only if it is already on disk)"},
    ]
    section(console, "Other models", table(others))
    if json:
        print_json({"built_in": rows, "published": published, "families": list(FAMILIES)})


def tasks_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(tasks)


def models_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(models)

"""The README.md of a model folder: a card that a person wants to read, with the metadata that the Hub reads.

https://huggingface.co/docs/hub/model-cards
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.weight_names import model_of
from ...core.models.heads import Network
from .card_text import bullets

if TYPE_CHECKING:
    from .task import Task

MODELS = {"bert": "BERT", "gpt2": "GPT-2"}
# The options of training that a reader wants to know, by TrainConfig's names; and those that stand in for others.
SETTINGS = (
    "max_steps", "epochs", "batch_tokens", "batch_size", "gradient_accumulation_steps", "learning_rate", "schedule",
    "warmup_steps", "warmup_ratio", "weight_decay", "max_grad_norm", "precision", "seed",
)  # fmt: skip
INSTEAD = {"epochs": "max_steps", "batch_size": "batch_tokens", "warmup_ratio": "warmup_steps"}


def model_card(task: "Task", network: Network, info: Mapping[str, Any], name: str) -> str:
    """The card of a model.

    Args:
        task: with all that it has learnt.
        network: backbone and head.
        info: what headway.json says: base, metrics, per_label, data, training, ...; what it does not say is left out.
        name: of the model folder.
    """
    text = task.card(network, name)
    parts = [
        _front_matter(task, network, info, name),
        f"# {name}",
        f"{text.summary} {_origin(network, info)}",
        text.answers,
        "## Use",
        f"```sh\n{text.shell}\n```",
        f'```python\nfrom headway.tasks import load\n\nmodel = load("{name}")\n{text.python}\n```',
        "Without Headway:",
        f"```python\n{text.transformers}\n```",
        *_results(info, text.fitted),
        *_training(info),
        "## Limits",
        bullets(text.limits),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(task: "Task", network: Network, info: Mapping[str, Any], name: str) -> str:
    import yaml

    metrics = info.get("metrics") or {}
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": task.name,
        "tags": ["headway", model_of(network.config)],
    }
    if info.get("base_from") == "hub":
        facts["base_model"] = info["base"]
    if metrics:
        facts["metrics"] = list(metrics)
        source = info["data"]["eval"]["source"]
        result = {
            "task": {"type": task.name, "name": task.title},
            "dataset": {"type": _slug(source), "name": source},
            "metrics": [
                {"type": metric, "name": metric.replace("_", " "), "value": round(value, 4)}
                for metric, value in metrics.items()
            ],
        }
        facts["model-index"] = [{"name": name, "results": [result]}]
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---"


def _origin(network: Network, info: Mapping[str, Any]) -> str:
    """What the model is and where it came from."""
    config = network.config
    size = _short(sum(parameter.numel() for parameter in network.parameters()))
    how = "fine-tuned from" if info.get("training") else "a copy of"
    began = "trained from random weights" if info.get("base_from") == "scratch" else f"{how} `{info['base']}`"
    return (
        f"It is a {MODELS[model_of(config)]} with {config.num_layers} layers of {config.hidden_size} and {size} "
        f"parameters, {began} with Headway {info['headway']}."
    )


def _slug(source: str) -> str:
    """A data set's name as an identifier."""
    return re.sub(r"\W+", "-", Path(source.removeprefix("hub:")).name.partition(".")[0].lower()).strip("-") or "data"


def _short(number: int) -> str:
    """A number of parameters as people say it: 22.7 million."""
    return f"{number / 1e6:,.1f} million" if number >= 1e5 else f"{number:,}"


def _results(info: Mapping[str, Any], fitted: str) -> Iterator[str]:
    metrics = info.get("metrics") or {}
    if not info.get("training"):
        return
    yield "## Results"
    if not metrics:
        yield "Nothing was held out in training, so nothing was measured."
        return
    data = info["data"]["eval"]
    yield f"On {_described(data)}; the weights are those in this folder."
    yield _table(
        ("figure", "value"), ((f"{name.replace('_', ' ')}", f"{value:.4f}") for name, value in metrics.items())
    )
    rows = info.get("per_label") or []
    if rows:
        columns = tuple(rows[0])
        yield _table(columns, ([_cell(row[column]) for column in columns] for row in rows))
    uses = [fitted] if fitted else []
    if info["training"].get("keep") == "best" and info.get("best_step") is not None:
        uses.append(f"the best of all evaluations (step {info['best_step']:,} of {info['steps']:,}) was kept")
    if uses:
        yield f"By these same figures {' and '.join(uses)}, so on other texts they may come out a little worse."


def _training(info: Mapping[str, Any]) -> Iterator[str]:
    options = info.get("training") or {}
    if not options:
        return
    yield "## Training"
    seconds = f"{info['seconds']:,.0f} seconds"
    yield f"Trained on {_described(info['data']['train'])}, for {info['steps']:,} steps in {seconds}."
    said = [name for name in SETTINGS if options.get(name) is not None]
    shown = [name for name in said if INSTEAD.get(name) not in said]
    yield _table(("option", "value"), ((name.replace("_", " "), str(options[name])) for name in shown))


def _described(data: Mapping[str, Any]) -> str:
    if "tokens" in data:
        part = f"{data['examples']:,} documents, {data['tokens']:,} tokens,"
        return f"{part} of `{data['source']}` (fingerprint `{data['fingerprint']}`)"
    part = (
        f"{data['examples']:,} of the {data['rows']:,} rows"
        if data["examples"] < data["rows"]
        else f"{data['rows']:,} rows"
    )
    return f"{part} of `{data['source']}` (fingerprint `{data['fingerprint']}`)"


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell or a line in it is taken out of its way."""
    lines = [columns, ["---"] * len(columns), *rows]
    clean = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in clean)

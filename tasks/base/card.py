"""The model card: README.md of a model folder, with the metadata that the Hub reads.

https://huggingface.co/docs/hub/model-cards
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.families.registry import family_of
from ...core.models.heads import Network
from ..data.reading.hf_datasets import HUB_PREFIX
from .card_rules import BEFORE, rules_section
from .card_text import bullets, code, escape, fenced, string
from .decision_rules import DecisionRules
from .fold import FILE as OUT_OF_FOLD
from .label_table import FILE, describe_rest, worst_rows
from .left_out import NAME as LEFT_OUT
from .score_notes import TEST, score_notes
from .training_rows import FILE as TRAINING_ROWS

if TYPE_CHECKING:
    from .task import Task

# Options of training that the card lists, by TrainConfig's names, and those that replace another option.
OPTIONS = (
    "max_steps", "epochs", "batch_tokens", "batch_size", "gradient_accumulation_steps", "learning_rate", "schedule",
    "warmup_steps", "warmup_ratio", "weight_decay", "max_grad_norm", "precision", "seed",
)  # fmt: skip
HASHES = (
    f"`{TRAINING_ROWS}` contains hashes of the training texts, by which an evaluation on the same texts is noticed. "
    "With a text and this file one can test whether the model was trained on that text. The model works without it."
)
REPLACED_BY = {"epochs": "max_steps", "batch_size": "batch_tokens", "warmup_ratio": "warmup_steps"}


def model_card(
    task: "Task[Any, Any]",
    network: Network,
    info: Mapping[str, Any],
    name: str,
    *,
    hashes: bool = False,
    num_left_out: int = 0,
) -> str:
    """The card of a model.

    Args:
        task: with its labels, thresholds and similar.
        network: backbone and head.
        info: headway.json: base, metrics, per_label, data, training, ...; the card omits what it does not contain.
        name: of the model folder.
        hashes: whether the folder has hashes of the training texts.
        num_left_out: rows of the data that were not used and are listed in the folder.
    """
    text = task.card(network, name)
    parts = [
        _front_matter(task, network, info, name),
        f"# {escape(name)}",
        f"{text.summary} {_origin(network, info)}",
        text.answers,
        "## Use",
        fenced("sh", text.shell),
        fenced("python", f"from headway.tasks import load\n\nmodel = load({string(name)})\n{text.python}"),
        "Without Headway:",
        fenced("python", text.transformers),
        *_results(info, task.calibrated),
        *_training(info),
        *([HASHES] if hashes else []),
        *([f"`{LEFT_OUT}` lists the rows that were left out ({num_left_out:,})."] if num_left_out else []),
        *filter(None, [rules_section(DecisionRules.of(info))]),
        BEFORE,
        bullets(text.limits),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(task: "Task[Any, Any]", network: Network, info: Mapping[str, Any], name: str) -> str:
    import yaml

    metrics = info.get("metrics") or {}
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": task.pipeline_tag,
        "tags": ["headway", network.config.family],
    }
    if info.get("base_from") == "hub":
        facts["base_model"], _, _ = info["base"].partition("@")
    if metrics:
        facts["metrics"] = list(metrics)
        result = {
            "task": {"type": task.name, "name": task.title},
            "dataset": dataset_of(scored_data(info)["source"]),
            "metrics": [
                {"type": metric, "name": metric.replace("_", " "), "value": round(value, 4)}
                for metric, value in metrics.items()
            ],
        }
        facts["model-index"] = [{"name": name, "results": [result]}]
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---"


def _origin(network: Network, info: Mapping[str, Any]) -> str:
    """The size of the model, and the model that training started from."""
    config = network.config
    size = _short(sum(parameter.numel() for parameter in network.parameters()))
    how = "fine-tuned from" if info.get("training") else "a copy of"
    origin = "trained from random weights" if info.get("base_from") == "scratch" else f"{how} {code(info['base'])}"
    return (
        f"It is {family_of(config).with_article} with {config.num_layers} layers, hidden size {config.hidden_size} "
        f"and {size} parameters, {origin} with Headway {info['headway']}."
    )


def _metric_rows(metrics: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, ...]]:
    for name, value in metrics.items():
        bounds = " to ".join(f"{bound:.4f}" for bound in intervals.get(name, ()))
        yield name.replace("_", " "), f"{value:.4f}", bounds


def dataset_of(source: str) -> dict[str, str]:
    """A data set as the Hub's metadata name it: its id, configuration and split there, or a name of its own."""
    if not source.startswith(HUB_PREFIX):
        slug = re.sub(r"\W+", "-", Path(source).name.partition(".")[0].lower()).strip("-") or "data"
        return {"type": slug, "name": source}
    name, *parts = source.removeprefix(HUB_PREFIX).split(":")
    config = {"config": parts[0]} if len(parts) > 1 else {}
    return {"type": name, "name": name, **config, **({"split": parts[-1]} if parts else {})}


def _short(number: int) -> str:
    """A number of parameters, rounded: 22.7 million."""
    return f"{number / 1e6:,.1f} million" if number >= 1e5 else f"{number:,}"


def _results(info: Mapping[str, Any], calibrated: str) -> Iterator[str]:
    metrics = info.get("metrics") or {}
    if not info.get("training"):
        return
    yield "## Results"
    if not metrics:
        yield "There was no evaluation data, so no metric was computed."
        return
    data = _describe(scored_data(info))
    if folds := info.get("folds"):
        yield (
            f"By cross-validation with {folds['count']} folds: each row is predicted by a model that was not "
            f"trained on it (`{OUT_OF_FOLD}` has these predictions), {data}. The weights in this folder "
            f"are trained on all rows, for {folds['trained_for']}."
        )
    else:
        is_test = info.get("metrics_from") == TEST
        nothing = " Nothing was chosen on these rows: they are the test data." if is_test else ""
        yield f"Of the weights in this folder, on {data}.{nothing}"
    yield _table(("metric", "value", "95 % interval"), _metric_rows(metrics, info.get("intervals") or {}))
    for runs in filter(None, (info.get("folds"), info.get("seeds"))):
        yield f"Mean and standard deviation of {runs['count']} {_kind_of_runs(runs)}:"
        rows = ((name.replace("_", " "), f"{value:.4f}", f"{runs['spread'].get(name, 0.0):.4f}")
                for name, value in runs["mean"].items())  # fmt: skip
        yield _table(("metric", "mean", "standard deviation"), rows)
    if info.get("nothing_learnt"):
        yield f"**{escape(info['nothing_learnt'])}**"
    rows = info.get("per_label") or []
    if rows:
        columns = tuple(rows[0])
        yield _table(columns, ([_cell(row[column]) for column in columns] for row in worst_rows(rows)))
        if rest := describe_rest(rows, f"All are in `{FILE}`."):
            yield rest
    if rows := info.get("comparison"):
        yield "Beside outputs that cost nothing:"
        yield _table(tuple(rows[0]), ([_cell(value) for value in row.values()] for row in rows))
    runs = info["folds"]["runs"] if info.get("folds") else [info]
    best_step = next((run["best_step"] for run in runs if run.get("best_step")), None)
    yield from score_notes(info.get("metrics_from"), calibrated, best_step, info["steps"])


def scored_data(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data on which the metrics were measured."""
    return info["data"]["test" if info.get("metrics_from") == TEST else "eval"]


def _kind_of_runs(runs: Mapping[str, Any]) -> str:
    if "kept" not in runs:
        return "folds"
    return f"runs with different seeds (seed {runs['kept']}, with the median score, is kept)"


def _training(info: Mapping[str, Any]) -> Iterator[str]:
    options = info.get("training") or {}
    if not options:
        return
    yield "## Training"
    seconds = f"{info['seconds']:,.0f} seconds"
    yield f"Trained on {_describe(info['data']['train'])}, for {info['steps']:,} steps in {seconds}."
    if kept := info.get("examples"):
        yield (
            f"headway.json contains {len(kept)} of the held-out texts, as examples to try "
            "(`--keep-examples 0` leaves them out)."
        )
    given = [name for name in OPTIONS if options.get(name) is not None]
    shown = [name for name in given if REPLACED_BY.get(name) not in given]
    yield _table(("option", "value"), ((name.replace("_", " "), str(options[name])) for name in shown))


def _describe(data: Mapping[str, Any]) -> str:
    if "tokens" in data:
        part = f"{data['examples']:,} documents, {data['tokens']:,} tokens,"
        return f"{part} of {code(data['source'])} (fingerprint `{data['fingerprint']}`)"
    part = (
        f"{data['examples']:,} of the {data['rows']:,} rows"
        if data["examples"] < data["rows"]
        else f"{data['rows']:,} rows"
    )
    return f"{part} of {code(data['source'])} (fingerprint `{data['fingerprint']}`)"


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; special characters in cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(escape, line))} |" for line in lines)

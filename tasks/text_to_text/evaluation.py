"""The metrics of text to text: the loss of the references and, for some inputs, scores of generated outputs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from ..base.inference import Encoder, predict_examples
from ..base.results import Evaluation
from ..language_modeling.targets import perplexity
from .predictions import OutputLoss, PairExample

if TYPE_CHECKING:
    from .text_to_text import TextToText


def loss_metrics(predictions: Sequence[OutputLoss]) -> dict[str, float]:
    """The mean loss in nats per token of the outputs, and its exponential."""
    loss = sum(one.loss for one in predictions) / max(1, sum(one.num_targets for one in predictions))
    return {"loss": loss, "perplexity": perplexity(loss)}


def references_of(examples: Sequence[PairExample]) -> dict[str, tuple[str, ...]]:
    """The references of each input, of all rows with this input."""
    found: dict[str, tuple[str, ...]] = {}
    for one in examples:
        found[one.text] = tuple(dict.fromkeys((*found.get(one.text, ()), *(text.strip() for text in one.outputs))))
    return found


def evaluate_outputs(
    task: "TextToText",
    found: Evaluation,
    network: nn.Module,
    encoder: Encoder,
    known: Sequence[Any],  # noqa: ARG001
) -> Evaluation:
    """Generates outputs for at most `task.eval_outputs` different inputs, and scores them.

    Args:
        task: of the network.
        found: the evaluation with the losses.
        network: in eval mode.
        encoder: of the model.
        known: the training examples, for baselines; may be empty.
    """
    references = references_of(found.examples)
    first = {one.text: i for i, one in reversed(list(enumerate(found.examples)))}
    chosen = sorted(first[text] for text in references)[: task.eval_outputs]
    if not chosen:
        return found
    windows = encoder.encode(task, [found.examples[i].without_outputs() for i in chosen])
    generated = predict_examples(task, network, windows)
    predictions = list(found.predictions)
    for i, one in zip(chosen, generated, strict=True):
        predictions[i] = replace(predictions[i], generated=one)
    golds = [references[found.examples[i].text] for i in chosen]
    metrics = {
        **output_metrics([one.text for one in generated], golds),
        "stopped": sum(one.stopped for one in generated) / len(generated),
    }
    what = f"outputs were generated for {len(chosen):,} of {len(references):,} inputs (--eval-outputs)"
    return replace(found, metrics={**found.metrics, **metrics}, predictions=predictions, notes=(*found.notes, what))


def output_metrics(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores of generated outputs."""
    exact = sum(one in golds for one, golds in zip(outputs, references, strict=True))
    return {"exact_match": exact / len(outputs)}

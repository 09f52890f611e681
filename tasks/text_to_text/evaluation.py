"""The metrics of text to text: the loss of the references and, for some inputs, scores of generated outputs.

The outputs are compared with baselines (baselines.py) on the same inputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ..base.evaluation_hooks import EvaluationHooks
from ..base.inference import Encoder, predict_examples
from ..base.predictions import Misprediction
from ..base.report_parts import ReportCollector
from ..base.results import Evaluation
from ..base.task import Task
from ..data.digests import digests, number_equal
from ..data.features import num_truncated_tokens
from ..intervals import Bootstrap
from ..language_modeling.targets import tally_losses
from ..tallies import Tally, of_some, side_by_side, tally_means
from .baselines import MAX_TRAINING_ROWS, best_baseline, compare_with_baselines
from .output_findings import describe_outputs
from .predictions import GeneratedText, PairExample
from .report_outputs import OutputCharts
from .scores import TextScores, score_texts


class OutputEvaluation(EvaluationHooks):
    """The hooks of evaluation."""

    eval_outputs: int  # inputs whose outputs are generated
    finishes_predictions: ClassVar[bool] = True

    def tally(self, predictions: Sequence[Any], examples: Sequence[PairExample]) -> Tally:
        """The losses of each output and, where outputs were generated, what their scores are functions of."""
        losses = tally_losses(predictions, ["perplexity"])
        rows = [i for i, one in enumerate(predictions) if one.generated is not None]
        if not rows:
            return losses
        references = references_of(examples)
        generated = [predictions[i].generated for i in rows]
        scored = score_texts([one.text for one in generated], [references[examples[i].text] for i in rows])
        return side_by_side([losses, of_some(tally_generated(scored, generated), rows, len(predictions))])

    def finish_evaluation(
        self,
        found: Evaluation,
        network: nn.Module,
        encoder: Encoder,
        known: Sequence[Any],
        *,
        examples: Sequence[Any] | None = None,
    ) -> Evaluation:
        """Adds generated outputs of some examples, their scores and the baselines."""
        assert isinstance(self, Task)
        return evaluate_outputs(self, found, network, encoder, known, most=self.eval_outputs, examples=examples)

    def to_finish(self, examples: Sequence[PairExample]) -> np.ndarray:
        """Those with one of the first `eval_outputs` inputs."""
        return first_inputs(examples, self.eval_outputs)[0]

    def report_collector(self) -> ReportCollector:
        """How generated outputs end."""
        return OutputCharts()

    def misprediction(self, prediction: Any, example: PairExample) -> Misprediction | None:
        """A generated output that differs from all references; the larger its loss, the worse."""
        generated = prediction.generated
        if generated is None or generated.text in {one.strip() for one in example.outputs}:
            return None
        error = prediction.loss / max(1, prediction.num_targets)
        return Misprediction(example.where, example.texts, example.outputs[0], generated.text, error)


def first_inputs(examples: Sequence[PairExample], most: int) -> tuple[np.ndarray, int]:
    """The positions of the examples with one of the first `most` different inputs, and the number of all inputs.

    Memory: about 60 bytes per example.
    """
    numbers = number_equal(digests(one.text.encode("utf-8", "surrogatepass") for one in examples))
    return np.flatnonzero(numbers < most), int(numbers.max(initial=-1)) + 1


def references_of(examples: Iterable[PairExample]) -> dict[str, tuple[str, ...]]:
    """The references of each input, of all rows with this input."""
    found: dict[str, tuple[str, ...]] = {}
    for one in examples:
        found[one.text] = tuple(dict.fromkeys((*found.get(one.text, ()), *(text.strip() for text in one.outputs))))
    return found


def tally_generated(scored: TextScores, generated: Sequence[GeneratedText]) -> Tally:
    """The counts of the scores, and how many outputs the model ended itself."""
    assert scored.tally is not None
    stopped = tally_means({"stopped": [float(one.stopped) for one in generated]}, of_01=["stopped"])
    return side_by_side([scored.tally, stopped])


def evaluate_outputs(
    task: Task[Any, Any],
    found: Evaluation,
    network: nn.Module,
    encoder: Encoder,
    known: Sequence[Any],
    *,
    most: int,
    examples: Sequence[PairExample] | None = None,
) -> Evaluation:
    """Generates outputs for at most `most` different inputs, and scores them beside baselines.

    Args:
        task: of the network.
        found: the evaluation with the losses.
        network: in eval mode.
        encoder: of the model.
        known: the training examples, for baselines; may be empty.
        most: number of inputs.
        examples: all examples, where `found` has only those with these inputs.
    """
    rows, number = first_inputs(found.examples if examples is None else examples, most)
    if not len(rows):
        return found
    kept = dict(enumerate(found.examples)) if examples is not None else {int(i): found.examples[i] for i in rows}
    references = references_of(kept.values())
    first = {one.text: i for i, one in reversed(kept.items())}
    chosen = sorted(first.values())
    windows = encoder.encode(task, [kept[i].without_outputs() for i in chosen])
    cut = sum(num_truncated_tokens(one) > 0 for one in windows)
    generated = predict_examples(task, network, windows)
    predictions = list(found.predictions)
    for i, one in zip(chosen, generated, strict=True):
        predictions[i] = replace(predictions[i], generated=one)
    golds = [references[kept[i].text] for i in chosen]
    outputs, inputs = [one.text for one in generated], [kept[i].text for i in chosen]
    scored = score_texts(outputs, golds)
    tally, bootstrap = tally_generated(scored, generated), Bootstrap()
    if found.groups:
        bootstrap.add(tally, [found.groups[i] for i in chosen])
    what = f"outputs were generated for {len(chosen):,} of {number:,} inputs (--eval-outputs)"
    if cut:
        what += f"; {cut:,} of these inputs {'is' if cut == 1 else 'are'} cut ({task.cut_note})"
    comparison = compare_with_baselines(outputs, inputs, golds, training_pairs(known))
    return replace(
        found,
        metrics={**found.metrics, **tally.metrics()},
        intervals={**found.intervals, **bootstrap.intervals()},
        predictions=predictions,
        notes=(*found.notes, what, *describe_outputs(outputs), *scored.notes, *signature_note(scored.signatures)),
        comparison=comparison,
        baseline=best_baseline(comparison, outputs, golds),
    )


def signature_note(signatures: Mapping[str, str]) -> tuple[str, ...]:
    """What makes the scores comparable, as a note; none without scores of packages."""
    return (f"signatures of the scores: {'; '.join(map(': '.join, signatures.items()))}",) if signatures else ()


def training_pairs(known: Sequence[PairExample]) -> list[tuple[str, str]]:
    """Inputs with their first outputs; of very many examples, random ones."""
    rows = range(len(known))
    rows = sorted(Random(0).sample(rows, MAX_TRAINING_ROWS)) if len(rows) > MAX_TRAINING_ROWS else rows
    examples = (known[i] for i in rows)
    return [(one.text, one.outputs[0]) for one in examples if one.outputs]

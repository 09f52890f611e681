"""A prompt with its labels and demonstrations, ready to answer queries.

Shapes: O orders of the demonstrations, E texts, L labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ...core.generation.decoding import Generation
from ...core.generation.generation import generate
from ...core.generation.generation_config import GenerationConfig
from ..base.predictions import Prediction
from ..classification.predictions import TextExample
from ..data.columns import ColumnMapping
from ..data.labels import MULTI_LABEL
from ..data.rows import CHUNK_ROWS, RowStream
from .calibration import BATCH, CONTEXTUAL
from .example_reader import ExampleReader
from .predictions import WrittenAnswer, multi_label_predictions, single_label_predictions
from .prompt_runner import LabelProbabilities, PromptRunner


@dataclass(frozen=True, eq=False)
class PreparedPrompt:
    """Predicts labels or generates answers.

    Args:
        runner: the template and its demonstrations on the model.
        reader: of rows; knows the labels.
        calibration: CONTEXTUAL, BATCH or NONE.
        generation: how answers are generated, if they are.
        seed: of the choice of demonstrations and of their orders.
        notes: what was inferred from the data, one sentence each.
        unlabelled: texts for batch calibration.
    """

    runner: PromptRunner
    reader: ExampleReader
    calibration: str
    generation: GenerationConfig
    seed: int
    notes: tuple[str, ...]
    unlabelled: tuple[TextExample, ...] = ()
    dropped: list[int] = field(default_factory=list, init=False)  # demonstrations that did not fit, for each text
    shortened: set[str] = field(default_factory=set, init=False)  # the places of texts whose end did not fit

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels; empty if answers are generated."""
        return self.reader.labels

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels."""
        return self.reader.problem_type == MULTI_LABEL

    def predict(self, texts: Sequence[TextExample]) -> list[Any]:
        """One prediction per text.

        Raises:
            HeadwayError: as `label_probabilities`.
        """
        if not texts:
            return []
        if self.reader.writes:
            answers, dropped = self.write(texts, self.seed)
            self.dropped.extend(dropped)
            return answers
        found = self.label_probabilities(texts, self.seed)
        self.dropped.extend(found.dropped)
        return self.predictions(found.probabilities, found.prior)

    def predict_rows(self, stream: RowStream, columns: ColumnMapping) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Predictions for the rows of a stream, in order and in bounded memory: (row, prediction).

        Batch calibration without unlabelled texts uses the rows of one chunk.
        """
        for chunk in _chunks(stream):
            places, rows = [place for place, _ in chunk], [row for _, row in chunk]
            table = stream.table(rows, places)
            yield from zip(rows, self.predict(self.reader.examples(table, columns, labelled=False)), strict=True)

    def label_probabilities(self, texts: Sequence[TextExample], seed: int) -> LabelProbabilities:
        """The label probabilities of some texts, and the prior to calibrate them by.

        Raises:
            HeadwayError: batch calibration has a single text, or a prompt is longer than the model's context.
        """
        if self.calibration == BATCH and not self.unlabelled and len({text.texts for text in texts}) == 1:
            raise HeadwayError(
                "--calibration batch divides by the mean over the texts, and a single text is its own mean. "
                "Give more texts or --unlabelled ones, or choose --calibration contextual."
            )
        contextual = self.calibration == CONTEXTUAL
        found = self.runner.score([*texts, *self.unlabelled], seed, content_free=contextual)
        probabilities, prior = found.probabilities[:, : len(texts)], None
        if found.prior is not None:
            prior = found.prior[:, : len(texts)]
        elif self.calibration == BATCH:
            batch = found.probabilities[:, len(texts) :] if self.unlabelled else probabilities
            prior = np.broadcast_to(batch.mean(axis=1, keepdims=True), probabilities.shape)
        self.shortened.update(found.shortened & {text.where for text in texts})
        return LabelProbabilities(probabilities, prior, found.dropped[: len(texts)], found.shortened)

    def predictions(self, probabilities: np.ndarray, prior: np.ndarray | None) -> list[Any]:
        """Label probabilities (O, E, L) as predictions."""
        decode = multi_label_predictions if self.multi_label else single_label_predictions
        return list(decode(self.labels, probabilities, prior))

    def write(self, texts: Sequence[TextExample], seed: int) -> tuple[list[WrittenAnswer], list[int]]:
        """Generates an answer to each text by greedy decoding; and the number of dropped demonstrations of each.

        Without demonstrations, a model often begins its answer in the next line; that line break does not end it.
        """
        opened = self.runner.prompts(texts, seed, self.generation.max_new_tokens)
        self.shortened.update(text.where for text, one in zip(texts, opened, strict=True) if one.shortened)
        prompts = [one.text for one in opened]
        found = self._generate(prompts)
        if not self.runner.shots and all(map(str.isspace, self.generation.stop)):
            again = [i for i, one in enumerate(found) if one.finish_reason == "stop" and not one.text.strip()]
            for i, one in zip(again, self._generate([f"{prompts[i]}\n" for i in again]), strict=True):
                found[i] = one
        answers = [WrittenAnswer(one.text.strip(), one.score, one.finish_reason) for one in found]
        return answers, [one.dropped for one in opened]

    def _generate(self, prompts: Sequence[str]) -> list[Generation]:
        found = generate(self.runner.network, self.runner.tokenizer, prompts, self.generation) if prompts else []
        return [one for (one,) in found]

    def preview(self, text: TextExample) -> tuple[str, int]:
        """The whole prompt of a text, and the number of demonstrations that did not fit."""
        reserved = self.generation.max_new_tokens if self.reader.writes else 1
        (prompt,) = self.runner.prompts([text], self.seed, reserved)
        return prompt.text, prompt.dropped

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about demonstrations and texts that did not fit into the prompts so far."""
        limit = f"the {self.runner.window:,} tokens that {self.runner.base} reads"
        cut = f"the end of {len(self.shortened):,} of {len(self.dropped):,} texts did not fit into {limit} and was cut"
        affected = [count for count in self.dropped if count]
        skipped = len(self.runner.not_compared)
        unread = f"{skipped:,} examples were not compared: with the demonstrations, they do not fit into {limit}"
        return (
            *((self._dropped(affected, limit),) if affected else ()),
            *((cut,) if self.shortened else ()),
            *((unread,) if skipped else ()),
        )

    def _dropped(self, affected: Sequence[int], limit: str) -> str:
        several, up_to = max(affected) > 1, "up to " * (len(set(affected)) > 1)
        count = f"{up_to}{max(affected)} demonstration{'s' * several}"
        return (
            f"for {len(affected):,} of {len(self.dropped):,} texts, {count} did not fit into {limit} and "
            f"{'were' if several else 'was'} dropped"
        )


def _chunks(stream: RowStream) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """CHUNK_ROWS rows at a time with their places; the remainder joins the last chunk.

    So only a short file has a chunk too short for batch calibration.
    """
    rows = iter(stream)
    chunk = list(islice(rows, CHUNK_ROWS))
    while len(rest := list(islice(rows, CHUNK_ROWS))) == CHUNK_ROWS:
        yield chunk
        chunk = rest
    if chunk:
        yield chunk + rest

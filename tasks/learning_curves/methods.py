"""The ways to use a model that a learning curve compares: each takes rows and gives metrics on the test rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import HeadwayError
from ...core.training.training_config import TrainConfig
from ..base.model import TaskModel
from ..base.sharing import with_task
from ..classification.classification import TextClassification
from ..classification.predictions import LabelPrediction, LabelsPrediction
from ..data.labels import MULTI_LABEL
from ..data.rows import Table
from ..prompting.prompt import Prompt
from ..prompting.scoring import DIRECT, KNN
from ..zero_shot.zero_shot import ZeroShotClassification
from .curve_data import CurveData
from .options import FEW_SHOT, FROZEN, PROMPTING, ZERO_SHOT, CurveOptions
from .runs import OutOfTime, Run


@dataclass(frozen=True, eq=False)
class Methods:
    """Runs one method on the rows of one draw.

    Args:
        data: of all runs.
        options: of all runs.
        config: of training; its seed is that of the first draw.
        device: of prompts and of entailment.
        stop: as of `TaskModel.train`.
    """

    data: CurveData
    options: CurveOptions
    config: TrainConfig
    device: str
    stop: Callable[[], bool] | None = None

    def measure(self, run: Run, is_over: Callable[[], bool]) -> dict[str, float]:
        """The metrics on the test rows.

        Args:
            run: method, size and draw.
            is_over: whether the time is over; training is then stopped.

        Raises:
            OutOfTime: `is_over` returned True.
            HeadwayError: the model cannot do this, or does not exist.
        """
        rows = self.data.draw(run.size, run.draw) if run.size else self.data.pool
        if run.method == ZERO_SHOT and self.options.zero_shot_model is not None:
            return self._entailment(self.options.zero_shot_model)
        if run.method in PROMPTING:
            return self._prompt(rows, 0 if run.method == ZERO_SHOT else min(self.options.shots, run.size), run.draw)
        task = TextClassification(
            problem_type=self.data.task.problem_type, frozen=run.method == FROZEN, few_shot=run.method == FEW_SHOT
        )
        return self._train(task, rows, run.draw, is_over)

    def _train(
        self, task: TextClassification, rows: Table, draw: int, is_over: Callable[[], bool]
    ) -> dict[str, float]:
        model, stopped = task.on(self.options.model), False
        config = replace(self.config, seed=self.config.seed + draw - 1)

        def stop() -> bool:
            nonlocal stopped
            if self.stop is not None and self.stop():
                return True
            stopped = is_over()
            return stopped

        try:
            for _ in model.train(rows, eval_fraction=0, columns=self.data.columns, config=config, stop=stop):
                pass
        except KeyboardInterrupt as interruption:
            if stopped:
                raise OutOfTime from interruption
            raise
        return model.evaluate(self.data.test, columns=self.data.columns).metrics

    def _entailment(self, name: str) -> dict[str, float]:
        """By a classifier of pairs, which reads each test text with a hypothesis per label."""
        options, task = self.options, self.data.task
        if task.paired:
            raise HeadwayError(
                "Each row has two texts, and entailment compares one text with hypotheses. Omit zero-shot (--methods)."
            )
        asked: dict[str, Any] = {"labels": task.labels, "problem_type": task.problem_type}
        asked |= {"verbalize": options.verbalize} if options.verbalize else {}
        asked |= {} if options.hypothesis is None else {"hypothesis": options.hypothesis}
        opened = TaskModel.load(name, {TextClassification.name: TextClassification}, self.device)
        model = with_task(opened, ZeroShotClassification.of(opened.task, name, asked))
        return model.evaluate(self.data.test, columns=self.data.columns).metrics

    def _prompt(self, rows: Table, shots: int, draw: int) -> dict[str, float]:
        """The labels come from the rows, of which `shots` are in the prompt."""
        options, columns = self.options, self.data.columns
        prompt = Prompt(
            problem_type=self.data.task.problem_type,
            shots=shots,
            seed=draw - 1,
            scoring=DIRECT if options.scoring == KNN and not shots else options.scoring,
            template=options.template,
            verbalize=options.verbalize,
        )
        model = prompt.on(options.prompt_model, device=self.device)
        prepared = model.prepare(rows, columns, paired="pair" in columns)
        test = self.data.test
        mapping = prepared.reader.columns(test, columns, need_label=True)
        task = prepared.reader.task.with_labels_of(test, mapping)
        examples = task.examples(test, mapping)
        return task.score(prepared.predict(examples), examples)


def baseline_metrics(data: CurveData) -> tuple[str, dict[str, float]]:
    """The most common label of the rows to draw from, and the metrics of always answering it."""
    counts: dict[str, int] = {}
    for row in data.pool.rows:
        for label in _labels(row):
            counts[label] = counts.get(label, 0) + 1
    label = max(counts, key=lambda one: counts[one])
    mapping = data.task.columns(data.test, data.columns, need_label=True)
    task = data.task.with_labels_of(data.test, mapping)
    examples = task.examples(data.test, mapping)
    constant = (
        LabelsPrediction((label,), {}) if task.problem_type == MULTI_LABEL else LabelPrediction(label, 1.0, {label: 1})
    )
    predictions: Sequence[Any] = [constant] * len(examples)
    return label, task.score(predictions, examples)


def _labels(row: Mapping[str, Any]) -> Sequence[str]:
    return row["label"] if isinstance(row["label"], list) else [row["label"]]

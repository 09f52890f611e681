"""Where the data of a run comes from, and which part of the training data is held out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...core.errors import HeadwayError
from ..data.read import options_by_source
from ..data.read_options import INFER, ReadOptions
from .fold import Fold

EVAL_FRACTION = 0.1  # of the rows, held out if there is no evaluation data
TEST_FRACTION = 0.1  # of the rows, held out if there is no test data and there are enough rows
FEWEST_FOR_TEST = 2000  # rows


@dataclass(frozen=True)
class DataSource:
    """Where the data of a run comes from.

    Evaluation data (validation) chooses the best step, temperatures and thresholds; test data chooses nothing, and its
    metrics are reported. Test rows cost training rows: with few rows, the model is worse without them than the metrics
    are uncertain because of them. By default a tenth is held out for the test from 2,000 rows on. There the 95 %
    interval of an accuracy of 0.9 is 4 points wide to each side (200 test rows), while a training set that is smaller
    by a ninth costs about 0.4 points (if the errors fall with the power -0.3 of the rows). Of 500 rows, the test would
    have 50, its interval 8 points, and tell less than the metrics on the evaluation rows, whose calibration is
    cross-fitted (held_out_score.py): choosing the best of ten equally good steps on 200 rows adds 1 to 2 points.

    Args:
        train: labelled rows or texts: anything that `read_table` or `open_documents` reads.
        evaluation: the same for evaluation; None: a part of `train` is held out.
        columns: field name, "label" or "group" -> column that the user named.
        eval_fraction: the part of `train` to hold out; 0: none.
        seed: of the split.
        reading: how to read files.
        test: the same as `evaluation` for the test; None: a part of `train` is held out.
        test_fraction: the part of `train` to hold out for the test; 0: none; None: TEST_FRACTION if rows are held out
            for evaluation and there are at least FEWEST_FOR_TEST labelled rows. Of texts without labels none: the loss
            on many tokens is hardly better on the texts that chose the step.
        fold: of a cross-validation, instead of the fractions.
    """

    train: Any
    evaluation: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    eval_fraction: float = EVAL_FRACTION
    seed: int = 0
    reading: ReadOptions = INFER
    test: Any = None
    test_fraction: float | None = None
    fold: Fold | None = None

    @cached_property
    def readings(self) -> tuple[ReadOptions, ReadOptions, ReadOptions]:
        """How the data for training, evaluation and test is read: an option applies to those that it concerns."""
        sources = self.train, self.evaluation, self.test
        found = iter(options_by_source(self.reading, [one for one in sources if one is not None]))
        train = next(found)
        evaluation, test = (train if one is None else next(found) for one in sources[1:])
        return train, evaluation, test

    def fractions(self, num_rows: int | None = None) -> tuple[float, float]:
        """The parts of the training data to hold out for the test and for evaluation.

        Args:
            num_rows: labelled rows that can be used; None: there are texts without labels.
        """
        if self.fold is not None:
            return 0.0, 0.0
        evaluation = 0.0 if self.evaluation is not None else self.eval_fraction
        if self.test is not None:
            return 0.0, evaluation
        if self.test_fraction is not None:
            return self.test_fraction, evaluation
        enough = num_rows is not None and num_rows >= FEWEST_FOR_TEST and evaluation + TEST_FRACTION < 1
        return TEST_FRACTION if evaluation and enough else 0.0, evaluation

    def check_split(self) -> list[str]:
        """Notes on options that have no effect.

        Raises:
            HeadwayError: a fraction is not possible, or groups are named and there is no split.
        """
        for name, fraction in (("eval", self.eval_fraction), ("test", self.test_fraction or 0)):
            if not 0 <= fraction < 1:
                raise HeadwayError(f"--{name}-fraction {fraction}: a number from 0 to below 1.")
        if sum(self.fractions()) >= 1:
            raise HeadwayError(
                f"--eval-fraction {self.eval_fraction:g} and --test-fraction {self.test_fraction:g}: their sum must "
                "be below 1, so that rows are left for training."
            )
        if self.columns.get("group") and self.fold is None and not any(self.fractions()):
            raise HeadwayError(
                "--group keeps rows together where a part of the training data is held out, and here none is: "
                "remove --group, or --eval-data or --eval-fraction 0."
            )
        notes = []
        if self.evaluation is not None and self.eval_fraction not in (0, EVAL_FRACTION):
            notes.append(f"--eval-fraction {self.eval_fraction:g} has no effect beside --eval-data")
        if self.test is not None and self.test_fraction:
            notes.append(f"--test-fraction {self.test_fraction:g} has no effect beside --test-data")
        return notes

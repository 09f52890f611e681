"""Random folds of rows; rows of one group are in one fold."""

import numpy as np

FOLDS = 5
ENOUGH_FOR_HALVES = 20_000  # rows: thresholds that are fitted to half of them are hardly worse, and cost less


def folds_of(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """The fold of each row: five folds of few rows, two of many; fewer if there are fewer groups.

    Args:
        groups: the number of the group of each row, (N,).
        seed: of the random choice.

    Returns:
        Numbers from 0, (N,).
    """
    number = FOLDS if len(groups) < ENOUGH_FOR_HALVES else 2
    distinct, group_of = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(distinct)) % number)[group_of]

"""Nested stratified draws of rows: the first n rows of an order are a sample of n rows."""

import numpy as np


def draw_order(strata: np.ndarray, seed: int) -> np.ndarray:
    """An order of rows of which every beginning has each label with about its share; (N,) positions.

    One row of each label comes first. The further rows of a label are at equal distances, from a random start.

    Args:
        strata: the number of the label of each row, (N,); -1: it has none.
        seed: of the order.
    """
    random = np.random.default_rng(seed)
    places = np.empty(len(strata))
    for label in np.unique(strata):
        rows = random.permutation(np.flatnonzero(strata == label))
        places[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
        places[rows[0]] -= 1
    return np.argsort(places, kind="stable")

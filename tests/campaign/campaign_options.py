"""How long a campaign runs, and with which random numbers.

    HEADWAY_CAMPAIGN=0.01 HEADWAY_SEED=7 pytest -m campaign -n0 tests/campaign/test_fuzzed_models.py

A failure names the number of its case; with the same seed the case is the same.
"""

import os
from random import Random

SCALE = float(os.environ.get("HEADWAY_CAMPAIGN", 1))  # 1: the whole campaign
SEED = int(os.environ.get("HEADWAY_SEED", 0))


def cases(whole: int) -> range:
    """The numbers of the cases, of which the whole campaign has `whole`."""
    return range(max(1, round(whole * SCALE)))


def random_of(*case: object) -> Random:
    """Random numbers that depend on the seed and the case only."""
    return Random(f"{SEED} {case}")

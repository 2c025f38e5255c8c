"""Evidence with a known gain, for tests of what is decided and planned from it."""

import numpy as np

from search.judging.statistics.bounds import Floats
from search.judging.statistics.decision import Evidence
from search.judging.statistics.jackknife import SplitNoise
from search.judging.statistics.values import Requirement

RECALL = Requirement("minority_recall", 0.05)
MAP = Requirement("map50_95", -0.03)
SPREAD = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
NO_SPLIT_NOISE = SplitNoise(np.zeros(10), np.array(0.0), np.array(9.0))


def evidence(
    requirement: Requirement, gain: float, split: SplitNoise | None = NO_SPLIT_NOISE, spread: Floats = SPREAD
) -> Evidence:
    # Not a constant spread for the baseline: two arms with the same residuals would hide a swap.
    baseline = 0.4 + np.concatenate([0.5 * spread, spread[::-1]])
    return Evidence(requirement, baseline.mean() + gain + spread, baseline, split)

"""Trainings that collapsed: they find next to nothing of what the others of their arm find.

No t distribution covers an arm that fails once in ten times: five seeds mostly show no failure, and then too
small a variance around too high a mean. So one that collapsed is no noise to be averaged, and without one it
is said how much the seeds rule out. Pure arithmetic, without SciPy.
"""

from collections.abc import Sequence
from statistics import median

SHARE = 0.5  # of the arm's median: below it a seed is no draw of the same normal noise any more
UNSEEN = 0.05  # one-sided level of the limit for what was not seen


def collapsed(recalls: Sequence[float]) -> int:
    """How many seeds of an arm collapsed: a recall of 0, or below half of the arm's median.

    Example:
        >>> collapsed([0.62, 0.58, 0.60, 0.27, 0.64])
        1
    """
    if not recalls:
        return 0
    least = SHARE * median(recalls)
    return sum(recall == 0 or recall < least for recall in recalls)


def highest_rate(n: int) -> float:
    """The upper limit of the share of trainings that collapse, if none of `n` did; one-sided, 95 %.

    Source: Clopper and Pearson 1934, without a case.

    Example:
        >>> round(highest_rate(5), 3)
        0.451
    """
    return 1.0 - float(UNSEEN ** (1 / n))

"""How often one may err: the level of each look and of each candidate's rank. Pure arithmetic.

**Looks.** Candidates that are still open after the first look may get more seeds, once, as planned. The
second look takes all seeds together. Both share a test split and what the first look saw, so they are far
from independent (an inverse-normal combination of stages would need that). Instead the first look gets a
share of alpha, and the second the level at which both together err with probability alpha on the margin. This
is computed for one noisy arm alone, the one that grows most: those are the least correlated looks there can
be. An arm that grows less, and the test split's error, which is the same in both, bring the looks closer and
so err less.

**Candidates.** Holm's step-down: with m candidates the clearest is tested at alpha / m, the next at
alpha / (m - 1). A candidate's p-value is the largest over its requirements, so within a candidate nothing is
split (intersection-union test, Berger 1982). An accepted candidate passes its alpha on, also at the second
look (Maurer and Bretz 2013).
"""

from dataclasses import astuple
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.stats import qmc

from search.judging.statistics.bounds import Floats
from search.judging.statistics.values import Plan

QUASI_POINTS = 2**17


def level_of(plan: Plan, look: int, holders: int = 1) -> float:
    """Level of a candidate that shares alpha with `holders - 1` others.

    Args:
        plan: As fixed before the first look.
        look: 1 or 2.
        holders: Candidates not accepted yet, itself included: Holm's m - rank + 1.

    Raises:
        ValueError: The plan has no such look, or its second look adds too few seeds.
    """
    if not 1 <= look <= plan.looks:
        raise ValueError(f"look {look} is not planned: {plan}")
    alpha = plan.alpha / holders
    if plan.second is None:
        return alpha
    first = alpha * plan.first_share
    if look == 1:
        return first
    arms = zip(astuple(plan.first), astuple(plan.second), strict=True)
    growing = [(n, more) for n, more in arms if n != more]  # a constant arm makes the looks no less alike
    if not growing:
        raise ValueError(f"the second look has no more seeds than the first: {plan}")
    return min(second_look_level(alpha, first, n, more) for n, more in growing)


def levels_of(plan: Plan, look: int, candidates: int) -> Floats:
    """(candidates,): Holm's level of each rank, the clearest candidate first."""
    return np.array([level_of(plan, look, holders) for holders in range(candidates, 0, -1)])


@cache
def second_look_level(alpha: float, first_level: float, n_first: int, n_second: int) -> float:
    """The level of a second look such that both looks together err with probability `alpha`.

    Args:
        alpha: Of both looks together, on the margin.
        first_level: Level of the first look, below `alpha`.
        n_first: Seeds at the first look, at least 2.
        n_second: Seeds at the second, all together; at least 2 more.

    Both looks are t tests of one arm, the second with all its seeds. With normal quantiles instead,
    as in the tables of group-sequential designs, 5 and 10 seeds at .025 and .0354 err with 5.2 %. Integrated
    over a Sobol sequence, so always to the same number.

    Raises:
        ValueError: The numbers are not as described.
    """
    if not (0 < first_level < alpha and 2 <= n_first <= n_second - 2):
        raise ValueError(
            f"no second look with alpha {alpha}, first level {first_level}, {n_first} then {n_second} seeds"
        )
    p_first, p_second = _p_values_on_the_margin(n_first, n_second)
    open_still = np.sort(p_second[p_first > first_level])
    return float(open_still[round((alpha - first_level) * QUASI_POINTS)])


@cache
def _p_values_on_the_margin(n_first: int, n_second: int) -> tuple[Floats, Floats]:
    """p-values of both looks over equally likely studies without a gain; (QUASI_POINTS,) each."""
    sobol = qmc.Sobol(4, scramble=False)
    sobol.fast_forward(1)  # its first point is the origin
    point = sobol.random(QUASI_POINTS - 1).T  # (4, points)
    m = n_second - n_first
    mean_first = special.ndtri(point[0]) / np.sqrt(n_first)
    mean_more = special.ndtri(point[1]) / np.sqrt(m)
    squares_first = special.chdtri(n_first - 1, point[2])
    between = n_first * m / n_second * (mean_first - mean_more) ** 2
    squares = squares_first + special.chdtri(m - 1, point[3]) + between
    mean = (n_first * mean_first + m * mean_more) / n_second
    return _p_value(mean_first, squares_first, n_first), _p_value(mean, squares, n_second)


def _p_value(mean: Floats, squares: Floats, n: int) -> Floats:
    """Of the t test of `n` values with this mean and sum of squared deviations."""
    p: Floats = special.stdtr(n - 1, -mean / np.sqrt(squares / (n - 1) / n))
    return p


def holm(p_values: Floats, levels: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Step-down over candidates.

    Args:
        p_values: (..., m). A candidate accepted at an earlier look comes with 0, and so stays accepted.
        levels: (m,) level of each rank, ascending, as from `levels_of`.

    Returns:
        Accepted, and the level that each candidate was tested at, both (..., m). Those that are not accepted
        were all tested at the level where the procedure stopped.

    Source: Holm 1979.
    """
    order = np.argsort(p_values, axis=-1, kind="stable")
    passed = np.take_along_axis(p_values, order, axis=-1) <= levels
    accepted_by_rank = np.logical_and.accumulate(passed, axis=-1)
    n_accepted = accepted_by_rank.sum(axis=-1, keepdims=True)
    rank = np.argsort(order, axis=-1, kind="stable")  # (..., m)
    tested = levels[np.minimum(rank, np.minimum(n_accepted, len(levels) - 1))]
    return rank < n_accepted, tested

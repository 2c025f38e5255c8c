"""The rules that `benchmarks.verdict` compares: from a candidate's and the baseline's seeds to a bound."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from search.judging.statistics.bounds import (
    DegreesOfFreedom,
    Floats,
    Part,
    StudentGain,
    one_sample,
    satterthwaite_df,
    second_order_df,
    welch,
)
from search.judging.statistics.jackknife import SplitNoise
from trainables.contract.tasks import ROUNDING


class Gain(Protocol):
    """An estimated gain with its uncertainty; every array has shape (...)."""

    @property
    def value(self) -> Floats:
        """The estimate."""

    def p_value(self, margin: float) -> Floats:
        """One-sided p-value of "the true gain is at most `margin`"."""

    def lower(self, level: float) -> Floats:
        """The bound that the true gain falls below with probability `level`."""

    def upper(self, level: float) -> Floats:
        """The bound that the true gain exceeds with probability `level`."""


def paired(
    candidate: Floats, baseline: Floats, *others: Part, degrees: DegreesOfFreedom = second_order_df
) -> StudentGain:
    """Mean of the differences seed by seed; both (..., n), n >= 2; the rest as in `welch`.

    Raises:
        ValueError: The arms differ in length, or have fewer than two seeds.
    """
    if candidate.shape[-1] != baseline.shape[-1]:
        raise ValueError(f"pairs wanted, got {candidate.shape[-1]} and {baseline.shape[-1]} seeds")
    return one_sample(candidate - baseline, *others, degrees=degrees)


def normal(candidate: Floats, baseline: Floats) -> StudentGain:
    """Two arms with the normal's quantiles, as if the variances were known: too sure with few seeds."""
    gain = welch(candidate, baseline)
    return StudentGain(gain.value, gain.variance, np.full_like(gain.df, np.inf))


@dataclass(frozen=True, eq=False)
class ResampledGain:
    """A gain whose error is that of resampled differences.

    Attributes:
        value: (...) difference of the means.
        resampled: (..., n_resamples) the same of each resample.
    """

    value: Floats
    resampled: Floats

    def p_value(self, margin: float) -> Floats:
        """Share of the resamples at or below `margin`; (...)."""
        return np.asarray((self.resampled <= margin).mean(axis=-1))

    def lower(self, level: float) -> Floats:
        """The resamples' `level` quantile; (...)."""
        return np.asarray(np.quantile(self.resampled, level, axis=-1))

    def upper(self, level: float) -> Floats:
        """The resamples' `1 - level` quantile; (...)."""
        return np.asarray(np.quantile(self.resampled, 1 - level, axis=-1))


def percentile_bootstrap(
    candidate: Floats, baseline: Floats, rng: np.random.Generator, n_resamples: int = 2000
) -> ResampledGain:
    """Seeds of each arm drawn with replacement; for the comparison only, too sure with few seeds.

    Args:
        candidate: (..., n_c).
        baseline: (..., n_b).
        rng: Draws the resamples; studies along the leading axes share them.
        n_resamples: How many.
    """
    means = [arm @ _resampling_weights(arm.shape[-1], rng, n_resamples) for arm in (candidate, baseline)]
    return ResampledGain(candidate.mean(axis=-1) - baseline.mean(axis=-1), means[0] - means[1])


def _resampling_weights(n: int, rng: np.random.Generator, n_resamples: int) -> Floats:
    """(n, n_resamples): how often each seed is drawn, over n."""
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)  # (n_resamples, n)
    return np.asarray(counts.T / n, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class PointRule:
    """The note's literal rule: what the means say is taken for the truth.

    It accepts half of all candidates that sit exactly on the margin.

    Attributes:
        value: (...) difference of the means.
    """

    value: Floats

    def p_value(self, margin: float) -> Floats:
        """0 where the estimate reaches `margin`, else 1; (...)."""
        return np.where(self.value - margin >= -ROUNDING, 0.0, 1.0)

    def lower(self, level: float) -> Floats:
        """The estimate, whatever the level."""
        return self.value

    def upper(self, level: float) -> Floats:
        """The estimate, whatever the level."""
        return self.value


# What the verdict uses: the seeds of these studies make nothing together with the sources. Those of
# `benchmarks.two_way` do.
CHOSEN = "Welch + test split"

Rule = Callable[[Floats, Floats, SplitNoise], Gain]


def first_pairs(candidate: Floats, baseline: Floats, *others: Part) -> StudentGain:
    return paired(candidate, baseline[..., : candidate.shape[-1]], *others)


RULES: dict[str, Rule] = {
    CHOSEN: lambda candidate, baseline, split: welch(candidate, baseline, split.part),
    "same, Satterthwaite's df": lambda candidate, baseline, split: welch(
        candidate, baseline, split.part, degrees=satterthwaite_df
    ),
    "paired t + test split": lambda candidate, baseline, split: first_pairs(candidate, baseline, split.part),
    "Welch, seeds only": lambda candidate, baseline, _: welch(candidate, baseline),
    "paired t, seeds only": lambda candidate, baseline, _: first_pairs(candidate, baseline),
    "z, seeds only": lambda candidate, baseline, _: normal(candidate, baseline),
    "percentile bootstrap of seeds": lambda candidate, baseline, _: percentile_bootstrap(
        candidate, baseline, np.random.default_rng(0), n_resamples=500
    ),
    "point rule": lambda candidate, baseline, _: PointRule(candidate.mean(-1) - baseline.mean(-1)),
}

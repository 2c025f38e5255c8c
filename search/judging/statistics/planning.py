"""How many seeds would decide it, and when only more labels would. Pure arithmetic.

Power is that of the whole decision: every requirement of one candidate clears its margin at once. It is
counted over a fixed set of equally likely studies, in which the metrics of a run move together as they were
seen to, and each variance is estimated anew. Seeds are planned from an upper confidence limit of the seeds'
sd, since a plan from the sd that happened to be small is the one that falls short.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from scipy import special
from scipy.stats import qmc

from search.judging.statistics.bounds import (
    Floats,
    StudentGain,
    counted_once,
    second_order_df,
    total_variance,
)
from search.judging.statistics.decision import Evidence
from search.judging.statistics.jackknife import SplitNoise
from search.judging.statistics.values import Advice

POWER = 0.8
# One-sided, that the true sd lies below the sd planned with. As every metric of both arms is taken at its
# limit at once, .6 lets about nine of ten plans reach the target (`benchmarks/verdict.py`); .8 asks for half
# as many seeds again.
SD_CONFIDENCE = 0.6
BASELINE_RATIO = 2  # baseline seeds per candidate seed: 5 and 10
SEEDS_LIMIT = 100  # per candidate
QUASI_STUDIES = 2**12


@dataclass(frozen=True, eq=False)
class Noise:
    """What makes the gains of k requirements uncertain.

    Attributes:
        candidate: (k, k) covariance of one candidate seed.
        baseline: (k, k) covariance of one baseline seed; zero rows for floors.
        split: (k, k) covariance that the test split alone gives to the mean differences: that which would
            remain with infinitely many seeds.
        split_df: (k,) degrees of freedom of its diagonal.
        candidate_shared: (k, k) how much of `candidate` is interaction with the sources, which the jackknife
            of n seeds holds too, over n.
        baseline_shared: (k, k) likewise.
    """

    candidate: Floats
    baseline: Floats
    split: Floats
    split_df: Floats
    candidate_shared: Floats
    baseline_shared: Floats

    @classmethod
    def of(cls, evidence: Sequence[Evidence], *, confidence: float | None = SD_CONFIDENCE) -> "Noise":
        """Estimated from one candidate's evidence: the same seeds for all metrics, at least 2 an arm.

        Args:
            evidence: One for each requirement.
            confidence: Of the upper limit that replaces each arm's sd; None for the sd as it is.
        """
        signs = np.array([e.requirement.sign for e in evidence])
        n_candidate = len(evidence[0].candidate)
        n_baseline = max(len(e.baseline) for e in evidence)
        candidate = np.stack([e.candidate for e in evidence]) * signs[:, None]  # (k, n_c)
        baseline = np.stack([e.baseline if len(e.baseline) else np.zeros(n_baseline) for e in evidence])
        splits = [e.split for e in evidence]
        candidate_shared = _interactions([None if s is None else s.candidate for s in splits], signs)
        baseline_shared = _interactions([None if s is None else s.baseline for s in splits], signs)
        interaction = candidate_shared / n_candidate + baseline_shared / max(n_baseline, 1)
        return cls(
            candidate=_at_least(_covariance(candidate, confidence), evidence),
            baseline=_covariance(baseline * signs[:, None], confidence),
            split=_nearest_possible(_split_covariance(splits, signs) - interaction),
            split_df=np.array([np.inf if split is None else float(split.df) for split in splits]),
            candidate_shared=candidate_shared,
            baseline_shared=baseline_shared,
        )

    def without_seeds(self) -> "Noise":
        """What is left with infinitely many seeds."""
        nothing = np.zeros_like(self.candidate)
        return replace(
            self, candidate=nothing, baseline=nothing, candidate_shared=nothing, baseline_shared=nothing
        )

    def with_sources(self, factor: float) -> "Noise":
        """With `factor` times the test sources."""
        lost = 1 - 1 / factor  # of the interaction: more sources average it, too
        return Noise(
            self.candidate - lost * self.candidate_shared,
            self.baseline - lost * self.baseline_shared,
            self.split / factor,
            self.split_df * factor,
            self.candidate_shared / factor,
            self.baseline_shared / factor,
        )


def sd_upper_limit(sd: float, df: float, confidence: float = SD_CONFIDENCE) -> float:
    """The sd that the true one is below with probability `confidence`, under normal noise.

    Example:
        >>> round(sd_upper_limit(0.03, df=4, confidence=0.8), 4)
        0.0467
    """
    return sd * float(np.sqrt(df / special.chdtri(df, confidence)))


def _covariance(arm: Floats, confidence: float | None) -> Floats:
    """(k, n) to (k, k); zero for an arm without seeds."""
    k, n = arm.shape
    if n == 0:
        return np.zeros((k, k))
    inflation = 1.0 if confidence is None else sd_upper_limit(1.0, n - 1, confidence) ** 2
    return np.atleast_2d(np.cov(arm)) * inflation


def _at_least(covariance: Floats, evidence: Sequence[Evidence]) -> Floats:
    """(k, k) with the variance that a baseline that collapses lends, as noise of each metric's own."""
    lent = np.array([0.0 if e.lent is None else float(e.lent[0]) for e in evidence])
    return covariance + np.diag(np.maximum(lent - np.diag(covariance), 0.0))


def _split_covariance(splits: Sequence[SplitNoise | None], signs: Floats) -> Floats:
    """(k, k); the diagonal is each split's own variance."""
    n_sources = max((split.deviations.shape[-1] for split in splits if split is not None), default=2)
    deviations = np.stack([np.zeros(n_sources) if s is None else s.deviations for s in splits])
    oriented = deviations * signs[:, None]  # (k, n_sources)
    covariance: Floats = (n_sources - 1) / n_sources * oriented @ oriented.T
    return covariance


def _interactions(seeds: Sequence[Floats | None], signs: Floats) -> Floats:
    """(k, k) covariance of one seed that it makes together with the sources; 0 with fewer than two seeds.

    Args:
        seeds: For each metric (n, n_sources), the deviations of each seed; None or empty if there are none.
        signs: (k,) of each metric.
    """
    shape = max((of.shape for of in seeds if of is not None), default=(0, 0))
    n, n_sources = shape
    if n < 2:
        return np.zeros((len(signs), len(signs)))
    known = [np.zeros(shape) if of is None or of.size == 0 else of - of.mean(axis=0) for of in seeds]
    around = np.stack(known).reshape(len(signs), -1) * signs[:, None]  # (k, n * n_sources)
    covariance: Floats = (n_sources - 1) / n_sources * around @ around.T / (n - 1)
    return covariance


def _nearest_possible(covariance: Floats) -> Floats:
    """(k, k) without what is below zero: a difference of two estimates need not be a covariance."""
    root = _root(covariance)
    return np.asarray(root @ root.T)


def power(distance: Floats, noise: Noise, n_candidate: int, n_baseline: int, level: float) -> float:
    """Probability that every lower bound clears its margin, to about half a point.

    Args:
        distance: (k,) true gain minus margin of each requirement.
        noise: Of the runs and the test split.
        n_candidate: Seeds of the candidate, at least 2.
        n_baseline: Seeds of the baseline, at least 2.
        level: One-sided level of each lower bound.
    """
    k = len(distance)
    seeds = (noise.candidate / n_candidate, noise.baseline / n_baseline)
    shared = (noise.candidate_shared / n_candidate, noise.baseline_shared / n_baseline)
    error = _normals(k) @ _root(sum((*seeds, noise.split), np.zeros((k, k)))).T  # (n_studies, k)
    dfs = (np.full(k, n_candidate - 1.0), np.full(k, n_baseline - 1.0), noise.split_df)
    jackknifed = sum(shared, noise.split)
    estimated = [
        (np.diag(part) * _over_expectation(i, tuple(df.tolist())), np.broadcast_to(df, error.shape))
        for i, (part, df) in enumerate(zip((*seeds, jackknifed), dfs, strict=True), 1)
    ]
    counted = (*map(counted_once, estimated, map(np.diag, shared)), estimated[-1])
    gain = StudentGain(distance + error, total_variance(*counted), second_order_df(*counted))
    return float((gain.p_value(0.0) <= level).all(axis=-1).mean())


@cache
def _points(k: int) -> Floats:
    """Always the same: (4, n_studies, k) evenly in (0, 1), for the errors and for each part's variance."""
    sobol = qmc.Sobol(4 * k, scramble=False)
    sobol.fast_forward(1)  # its first point is the origin
    points: Floats = sobol.random(QUASI_STUDIES - 1).reshape(-1, 4, k).transpose(1, 0, 2)
    return points


@cache
def _normals(k: int) -> Floats:
    """(n_studies, k)."""
    return np.asarray(special.ndtri(_points(k)[0]))


@lru_cache(maxsize=1024)  # inverting a chi-square is what planning spends its time on
def _over_expectation(i: int, df: tuple[float, ...]) -> Floats:
    """Estimated variance over the true one, of part `i` with these degrees of freedom; (n_studies, k)."""
    known = np.isinf(df)
    finite = np.where(known, 1.0, df)
    return np.where(known, 1.0, special.chdtri(finite, _points(len(df))[i]) / finite)


def _root(covariance: Floats) -> Floats:
    """(k, k) matrix R with R Rᵀ = covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def seeds_needed(
    distance: Floats,
    noise: Noise,
    level: float,
    *,
    target: float = POWER,
    baseline_ratio: int = BASELINE_RATIO,
    limit: int = SEEDS_LIMIT,
) -> int | None:
    """Fewest candidate seeds, 2 to `limit`, that reach the target power; None if none do.

    Args:
        distance: (k,) gain minus margin of each requirement, as it is taken to be.
        noise: Of the runs and the test split.
        level: One-sided level of each lower bound.
        target: Power wanted.
        baseline_ratio: Baseline seeds per candidate seed.
        limit: Most seeds worth asking for.
    """

    def reaches(n: int) -> bool:
        return power(distance, noise, n, baseline_ratio * n, level) >= target

    low, high = 1, 2  # `low` does not reach it, `high` may
    while not reaches(high):
        if high >= limit:
            return None
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def sources_factor(distance: Floats, noise: Noise, level: float, *, target: float = POWER) -> float | None:
    """How many times the test sources would do with infinitely many seeds; None if a gain is short.

    Args:
        distance: (k,) gain minus margin of each requirement, as it is taken to be.
        noise: Of the runs and the test split.
        level: One-sided level of each lower bound.
        target: Power wanted.
    """
    if distance.min() <= 0:
        return None
    factor = 1.0
    while power(distance, noise.without_seeds().with_sources(factor), 2, 2, level) < target:
        factor *= 1.1
    return factor


def advise(
    evidence: Sequence[Evidence],
    level: float,
    *,
    target: float = POWER,
    baseline_ratio: int = BASELINE_RATIO,
    limit: int = SEEDS_LIMIT,
) -> Advice:
    """Plan a fresh confirmation of a candidate, taking its estimated gains for true.

    Args:
        evidence: One for each requirement, at least 2 seeds an arm.
        level: One-sided level of each lower bound of the fresh confirmation.
        target: Power wanted.
        baseline_ratio: Baseline seeds per candidate seed.
        limit: Most seeds worth asking for.
    """
    distance = np.array([float(e.gain().value) - e.requirement.margin for e in evidence])
    noise = Noise.of(evidence)
    best = power(distance, noise.without_seeds(), 2, 2, level)
    if distance.min() <= 0:
        return Advice("no_gain", None, None, None, best)
    if best < target:
        return Advice("labels", None, None, sources_factor(distance, noise, level, target=target), best)
    n = seeds_needed(distance, noise, level, target=target, baseline_ratio=baseline_ratio, limit=limit)
    if n is None:
        return Advice("too_many_seeds", None, None, None, best)
    return Advice("seeds", n, baseline_ratio * n, None, best)

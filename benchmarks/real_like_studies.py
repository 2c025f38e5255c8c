"""Simulated studies whose test splits are like real ones: many at once, as arrays of found objects.

Each object has a latent score in each run and is found where that is above 0. A share of the objects is out
of every run's reach; of the others the score is the sum of an arm's level and of normal parts:

- shared by all runs of all arms, so that found or missed correlates by .3 between arms;
- the arm's own, so that it correlates by .4, .55 or .7 between the seeds of an arm;
- the run's own, a part of which is one step for all objects of the run.

A tenth of each part is the same for all objects of a source. Sources hold log-normal numbers of objects:
with an sd of the logarithm of 1.5, ten tell as much as four of equal size. The correlations are as on real
studies.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

OUT_OF_REACH = 0.15  # of all objects
BASE_RECALL = 0.4
BETWEEN_ARMS = 0.3  # correlation of found or missed
OF_SOURCE = 0.1  # of each part of the score
RUN_STEP = 0.05  # sd, in units of the score; .017 in recall, whose sd over seeds is .02 to .05

Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """One kind of study.

    Attributes:
        objects: Of the minority, in the test split.
        sources: That they are drawn over; some may get none.
        spread: Sd of the logarithm of a source's share.
        between_seeds: Correlation of found or missed between the seeds of an arm.
    """

    objects: int
    sources: int
    spread: float
    between_seeds: float

    def __str__(self) -> str:
        return f"{self.objects} | {self.sources} | {self.spread} | {self.between_seeds}"


@dataclass(frozen=True)
class Found:
    """Some studies of a cell.

    Attributes:
        size: (n, sources) objects of each source.
        baseline: (runs, n, sources) those found.
        candidates: One for each, likewise.
    """

    size: Ints
    baseline: Ints
    candidates: list[Ints]


@cache
def score_correlation(recalls: tuple[float, float], wanted: float) -> float:
    """The correlation of two runs' scores that makes found or missed correlate by `wanted`."""
    levels = [float(special.ndtri(recall / (1 - OUT_OF_REACH))) for recall in recalls]
    sd = np.prod([recall * (1 - recall) for recall in recalls]) ** 0.5

    def off(r: float) -> float:
        both = stats.multivariate_normal(cov=[[1, r], [r, 1]]).cdf(levels)
        return float(((1 - OUT_OF_REACH) * both - recalls[0] * recalls[1]) / sd - wanted)

    return float(optimize.brentq(off, 0.0, 0.999, xtol=1e-4))


class _Objects:
    """The objects within reach of `n` studies, in one row."""

    def __init__(self, rng: np.random.Generator, cell: Cell, n: int) -> None:
        share = rng.lognormal(0.0, cell.spread, size=(n, cell.sources))
        self.size = rng.multinomial(cell.objects, share / share.sum(axis=1, keepdims=True))
        self._rng, self._shape = rng, self.size.shape
        in_reach = rng.binomial(self.size, 1 - OUT_OF_REACH)
        self._source = np.repeat(np.arange(self.size.size), in_reach.ravel())  # (objects,) over all studies
        self._study = self._source // cell.sources

    def part(self, variance: float) -> Floats32:
        """(objects,) a normal part of the score."""
        rng, of_source = self._rng, np.float32((variance * OF_SOURCE) ** 0.5)
        own = np.float32((variance * (1 - OF_SOURCE)) ** 0.5)
        sources = of_source * rng.standard_normal(self.size.size, dtype=np.float32)
        return sources[self._source] + own * rng.standard_normal(len(self._source), dtype=np.float32)

    def step(self) -> Floats32:
        """(objects,) the same for all of a study."""
        steps = np.float32(RUN_STEP) * self._rng.standard_normal(self._shape[0], dtype=np.float32)
        return steps[self._study]

    def found(self, score: Floats32) -> Ints:
        """(n, sources) how many are found."""
        return np.bincount(self._source[score > 0], minlength=self.size.size).reshape(self._shape)


def draw(
    rng: np.random.Generator, cell: Cell, n: int, *, gains: list[float], seeds: int, baseline_seeds: int
) -> Found:
    """`n` studies in which each candidate truly gains what `gains` says over the baseline."""
    objects = _Objects(rng, cell, n)
    recalls = [BASE_RECALL, *(BASE_RECALL + gain for gain in gains)]
    # Candidates differ little in their recall, and so in the correlation that makes .3 of found or missed.
    common = score_correlation((BASE_RECALL, recalls[-1]), BETWEEN_ARMS)
    of_arm = max(score_correlation((BASE_RECALL, BASE_RECALL), cell.between_seeds) - common, 0.0)
    shared = objects.part(common)
    arms = []
    for recall, runs in zip(recalls, [baseline_seeds, *[seeds] * len(gains)], strict=True):
        level = np.float32(special.ndtri(recall / (1 - OUT_OF_REACH)))
        arm = shared + objects.part(of_arm) + level
        own = 1 - common - of_arm - RUN_STEP**2
        arms.append(np.stack([objects.found(arm + objects.part(own) + objects.step()) for _ in range(runs)]))
    return Found(objects.size, arms[0], arms[1:])

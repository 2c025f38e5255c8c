"""Simulated studies, whose truth is known: many at once, as arrays.

A study has a test split of source images with objects in them, a baseline and three candidates, and up to 15
and 10 seeds.

- Seeds: normal, with the given sd of minority recall and minority AP50 (correlated .7) and of mAP50-95 (.3,
  .5); candidates have the baseline's sd or twice as much.
- The test split: each source has its own share of objects and its own difficulty (beta, intra-class
  correlation .1); the baseline finds an object or not, a candidate finds nine tenths of those again and some
  of the others. All seeds of an arm meet the same objects, so no number of seeds averages that out. AP50
  follows recall's deviations per source at .7; mAP's are a fifth as large.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.judging.statistics.bounds import Floats
from search.judging.statistics.jackknife import SplitNoise, effective_number, jackknife
from search.judging.statistics.values import Seeds

METRICS = ("minority_recall", "map50_95", "minority_ap50")
MARGINS = np.array([0.05, -0.03, 0.0])
TRUTH = np.array([0.12, 0.0, 0.08])  # the gains that power is given for
CORRELATION = np.array([[1.0, 0.3, 0.7], [0.3, 1.0, 0.5], [0.7, 0.5, 1.0]])
SOURCES = {78: 40, 300: 100, 1186: 300}  # minority objects -> source images
CANDIDATES = 3
BASE_RECALL = 0.5
ICC = 0.1
FOUND_AGAIN = 0.9
CHUNK = 1000  # studies at a time while sources are drawn


@dataclass(frozen=True)
class Cell:
    """One kind of study."""

    objects: int
    seed_sd: float
    map_sd: float
    candidate_noise: float

    def __str__(self) -> str:
        noise = "equal" if self.candidate_noise == 1 else "doubled"
        return f"{self.objects} | {self.seed_sd} | {self.map_sd} | {noise}"


@dataclass(frozen=True)
class Splits:
    """What the test splits of all studies do to each metric (3) of each candidate (3)."""

    error: Floats  # (3, 3, n_studies)
    noise: list[list[SplitNoise]]


@dataclass(frozen=True)
class Studies:
    """Centred values: the truth is 0 everywhere, so a p-value is asked at margin minus truth."""

    baseline: Floats  # (3, n_studies, 15)
    candidates: Floats  # (3, 3, n_studies, 10)
    noise: list[list[SplitNoise]]


def with_splits(cells: list[Cell], n_studies: int) -> Iterator[tuple[Cell, tuple[Splits, Splits]]]:
    """Each cell with test splits on recall's margin and at the truth; drawn once per number of objects."""
    for objects, group in itertools.groupby(cells, key=lambda cell: cell.objects):
        rng = np.random.default_rng(objects)
        both = tuple(draw_splits(rng, objects, gain, n_studies) for gain in (MARGINS[0], TRUTH[0]))
        for cell in group:
            yield cell, (both[0], both[1])


def draw_splits(rng: np.random.Generator, objects: int, gain: float, n_studies: int) -> Splits:
    """The test splits of `n_studies` studies in which candidates gain `gain` in recall."""
    parts = [_draw_chunk(rng, objects, gain, CHUNK) for _ in range(n_studies // CHUNK)]
    error, variance, df = (np.concatenate([part[i] for part in parts], axis=-1) for i in range(3))
    nothing = np.zeros((n_studies, 0))
    noise = [
        [SplitNoise(nothing, variance[k, c], df[k, c]) for c in range(CANDIDATES)]
        for k in range(len(METRICS))
    ]
    return Splits(error, noise)


def _draw_chunk(rng: np.random.Generator, objects: int, gain: float, n: int) -> tuple[Floats, Floats, Floats]:
    """Error, variance and degrees of freedom of each metric's and candidate's difference; (3, 3, n) each."""
    n_sources = SOURCES[objects]
    share = rng.gamma(2.0, size=(n, n_sources))
    size = rng.multinomial(objects, share / share.sum(axis=1, keepdims=True))  # (n, n_sources)
    spread = 1 / ICC - 1
    found = rng.binomial(size, rng.beta(BASE_RECALL * spread, (1 - BASE_RECALL) * spread, size=size.shape))
    new_found = (BASE_RECALL + gain - FOUND_AGAIN * BASE_RECALL) / (1 - BASE_RECALL)
    error, variance, df = (np.empty((3, CANDIDATES, n)) for _ in range(3))
    for c in range(CANDIDATES):
        again = rng.binomial(found, FOUND_AGAIN) + rng.binomial(size - found, new_found)
        surplus = again - found - gain * size  # (n, n_sources) objects more than expected
        ap = 0.7 * surplus + 0.32 * np.sqrt(size) * rng.normal(size=size.shape)
        per_source = 0.2 * np.sqrt(0.2 / objects * n_sources) * rng.normal(size=size.shape)
        for k, (total, weight) in enumerate(((surplus, size), (per_source, np.ones_like(size)), (ap, size))):
            error[k, c] = total.sum(axis=1) / weight.sum(axis=1)
            split = jackknife(_without(total, weight) - error[k, c][:, None], effective_number(weight))
            variance[k, c], df[k, c] = split.variance, split.df
    return error, variance, df


def _without(total: Floats, weight: Floats) -> Floats:
    """Ratio of the sums without each source; (n, n_sources)."""
    rest: Floats = total.sum(axis=1, keepdims=True) - total
    return rest / (weight.sum(axis=1, keepdims=True) - weight)


def draw_studies(rng: np.random.Generator, cell: Cell, splits: Splits, seeds: Seeds) -> Studies:
    """Seeds of both arms, on the given test splits."""
    n_studies = splits.error.shape[-1]
    sd = np.array([cell.seed_sd, cell.map_sd, cell.seed_sd])
    root = np.linalg.cholesky(CORRELATION) * sd[:, None]  # (3, 3)

    def arm(*shape: int) -> Floats:
        drawn: Floats = np.tensordot(root, rng.normal(size=(3, *shape)), axes=1)
        return drawn

    candidates = cell.candidate_noise * arm(CANDIDATES, n_studies, seeds.candidate)
    return Studies(arm(n_studies, seeds.baseline), candidates + splits.error[..., None], splits.noise)

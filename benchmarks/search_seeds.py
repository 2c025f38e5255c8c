"""Which training seed should a search's trials have, and what should their gain be measured against?

Usage: python -m benchmarks.search_seeds [--searches 100000]

Simulated searches of 30 candidates that were drawn beforehand (no sampler learns from what it sees): their
true gains in minority recall and mAP are normal, the mAP of a candidate falls as its recall rises. A training
deviates from the truth by a seed sd, part of which is common to all arms that are trained with the same seed.
Picked is the highest seen recall among the trials whose seen mAP lies at most .03 below the reference's and
whose recall does not lie below it; a search that has none picks nothing, and gains nothing. `with a margin`
prefers, as `rarecall search` does, trials whose seen mAP keeps the guard by one sd of the baseline's seeds.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CANDIDATES, BASELINE_SEEDS = 30, 3
MAX_DROP = 0.03  # of mAP50-95
SEED_SD = np.array([0.05, 0.01])  # of recall and mAP
WITHIN_RUN = np.array([[1.0, 0.3], [0.3, 1.0]])  # correlation of the two metrics' deviations in one training
MEAN_GAIN = np.array([0.0, -0.02])
TRADE_OFF = -0.3  # correlation of the candidates' true gains


@dataclass(frozen=True)
class Cell:
    """One kind of search.

    Attributes:
        shared: Correlation of two arms trained with the same seed.
        spread: Sd of the candidates' true gain in recall, and in mAP.
    """

    shared: float
    spread: tuple[float, float]


CELLS = [Cell(shared, spread) for spread in ((0.1, 0.03), (0.04, 0.02)) for shared in (0.3, 0.0, 0.6)]


@dataclass(frozen=True)
class Seen:
    """Of each search and candidate: (n, 30, 2), recall and mAP as gains over the baseline."""

    true: Floats
    seen: Floats
    margin: Floats | None = None  # (n, 1) by which mAP is rather to keep its guard; None: by none


def simulate(cell: Cell, n: int, rng: np.random.Generator) -> Iterator[tuple[str, Seen]]:
    """The same candidates and baseline seeds under each rule."""
    spread = np.diag(cell.spread)
    covariance = spread @ np.array([[1.0, TRADE_OFF], [TRADE_OFF, 1.0]]) @ spread
    true = rng.multivariate_normal(MEAN_GAIN, covariance, (n, CANDIDATES))  # (n, 30, 2)
    of_seed = _deviations(rng, n, BASELINE_SEEDS) * np.sqrt(cell.shared)  # (n, 3, 2) what all arms have of it
    own = np.sqrt(1 - cell.shared)
    baseline = of_seed + own * _deviations(rng, n, BASELINE_SEEDS)  # (n, 3, 2)
    common = true + of_seed[:, :1] + own * _deviations(rng, n, CANDIDATES)
    fresh = true + _deviations(rng, n, CANDIDATES)
    mean, paired = baseline.mean(axis=1, keepdims=True), baseline[:, :1]
    yield "common seed, mean of the baseline's seeds", Seen(true, common - mean)
    sd = baseline[..., 1].std(axis=1, ddof=1, keepdims=True)
    yield "the same, with a margin of one sd", Seen(true, common - mean, sd)
    yield "fresh seeds, mean of the baseline's seeds", Seen(true, fresh - mean)
    yield "common seed, the baseline's run with it", Seen(true, common - paired)


def _deviations(rng: np.random.Generator, n: int, runs: int) -> Floats:
    """Of single trainings from their arm's truth, (n, runs, 2)."""
    return rng.multivariate_normal(np.zeros(2), WITHIN_RUN, (n, runs)) * SEED_SD


def picked(searches: Seen) -> tuple[Floats, Floats]:
    """The true and the seen gains of what each search picks, (picks, 2) each."""
    kept_by = searches.seen[..., 1] + MAX_DROP  # (n, 30)
    allowed = (kept_by >= 0) & (searches.seen[..., 0] >= 0)
    if searches.margin is not None:
        held = allowed & (kept_by >= searches.margin)
        allowed = np.where(held.any(axis=1, keepdims=True), held, allowed)
    best = np.where(allowed, searches.seen[..., 0], -np.inf).argmax(axis=1)
    row = np.flatnonzero(allowed.any(axis=1))
    return searches.true[row, best[row]], searches.seen[row, best[row]]


def line(searches: Seen) -> str:
    """What a rule picks, as cells of a table."""
    n = len(searches.true)
    true, seen = picked(searches)
    gain = np.concatenate([true[:, 0], np.zeros(n - len(true))])
    infeasible = float((true[:, 1] < -MAX_DROP).mean())
    bias = seen[:, 0] - true[:, 0]
    useful = np.where(true[:, 1] >= -MAX_DROP, true[:, 0], 0).sum() / n
    error = gain.std() / np.sqrt(n)
    return (
        f"{gain.mean():+.4f} ± {error:.4f} | {useful:+.4f} | {infeasible:.1%} | {bias.mean():+.4f} | "
        f"{bias.std():.3f} | {1 - len(true) / n:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=100_000)
    args = parser.parse_args()
    head = "true gain ± se | of feasible picks | infeasible picks | bias of the seen gain | its sd | no pick"
    for i, cell in enumerate(CELLS):
        print(f"\nseeds shared at {cell.shared}, true gains spread by {cell.spread}\n| rule | {head} |")
        for rule, searches in simulate(cell, args.searches, np.random.default_rng(i)):
            print(f"| {rule} | {line(searches)} |")


if __name__ == "__main__":
    main()

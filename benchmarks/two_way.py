"""The verdict on studies like real ones: what seeds and sources make together, and sources of unequal size.

python -m benchmarks.two_way             20,000 studies a cell, minutes
python -m benchmarks.two_way --quick     2,000 studies in four cells, seconds

Recall alone, against a margin of .05; the studies are those of `benchmarks/real_like_studies.py`, and all
rules judge the same ones. `as 0.1.0` adds the seeds' variance to the jackknife's, which both hold what seed
and source make together, and counts every source that moves anything as one degree of freedom.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.real_like_studies import Cell, Found, draw
from search.judging.statistics.bounds import Floats, Part, Shared, StudentGain, welch
from search.judging.statistics.collapse import collapsed
from search.judging.statistics.jackknife import effective_number, interaction, jackknife
from search.judging.statistics.levels import holm, level_of, levels_of
from search.judging.statistics.values import ALPHA, Plan, Seeds

MARGIN, GAIN = 0.05, 0.12
CANDIDATES = 3
BAR = 0.055
CHUNK_OBJECTS = 300_000  # at a time: keeps a chunk's arrays in the cache
MOST, MOST_BASELINE = 10, 15
PLANS = {
    "4 v 4": Plan(Seeds(4, 4), None),
    "5 v 10": Plan(second=None),
    "5 v 10, then 10 v 15": Plan(),
}
POWER_CELLS = [
    Cell(objects, sources, 1.0, seeds)
    for objects, sources in ((78, 40), (300, 100))
    for seeds in (0.4, 0.55, 0.7)
]
CHOSEN = "counted once, capped"

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Arms:
    """A candidate and the baseline at a look, over many studies.

    Attributes:
        candidate: (n, n_c) recalls.
        baseline: (n, n_b) likewise.
        capped: The test split's error with the degrees of freedom of the effective number of sources.
        uncapped: Likewise with those of all sources that change anything.
        shared: What it shares with the seeds' error of either arm.
    """

    candidate: Floats
    baseline: Floats
    capped: Part
    uncapped: Part
    shared: Shared


def as_before(arms: Arms) -> StudentGain:
    return welch(arms.candidate, arms.baseline, arms.uncapped)


def as_before_capped(arms: Arms) -> StudentGain:
    return welch(arms.candidate, arms.baseline, arms.capped)


def once(arms: Arms) -> StudentGain:
    return welch(arms.candidate, arms.baseline, arms.uncapped, shared=arms.shared)


def once_capped(arms: Arms) -> StudentGain:
    return welch(arms.candidate, arms.baseline, arms.capped, shared=arms.shared)


def whole_degrees(arms: Arms) -> StudentGain:
    """Counted once, with the degrees of freedom of the whole parts."""
    return replace(once_capped(arms), df=as_before_capped(arms).df)


def smaller_degrees(arms: Arms) -> StudentGain:
    """Counted once, with the fewer of both degrees of freedom."""
    gain = once_capped(arms)
    return replace(gain, df=np.minimum(gain.df, as_before_capped(arms).df))


RULES: dict[str, Callable[[Arms], StudentGain]] = {
    "as 0.1.0": as_before,
    "as 0.1.0, capped": as_before_capped,
    "counted once": once,
    "counted once, capped, df of the whole parts": whole_degrees,
    "counted once, capped, the fewer df": smaller_degrees,
    CHOSEN: once_capped,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 studies in four cells, and the power")
    args = parser.parse_args()
    n = 2_000 if args.quick else 20_000
    kinds = ((78, 300), (10, 220), (1.5,), (0.4,))
    if not args.quick:
        kinds = ((78, 300), (10, 20, 40, 220), (0.5, 1.0, 1.5), (0.4, 0.55, 0.7))
    print(f"{n} studies a cell\n")
    print_errors([Cell(*kind) for kind in itertools.product(*kinds)], n)
    print_powers(n)
    print_spared(n)
    print_false_alarms(n)
    print_collapses(n)
    print_few_seeds(10 * n)


def print_errors(cells: list[Cell], n: int) -> None:
    """Type-I error of every rule in every design, all candidates on the margin."""
    print("## Type-I error on the margin: one candidate, and any of three\n")
    designs = [f"{plan}, {m}" for plan in PLANS for m in (1, CANDIDATES)]
    row("objects | sources | spread | seeds", "effective", "rule", *designs)
    row(*["---"] * (6 + len(designs)))
    seen: dict[str, list[list[float]]] = {name: [] for name in RULES}
    for cell in cells:
        started = time.perf_counter()
        errors, effective = error_rates(cell, n)
        for name, rates in errors.items():
            seen[name].append(rates)
            row(str(cell), f"{effective:.1f}", name, *(f"{rate:.4f}" for rate in rates))
        print(f"<!-- {time.perf_counter() - started:.0f} s -->", flush=True)
    print("\nLargest over the cells; cells above 5.5 % in brackets:\n")
    row("rule", *designs)
    row(*["---"] * (1 + len(designs)))
    for name, of_cells in seen.items():
        columns = np.array(of_cells).T
        row(name, *(f"{column.max():.4f} ({(column > BAR).sum()})" for column in columns))


def error_rates(cell: Cell, n: int) -> tuple[dict[str, list[float]], float]:
    """Rule -> the share of studies with anything accepted, by design; and the median effective number."""
    counts = {name: np.zeros(2 * len(PLANS)) for name in RULES}
    effective, judged = [], 0
    for found in chunks(cell, n, [MARGIN] * CANDIDATES):
        looks = {
            seeds: at_look(found, seeds) for seeds in (Seeds(4, 4), Seeds(5, 10), Seeds(MOST, MOST_BASELINE))
        }
        judged += len(found.size)
        effective.append(float(np.median(effective_number(found.size))))
        for name, rule in RULES.items():
            p = {
                seeds: np.stack([rule(arms).p_value(MARGIN) for arms in of]) for seeds, of in looks.items()
            }  # (m, n)
            counts[name] += [
                accepted_at_last([p[seeds][:m] for seeds in (plan.first, plan.second) if seeds], plan)
                .any(axis=0)
                .sum()
                for plan in PLANS.values()
                for m in (1, CANDIDATES)
            ]
    return {name: (count / judged).tolist() for name, count in counts.items()}, float(np.median(effective))


def accepted_at_last(p_values: list[Floats], plan: Plan) -> Bools:
    """(m, n) after the last look, from (m, n) p-values of each; nothing is rejected in between."""
    done = np.zeros(p_values[0].shape, dtype=bool)
    for look, p in enumerate(p_values, 1):
        done = holm(np.where(done, 0.0, p).T, levels_of(plan, look, len(p)))[0].T
    return done


def chunks(cell: Cell, n: int, gains: list[float]) -> Iterator[Found]:
    """`n` studies, less those in which one source has all objects: nothing is measured without it."""
    rng = np.random.default_rng([cell.objects, cell.sources, round(10 * cell.spread), round(100 * gains[0])])
    at_once = min(n, max(CHUNK_OBJECTS // cell.objects, 200))
    for start in range(0, n, at_once):
        found = draw(
            rng, cell, min(at_once, n - start), gains=gains, seeds=MOST, baseline_seeds=MOST_BASELINE
        )
        told = found.size.max(axis=1) < cell.objects
        yield Found(found.size[told], found.baseline[:, told], [of[:, told] for of in found.candidates])


def at_look(found: Found, seeds: Seeds) -> list[Arms]:
    """Each candidate against the baseline, with the first `seeds` of each."""
    objects = found.size.sum(axis=1)[:, None]  # (n, 1)

    def recalls(runs: Floats) -> Floats:
        return runs.sum(axis=-1).T / objects

    def deviations(runs: Floats) -> Floats:
        """(n, runs, sources)."""
        every = runs.sum(axis=-1, keepdims=True)
        return ((every - runs) / (objects - found.size) - every / objects).transpose(1, 0, 2)

    baseline, effective = found.baseline[: seeds.baseline], effective_number(found.size)
    of_baseline, arms = deviations(baseline), []
    shared = interaction(of_baseline)
    for runs in found.candidates:
        own = deviations(runs[: seeds.candidate])
        difference = own.mean(axis=1) - of_baseline.mean(axis=1)
        capped, uncapped = (jackknife(difference, cap).part for cap in (effective, np.inf))
        arms.append(
            Arms(
                recalls(runs[: seeds.candidate]),
                recalls(baseline),
                capped,
                uncapped,
                (interaction(own), shared),
            )
        )
    return arms


def print_powers(n: int) -> None:
    print(f"\n## Power for a gain of {GAIN:+.2f}, 5 v 10 seeds, one look\n")
    row("objects | sources | spread | seeds", *RULES)
    row(*["---"] * (4 + len(RULES)))
    for cell in POWER_CELLS:
        passed = {name: [] for name in RULES}
        for found in chunks(cell, n, [GAIN]):
            (arms,) = at_look(found, PLANS["5 v 10"].first)
            for name, rule in RULES.items():
                passed[name].append(rule(arms).p_value(MARGIN) <= PLANS["5 v 10"].alpha)
        row(str(cell), *(f"{np.concatenate(of).mean():.3f}" for of in passed.values()))


def print_spared(n: int) -> None:
    """What is lost by second looks that are not made since the test images' own error rules them out."""
    plan = PLANS["5 v 10, then 10 v 15"]
    assert plan.second is not None
    print(f"\n## One candidate, two looks, {CHOSEN}: gain {GAIN:+.2f}, and looks spared\n")
    row("objects | sources | spread | seeds", "accepted if all are made", "if some are spared", "spared")
    row(*["---"] * 7)
    for cell in [*POWER_CELLS, Cell(78, 10, 1.5, 0.55), Cell(300, 10, 1.5, 0.55)]:
        counts, judged = np.zeros(3), 0
        for found in chunks(cell, n, [GAIN]):
            ((first,), (second,)) = (at_look(found, seeds) for seeds in (plan.first, plan.second))
            now = once_capped(first).p_value(MARGIN) <= level_of(plan, 1)
            later = once_capped(second).p_value(MARGIN) <= level_of(plan, 2)
            spared = ~now & out_of_reach(first, level_of(plan, 2))
            counts += [(now | later).sum(), (now | (later & ~spared)).sum(), spared.sum()]
            judged += len(now)
        row(str(cell), *(f"{count / judged:.3f}" for count in counts))


def out_of_reach(arms: Arms, level: float) -> Bools:
    """(n,): as `statistics.decision` finds it of one requirement."""
    alone = np.maximum(arms.capped[0] - sum(arms.shared), 0.0)
    half_width = StudentGain(np.zeros_like(alone), alone, arms.capped[1]).upper(level)
    best = np.minimum(welch(arms.candidate, arms.baseline).upper(ALPHA), 1.0)
    return best - half_width < MARGIN


def print_false_alarms(n: int) -> None:
    """How often normal noise alone is taken for a collapse."""
    print("\n## An arm that never collapses is taken for one that does\n")
    means = (0.3, 0.4, 0.5, 0.6, 0.8)
    row("seeds", "sd", *(f"mean {mean}" for mean in means))
    row(*["---"] * (2 + len(means)))
    for seeds, sd in itertools.product((5, 10), (0.03, 0.05)):
        rng = np.random.default_rng(seeds)
        rates = [
            np.mean(
                [
                    collapsed(recalls.clip(0, 1).tolist()) > 0
                    for recalls in rng.normal(mean, sd, (10 * n, seeds))
                ]
            )
            for mean in means
        ]
        row(str(seeds), str(sd), *(f"{rate:.5f}" for rate in rates))


def print_collapses(n: int) -> None:
    """What is left of alpha where trainings collapse: the true gain, collapses counted, is on the margin."""
    print("\n## Accepted although on the margin, 10 seeds of the baseline, one look\n")
    row("seeds", "collapse", "how often", "as 0.1.0", "now")
    row(*["---"] * 5)
    for seeds, both, rate in itertools.product((5, 10), (False, True), (0.05, 0.1, 1 / 6)):
        rng = np.random.default_rng(seeds)
        candidate = _trainings(rng, 0.45, rate, (n, seeds))
        baseline = _trainings(rng, 0.4, rate if both else 0.0, (n, 10))
        lost, unstable = (
            np.array([collapsed(arm) > 0 for arm in of.tolist()]) for of in (candidate, baseline)
        )
        lent = np.where(unstable, baseline.var(axis=1, ddof=1), 0.0), np.full(n, 9.0)
        before = welch(candidate, baseline).p_value(MARGIN) <= ALPHA
        now = (welch(candidate, baseline, lent=lent).p_value(MARGIN) <= ALPHA) & ~lost
        who = "both arms" if both else "candidate"
        row(str(seeds), who, f"{rate:.3f}", f"{before.mean():.3f}", f"{now.mean():.3f}")


def _trainings(rng: np.random.Generator, mean: float, rate: float, shape: tuple[int, int]) -> Floats:
    """Recalls with this mean, of which a share of `rate` are 0."""
    return rng.normal(mean / (1 - rate), 0.03, shape) * (rng.random(shape) >= rate)


def print_few_seeds(n: int) -> None:
    """Why several candidates want four seeds an arm."""
    print("\n## Any of three candidates on the margin is accepted, one look, seeds alone\n")
    row("seeds", "candidates' sd over the baseline's", "error")
    row(*["---"] * 3)
    levels = levels_of(Plan(second=None), 1, CANDIDATES)
    for (seeds, of_baseline), ratio in itertools.product(((3, 3), (3, 10), (4, 4), (4, 10)), (1, 3)):
        rng = np.random.default_rng(seeds)
        baseline = rng.normal(size=(n, of_baseline))
        arms = [ratio * rng.normal(size=(n, seeds)) for _ in range(CANDIDATES)]
        p = np.stack([welch(arm, baseline).p_value(0.0) for arm in arms], axis=-1)
        row(f"{seeds} v {of_baseline}", str(ratio), f"{holm(p, levels)[0].any(axis=-1).mean():.4f}")


def row(*values: str) -> None:
    print(f"| {' | '.join(values)} |")


if __name__ == "__main__":
    main()

"""How often the verdict errs, and how often it finds a real gain: 20,000 simulated studies per cell.

python -m benchmarks.verdict             the whole grid, minutes
python -m benchmarks.verdict --quick     2,000 studies in three cells, seconds

The bounds and levels are those of `judging.statistics`, applied to all studies of a cell at once. The studies
are described in `benchmarks/simulated_studies.py`, the rules compared in `benchmarks/rules.py`.
"""

import argparse
import itertools
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.rules import CHOSEN, RULES
from benchmarks.simulated_studies import (
    CANDIDATES,
    CORRELATION,
    MARGINS,
    METRICS,
    SOURCES,
    TRUTH,
    Cell,
    Splits,
    Studies,
    draw_studies,
    with_splits,
)
from search.judging.statistics.bounds import Floats
from search.judging.statistics.decision import Evidence
from search.judging.statistics.levels import holm, level_of, levels_of
from search.judging.statistics.planning import POWER, SEEDS_LIMIT, Noise, power, seeds_needed
from search.judging.statistics.values import Plan, Requirement, Seeds

LARGER_TRUTH = np.array([0.16, 0.0, 0.12])  # where fewer objects let seeds decide, too
ONE_LOOK = Plan(second=None)
TWO_LOOKS = Plan()
BAR = 0.055
PILOTS = 60
CELL_COLUMNS = ("rare objects", "seed sd", "mAP sd", "candidate noise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 studies, sd .03 and .0075, equal noise")
    args = parser.parse_args()
    n_studies = 2_000 if args.quick else 20_000
    cells = [
        Cell(*values)
        for values in itertools.product(
            SOURCES,
            [0.03] if args.quick else [0.02, 0.03, 0.05],
            [0.0075] if args.quick else [0.0075, 0.015],
            [1.0] if args.quick else [1.0, 2.0],
        )
    ]
    results = [result(cell, *both, n_studies) for cell, both in with_splits(cells, n_studies)]
    print(f"{n_studies} studies per cell\n")
    print_errors(results)
    print_powers(results)
    print_cells(results)
    print_plans(cells, n_studies)


def p_values(name: str, studies: Studies, margins: Floats) -> Floats:
    """(metrics, candidates, looks, n_studies) of "the true gain is at most the margin"."""
    assert TWO_LOOKS.second is not None
    looks = (TWO_LOOKS.first, TWO_LOOKS.second)
    return np.array(
        [
            [
                [
                    RULES[name](
                        studies.candidates[k, c][:, : look.candidate],
                        studies.baseline[k][:, : look.baseline],
                        studies.noise[k][c],
                    ).p_value(float(margin))
                    for look in looks
                ]
                for c in range(CANDIDATES)
            ]
            for k, margin in enumerate(margins)
        ]
    )


@dataclass(frozen=True)
class Result:
    """Rates of one cell.

    Attributes:
        cell: Which.
        alone: rule -> (3,) type-I error of each bound alone on its margin, one look at .05.
        whole: rule -> design -> type-I error of the whole decision, at its least favourable point.
        power: rule -> design -> share of real gains accepted.
    """

    cell: Cell
    alone: dict[str, Floats]
    whole: dict[str, dict[str, float]]
    power: dict[str, dict[str, float]]


def result(cell: Cell, on_margin: Splits, at_truth: Splits, n_studies: int) -> Result:
    rng = np.random.default_rng([cell.objects, round(1e4 * cell.seed_sd), round(1e4 * cell.map_sd)])
    assert TWO_LOOKS.second is not None
    null = draw_studies(rng, cell, on_margin, TWO_LOOKS.second)
    real = draw_studies(rng, cell, at_truth, TWO_LOOKS.second)
    nulls = {name: p_values(name, null, np.zeros(3)) for name in RULES}
    return Result(
        cell,
        alone={name: (p[:, 0, 0] <= ONE_LOOK.alpha).mean(axis=-1) for name, p in nulls.items()},
        whole={name: least_favourable(p) for name, p in nulls.items()},
        power={name: powers(p_values(name, real, MARGINS - TRUTH)) for name in RULES},
    )


def least_favourable(p: Floats) -> dict[str, float]:
    """Largest error of the whole decision over where its nulls can lie; `p` as from `p_values`.

    A candidate errs most when one requirement is on its margin and the others are far above. Three candidates
    are all on the margin of the same metric, or each of another. (With two clear winners beside it, a third
    is tested like a single candidate.)
    """
    each_its_own = p[[0, 1, 2], [0, 1, 2]]  # (candidates, looks, n_studies)
    families = {"one candidate": [p[k, :1] for k in range(3)], "three candidates": [*p, each_its_own]}
    return {
        f"{family}, {looks}": max(float(accepted(points, plan)[-1].any(axis=0).mean()) for points in nulls)
        for family, nulls in families.items()
        for looks, plan in (("one look", ONE_LOOK), ("two looks", TWO_LOOKS))
    }


def accepted(p: Floats, plan: Plan) -> list[Floats]:
    """(candidates, n_studies) bool after each look; `p` is (candidates, looks, n_studies)."""
    done = np.zeros(p[:, 0].shape, dtype=bool)
    after = []
    for look in range(1, plan.looks + 1):
        values = np.where(done, 0.0, p[:, look - 1])
        done = holm(values.T, levels_of(plan, look, len(p)))[0].T
        after.append(done)
    return after


def powers(p: Floats) -> dict[str, float]:
    """How often a candidate with `TRUTH` is accepted, alone or beside two without any gain."""
    whole = p[:, 0].max(axis=0)  # (looks, n_studies)
    # A look's rejection ends a candidate: some upper bound below its margin, at the look's level over 3.
    rejected = (p[:, 0, 0] > 1 - level_of(TWO_LOOKS, 1) / len(METRICS)).any(axis=0)
    second = np.where(rejected & (whole[0] > 0), 1.0, whole[1])
    rates = {}
    for family, m in (("one candidate", 1), ("three candidates", 3)):
        for looks, plan in (("one look", ONE_LOOK), ("two looks", TWO_LOOKS)):
            field = np.ones((m, 2, p.shape[-1]))
            field[0] = whole[0], second
            rates |= {
                f"{family}, {looks}, look {i}": float(done[0].mean())
                for i, done in enumerate(accepted(field, plan), 1)
            }
    return rates


def print_errors(results: list[Result]) -> None:
    print("## Type-I error: largest over the cells; cells above 5.5 % in brackets\n")
    designs = list(results[0].whole[CHOSEN])
    header("rule", *(f"{metric} alone" for metric in METRICS), *(f"whole: {design}" for design in designs))
    for name in RULES:
        columns = [np.array([r.alone[name][k] for r in results]) for k in range(len(METRICS))]
        columns += [np.array([r.whole[name][design] for r in results]) for design in designs]
        row(name, *(f"{column.max():.4f} ({(column > BAR).sum()})" for column in columns))


def print_powers(results: list[Result]) -> None:
    gains = ", ".join(f"{metric} {gain:+.2f}" for metric, gain in zip(METRICS, TRUTH, strict=True))
    print(f"\n## Power of the whole decision ({gains}): mean over the cells\n")
    designs = list(results[0].power[CHOSEN])
    header("rule", "errs at most 5.5 %", *designs)
    holding = {}
    for name in RULES:
        means = [float(np.mean([r.power[name][design] for r in results])) for design in designs]
        errors = [[*r.alone[name], *r.whole[name].values()] for r in results]
        holds = float(np.max(errors)) <= BAR
        if holds:
            holding[name] = float(np.mean(means))
        row(name, "yes" if holds else "no", *(f"{mean:.3f}" for mean in means))
    best = max(holding, key=lambda name: holding[name], default="none")
    print(f"\nHighest power among those that hold 5.5 %: {best}; the verdict uses {CHOSEN}.")


def print_cells(results: list[Result]) -> None:
    print(f"\n## {CHOSEN}, cell by cell: of 100 candidates with a gain of .12, so many are accepted\n")
    designs = list(results[0].power[CHOSEN])
    header(*CELL_COLUMNS, *designs, "largest type-I error")
    for r in results:
        worst = max(*r.alone[CHOSEN], *r.whole[CHOSEN].values())
        print(f"| {r.cell} | " + " | ".join(f"{100 * r.power[CHOSEN][d]:.0f}" for d in designs), end=" | ")
        print(f"{worst:.4f} |")
    print()
    for r in results:
        if (r.cell.seed_sd, r.cell.map_sd, r.cell.candidate_noise) == (0.03, 0.0075, 1.0):
            print(in_words(r))


def in_words(r: Result) -> str:
    first, overall = (100 * r.power[CHOSEN][f"one candidate, two looks, look {i}"] for i in (1, 2))
    return (
        f"With {r.cell.objects} rare objects and 5 seeds of sd {r.cell.seed_sd} you will see a gain of .12 "
        f"in {first:.0f} of 100 cases, with the 5 more of the second look in {overall:.0f}."
    )


def print_plans(cells: list[Cell], n_studies: int) -> None:
    """Do the seeds that are asked for reach 80 %, with the noise known, and estimated from a first look?"""
    print("\n## Seeds asked for, one look at .05\n")
    print("Planned, simulated: power with as many seeds, the noise known. From a pilot: plans from the upper")
    print(f"limit of the sd in {PILOTS} pilots of 5 and 10 seeds (median, range), and the power they have.\n")
    header(
        *CELL_COLUMNS,
        "gain",
        "seeds",
        "planned",
        "simulated",
        "simulated with one fewer",
        "seeds from a pilot",
        "their power, mean",
        "share above .8",
    )
    off = []
    for cell, (_, splits) in with_splits(cells, n_studies):
        noise = true_noise(cell, splits)
        for truth in (TRUTH, LARGER_TRUTH):
            distance = truth - MARGINS
            n = seeds_needed(distance, noise, ONE_LOOK.alpha)
            if n is None:
                row(f"{cell} | {truth[0]}", "label more", *[""] * 6)
                continue
            planned = power(distance, noise, n, 2 * n, ONE_LOOK.alpha)
            simulated = simulated_power(cell, splits, distance, n)
            off.append(abs(simulated - planned))
            fewer = f"{simulated_power(cell, splits, distance, n - 1):.3f}" if n > 2 else ""
            pilots = piloted(cell, splits, truth)
            row(f"{cell} | {truth[0]}", str(n), f"{planned:.3f}", f"{simulated:.3f}", fewer, *pilots)
    print(f"\nSimulated and planned power differ by at most {max(off, default=0):.3f}.")


def true_noise(cell: Cell, splits: Splits) -> Noise:
    """What a planner with perfect knowledge of the noise would have."""
    sd = np.array([cell.seed_sd, cell.map_sd, cell.seed_sd])
    baseline = CORRELATION * np.outer(sd, sd)
    split_df = np.array([float(np.median(of_metric[0].df)) for of_metric in splits.noise])
    nothing = np.zeros_like(baseline)  # these studies' seeds do not interact with the sources
    candidate, split = baseline * cell.candidate_noise**2, np.cov(splits.error[:, 0])
    return Noise(candidate, baseline, split, split_df, nothing, nothing)


def simulated_power(cell: Cell, splits: Splits, distance: Floats, n: int) -> float:
    studies = draw_studies(np.random.default_rng(n), cell, splits, Seeds(n, 2 * n))
    p = [
        RULES[CHOSEN](studies.candidates[k, 0], studies.baseline[k], studies.noise[k][0]).p_value(
            -distance[k]
        )
        for k in range(len(METRICS))
    ]
    return float((np.max(p, axis=0) <= ONE_LOOK.alpha).mean())


def piloted(cell: Cell, splits: Splits, truth: Floats) -> tuple[str, str, str]:
    """Seeds asked for after a first look (median and range), and the power that these really have."""
    known = true_noise(cell, splits)
    studies = draw_studies(np.random.default_rng(0), cell, splits, TWO_LOOKS.first)
    asked, reached = [], []
    for i in range(PILOTS):
        evidence = [
            Evidence(Requirement(metric, margin), studies.candidates[k, 0, i], studies.baseline[k, i], None)
            for k, (metric, margin) in enumerate(zip(METRICS, MARGINS.tolist(), strict=True))
        ]
        noise = replace(Noise.of(evidence), split=known.split, split_df=known.split_df)
        n = seeds_needed(truth - MARGINS, noise, ONE_LOOK.alpha) or SEEDS_LIMIT
        asked.append(n)
        reached.append(power(truth - MARGINS, known, n, 2 * n, ONE_LOOK.alpha))
    above = np.mean(np.array(reached) >= POWER)
    return f"{np.median(asked):.0f} ({min(asked)}–{max(asked)})", f"{np.mean(reached):.3f}", f"{above:.2f}"


def header(*names: str) -> None:
    row(*names)
    print("|" + "---|" * len(names))


def row(*values: str) -> None:
    print(f"| {' | '.join(values)} |")


if __name__ == "__main__":
    main()

"""The rules that `benchmarks.verdict` compares: from a candidate's and the baseline's seeds to a bound."""

from collections.abc import Callable

import numpy as np

from search.judging.statistics.bounds import (
    Floats,
    Gain,
    Part,
    PointRule,
    StudentGain,
    normal,
    paired,
    percentile_bootstrap,
    satterthwaite_df,
    welch,
)
from search.judging.statistics.jackknife import SplitNoise

CHOSEN = "Welch + test split"  # what the verdict uses

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

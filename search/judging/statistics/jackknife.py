"""The test set's own error of any metric: a delete-one-source jackknife over stored predictions.

More seeds do not reduce it: all runs are measured on the same images. A *source* is what was sampled: a
source image, a slide, a group. Objects of one source resemble each other, so sources are left out whole.
Candidate and baseline see the same sources, hence the deviations are those of the difference, averaged over
seeds.

Many sources are left out in groups, drawn at random: each metric is measured anew without each, which would
cost the square of the sources. The delete-a-group jackknife has the same expectation where groups are drawn
like sources, i.e. without regard to what is in them (Wolter 2007, ch. 2 and 4: random groups); its variance
is less well known, by the degrees of freedom of the groups instead of those of the sources.

The interaction of seed and source, what each seed finds in each source beside what both explain, is in the
seeds' variance and in the jackknife's. `SplitNoise.shared` tells it, so that the sum counts it once: at 78
objects it is a third of the jackknife's variance. Pure NumPy; what measures is a function handed in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from search.judging.statistics.bounds import Floats, Part, Shared, StudentGain, one_sample, welch
from spaces.errors import UsageError

MIN_SOURCES = 10
MOST_SOURCES = 900  # that are left out one by one; groups of one or two would weigh unlike
GROUPS = 300  # of more: at the strictest level a t with 299 degrees is wider than a normal by .6 %
UNMOVED = 1e-12  # a deviation below is rounding, not influence
LEAST_DF = 0.25  # one source that holds nearly all: a t beyond any bound, and still a number

Bools = npt.NDArray[np.bool_]


class TooFewSources(UsageError):
    """The test split has too few sources to tell its own error."""


class UnmeasurableWithout(UsageError):
    """The test split cannot tell a metric, whole or without one of its sources."""


@dataclass(frozen=True, eq=False)
class Replicates:
    """One run's metric on the test split, whole and without each source.

    Attributes:
        whole: On all images.
        without: (n_groups,) without each source in turn, or each group of them (`groups_of`).
        sources: (n_sources,) names of the sources, ascending.
        effective_sources: As many sources, or groups, with equal numbers of objects would tell as much;
            infinite if it is not known how the objects spread.
    """

    whole: float
    without: Floats
    sources: tuple[str, ...]
    effective_sources: float = np.inf


@dataclass(frozen=True, eq=False)
class SplitNoise:
    """The error of a mean difference that the test split brings.

    Attributes:
        deviations: (..., n_sources) change of the difference when a source is left out.
        variance: (...) squared standard error.
        df: (...) degrees of freedom of `variance`.
        candidate: (..., n_c, n_sources) the same of each seed of the candidate; without seeds nothing is
            taken to be shared with their variance.
        baseline: (..., n_b, n_sources) likewise.
    """

    deviations: Floats
    variance: Floats
    df: Floats
    candidate: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    baseline: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def part(self) -> Part:
        """To be added to the seeds' error, less what they share."""
        return self.variance, self.df

    @property
    def shared(self) -> Shared:
        """How much of each arm's squared standard error over seeds `variance` holds too; (...), (...)."""
        return interaction(self.candidate), interaction(self.baseline)

    @property
    def alone(self) -> Floats:
        """Squared standard error that would remain with infinitely many seeds; (...)."""
        return np.maximum(self.variance - sum(self.shared), 0.0)

    def half_width(self, level: float) -> Floats:
        """Distance from the estimate to its bound that would remain with infinitely many seeds; (...)."""
        return StudentGain(np.zeros_like(self.variance), self.alone, self.df).upper(level)


def interaction(deviations: Floats) -> Floats:
    """The part of a mean's variance that seed and source make together; (...).

    (mean of the seeds' own jackknife variances - jackknife variance of their mean) / (n - 1), which is the
    jackknife's factor times the sum over the sources of the seeds' variance of the deviation, over n.

    Args:
        deviations: (..., n_seeds, n_sources) of each seed; 0 with fewer than two.
    """
    n_seeds, n_sources = deviations.shape[-2:]
    if n_seeds < 2:
        return np.zeros(deviations.shape[:-2])
    spread = deviations.var(axis=-2, ddof=1).sum(axis=-1) / n_seeds
    return np.asarray((n_sources - 1) / n_sources * spread)


def groups_of(sources: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """(n_images,) with which images each is left out: those of its source; of more than 900, of its group.

    Groups are of equal numbers of sources, give or take one, drawn at random: the same for all runs on the
    same sources. Sorting by what they hold would even out what is to be measured.

    Args:
        sources: (n_images,) the source of each image.
    """
    names, source = np.unique(np.asarray(sources, dtype=np.str_), return_inverse=True)
    if len(names) <= MOST_SOURCES:
        return np.asarray(source)
    return np.asarray(np.random.default_rng(0).permutation(len(names))[source] % GROUPS)


def effective_number(counts: Floats | npt.NDArray[np.int64]) -> Floats:
    """As many sources with equal counts would weigh alike: 1 / sum(w²), w the share of each; (...).

    Source: Kish 1965.

    Args:
        counts: (..., n_sources) objects of each; without any object it is 0.

    Example:
        >>> round(float(effective_number(np.array([5, 5, 10, 0]))), 3)  # shares 1/4, 1/4, 1/2
        2.667
    """
    squares = np.square(counts, dtype=np.float64).sum(axis=-1)
    return np.asarray(counts.sum(axis=-1) ** 2 / np.maximum(squares, 1.0))


def leave_one_source_out(
    measure: Callable[[Bools], Mapping[str, float | None]],
    sources: Sequence[str] | npt.NDArray[np.str_],
    metrics: Sequence[str],
) -> dict[str, Replicates]:
    """Measure a run without each source in turn; of more than 900, without each group of `groups_of`.

    Args:
        measure: Takes (n_images,) bool, the images kept, and returns the metrics of these; None where they
            cannot tell one.
        sources: (n_images,) the source of each image.
        metrics: Which of the names to keep.

    Raises:
        TooFewSources: There are fewer than 10.
        UnmeasurableWithout: A metric is None or not finite on all images, or without some source.
    """
    names: list[str] = np.unique(np.asarray(sources, dtype=np.str_)).tolist()
    group = groups_of(sources)
    if len(names) < MIN_SOURCES:
        raise TooFewSources(
            f"test split: {len(names)} source images, {MIN_SOURCES} are needed to tell its own error",
            "add test images, or name the source of each tile (column `source` of manifest.csv)",
        )
    left_out = [f"source '{name}'" for name in names]
    if len(names) > MOST_SOURCES:
        left_out = [f"group {i + 1} of its {GROUPS} random groups of sources" for i in range(GROUPS)]
    whole = _measured(measure(group >= 0), metrics, "")
    without = [_measured(measure(group != i), metrics, f" without {name}") for i, name in enumerate(left_out)]
    return {
        metric: Replicates(whole[metric], np.array([value[metric] for value in without]), tuple(names))
        for metric in metrics
    }


def _measured(values: Mapping[str, float | None], metrics: Sequence[str], where: str) -> dict[str, float]:
    measured = {}
    for metric in metrics:
        value = values[metric]
        if value is None or not np.isfinite(value):
            raise UnmeasurableWithout(
                f"test split{where}: {metric} is {value}",
                "the rare class must have objects in at least two source images",
            )
        measured[metric] = value
    return measured


def split_noise(candidate: Sequence[Replicates], baseline: Sequence[Replicates] = ()) -> SplitNoise:
    """The test split's error of the candidate's mean minus the baseline's.

    Args:
        candidate: One per seed.
        baseline: One per seed; none for a guard that is a floor.

    Raises:
        ValueError: The runs were not measured on the same sources, or there is no run of the candidate.
    """
    runs = [*candidate, *baseline]
    if not candidate or any(run.sources != runs[0].sources for run in runs):
        raise ValueError("all runs must be measured on the same sources")
    of_candidate, of_baseline = _deviations(candidate), _deviations(baseline)  # (n, n_sources)
    deviations = of_candidate.mean(axis=0) - (of_baseline.mean(axis=0) if baseline else 0.0)
    noise = jackknife(deviations, min(run.effective_sources for run in runs))
    return replace(noise, candidate=of_candidate, baseline=of_baseline)


def mean_gain(
    candidate: Floats, baseline: Floats | None, split: SplitNoise | None, lent: Part | None = None
) -> StudentGain:
    """The candidate's mean over the baseline's; of the error of seeds and split what both hold counts once.

    Args:
        candidate: (..., n_c) one value per seed, n_c >= 2.
        baseline: (..., n_b) likewise; None for a floor.
        split: The test split's error of the same difference; None if it is not to be counted.
        lent: As for `welch`.

    Raises:
        ValueError: An arm has fewer than two seeds.
    """
    others, shared = ((), (0.0, 0.0)) if split is None else ((split.part,), split.shared)
    if baseline is None:
        return one_sample(candidate, *others, shared=shared[0], lent=lent)
    return welch(candidate, baseline, *others, shared=shared, lent=lent)


def _deviations(runs: Sequence[Replicates]) -> Floats:
    """(n_runs, n_sources)."""
    return np.array([run.without - run.whole for run in runs]).reshape(len(runs), -1 if runs else 0)


def jackknife(deviations: Floats, effective_sources: Floats | float = np.inf) -> SplitNoise:
    """Variance of a statistic from what leaving out each source changes.

    Args:
        deviations: (..., n_sources) value without the source minus value on all.
        effective_sources: (...) as `effective_number` of the objects that the statistic counts.

    The variance is (G - 1) / G times the sum of squares around the value on all sources, which is never below
    the one around the mean (Efron and Stein 1981). Degrees of freedom: the number of sources that change
    anything, minus one. A source without a rare object tells nothing of the rare class, and counting it would
    pass six slides with clusters for forty. Nor do forty slides of which three hold most of the clusters tell
    as much as forty: hence no more degrees than the effective number of sources minus one.
    """
    n_sources = deviations.shape[-1]
    variance: Floats = (n_sources - 1) / n_sources * np.square(deviations).sum(axis=-1)
    moved = (np.abs(deviations) > UNMOVED).sum(axis=-1)
    df = np.minimum(np.maximum(moved - 1.0, 1.0), np.maximum(effective_sources - 1.0, LEAST_DF))
    return SplitNoise(deviations, np.asarray(variance), df)

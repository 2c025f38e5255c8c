"""The test set's own error of any metric: a delete-one-source jackknife over stored predictions.

More seeds do not reduce it: all runs are measured on the same images. A *source* is what was sampled: a
source image, a slide, a group. Objects of one source resemble each other, so sources are left out whole.
Candidate and baseline see the same sources, hence the deviations are those of the difference, averaged over
seeds.

The seeds' variance holds the interaction of seed and source too, so adding the two counts it twice: slightly
conservative. Pure NumPy; what measures is a function handed in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.judging.statistics.bounds import Floats, Part, StudentGain
from spaces.errors import UsageError

MIN_SOURCES = 10
UNMOVED = 1e-12  # a deviation below is rounding, not influence

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
        without: (n_sources,) without each source in turn.
        sources: (n_sources,) their names, ascending.
    """

    whole: float
    without: Floats
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SplitNoise:
    """The error of a mean difference that the test split alone brings.

    Attributes:
        deviations: (..., n_sources) change of the difference when a source is left out.
        variance: (...) squared standard error.
        df: (...) degrees of freedom of `variance`.
    """

    deviations: Floats
    variance: Floats
    df: Floats

    @property
    def part(self) -> Part:
        """To be added to the seeds' error, which is independent of it."""
        return self.variance, self.df

    def half_width(self, level: float) -> Floats:
        """Distance from the estimate to its bound that would remain with infinitely many seeds; (...)."""
        nothing = np.zeros_like(self.variance)
        return StudentGain(nothing, self.variance, self.df).upper(level)


def leave_one_source_out(
    measure: Callable[[Bools], Mapping[str, float | None]],
    sources: Sequence[str] | npt.NDArray[np.str_],
    metrics: Sequence[str],
) -> dict[str, Replicates]:
    """Measure a run without each source in turn.

    Args:
        measure: Takes (n_images,) bool, the images kept, and returns the metrics of these; None where they
            cannot tell one.
        sources: (n_images,) the source of each image.
        metrics: Which of the names to keep.

    Raises:
        TooFewSources: There are fewer than 10.
        UnmeasurableWithout: A metric is None or not finite on all images, or without some source.
    """
    found, source = np.unique(np.asarray(sources, dtype=np.str_), return_inverse=True)
    names: list[str] = found.tolist()
    if len(names) < MIN_SOURCES:
        raise TooFewSources(
            f"test split: {len(names)} source images, {MIN_SOURCES} are needed to tell its own error",
            "add test images, or name the source of each tile (column `source` of manifest.csv)",
        )
    whole = _measured(measure(source >= 0), metrics, "")
    without = [
        _measured(measure(source != i), metrics, f" without source '{name}'") for i, name in enumerate(names)
    ]
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
    deviations = _mean_deviation(candidate)  # (n_sources,)
    return jackknife(deviations - _mean_deviation(baseline) if baseline else deviations)


def _mean_deviation(runs: Sequence[Replicates]) -> Floats:
    """(n_sources,): averaged over the seeds."""
    deviations: Floats = np.mean([run.without - run.whole for run in runs], axis=0)
    return deviations


def jackknife(deviations: Floats) -> SplitNoise:
    """Variance of a statistic from what leaving out each source changes.

    Args:
        deviations: (..., n_sources) value without the source minus value on all.

    The variance is (G - 1) / G times the sum of squares around the value on all sources, which is never below
    the one around the mean (Efron and Stein 1981). Degrees of freedom: the number of sources that change
    anything, minus one. A source without a rare object tells nothing of the rare class, and counting it would
    pass six slides with clusters for forty.
    """
    n_sources = deviations.shape[-1]
    variance: Floats = (n_sources - 1) / n_sources * np.square(deviations).sum(axis=-1)
    moved = (np.abs(deviations) > UNMOVED).sum(axis=-1)
    return SplitNoise(deviations, np.asarray(variance), np.maximum(moved - 1.0, 1.0))

"""Learning curves, few points each."""

from collections.abc import Sequence
from statistics import fmean

from search.record.outcomes import StudyTrial
from trainables.contract.trial import EpochMetrics, valued

MOST_POINTS = 64

Line = list[list[float]]  # epoch, value


def line(curve: Sequence[EpochMetrics], metric: str) -> Line:
    """Epoch and value, where it was measured: of a long curve every so many epochs, and the last."""
    known = [
        [float(point.epoch), round(value, 5)]
        for point in curve
        if (value := valued(point.metrics, metric)) is not None
    ]
    if len(known) <= MOST_POINTS:
        return known
    step = (len(known) - 1) / (MOST_POINTS - 1)
    return [known[round(i * step)] for i in range(MOST_POINTS)]


def band(curves: Sequence[Sequence[EpochMetrics]], metric: str) -> Line:
    """Epoch, and the mean, least and highest over the baseline's seeds; where all have measured it."""
    lines = [{epoch: value for epoch, value in line(curve, metric)} for curve in curves]
    shared = sorted(set.intersection(*(set(one) for one in lines)))
    return [
        [epoch, round(fmean(values), 5), min(values), max(values)]
        for epoch in shared
        if (values := [one[epoch] for one in lines])
    ]


def with_curves(best: Sequence[StudyTrial], others: Sequence[StudyTrial], most: int) -> list[StudyTrial]:
    """Trials whose curves are shown: the first all, of the others the `most` latest."""
    named = {trial.number for trial in best}
    rest = [trial for trial in others if trial.report is not None and trial.number not in named]
    return [trial for trial in best if trial.report is not None] + rest[-most:]

"""What a picture of learning curves shows: the front's trials against the baseline's band. Values only."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.judging.choosing import Recommended
from search.judging.front import Front
from search.record.outcomes import Baseline
from search.request.config import StudyConfig
from trainables.contract.tasks import LOWER_IS_BETTER
from trainables.contract.trial import EpochMetrics, TrialReport, valued

MOST = 8  # curves that can be told apart in one panel


@dataclass(frozen=True)
class Curve:
    """A metric over the epochs.

    Attributes:
        label: Whose it is.
        epochs: From 1; those at which it could be measured.
        values: At each of them.
        recommended: Whether it is of the trial to take.
    """

    label: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    recommended: bool = False


@dataclass(frozen=True)
class Band:
    """The baseline over the epochs that all of its seeds have.

    Attributes:
        epochs: From 1.
        mean: Over the seeds.
        sd: Their sample standard deviation; 0 with one seed.
    """

    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]


@dataclass(frozen=True)
class CurvesPanel:
    """One metric."""

    metric: str
    lower_is_better: bool
    curves: tuple[Curve, ...]
    baseline: Band | None


@dataclass(frozen=True)
class CurvesPicture:
    """What a picture of learning curves shows.

    Attributes:
        name: Of the study.
        steps: Of the optimizer per epoch.
        seeds: Of the baseline.
        panels: One for each objective and guarded metric that is measured after every epoch.
        left_out: Trials of the front beyond those that can be told apart.
    """

    name: str
    steps: int
    seeds: int
    panels: tuple[CurvesPanel, ...]
    left_out: int


def curves_picture(
    found: Front,
    best: Recommended | None,
    baseline: Baseline | None,
    config: StudyConfig,
    curve_of: Callable[[TrialReport], Sequence[EpochMetrics]],
) -> CurvesPicture:
    """What to draw of the learning of a front; its first trials, and the recommended one in any case.

    Args:
        found: The front.
        best: The recommended trial.
        baseline: Over its seeds.
        config: Of the study.
        curve_of: All epochs of a finished run, as `RunFiles.curve`.
    """
    chosen = None if best is None else best.trial.number
    trials = sorted(found.best, key=lambda trial: trial.number != chosen)
    if best is not None and best.trial not in trials:
        trials.insert(0, best.trial)
    shown = [(trial.number, curve_of(trial.report)) for trial in trials[:MOST] if trial.report is not None]
    usual = [] if baseline is None else [curve_of(report) for report in baseline.reports]
    panels = [
        CurvesPanel(
            metric=metric,
            lower_is_better=metric in LOWER_IS_BETTER,
            curves=tuple(_curve(number, curve, metric, number == chosen) for number, curve in shown),
            baseline=_band(usual, metric),
        )
        for metric in config.shown_metrics
    ]
    return CurvesPicture(
        name=config.name,
        steps=config.train.eval_every,
        seeds=len(usual),
        panels=tuple(
            panel for panel in panels if panel.baseline or any(curve.values for curve in panel.curves)
        ),
        left_out=len(trials) - len(shown),
    )


def _curve(number: int, curve: Sequence[EpochMetrics], metric: str, recommended: bool) -> Curve:
    known = _known(curve, metric)
    return Curve(f"trial {number}", tuple(known), tuple(known.values()), recommended)


def _band(usual: Sequence[Sequence[EpochMetrics]], metric: str) -> Band | None:
    curves = [_known(curve, metric) for curve in usual]
    epochs = [epoch for epoch in (curves[0] if curves else {}) if all(epoch in of for of in curves)]
    if not epochs:
        return None
    at = [[of[epoch] for of in curves] for epoch in epochs]
    sd = tuple(statistics.stdev(values) if len(values) > 1 else 0.0 for values in at)
    return Band(tuple(epochs), tuple(map(statistics.fmean, at)), sd)


def _known(curve: Sequence[EpochMetrics], metric: str) -> dict[int, float]:
    """Epoch -> value, where it was measured."""
    found = {point.epoch: valued(point.metrics, metric) for point in curve}
    return {epoch: value for epoch, value in found.items() if value is not None}

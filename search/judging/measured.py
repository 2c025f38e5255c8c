"""An arm's finished runs and what their predictions tell: the split's own error, and what is wrong.

All runs are measured on the same split. One of them costs as many evaluations as it has sources, or groups of
them, so its predictions are sorted once, and leaving a source out only masks them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations

import numpy as np

from search.judging.statistics.bounds import Floats
from search.judging.statistics.jackknife import (
    Bools,
    Replicates,
    TooFewSources,
    UnmeasurableWithout,
    effective_number,
    groups_of,
    leave_one_source_out,
)
from search.record.files import RunFiles
from spaces.errors import RunError
from spaces.strategy import Strategy
from trainables.contract.predictions import (
    MERGED_FILE,
    PREDICTIONS_FILE,
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
    load_predictions,
)
from trainables.contract.tasks import MERGED, TASKS, Task
from trainables.contract.trial import Metrics, Outcome, TrialFailure, TrialReport, valued
from trainables.evaluation.classification import ClassifiedImages
from trainables.evaluation.detection import RankedPredictions

# Metrics that count every image alike; all others are means over classes, or of one class.
OVER_IMAGES = frozenset({"accuracy", "top2_accuracy", "weighted_f1", "nll", "ece"})


@dataclass(frozen=True, eq=False)
class Arm:
    """A strategy with all that came back of its seeds, measured on one split.

    Attributes:
        name: As shown.
        strategy: What was trained.
        reports: One per finished seed.
        failures: One per seed that gave no result.
        replicates: Metric -> one per report, for the split's own error; without them only the seeds' counts.
        untold: Metric -> why it has no replicates, a sentence.
        problems: Why no verdict can be given on this arm, in sentences.
    """

    name: str
    strategy: Strategy
    reports: tuple[TrialReport, ...]
    failures: tuple[TrialFailure, ...] = ()
    replicates: Mapping[str, tuple[Replicates, ...]] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for metric, replicates in self.replicates.items():
            if len(replicates) != len(self.reports):
                raise ValueError(
                    f"{self.name}: {len(replicates)} replicates of {metric} for {len(self.reports)} reports"
                )

    def values(self, metric: str) -> Floats:
        """(n_seeds,), NaN where the seed could not measure it."""
        return np.array([valued(report.metrics, metric) for report in self.reports], dtype=np.float64)

    def problem(self, metric: str) -> str:
        """Why no gain in `metric` is claimed of this arm; empty if one can be."""
        n = len(self.reports)
        unmeasured = int(np.isnan(self.values(metric)).sum())
        found = []
        if self.failures:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.failed().items())
            found.append(f"{len(self.failures)} of {n + len(self.failures)} seeds gave no result ({kinds})")
        if unmeasured:
            found.append(f"not measurable in {unmeasured} of {n} seeds")
        if n < 2:
            found.append(f"{n} finished, and an error takes at least 2 seeds")
        return "; ".join(found)

    def failed(self) -> dict[str, int]:
        """Number of failures of each kind."""
        return dict(Counter(failure.kind for failure in self.failures))


class Measurer:
    """Measures the arms of one study; remembers each run, as a second look has the first's too."""

    def __init__(self, files: RunFiles, task: Task, metrics: Sequence[str]) -> None:
        self._files, self._task, self._metrics = files, task, tuple(metrics)
        self._known: dict[str, tuple[dict[str, Replicates], dict[str, str]]] = {}  # by the run's key

    def measure(self, name: str, strategy: Strategy, outcomes: Sequence[Outcome]) -> Arm:
        """One arm's runs.

        Raises:
            RunError: A finished run's predictions are gone or damaged.
        """
        reports = tuple(outcome for outcome in outcomes if isinstance(outcome, TrialReport))
        failures = tuple(outcome for outcome in outcomes if isinstance(outcome, TrialFailure))
        problems = [f"{name}: a seed gave no result ({one.kind}): {one.reason}" for one in failures]
        if not TASKS[self._task].leaves_predictions:
            return Arm(name, strategy, reports, failures, problems=tuple(problems))
        stored = [self._predictions(report, PREDICTIONS_FILE) for report in reports]
        problems += [
            f"{name}: seeds {i + 1} and {j + 1} give identical predictions, so the seed changes nothing"
            for i, j in identical_runs(stored)
        ]
        problems += _limits(name, reports, stored)
        runs = [self._run(report, of) for report, of in zip(reports, stored, strict=True)]
        untold = {metric: f"{name}: {why}" for _, missing in runs for metric, why in missing.items()}
        replicates = {
            metric: tuple(known[metric] for known, _ in runs)
            for metric in self._metrics
            if metric not in untold
        }
        return Arm(name, strategy, reports, failures, replicates, untold, tuple(problems))

    def _predictions(self, report: TrialReport, file: str) -> Predictions:
        found = self._files.result(report.key)
        if found is None:
            place = self._files.root / report.key
            raise RunError(f"the predictions of a finished run are gone from {place}, or damaged")
        return load_predictions(found / file, self._task)

    def _run(
        self, report: TrialReport, predictions: Predictions
    ) -> tuple[dict[str, Replicates], dict[str, str]]:
        """By metric: its replicates, or why there are none."""
        if report.key not in self._known:
            threshold = report.metrics.get("threshold")
            of_wholes = [name for name in self._metrics if name.startswith(MERGED)]
            own = [name for name in self._metrics if name not in of_wholes]
            known, missing = _told(predictions, own, threshold)
            if of_wholes:
                wholes = self._predictions(report, MERGED_FILE)
                names = [name.removeprefix(MERGED) for name in of_wholes]
                told, untold = _told(wholes, names, threshold)
                known |= {f"{MERGED}{name}": replicates for name, replicates in told.items()}
                missing |= {f"{MERGED}{name}": why for name, why in untold.items()}
            self._known[report.key] = known, missing
        return self._known[report.key]


def _told(
    predictions: Predictions, metrics: Sequence[str], threshold: float | None
) -> tuple[dict[str, Replicates], dict[str, str]]:
    """The metrics that can be told without each source, and why the others can not."""
    try:
        return run_replicates(predictions, metrics, threshold=threshold), {}
    except (TooFewSources, UnmeasurableWithout):  # of one of them; which one, and the others, one by one
        return _one_by_one(predictions, metrics, threshold)


def _one_by_one(
    predictions: Predictions, metrics: Sequence[str], threshold: float | None
) -> tuple[dict[str, Replicates], dict[str, str]]:
    """The same, a metric at a time."""
    known: dict[str, Replicates] = {}
    missing: dict[str, str] = {}
    for metric in metrics:
        try:
            known |= run_replicates(predictions, [metric], threshold=threshold)
        except (TooFewSources, UnmeasurableWithout) as error:
            missing[metric] = error.message
    return known, missing


def _limits(name: str, reports: Sequence[TrialReport], stored: Sequence[Predictions]) -> list[str]:
    """A sentence if the evaluator's limit on predictions decides some image's recall in a run."""
    capped = 0
    for report, predictions in zip(reports, stored, strict=True):
        threshold = report.metrics.get("threshold")
        if isinstance(predictions, DetectionPredictions) and threshold is not None:
            capped = max(capped, limited_images(predictions, threshold))
    if not capped:
        return []
    return [
        f"{name}: in up to {capped} images of a run more boxes score above its threshold than the evaluator "
        "keeps (max_det): the model tells too little apart; raise train.steps"
    ]


def run_replicates(
    predictions: Predictions, metrics: Sequence[str], *, threshold: float | None
) -> dict[str, Replicates]:
    """One run's metrics on its split, whole and without each source image.

    Args:
        predictions: Of the run.
        metrics: Names as in its report.
        threshold: The confidence frozen on val, `report.metrics["threshold"]`; all subsets are measured at
            it. A classifier has none.

    Returns:
        By metric; `whole` is the value of the report.

    Raises:
        TooFewSources: The split has fewer than 10 sources.
        UnmeasurableWithout: The split cannot tell a metric, whole or without some source.
    """
    every = _measuring(predictions, threshold)

    def measure(keep: Bools) -> Metrics:
        of = every(keep)
        return {metric: valued(of, metric) for metric in metrics}

    found = leave_one_source_out(measure, predictions.source, metrics)
    return {
        metric: replace(of, effective_sources=effective_sources(predictions, metric))
        for metric, of in found.items()
    }


def _measuring(predictions: Predictions, threshold: float | None) -> Callable[[Bools], Metrics]:
    """(N,) which images are kept -> all metrics of these."""
    if isinstance(predictions, ClassificationPredictions):
        return ClassifiedImages(predictions).metrics
    ranked = RankedPredictions(predictions)
    return lambda keep: ranked.metrics(keep, threshold)


def effective_sources(predictions: Predictions, metric: str) -> float:
    """As many sources with equally many of the objects that a metric counts would tell as much.

    Where sources are left out in groups, it is as many groups.

    `recall/NAME` counts the objects of that class, an accuracy all images, and all others, which are means
    over classes, are taken to hang on the minority's. An image of a classifier is an object of its label.
    """
    if isinstance(predictions, ClassificationPredictions):
        image, of_class = np.arange(len(predictions.label)), predictions.label
    else:
        image, of_class = predictions.true_image, predictions.true_class
    counted = np.isin(of_class, _counted(predictions, metric))  # (T,)
    group = groups_of(predictions.source)  # (N,)
    return float(effective_number(np.bincount(group[image[counted]])))


def _counted(predictions: Predictions, metric: str) -> Sequence[int]:
    """The class ids whose objects a metric counts."""
    names: list[str] = predictions.class_names.tolist()
    for i, name in enumerate(names):
        if metric.endswith(f"/{name}"):  # `recall/NAME`, `deployed/recall/NAME`
            return [i]
    minority: list[int] = predictions.minority.tolist()
    return range(len(names)) if metric.rpartition("/")[2] in OVER_IMAGES else minority


def identical_runs(predictions: Sequence[Predictions]) -> list[tuple[int, int]]:
    """Pairs of runs whose predictions are equal array for array: a seed that changed nothing."""
    return [
        (i, j) for (i, one), (j, other) in combinations(enumerate(predictions), 2) if _identical(one, other)
    ]


def _identical(one: Predictions, other: Predictions) -> bool:
    # What ships and what is ignored follow from the rest, the latter from version 5 of the file on; 0.1.0
    # named a detector's images by their stems.
    derived = ("shipped", "pred_ignored", "image")
    names = [field.name for field in fields(one) if field.name not in derived]
    return type(one) is type(other) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


def limited_images(predictions: DetectionPredictions, threshold: float) -> int:
    """Images where the evaluator's limit, not the model, decides recall.

    Such an image holds `max_det` predictions, and the lowest of them still scores at least `threshold`: there
    may have been more.
    """
    sure = predictions.pred_image[predictions.pred_score >= threshold]
    return int((np.bincount(sure) >= predictions.max_det).sum())

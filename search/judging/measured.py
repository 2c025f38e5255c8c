"""An arm's finished runs and what their predictions tell: the split's own error, and what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from search.judging.comparison import Arm
from search.judging.evidence import identical_runs, limited_images, run_replicates
from search.judging.statistics.jackknife import Replicates, TooFewSources, UnmeasurableWithout
from search.record.folder import StudyFolder
from spaces.errors import RunError
from spaces.strategy import Strategy
from trainables.contract.predictions import DetectionPredictions, Predictions, load_predictions
from trainables.contract.trial import Outcome, Task, TrialFailure, TrialReport


@dataclass(frozen=True, eq=False)
class MeasuredArm(Arm):
    """One arm, measured.

    Attributes:
        untold: Metric -> why it has no replicates, a sentence.
        problems: Why no verdict can be given on this arm, in sentences.
    """

    untold: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Measurer:
    """Measures the arms of one study; remembers each run, as a second look has the first's too."""

    def __init__(self, folder: StudyFolder, task: Task, metrics: Sequence[str]) -> None:
        self._folder, self._task, self._metrics = folder, task, tuple(metrics)
        self._known: dict[str, tuple[dict[str, Replicates], dict[str, str]]] = {}  # by the run's key

    def measure(self, name: str, strategy: Strategy, outcomes: Sequence[Outcome]) -> MeasuredArm:
        """One arm's runs.

        Raises:
            RunError: A finished run's predictions are gone.
        """
        reports = tuple(outcome for outcome in outcomes if isinstance(outcome, TrialReport))
        failures = tuple(outcome for outcome in outcomes if isinstance(outcome, TrialFailure))
        problems = [f"{name}: a seed gave no result ({one.kind}): {one.reason}" for one in failures]
        if self._task == "toy":
            return MeasuredArm(name, strategy, reports, failures, problems=tuple(problems))
        stored = [self._predictions(report) for report in reports]
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
        return MeasuredArm(name, strategy, reports, failures, replicates, untold, tuple(problems))

    def _predictions(self, report: TrialReport) -> Predictions:
        found = self._folder.result(report.key)
        if found is None:
            place = self._folder.trials / report.key
            raise RunError(f"the predictions of a finished run are gone from {place}")
        return load_predictions(found / "predictions.npz")

    def _run(
        self, report: TrialReport, predictions: Predictions
    ) -> tuple[dict[str, Replicates], dict[str, str]]:
        """By metric: its replicates, or why there are none."""
        if report.key not in self._known:
            threshold = report.metrics.get("threshold")
            try:
                self._known[report.key] = (
                    run_replicates(predictions, self._metrics, threshold=threshold),
                    {},
                )
            except (TooFewSources, UnmeasurableWithout):
                self._known[report.key] = _one_by_one(predictions, self._metrics, threshold)
        return self._known[report.key]


def _one_by_one(
    predictions: Predictions, metrics: Sequence[str], threshold: float | None
) -> tuple[dict[str, Replicates], dict[str, str]]:
    """The metrics that can be told without each source, and why the others can not."""
    known: dict[str, Replicates] = {}
    missing: dict[str, str] = {}
    for metric in metrics:
        try:
            known |= run_replicates(predictions, [metric], threshold=threshold)
        except (TooFewSources, UnmeasurableWithout) as error:
            missing[metric] = error.message
    return known, missing


def _limits(name: str, reports: Sequence[TrialReport], stored: Sequence[Predictions]) -> list[str]:
    """A sentence if the evaluator's limit on predictions decides some image's recall."""
    capped = 0
    for report, predictions in zip(reports, stored, strict=True):
        threshold = report.metrics.get("threshold")
        if isinstance(predictions, DetectionPredictions) and threshold is not None:
            capped += limited_images(predictions, threshold)
    if not capped:
        return []
    return [f"{name}: {capped} images hold more predictions than the evaluator keeps (max_det)"]

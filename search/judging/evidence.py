"""From the stored predictions of finished runs to what a verdict weighs. Pure NumPy: no files, no Ray.

All runs are measured on the same split. One of them costs as many evaluations as it has sources, so its
predictions are sorted once, and leaving a source out only masks them.
"""

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations

import numpy as np

from search.judging.statistics.jackknife import Bools, Replicates, leave_one_source_out
from trainables.contract.predictions import ClassificationPredictions, DetectionPredictions, Predictions
from trainables.contract.trial import Metrics
from trainables.evaluation.classification import ClassifiedImages
from trainables.evaluation.detection import RankedPredictions


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
    if isinstance(predictions, ClassificationPredictions):
        return leave_one_source_out(ClassifiedImages(predictions).metrics, predictions.source, metrics)
    ranked = RankedPredictions(predictions)

    def measure(keep: Bools) -> Metrics:
        return ranked.metrics(keep, threshold)

    return leave_one_source_out(measure, predictions.source, metrics)


def identical_runs(predictions: Sequence[Predictions]) -> list[tuple[int, int]]:
    """Pairs of runs whose predictions are equal array for array: a seed that changed nothing."""
    return [
        (i, j) for (i, one), (j, other) in combinations(enumerate(predictions), 2) if _identical(one, other)
    ]


def _identical(one: Predictions, other: Predictions) -> bool:
    return type(one) is type(other) and all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
    )


def limited_images(predictions: DetectionPredictions, threshold: float) -> int:
    """Images where the evaluator's limit, not the model, decides recall.

    Such an image holds `max_det` predictions, and the lowest of them still scores at least `threshold`: there
    may have been more.
    """
    sure = predictions.pred_image[predictions.pred_score >= threshold]
    return int((np.bincount(sure) >= predictions.max_det).sum())

"""Precision and recall class by class, or what is called what: the baseline beside the candidate."""

from typing import Any

import numpy as np

from search.pipeline.looking.before_after import BeforeAfter
from trainables.contract.predictions import (
    MERGED_FILE,
    PREDICTIONS_FILE,
    ClassificationPredictions,
    DetectionPredictions,
    load_predictions,
)
from trainables.contract.tasks import MERGED
from trainables.contract.trial import TrialReport, valued
from trainables.evaluation.classification import confusion_matrix
from trainables.evaluation.detection import ClassCurves, class_curves

MOST_CLASSES = 12
MOST_POINTS = 64


def by_class(pair: BeforeAfter) -> dict[str, Any]:
    """What a page shows.

    Raises:
        RunError: A file of predictions is damaged.
    """
    name = MERGED_FILE if pair.whole_images else PREDICTIONS_FILE
    stored = [load_predictions(folder / name) for folder in pair.files]
    said = f"On {pair.split}, one training of the baseline and one of {pair.name}"
    if isinstance(stored[0], ClassificationPredictions):
        return _called(stored, pair, said)
    curves = [class_curves(one) for one in stored if isinstance(one, DetectionPredictions)]
    names = stored[1].class_names.tolist()
    rare = stored[1].minority.tolist()
    order = [*rare, *(c for c in range(len(names)) if c not in rare)]
    known = [c for c in order if any(c in one for one in curves)][:MOST_CLASSES]
    prefix = MERGED if pair.whole_images else ""
    lines = [
        {
            "name": names[c],
            "lines": [
                {
                    "points": _points(one[c]) if c in one else [],
                    "at": _at(report, f"{prefix}deployed", names[c]),
                }
                for one, report in zip(curves, pair.reports, strict=True)
            ],
        }
        for c in known
    ]
    note = f"{said} (dashed and solid); the mark is where the exported weights work. IoU 0.5."
    return {"kind": "precision_recall", "note": note, "lines": lines}


def _points(curves: ClassCurves) -> list[list[float]]:
    """Recall and precision at some of the confidences, from the highest on."""
    true = np.arange(1, len(curves.true_rank) + 1)
    if not len(true):
        return []
    recall, precision = true / curves.support, true / curves.true_rank
    chosen = np.unique(np.linspace(0, len(true) - 1, MOST_POINTS).round().astype(int))
    return [[round(float(recall[i]), 4), round(float(precision[i]), 4)] for i in chosen]


def _at(report: TrialReport, prefix: str, name: str) -> list[float] | None:
    found = [valued(report.metrics, f"{prefix}/{of}/{name}") for of in ("recall", "precision")]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def _called(stored: list[Any], pair: BeforeAfter, said: str) -> dict[str, Any]:
    names = stored[0].class_names.tolist()
    shown = names[:MOST_CLASSES]
    matrices = [
        {
            "name": who,
            "rows": [_shares(row) for row in confusion_matrix(one, tuned=True)[: len(shown), : len(shown)]],
        }
        for who, one in zip(("baseline", pair.name), stored, strict=True)
    ]
    more = "" if shown == names else f"; the first {len(shown)} of {len(names)} classes"
    note = (
        f"{said}: share of the images of a class (rows) that are called each class, by the biases that are "
        f"exported; the answer and the verdict are about models without{more}."
    )
    return {"kind": "confusion", "note": note, "names": shown, "matrices": matrices}


def _shares(row: Any) -> list[float | None]:
    return [None if np.isnan(share) else round(float(share), 4) for share in row]

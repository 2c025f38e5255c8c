"""Which rare objects one model finds and another misses, and where it calls alarm for nothing. Pure NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
    ShippedBoxes,
)
from trainables.evaluation.overlaps import between

Group = Literal["found_now", "still_missed", "newly_lost", "new_false_alarms", "alarms_gone"]
GROUPS: dict[Group, str] = {
    "found_now": "Found now, missed before",
    "still_missed": "Still missed",
    "newly_lost": "Found before, lost now",
    "new_false_alarms": "New false alarms",
    "alarms_gone": "False alarms before, gone now",
}
IOU = 0.5

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """Something worth a look.

    Attributes:
        image: Index of the image.
        box: xyxy pixels of it; None of a classifier's image.
        score: By which cases of a group are ordered, the most telling first.
    """

    image: int
    box: tuple[float, float, float, float] | None
    score: float


def cases(before: Predictions, after: Predictions) -> dict[Group, list[Case]]:
    """All cases by group, the most telling first.

    Args:
        before: Of the baseline.
        after: Of the candidate, on the same images.
    """
    if isinstance(before, DetectionPredictions) and isinstance(after, DetectionPredictions):
        found = _of_boxes(before, after)
    else:
        assert isinstance(before, ClassificationPredictions)
        assert isinstance(after, ClassificationPredictions)
        found = _of_images(before, after)
    return {group: sorted(found[group], key=lambda one: -one.score) for group in GROUPS}


def _of_images(
    before: ClassificationPredictions, after: ClassificationPredictions
) -> dict[Group, list[Case]]:
    rare = np.isin(after.label, after.minority)
    was, now = before.tuned == before.label, after.tuned == after.label
    alarm, alarmed = (np.isin(one.tuned, after.minority) & ~rare for one in (after, before))
    sure = _softmax(after.logits.astype(np.float64)).max(axis=1)

    def listed(which: Bools) -> list[Case]:
        return [Case(int(i), None, float(sure[i])) for i in np.flatnonzero(which)]

    return {
        "found_now": listed(rare & now & ~was),
        "still_missed": listed(rare & ~now & ~was),
        "newly_lost": listed(rare & ~now & was),
        "new_false_alarms": listed(alarm & ~alarmed),
        "alarms_gone": listed(alarmed & ~alarm),
    }


def _of_boxes(before: DetectionPredictions, after: DetectionPredictions) -> dict[Group, list[Case]]:
    rare = np.flatnonzero(np.isin(after.true_class, after.minority))
    old, new = _counted(before), _counted(after)
    was, now = _scores(old, after, rare), _scores(new, after, rare)  # (rare,), 0 where it is missed
    box = after.true_box[rare].astype(np.float64)
    side = (box[:, 2:] - box[:, :2]).max(axis=1, initial=0)

    def listed(which: Bools, order: Floats) -> list[Case]:
        return [
            Case(int(after.true_image[rare[i]]), _corners(box[i]), float(order[i]))
            for i in np.flatnonzero(which)
        ]

    return {
        "found_now": listed((now > 0) & (was == 0), now),
        "still_missed": listed((now == 0) & (was == 0), side),
        "newly_lost": listed((now == 0) & (was > 0), was),
        "new_false_alarms": _alarms(old, new, after.minority),
        "alarms_gone": _alarms(new, old, after.minority),
    }


def _counted(predictions: DetectionPredictions) -> ShippedBoxes:
    """The boxes that the exported weights show."""
    assert predictions.shipped is not None, "a finished run of this version knows what ships"
    return predictions.shipped


def _scores(found: ShippedBoxes, truth: DetectionPredictions, rare: Ints) -> Floats:
    """(rare,) score of the box that has found each rare object; 0 where none has."""
    key = truth.true_image[rare] * len(truth.class_names) + truth.true_class[rare]
    hits = np.flatnonzero(found.match)
    of_hits = found.image[hits] * len(truth.class_names) + found.label[hits]
    hit, mine, overlap = between(of_hits, found.box[hits], key, truth.true_box[rare], IOU)
    scores = np.zeros(len(rare))
    taken: set[int] = set()
    for i in np.lexsort((-overlap, -found.score[hits[hit]])):  # as in matching: the surest box first
        if int(hit[i]) not in taken and scores[mine[i]] == 0:
            taken.add(int(hit[i]))
            scores[mine[i]] = found.score[hits[hit[i]]]
    return scores


def _alarms(other: ShippedBoxes, own: ShippedBoxes, minority: Ints) -> list[Case]:
    """Rare boxes on nothing, where the other model has no such box."""
    mine, theirs = (
        np.flatnonzero(~one.match & ~one.ignored & np.isin(one.label, minority)) for one in (own, other)
    )
    shared, _, _ = between(own.image[mine], own.box[mine], other.image[theirs], other.box[theirs], IOU)
    alone = np.setdiff1d(np.arange(len(mine)), shared)
    return [
        Case(int(own.image[i]), _corners(own.box[i].astype(np.float64)), float(own.score[i]))
        for i in mine[alone]
    ]


def _corners(box: Floats) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def boxes_in(
    predictions: DetectionPredictions, image: int, minority: Sequence[int]
) -> tuple[Floats, Floats, Floats]:
    """True rare boxes (t, 4), rare boxes found (n, 4) and their scores (n,) of an image."""
    found = _counted(predictions)
    mine = (found.image == image) & np.isin(found.label, minority)
    true = (predictions.true_image == image) & np.isin(predictions.true_class, minority)
    return (
        predictions.true_box[true].astype(np.float64),
        found.box[mine].astype(np.float64),
        found.score[mine].astype(np.float64),
    )


def _softmax(logits: Floats) -> Floats:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))

"""Two detectors fused late: each is believed in the classes that it has learnt. Pure NumPy.

Their classes are disjoint, so boxes of one never suppress those of the other within a class. Scores of two
models are not comparable, and most metrics count at one confidence for all classes. So the minority's logits
are shifted by the one constant that brings both models' best confidences together: that changes no ranking
within a class, hence no AP, and is folded into the weights that ship.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import DetectionPredictions
from trainables.evaluation.detection import best_threshold, class_curves
from trainables.evaluation.matching import Bools, Floats, Ints

EDGE = 1e-4  # of a confidence: nearer to 0 or 1 a shift would be endless


def of_classes(predictions: DetectionPredictions, classes: Collection[int]) -> DetectionPredictions:
    """Predictions and true objects of some classes alone, as if there were no others.

    Args:
        predictions: Of a split, of weights that do not ship yet.
        classes: Ids.
    """
    assert predictions.shipped is None
    pred = np.isin(predictions.pred_class, list(classes))
    true = np.isin(predictions.true_class, list(classes))
    return replace(
        only(predictions, pred),
        true_image=predictions.true_image[true],
        true_class=predictions.true_class[true],
        true_box=predictions.true_box[true],
    )


def shift_between(majority: DetectionPredictions, minority: DetectionPredictions) -> float:
    """What to add to the minority model's logits, by val; arguments as of `fused`.

    Both models' best confidences are those of the highest smoothed mean F1 over the classes that count.
    """
    rare = set(majority.minority.tolist())
    rest = [c for c in range(len(majority.class_names)) if c not in rare]
    at = [
        float(np.clip(best_threshold(class_curves(of_classes(found, classes))), EDGE, 1 - EDGE))
        for found, classes in ((majority, rest), (minority, rare))
    ]
    return float(_logit(np.array(at[0])) - _logit(np.array(at[1])))


def fused(
    majority: DetectionPredictions, minority: DetectionPredictions, shift: float
) -> DetectionPredictions:
    """Two models' predictions of a split as those of one detector.

    Args:
        majority: Of the model whose boxes of all classes but the minority's count.
        minority: Of the one whose boxes of the minority's classes do; on the same images.
        shift: As `shift_between` finds it on val.

    Returns:
        By falling score. `max_det` is what both together may keep on an image.
    """
    assert np.array_equal(majority.image, minority.image)
    one = only(majority, ~np.isin(majority.pred_class, majority.minority))
    other = only(minority, np.isin(minority.pred_class, majority.minority))
    other = replace(other, pred_score=shifted(other.pred_score, shift))
    both = [np.concatenate(pair) for pair in zip(_columns(one), _columns(other), strict=True)]
    image, label, score, box, hits, ignored = both
    order = np.argsort(-score, kind="stable")
    return replace(
        one,
        pred_image=image[order],
        pred_class=label[order],
        pred_score=score[order],
        pred_box=box[order],
        pred_match=hits[order],
        pred_ignored=ignored[order],
        max_det=majority.max_det + minority.max_det,
    )


def shifted(score: npt.NDArray[np.floating[Any]], shift: float) -> npt.NDArray[np.float32]:
    """Confidences after a constant was added to their logits; 0 changes not a bit."""
    if shift == 0:
        return score.astype(np.float32)
    moved = 1 / (1 + np.exp(-(_logit(np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)) + shift)))
    return np.asarray(moved, dtype=np.float32)


def _logit(p: Floats) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-p))


class Placed:
    """Some boxes of a split, by image and left edge, so that what lies in others is soon found.

    Args:
        image: (P,) of all boxes.
        box: (P, 4).
        which: (n,) indices of those that are sought.
    """

    def __init__(self, image: Ints, box: npt.NDArray[np.floating[Any]], which: Ints) -> None:
        self._n, chosen = len(image), box[which].astype(np.float64)
        self._low = float(chosen[:, 0].min(initial=0.0))
        self._widest = float((chosen[:, 2] - chosen[:, 0]).max(initial=0.0))
        # From one image to the next, where all lie in one row: others may begin or end beyond these.
        self._span = 4 * (float(np.abs(chosen).max(initial=1.0)) + self._widest)
        place = self._place(image[which], chosen[:, 0])
        order = np.argsort(place, kind="stable")
        self._which, self._at, self._box = which[order], place[order], chosen[order]
        self._area = (self._box[:, 2:] - self._box[:, :2]).prod(axis=1)

    def _place(self, image: Ints, left: Floats) -> Floats:
        return np.asarray(image * self._span + (left - self._low))

    def inside(self, image: Ints, box: npt.NDArray[np.floating[Any]], share: float) -> Bools:
        """(P,) which of all predictions are boxes of these that lie in one of some others.

        Args:
            image: (q,) of the others.
            box: (q, 4).
            share: Of a box's area that must lie within.
        """
        others = box.astype(np.float64)
        first = np.searchsorted(self._at, self._place(image, others[:, 0] - self._widest))
        last = np.searchsorted(self._at, self._place(image, others[:, 2]))
        counts = last - first
        over = np.repeat(np.arange(len(others)), counts)
        mine = np.arange(len(over)) + np.repeat(first - (counts.cumsum() - counts), counts)
        low = np.maximum(self._box[mine, :2], others[over, :2])
        high = np.minimum(self._box[mine, 2:], others[over, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        found = np.zeros(self._n, dtype=bool)
        found[self._which[mine[(shared > 0) & (shared >= share * self._area[mine])]]] = True
        return found


def covered(
    image: Ints,
    label: Ints,
    score: npt.NDArray[np.floating[Any]],
    box: npt.NDArray[np.floating[Any]],
    minority: Collection[int],
    *,
    least: float,
    share: float,
) -> Bools:
    """(P,) which boxes of the majority lie in a box of the minority that is surely there.

    A cluster is made of cells: whoever wants the one and not the others leaves these out.

    Args:
        image: (P,) of each box.
        label: (P,) class ids.
        score: (P,) in [0, 1].
        box: (P, 4) corners.
        minority: Class ids.
        least: Score of a box of the minority that covers.
        share: Of a box's area that must lie within it, in (0, 1].
    """
    rare = np.isin(label, list(minority))
    sure = rare & (score >= least)
    return Placed(image, box, np.flatnonzero(~rare)).inside(image[sure], box[sure], share)


def without_covered(predictions: DetectionPredictions, *, least: float, share: float) -> DetectionPredictions:
    """Predictions without those that are `covered`, of weights that do not ship yet."""
    assert predictions.shipped is None
    gone = covered(
        predictions.pred_image,
        predictions.pred_class,
        predictions.pred_score,
        predictions.pred_box,
        predictions.minority.tolist(),
        least=least,
        share=share,
    )
    return only(predictions, ~gone)


def minority_threshold(predictions: DetectionPredictions) -> float:
    """The confidence with the highest smoothed mean F1 over the minority's classes."""
    return best_threshold(class_curves(of_classes(predictions, predictions.minority.tolist())))


def _columns(predictions: DetectionPredictions) -> tuple[Any, ...]:
    """What is known of each prediction, (P, …) each."""
    return (
        predictions.pred_image,
        predictions.pred_class,
        predictions.pred_score,
        predictions.pred_box,
        predictions.pred_match,
        predictions.pred_ignored,
    )


def only(predictions: DetectionPredictions, which: Bools) -> DetectionPredictions:
    """Some of the predictions, (P,)."""
    image, label, score, box, hits, ignored = (column[which] for column in _columns(predictions))
    return replace(
        predictions,
        pred_image=image,
        pred_class=label,
        pred_score=score,
        pred_box=box,
        pred_match=hits,
        pred_ignored=ignored,
    )

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
from trainables.evaluation.matching import Bools, Floats
from trainables.evaluation.overlaps import covered

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

"""Boxes and truth to detection metrics; the evaluator of every number shown. Pure NumPy.

Average precision, and precision and recall at a shared confidence, are Ultralytics' definitions (8.4.190):
the 101-point interpolation of COCO without extrapolation, and the confidence that maximises the mean F1 over
the classes with an object, on a grid of 1,000. They differ in two places: precision without any prediction is
None instead of 0, and a class without an object is None instead of the mean of the others.

Free-response figures (FROC) count false positives per true object of the class, where LUNA16 (Setio et al.
2017) counts them per scan; a second box on an object already found is one. As for AP, predictions of the same
score are passed one by one, in their order.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import DetectionPredictions
from trainables.contract.trial import Metrics

IOUS = np.linspace(0.5, 0.95, 10)
GRID = np.linspace(0, 1, 1000)  # confidences
RECALLS = np.linspace(0, 1, 101)
FALSE_PER_OBJECT = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # where FROC reads the recall
SMOOTHING = 0.1  # width of the box filter over the mean F1, as a share of the grid
EPS = 1e-16

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def match(
    pred_image: Ints,
    pred_class: Ints,
    pred_score: npt.NDArray[np.floating],
    pred_box: npt.NDArray[np.floating],
    true_image: Ints,
    true_class: Ints,
    true_box: npt.NDArray[np.floating],
) -> Bools:
    """Which predictions are true positives, at each IoU of `IOUS`.

    Within an image and class, predictions take their turn by descending score; each takes the free true
    object that it overlaps most, if by at least the threshold.

    Args:
        pred_image: (P,) image index of each prediction; `true_image` (T,) likewise.
        pred_class: (P,) class ids; `true_class` (T,) likewise.
        pred_score: (P,) confidences.
        pred_box: (P, 4) xyxy; `true_box` (T, 4) likewise.
        true_image: See above.
        true_class: See above.
        true_box: See above.

    Returns:
        (P, 10).
    """
    matched = np.zeros((len(pred_image), len(IOUS)), dtype=bool)
    if len(pred_image) == 0 or len(true_image) == 0:
        return matched
    # A group is one class in one image. Its objects are rows of a padded table; all groups take their turns
    # at once.
    n_classes = int(max(pred_class.max(), true_class.max())) + 1
    keys, group_of_true = np.unique(true_image * n_classes + true_class, return_inverse=True)
    place = _rank_within(group_of_true)
    truth = np.zeros((len(keys), place.max() + 1, 4))  # (groups, most objects, 4); padding has no area
    truth[group_of_true, place] = true_box
    key = pred_image * n_classes + pred_class
    found = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    order = np.flatnonzero(keys[found] == key)
    iou = _iou(pred_box[order], truth[found[order]])  # (p, most objects)
    close = iou.max(axis=1) >= IOUS[0]
    order, iou = order[close], iou[close]
    by_score = np.argsort(-pred_score[order], kind="stable")
    order, iou = order[by_score], iou[by_score]
    group = found[order]
    turn = _rank_within(group)
    free = np.ones((len(keys), truth.shape[1], len(IOUS)), dtype=bool)
    thresholds = np.arange(len(IOUS))
    for now in range(turn.max(initial=-1) + 1):
        who = np.flatnonzero(turn == now)
        available = np.where(free[group[who]], iou[who, :, None], 0)  # (w, most objects, 10)
        best = available.argmax(axis=1)  # (w, 10)
        taken = np.take_along_axis(available, best[:, None], axis=1)[:, 0] >= IOUS
        matched[order[who]] = taken
        row, column = np.nonzero(taken)
        free[group[who][row], best[row, column], thresholds[column]] = False
    return matched


def _rank_within(group: Ints) -> Ints:
    """Position of each entry among those of its group, in order of appearance."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    start = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    size = np.diff(np.r_[start, len(ordered)])
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(start, size)
    return rank


def _iou(box: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> Floats:
    """IoU of each box (p, 4) with its own list of others (p, m, 4); (p, m)."""
    one = box[:, None].astype(np.float64)
    sides = np.minimum(one[..., 2:], others[..., 2:]) - np.maximum(one[..., :2], others[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = (one[..., 2:] - one[..., :2]).prod(axis=-1) + (others[..., 2:] - others[..., :2]).prod(axis=-1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-7))


@dataclass(frozen=True)
class ClassCurves:
    """One class with at least one object.

    Attributes:
        support: Number of true objects.
        predicted: Number of predictions.
        top_score: Highest confidence predicted; 0 without predictions.
        precision: (1000,) over `GRID`, at IoU .5.
        recall: (1000,) likewise.
        ap: (10,) average precision at each IoU of `IOUS`.
        froc: Mean over `FALSE_PER_OBJECT` of the recall at IoU .5 with no more false positives than that.
        recall_at_p50: Highest recall at IoU .5 where precision is at least .5; None without predictions.
    """

    support: int
    predicted: int
    top_score: float
    precision: Floats
    recall: Floats
    ap: Floats
    froc: float
    recall_at_p50: float | None

    @property
    def f1(self) -> Floats:
        """(1000,) over `GRID`, at IoU .5."""
        return 2 * self.precision * self.recall / (self.precision + self.recall + EPS)

    def at(self, threshold: float) -> tuple[float | None, float]:
        """Precision (None if nothing is predicted that surely) and recall at a confidence."""
        precision = float(np.interp(threshold, GRID, self.precision))
        nothing = self.predicted == 0 or threshold > self.top_score
        return None if nothing else precision, float(np.interp(threshold, GRID, self.recall))

    def recall_best_f1(self) -> float:
        """Recall at the confidence that is best for this class alone."""
        return self.at(best_threshold({0: self}))[1]


def best_threshold(curves: dict[int, ClassCurves]) -> float:
    """The confidence that maximises the smoothed mean F1 over the classes with an object."""
    if not curves:
        return 0.0
    mean_f1 = np.mean([c.f1 for c in curves.values()], axis=0)  # (1000,)
    width = round(len(GRID) * SMOOTHING * 2) // 2 + 1  # odd
    padded = np.pad(mean_f1, width // 2, mode="edge")
    return float(GRID[np.convolve(padded, np.ones(width) / width, mode="valid").argmax()])


def detection_metrics(predictions: DetectionPredictions, threshold: float | None = None) -> Metrics:
    """All metrics of one split.

    Args:
        predictions: With their matches.
        threshold: Confidence of precision and recall; None picks the one that is best here. A test split gets
            the one that was picked on val.

    Returns:
        `minority_recall` (mean over the minority classes with an object), `minority_recall_worst`,
        `minority_precision`, `minority_ap50`, `minority_froc`, `minority_recall_at_p50`, `map50`, `map50_95`,
        `threshold`, and per class `precision/<class>`, `recall/<class>`, `recall_best_f1/<class>`,
        `ap50/<class>`, `map50_95/<class>`, `froc/<class>`, `support/<class>`. `recall_best_f1` and
        `recall_at_p50` choose their confidence on this split, whatever the threshold. What the split cannot
        tell is None.
    """
    return RankedPredictions(predictions).metrics(_all_images(predictions), threshold)


def class_curves(predictions: DetectionPredictions) -> dict[int, ClassCurves]:
    """The curves of each class that has an object, by class id."""
    return RankedPredictions(predictions).curves(_all_images(predictions))


def _all_images(predictions: DetectionPredictions) -> Bools:
    return np.ones(len(predictions.image), dtype=bool)


class RankedPredictions:
    """The predictions of a split, sorted once, so that the metrics of many subsets are cheap."""

    def __init__(self, predictions: DetectionPredictions) -> None:
        # Stable, so that equal scores keep their order whatever else is in the split.
        order = np.argsort(-predictions.pred_score, kind="stable")
        label = predictions.pred_class[order]
        self._names: list[str] = predictions.class_names.tolist()
        self._minority: list[int] = predictions.minority.tolist()
        self._classes = {
            c: _RankedClass(predictions, order[label == c], np.flatnonzero(predictions.true_class == c))
            for c in range(len(self._names))
        }

    def curves(self, keep: Bools) -> dict[int, ClassCurves]:
        """The curves of each class with an object in the images to keep, by class id; `keep` is (N,)."""
        curves = {c: ranked.curves(keep) for c, ranked in self._classes.items()}
        return {c: curve for c, curve in curves.items() if curve.support}

    def metrics(self, keep: Bools, threshold: float | None = None) -> Metrics:
        """As `detection_metrics`, of the images to keep; `keep` is (N,)."""
        curves = self.curves(keep)
        threshold = best_threshold(curves) if threshold is None else threshold
        points = {c: curve.at(threshold) for c, curve in curves.items()}
        rare = [c for c in self._minority if c in curves]
        recalls = [points[c][1] for c in rare]
        metrics: Metrics = {
            "minority_recall": _mean(recalls),
            "minority_recall_worst": min(recalls, default=None),
            "minority_precision": _mean([p for c in rare if (p := points[c][0]) is not None]),
            "minority_ap50": _mean([float(curves[c].ap[0]) for c in rare]),
            "minority_froc": _mean([curves[c].froc for c in rare]),
            "minority_recall_at_p50": _mean([r for c in rare if (r := curves[c].recall_at_p50) is not None]),
            "map50": _mean([float(curve.ap[0]) for curve in curves.values()]),
            "map50_95": _mean([float(curve.ap.mean()) for curve in curves.values()]),
            "threshold": threshold,
        }
        for c, name in enumerate(self._names):
            curve = curves.get(c)
            metrics[f"precision/{name}"] = points[c][0] if curve else None
            metrics[f"recall/{name}"] = points[c][1] if curve else None
            metrics[f"recall_best_f1/{name}"] = curve.recall_best_f1() if curve else None
            metrics[f"ap50/{name}"] = float(curve.ap[0]) if curve else None
            metrics[f"map50_95/{name}"] = float(curve.ap.mean()) if curve else None
            metrics[f"froc/{name}"] = curve.froc if curve else None
            metrics[f"support/{name}"] = float(curve.support) if curve else 0.0
        return metrics


class _RankedClass:
    """The objects of one class, and its predictions by descending score.

    Args:
        predictions: Of the split.
        mine: (p,) which predictions are of this class, by descending score.
        objects: (t,) which true objects are.
    """

    def __init__(self, predictions: DetectionPredictions, mine: Ints, objects: Ints) -> None:
        matched = predictions.pred_match[mine]  # (p, 10)
        self._true_image = predictions.true_image[objects]  # (t,)
        self._image = predictions.pred_image[mine]  # (p,)
        self._minus_score = -predictions.pred_score[mine].astype(np.float64)  # (p,), ascending
        self._hits = [np.flatnonzero(column) for column in matched.T]  # at each IoU, positions in (p,)

    def curves(self, keep: Bools) -> ClassCurves:
        """Of the images to keep; `keep` is (N,)."""
        support = int(keep[self._true_image].sum())
        kept = keep[self._image]  # (p,)
        minus_score = self._minus_score[kept]  # (k,)
        if support == 0 or len(minus_score) == 0:
            zero, no_ap = np.zeros(len(GRID)), np.zeros(len(IOUS))
            return ClassCurves(support, 0, 0.0, zero, zero, no_ap, froc=0.0, recall_at_p50=None)
        rank = kept.cumsum()  # (p,) among those kept, from 1
        found = [rank[hits[kept[hits]]] for hits in self._hits]  # ranks of the true positives, at each IoU
        # The curves are interpolated on a grid: only the predictions on either side of its points matter.
        below = np.searchsorted(minus_score, -GRID, side="right")  # (1000,)
        near = np.unique(np.concatenate([below - 1, below]).clip(0, len(minus_score) - 1))  # (m,)
        true = np.searchsorted(found[0], near + 1, side="right")  # (m,) true positives up to there
        around = minus_score[near]  # (m,)
        return ClassCurves(
            support,
            len(minus_score),
            -float(minus_score[0]),
            precision=np.interp(-GRID, around, true / (near + 1), left=1),
            recall=np.interp(-GRID, around, true / (support + EPS), left=0),
            ap=np.array([_average_precision(ranks, support) for ranks in found]),
            froc=_froc(found[0], support),
            recall_at_p50=_recall_at_half_precision(found[0], support),
        )


def _average_precision(rank: Ints, support: int) -> float:
    """Area under the precision envelope at COCO's 101 recalls; 0 beyond the highest recall reached.

    Args:
        rank: (n,) which predictions are true positives, counted from 1 by descending score.
        support: Number of true objects.
    """
    true = np.arange(1, len(rank) + 1)
    envelope = np.maximum.accumulate((true / rank)[::-1])[::-1]  # (n,) at each true positive
    # From one true positive to the next precision falls, then rises above that of every miss between, so the
    # envelope on the way is that of the next.
    passed = np.searchsorted(true / (support + EPS), RECALLS, side="right")  # (101,)
    return float(np.trapezoid(np.append(envelope, 0.0)[passed], RECALLS))


def _froc(rank: Ints, support: int) -> float:
    """Mean recall over the limits of false positives; arguments as for `_average_precision`."""

    def found(limit: float) -> int:
        """True positives passed before there are more than `limit` false ones, whose number never falls."""
        return bisect_right(range(len(rank)), limit, key=lambda i: rank[i] - (i + 1))

    return float(np.mean([found(share * support) for share in FALSE_PER_OBJECT])) / support


def _recall_at_half_precision(rank: Ints, support: int) -> float:
    """Highest recall with at least as many true as false; arguments as for `_average_precision`."""
    enough = np.flatnonzero(2 * np.arange(1, len(rank) + 1) >= rank)
    return (int(enough[-1]) + 1) / support if len(enough) else 0.0


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None

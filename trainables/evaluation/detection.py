"""Boxes and truth to detection metrics; the evaluator of every number shown. Pure NumPy.

Average precision is Ultralytics' (8.4.190): the 101-point interpolation of COCO without extrapolation. So is
the choice of the threshold: the confidence that maximises the mean F1 over the classes with an object, on a
grid of 1,000; it is then moved to the middle between two scores, so that whoever applies it keeps the same
boxes. Precision and recall at it are counted; Ultralytics' own, interpolated between scores, stand under
`ultralytics/`. Precision without any prediction is None, and a class without an object is None instead of
the mean of the others.

`tuned/` counts at per-class thresholds (`operating_point`), `deployed/` what the shipped weights find as
they are used: one label per box, at the one confidence that ships.

On a tile, what lies on an object that the cut hid is `pred_ignored`, and left out of all of these.

Free-response figures (FROC) count false positives per true object of the class, where LUNA16 (Setio et al.
2017) counts them per scan; a second box on an object already found is one. As for AP, predictions of the same
score are passed one by one, in their order.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import DetectionPredictions, ShippedBoxes
from trainables.contract.trial import Metrics
from trainables.evaluation.matching import IOUS

GRID = np.linspace(0, 1, 1000)  # confidences
RECALLS = np.linspace(0, 1, 101)
FALSE_PER_OBJECT = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # where FROC reads the recall
SMOOTHING = 0.1  # width of the box filter over the mean F1, as a share of the grid
EPS = 1e-16

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Counts = tuple[int, int, int]  # true positives, predictions and objects


@dataclass(frozen=True)
class ClassCurves:
    """One class with at least one object.

    Attributes:
        support: Number of true objects.
        predicted: Number of predictions.
        top_score: Highest confidence predicted; 0 without predictions.
        precision: (1000,) over `GRID`, at IoU .5.
        recall: (1000,) likewise.
        scores: (predicted,) confidences, descending.
        true_rank: (n,) which of them are true positives at IoU .5, counted from 1.
        ap: (10,) average precision at each IoU of `IOUS`.
        froc: Mean over `FALSE_PER_OBJECT` of the recall at IoU .5 with no more false positives than that.
        recall_at_p50: Highest recall at IoU .5 where precision is at least .5; None without predictions.
    """

    support: int
    predicted: int
    top_score: float
    precision: Floats
    recall: Floats
    scores: Floats
    true_rank: Ints
    ap: Floats
    froc: float
    recall_at_p50: float | None

    @property
    def f1(self) -> Floats:
        """(1000,) over `GRID`, at IoU .5."""
        return 2 * self.precision * self.recall / (self.precision + self.recall + EPS)

    def at(self, threshold: float) -> tuple[float | None, float]:
        """Precision (None if nothing is predicted that surely) and recall at a confidence, counted."""
        kept = _at_least(self.scores, threshold)
        true = int(np.searchsorted(self.true_rank, kept, side="right"))
        return true / kept if kept else None, true / self.support

    def interpolated_at(self, threshold: float) -> tuple[float | None, float]:
        """The same as Ultralytics has it: read from curves over `GRID`, between scores."""
        precision = float(np.interp(threshold, GRID, self.precision))
        nothing = self.predicted == 0 or threshold > self.top_score
        return None if nothing else precision, float(np.interp(threshold, GRID, self.recall))

    def recall_best_f1(self) -> float:
        """Recall at the confidence that is best for this class alone."""
        return self.at(best_threshold({0: self}))[1]


def best_threshold(curves: dict[int, ClassCurves]) -> float:
    """The confidence, between two scores, with the highest smoothed mean F1 over classes with an object."""
    if not curves:
        return 0.0
    mean_f1 = np.mean([c.f1 for c in curves.values()], axis=0)  # (1000,)
    best = float(GRID[smoothed(mean_f1).argmax()])
    return between_scores(best, *(c.scores for c in curves.values()))


def smoothed(f1: Floats) -> Floats:
    """(1000,) over `GRID`, by Ultralytics' box filter."""
    width = round(len(GRID) * SMOOTHING * 2) // 2 + 1  # odd
    padded = np.pad(f1, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def between_scores(threshold: float, *scores: Floats) -> float:
    """The middle between the two of `scores`, each descending, that `threshold` lies between.

    Itself above or without them.
    """
    kept = [(of, _at_least(of, threshold)) for of in scores]
    above = [of[k - 1] for of, k in kept if k > 0]
    if not above:
        return threshold
    return float((min(above) + max((of[k] for of, k in kept if k < len(of)), default=0.0)) / 2)


def _at_least(scores: Floats, threshold: float) -> int:
    """How many of these, descending, reach a threshold."""
    return bisect_right(scores, -threshold, key=lambda score: -score)


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
        `recall_at_p50` choose their confidence on this split, whatever the threshold. Under `ultralytics/`,
        and of predictions that are `shipped` under `tuned/` and `deployed/`, precision and recall again, and
        `deployed/false_alarms`: false positives of the minority per image. What the split cannot tell is
        None.
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
        order = order[~predictions.pred_ignored[order]]
        label = predictions.pred_class[order]
        self._names: list[str] = predictions.class_names.tolist()
        self._minority: list[int] = predictions.minority.tolist()
        self._shipped = predictions.shipped
        self._classes = {c: _RankedClass(predictions, c, order[label == c]) for c in range(len(self._names))}

    def curves(self, keep: Bools, without: Bools | None = None) -> dict[int, ClassCurves]:
        """The curves of each class with an object in the images to keep, by class id.

        Args:
            keep: (N,) images.
            without: (P,) predictions that are left out besides; None for none.
        """
        curves = {c: ranked.curves(keep, without) for c, ranked in self._classes.items()}
        return {c: curve for c, curve in curves.items() if curve.support}

    def metrics(self, keep: Bools, threshold: float | None = None) -> Metrics:
        """As `detection_metrics`, of the images to keep; `keep` is (N,)."""
        curves = self.curves(keep)
        threshold = best_threshold(curves) if threshold is None else threshold
        rare = [curves[c] for c in self._minority if c in curves]
        metrics: Metrics = {
            **self._points("", {c: curve.at(threshold) for c, curve in curves.items()}),
            "minority_ap50": _mean([float(curve.ap[0]) for curve in rare]),
            "minority_froc": _mean([curve.froc for curve in rare]),
            "minority_recall_at_p50": _mean([r for curve in rare if (r := curve.recall_at_p50) is not None]),
            "map50": _mean([float(curve.ap[0]) for curve in curves.values()]),
            "map50_95": _mean([float(curve.ap.mean()) for curve in curves.values()]),
            "threshold": threshold,
        }
        for c, name in enumerate(self._names):
            curve = curves.get(c)
            metrics[f"recall_best_f1/{name}"] = curve.recall_best_f1() if curve else None
            metrics[f"ap50/{name}"] = float(curve.ap[0]) if curve else None
            metrics[f"map50_95/{name}"] = float(curve.ap.mean()) if curve else None
            metrics[f"froc/{name}"] = curve.froc if curve else None
            metrics[f"support/{name}"] = float(curve.support) if curve else 0.0
        own = {c: curve.interpolated_at(threshold) for c, curve in curves.items()}
        metrics |= self._points("ultralytics/", own)
        return metrics if self._shipped is None else metrics | self._used(keep, self._shipped)

    def _points(self, prefix: str, points: dict[int, tuple[float | None, float]]) -> Metrics:
        """Precision and recall of each class, by class id, and over the minority."""
        rare = [points[c] for c in self._minority if c in points]
        recalls = [recall for _, recall in rare]
        metrics: Metrics = {
            f"{prefix}minority_recall": _mean(recalls),
            f"{prefix}minority_recall_worst": min(recalls, default=None),
            f"{prefix}minority_precision": _mean([p for p, _ in rare if p is not None]),
        }
        for c, name in enumerate(self._names):
            metrics[f"{prefix}precision/{name}"], metrics[f"{prefix}recall/{name}"] = points.get(
                c, (None, None)
            )
        return metrics

    def _used(self, keep: Bools, shipped: ShippedBoxes) -> Metrics:
        """`tuned/` and `deployed/`, counted, of the images to keep."""
        tuned = {c: counts for c, ranked in self._classes.items() if (counts := ranked.tuned(keep))[2]}
        deployed = {c: self._classes[c].deployed(keep) for c in tuned}
        false = sum(n - true for c, (true, n, _) in deployed.items() if c in self._minority)
        return {
            **self._points("tuned/", {c: _rates(*counts) for c, counts in tuned.items()}),
            **self._points("deployed/", {c: _rates(*counts) for c, counts in deployed.items()}),
            "deployed/false_alarms": false / int(keep.sum()),
            "deployed/threshold": shipped.conf,
        }


class _RankedClass:
    """The objects of one class, and its predictions by descending score.

    Args:
        predictions: Of the split.
        c: Its id.
        mine: (p,) which predictions are of this class, by descending score.
    """

    def __init__(self, predictions: DetectionPredictions, c: int, mine: Ints) -> None:
        matched = predictions.pred_match[mine]  # (p, 10)
        self._mine = mine
        self._true_image = predictions.true_image[predictions.true_class == c]  # (t,)
        self._image = predictions.pred_image[mine]  # (p,)
        self._score = predictions.pred_score[mine].astype(np.float64)  # (p,), descending
        self._above = np.searchsorted(-self._score, -GRID, side="right")  # (1000,) how many reach each
        self._hits = np.flatnonzero(matched.any(axis=1))  # (h,) positions of those true at some IoU
        self._true_at = [np.flatnonzero(column) for column in matched[self._hits].T]  # at each, of these
        if (shipped := predictions.shipped) is not None:
            sure, found = shipped.tuned[mine], (shipped.label == c) & ~shipped.ignored
            # The images of those that count, and of the true ones among them.
            self._tuned = self._image[sure], self._image[sure & matched[:, 0]]
            self._deployed = shipped.image[found], shipped.image[found & shipped.match]

    def tuned(self, keep: Bools) -> Counts:
        """As tuned, of the images to keep; for predictions that are `shipped`."""
        return self._counted(keep, *self._tuned)

    def deployed(self, keep: Bools) -> Counts:
        """As the weights that ship find them, likewise."""
        return self._counted(keep, *self._deployed)

    def _counted(self, keep: Bools, predicted: Ints, true: Ints) -> Counts:
        return int(keep[true].sum()), int(keep[predicted].sum()), int(keep[self._true_image].sum())

    def curves(self, keep: Bools, without: Bools | None = None) -> ClassCurves:
        """As of `RankedPredictions`."""
        support = int(keep[self._true_image].sum())
        kept = keep[self._image]  # (p,)
        if without is not None:
            kept = kept & ~without[self._mine]
        scores = self._score[kept]  # (k,)
        if support == 0 or len(scores) == 0:
            zero, no_ap = np.zeros(len(GRID)), np.zeros(len(IOUS))
            nothing = np.zeros(0), np.zeros(0, dtype=np.int64)
            return ClassCurves(support, 0, 0.0, zero, zero, *nothing, no_ap, froc=0.0, recall_at_p50=None)
        rank = kept.cumsum()  # (p,) among those kept, from 1
        kept_hits, ranks = kept[self._hits], rank[self._hits]  # (h,)
        found = [ranks[true][kept_hits[true]] for true in self._true_at]  # of true positives, at each IoU
        # The curves are interpolated on a grid: only the predictions on either side of its points matter.
        above = np.where(self._above > 0, rank[self._above - 1], 0)  # (1000,) how many of those kept
        near = np.unique(np.concatenate([above - 1, above]).clip(0, len(scores) - 1))  # (m,)
        true = np.searchsorted(found[0], near + 1, side="right")  # (m,) true positives up to there
        around = -scores[near]  # (m,)
        return ClassCurves(
            support,
            len(scores),
            float(scores[0]),
            precision=np.interp(-GRID, around, true / (near + 1), left=1),
            recall=np.interp(-GRID, around, true / (support + EPS), left=0),
            scores=scores,
            true_rank=found[0],
            ap=_average_precisions(found, support),
            froc=_froc(found[0], support),
            recall_at_p50=_recall_at_half_precision(found[0], support),
        )


def _average_precisions(found: list[Ints], support: int) -> Floats:
    """Area under each precision envelope at COCO's 101 recalls; 0 beyond the highest recall reached.

    Args:
        found: Of each IoU, (n,): which predictions are true positives, counted from 1 by descending score.
        support: Number of true objects.
    """
    true = np.arange(1.0, max(map(len, found)) + 1)
    # From one true positive to the next precision falls, then rises above that of every miss between, so the
    # envelope on the way is that of the next.
    passed = np.searchsorted(true / (support + EPS), RECALLS, side="right")  # (101,) true positives
    areas = []
    for rank in found:
        reached = passed[passed < len(rank)]
        highest = np.maximum.reduceat(true[: len(rank)] / rank, reached) if len(reached) else np.zeros(0)
        envelope = np.zeros(len(RECALLS))
        envelope[: len(reached)] = np.maximum.accumulate(highest[::-1])[::-1]  # from each recall on
        areas.append(np.trapezoid(envelope, RECALLS))
    return np.array(areas)


def _froc(rank: Ints, support: int) -> float:
    """Mean recall over the limits of false positives; `rank` is one of `found` above."""

    def found(limit: float) -> int:
        """True positives passed before there are more than `limit` false ones, whose number never falls."""
        return bisect_right(range(len(rank)), limit, key=lambda i: rank[i] - (i + 1))

    return float(np.mean([found(share * support) for share in FALSE_PER_OBJECT])) / support


def _recall_at_half_precision(rank: Ints, support: int) -> float:
    """Highest recall with at least as many true as false; arguments as for `_froc`."""
    enough = np.flatnonzero(2 * np.arange(1, len(rank) + 1) >= rank)
    return (int(enough[-1]) + 1) / support if len(enough) else 0.0


def _rates(true: int, kept: int, support: int) -> tuple[float | None, float]:
    """Precision, None if nothing is kept, and recall."""
    return true / kept if kept else None, true / support


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None

"""Where a detector is used: a threshold per class, fitted on val, and how the weights that ship get there.

Three ways are fitted: one confidence for all classes (that of the untouched metrics); the same on logits
that are lowered by tau times the log prior of the training set, one exponent for all classes (post-hoc logit
adjustment, Menon et al. 2021; for one-stage detectors FRACAL, 2024); and a threshold for each class by
itself. The more a way fits the more it flatters itself, so the one is taken whose decisions are best out of
fold, by mean F1 over the classes: the goal by which the untouched threshold is chosen. Equals go to the
simpler.

A threshold of its own for each class is the same as one confidence for all after a constant has been added to
each class's logit: that constant is folded into the weights, so that whoever uses them gives one `conf`. Pure
NumPy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trainables.contract.predictions import DetectionPredictions
from trainables.evaluation.detection import (
    GRID,
    ClassCurves,
    RankedPredictions,
    best_threshold,
    between_scores,
    smoothed,
)
from trainables.evaluation.matching import Bools, Floats, Ints

FOLDS = 5
TAUS = np.linspace(0, 1, 11)
EDGE = 1e-4  # a threshold nearer to 0 or 1 would need an endless bias

Thresholds = dict[int, float]  # by the id of each class with an object
Curves = Mapping[int, ClassCurves]


@dataclass(frozen=True)
class OperatingPoint:
    """Where a detector is to be used.

    Attributes:
        way: `shared`, `adjusted` or `per class`.
        conf: The confidence that ships.
        bias: (C,) to be added to the class logits, so that `conf` is each class's threshold.
        thresholds: Of each class with an object, on untouched scores.
        tuned: (P,) predictions of val that count, each by what was fitted without its source.
    """

    way: str
    conf: float
    bias: Floats
    thresholds: Thresholds
    tuned: Bools

    def counts(self, predictions: DetectionPredictions) -> Bools:
        """(P,) predictions of another split that count."""
        return _decided(predictions, self.thresholds, np.ones(len(predictions.image), dtype=bool))


def fit_operating_point(predictions: DetectionPredictions, prior: Floats) -> OperatingPoint:
    """Fit on val.

    Args:
        predictions: Of val, untouched.
        prior: (C,) objects of each class in the training set.
    """
    ranked = RankedPredictions(predictions)
    everything = np.ones(len(predictions.image), dtype=bool)
    curves = ranked.curves(everything)
    shared = best_threshold(dict(curves))
    ways: dict[str, Callable[[Curves], Thresholds]] = {
        "shared": _shared,
        "adjusted": lambda of: _adjusted(of, _log_prior(prior)),
        "per class": _per_class,
    }
    fold = folds(predictions)
    decided = {way: _out_of_fold(predictions, ranked, fold, fit) for way, fit in ways.items()}
    decided["shared"] = _decided(predictions, dict.fromkeys(curves, shared), everything)  # as untouched
    way = max(decided, key=lambda name: round(_mean_f1(predictions, decided[name], curves), 9))
    thresholds = dict.fromkeys(curves, shared) if way == "shared" else ways[way](curves)
    conf = float(np.clip(shared, EDGE, 1 - EDGE))
    bias = np.zeros(len(predictions.class_names))
    for c, threshold in thresholds.items() if way != "shared" else ():
        bias[c] = _logit(conf) - _logit(threshold)
    return OperatingPoint(way, shared if way == "shared" else conf, bias, thresholds, decided[way])


def folds(predictions: DetectionPredictions) -> Ints:
    """(N,) fold of each image: sources whole, dealt out by falling number of minority objects."""
    rare = np.isin(predictions.true_class, predictions.minority)
    held = np.bincount(predictions.true_image[rare], minlength=len(predictions.image))
    names, source = np.unique(predictions.source, return_inverse=True)
    order = np.argsort(-np.bincount(source, weights=held), kind="stable")
    of_source = np.empty(len(names), dtype=np.int64)
    of_source[order] = np.arange(len(names)) % FOLDS
    return of_source[source]


def _out_of_fold(
    predictions: DetectionPredictions,
    ranked: RankedPredictions,
    fold: Ints,
    fit: Callable[[Curves], Thresholds],
) -> Bools:
    """(P,) which predictions count, each by thresholds fitted without its fold."""
    decided = np.zeros(len(predictions.pred_image), dtype=bool)
    for k in np.unique(fold):
        decided |= _decided(predictions, fit(ranked.curves(fold != k)), fold == k)
    return decided


def _decided(predictions: DetectionPredictions, thresholds: Thresholds, images: Bools) -> Bools:
    """(P,) predictions in some images that reach their class's threshold; none of a class without one."""
    least = np.full(len(predictions.class_names), np.inf)
    for c, threshold in thresholds.items():
        least[c] = threshold
    return images[predictions.pred_image] & (predictions.pred_score >= least[predictions.pred_class])


def _mean_f1(predictions: DetectionPredictions, decided: Bools, curves: Curves) -> float:
    """Over the classes with an object: 2 tp / (kept + objects)."""
    found = []
    for c, curve in curves.items():
        mine = decided & (predictions.pred_class == c) & ~predictions.pred_ignored
        true = int((mine & predictions.pred_match[:, 0]).sum())
        found.append(2 * true / (int(mine.sum()) + curve.support))
    return float(np.mean(found)) if found else 0.0


def _shared(curves: Curves) -> Thresholds:
    return dict.fromkeys(curves, best_threshold(dict(curves)))


def _per_class(curves: Curves) -> Thresholds:
    return {c: _clipped(best_threshold({c: curve})) for c, curve in curves.items()}


def _adjusted(curves: Curves, log_prior: Floats) -> Thresholds:
    """Of the exponent and confidence with the highest smoothed mean F1, on untouched scores."""
    if not curves:  # without the only source of val
        return {}
    grid = np.clip(GRID, EDGE, 1 - EDGE)
    best, found = -1.0, dict.fromkeys(curves, 0.5)
    for tau in TAUS:
        # Adjusted logits are lower by tau * log prior, so an untouched score must be higher by as much.
        own = {c: _sigmoid(_logit(grid) + tau * log_prior[c]) for c in curves}  # (1000,) each
        mean = np.mean([np.interp(own[c], GRID, curve.f1) for c, curve in curves.items()], axis=0)
        of_tau = smoothed(mean)
        if of_tau.max() > best + 1e-12:
            at = int(of_tau.argmax())
            best = float(of_tau[at])
            found = {c: float(own[c][at]) for c in curves}
    return {c: _clipped(between_scores(found[c], curve.scores)) for c, curve in curves.items()}


def _log_prior(prior: Floats) -> Floats:
    """(C,) centred; a class that is not in the training set gets the mean."""
    logs = np.log(np.where(prior > 0, prior, np.nan))
    return np.asarray(np.nan_to_num(logs - np.nanmean(logs)))


def _clipped(threshold: float) -> float:
    return float(np.clip(threshold, EDGE, 1 - EDGE))


def _logit(p: Floats | float) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p)))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))

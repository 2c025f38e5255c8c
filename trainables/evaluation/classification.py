"""Metrics of a classifier from its logits. Pure NumPy: no files, no torch.

Each image has an evaluation weight. Precision, F1, accuracy, top-2, NLL and ECE use it; a recall is measured
within one class and needs none.
"""

import numpy as np

from trainables.predictions import Bools, ClassificationPredictions, Floats, Ints
from trainables.trial import Metrics

ECE_BINS = 15


def classification_metrics(predictions: ClassificationPredictions) -> Metrics:
    """All metrics of one split.

    A class without an image has recall and F1 None and is left out of every mean; a class that is never
    predicted has precision None and, if it has images, F1 0. `support/*` counts images, unweighted. All other
    values but `nll` lie in [0, 1]; for `nll` and `ece` lower is better.

    Raises:
        ValueError: There is no image.
    """
    if len(predictions.label) == 0:
        raise ValueError(f"no image to measure in split '{predictions.split}'")
    return ClassifiedImages(predictions).metrics(np.ones(len(predictions.label), dtype=bool))


class ClassifiedImages:
    """The images of a split, judged once, so that the metrics of many subsets are cheap."""

    def __init__(self, predictions: ClassificationPredictions) -> None:
        label = predictions.label  # (n,)
        log_p = _log_softmax(predictions.logits.astype(np.float64))  # (n, n_classes)
        top2 = np.argsort(-log_p, axis=1, kind="stable")[:, :2]  # (n, 2)
        self._names: list[str] = predictions.class_names.tolist()
        self._minority = predictions.minority
        self._label = label
        self._weight = np.asarray(predictions.weight, dtype=np.float64)
        self._guess = log_p.argmax(axis=1)
        self._in_top2 = (top2 == label[:, None]).any(axis=1)
        self._true_log_p = log_p[np.arange(len(label)), label]
        self._confidence = np.exp(log_p.max(axis=1))

    def metrics(self, keep: Bools) -> Metrics:
        """As `classification_metrics`, of the images to keep, at least one; `keep` is (n,)."""
        label, weight, guess = self._label[keep], self._weight[keep], self._guess[keep]
        support = np.bincount(label, minlength=len(self._names))  # (n_classes,)
        precision, recall, f1 = _per_class(label, guess, weight, len(self._names))
        held = support > 0
        rare = self._minority[held[self._minority]]
        share = np.bincount(label, weights=weight, minlength=len(self._names))[held]
        total = weight.sum()
        metrics: Metrics = {
            "minority_recall": float(recall[rare].mean()) if len(rare) else None,
            "minority_recall_worst": float(recall[rare].min()) if len(rare) else None,
            "macro_f1": float(f1[held].mean()),
            "balanced_accuracy": float(recall[held].mean()),
            "accuracy": float(weight[guess == label].sum() / total),
            "top2_accuracy": float(weight[self._in_top2[keep]].sum() / total),
            "weighted_f1": float((f1[held] * share).sum() / share.sum()),
            "nll": float(-(weight * self._true_log_p[keep]).sum() / total),
            "ece": _expected_calibration_error(self._confidence[keep], guess == label, weight),
        }
        for kind, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            metrics |= {f"{kind}/{name}": _known(v) for name, v in zip(self._names, values, strict=True)}
        return metrics | {f"support/{name}": float(n) for name, n in zip(self._names, support, strict=True)}


def _per_class(label: Ints, guess: Ints, weight: Floats, n_classes: int) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1, each (n_classes,); NaN where it is not measurable."""
    hit = guess == label
    found = np.bincount(label[hit], weights=weight[hit], minlength=n_classes)
    guessed = np.bincount(guess, weights=weight, minlength=n_classes)
    true = np.bincount(label, weights=weight, minlength=n_classes)
    support = np.bincount(label, minlength=n_classes)
    recalled = np.bincount(label[hit], minlength=n_classes)
    with np.errstate(invalid="ignore"):
        precision = found / guessed
        recall = recalled / support
        f1 = np.where(support > 0, 2 * found / (guessed + true), np.nan)
    return precision, recall, f1


def _expected_calibration_error(confidence: Floats, hit: Bools, weight: Floats) -> float:
    """Guo et al. 2017, eq. 3, over equal-width bins (low, high]."""
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)  # (n,)
    gap = np.bincount(bins, weights=weight * (hit - confidence), minlength=ECE_BINS)
    return float(np.abs(gap).sum() / weight.sum())


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

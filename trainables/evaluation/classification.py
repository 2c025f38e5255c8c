"""Metrics of a classifier from its logits. Pure NumPy: no files, no torch.

Of what is as large as the logits only a part is made at a time, in double precision.

Each image has an evaluation weight. Precision, F1, accuracy, top-2, NLL and calibration errors use it; a
recall is measured within one class and needs none.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from trainables.contract.predictions import Bools, ClassificationPredictions, Floats, Ints
from trainables.contract.trial import Metrics

ECE_BINS = 15
VALUES_AT_ONCE = 2**16  # of a table of images and classes
TUNED = ("minority_recall", "minority_recall_worst", "macro_f1", "balanced_accuracy", "accuracy")


def classification_metrics(predictions: ClassificationPredictions) -> Metrics:
    """All metrics of one split.

    Those of the largest logit, as trained, have plain names; `tuned/...` are those of the decisions `tuned`,
    `calibrated/...` those of the probabilities at each image's temperature; `temperature` is the frozen one.

    A class without an image has recall and F1 None and is left out of every mean but that of `classwise_ece`;
    a class that is never predicted has precision None and, if it has images, F1 0. `support/*` counts images,
    unweighted. All other values but `nll` and `temperature` lie in [0, 1]; for `nll`, `ece` and
    `classwise_ece` lower is better.

    Raises:
        ValueError: There is no image.
    """
    _check_not_empty(predictions)
    return ClassifiedImages(predictions).metrics(np.ones(len(predictions.label), dtype=bool))


def untouched_metrics(predictions: ClassificationPredictions) -> Metrics:
    """Those of `classification_metrics` that tuning after training does not change; raises as it does."""
    _check_not_empty(predictions)
    return ClassifiedImages(predictions).untouched(np.ones(len(predictions.label), dtype=bool))


def confusion_matrix(predictions: ClassificationPredictions, *, tuned: bool = False) -> Floats:
    """Share of the images of each class (rows) that are called each class (columns), (n_classes, n_classes).

    Unweighted, so the diagonal is the recall. The row of a class without an image is NaN. `tuned` counts the
    tuned decisions instead of the largest logits.
    """
    n_classes = len(predictions.class_names)
    guess = predictions.tuned if tuned else predictions.logits.argmax(axis=1)
    pair = predictions.label * n_classes + guess  # (n,)
    counts = np.bincount(pair, minlength=n_classes**2).reshape(n_classes, n_classes)
    with np.errstate(invalid="ignore"):
        shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


class ClassifiedImages:
    """The images of a split, judged once, so that the metrics of many subsets are cheap."""

    def __init__(self, predictions: ClassificationPredictions) -> None:
        self._predictions = predictions
        self._names: list[str] = predictions.class_names.tolist()
        self._minority = predictions.minority
        self._label = predictions.label  # (n,)
        self._weight = np.asarray(predictions.weight, dtype=np.float64)
        self._sureness = _Sureness(predictions.logits, self._label, self._weight)

    @cached_property
    def _calibrated(self) -> "_Sureness":
        of = self._predictions
        return _Sureness(of.logits, self._label, self._weight, of.image_temperature)

    def metrics(self, keep: Bools) -> Metrics:
        """As `classification_metrics`, of the images to keep, at least one; `keep` is (n,)."""
        label, weight = self._label[keep], self._weight[keep]
        tuned = _Decisions(label, self._predictions.tuned[keep], weight, len(self._names)).means(
            self._minority
        )
        return self.untouched(keep) | {
            **{f"tuned/{name}": tuned[name] for name in TUNED},
            "calibrated/nll": self._calibrated.nll(keep),
            "calibrated/ece": self._calibrated.ece(keep),
            "temperature": self._predictions.temperature,
        }

    def untouched(self, keep: Bools) -> Metrics:
        """As `untouched_metrics`, of the images to keep."""
        label, weight = self._label[keep], self._weight[keep]
        decisions = _Decisions(label, self._sureness.guess[keep], weight, len(self._names))
        metrics = decisions.means(self._minority) | {
            "top2_accuracy": float(weight[self._sureness.in_top2[keep]].sum() / weight.sum()),
            "nll": self._sureness.nll(keep),
            "ece": self._sureness.ece(keep),
            "classwise_ece": self._sureness.classwise_ece(keep),
        }
        for kind in ("precision", "recall", "f1"):
            values = getattr(decisions, kind)
            metrics |= {f"{kind}/{name}": _known(v) for name, v in zip(self._names, values, strict=True)}
        support = zip(self._names, decisions.support, strict=True)
        return metrics | {f"support/{name}": float(n) for name, n in support}


class _Decisions:
    """What some images were called.

    Attributes:
        support: (n_classes,) images of each class.
        precision: (n_classes,), NaN where it is not measurable; `recall` and `f1` likewise.
    """

    def __init__(self, label: Ints, guess: Ints, weight: Floats, n_classes: int) -> None:
        hit = guess == label
        found = np.bincount(label[hit], weights=weight[hit], minlength=n_classes)
        guessed = np.bincount(guess, weights=weight, minlength=n_classes)
        self._true = np.bincount(label, weights=weight, minlength=n_classes)
        self.support = np.bincount(label, minlength=n_classes)
        self.accuracy = float(found.sum() / weight.sum())
        with np.errstate(invalid="ignore"):
            self.precision: Floats = found / guessed
            self.recall: Floats = np.bincount(label[hit], minlength=n_classes) / self.support
            self.f1 = np.where(self.support > 0, 2 * found / (guessed + self._true), np.nan)

    def means(self, minority: Ints) -> Metrics:
        """Over the classes with an image, and over the images."""
        held = self.support > 0
        rare = self.recall[minority[held[minority]]]
        return {
            "minority_recall": float(rare.mean()) if len(rare) else None,
            "minority_recall_worst": float(rare.min()) if len(rare) else None,
            "macro_f1": float(self.f1[held].mean()),
            "balanced_accuracy": float(self.recall[held].mean()),
            "accuracy": self.accuracy,
            "weighted_f1": float((self.f1 * self._true)[held].sum() / self._true.sum()),
        }


class _Sureness:
    """What the probabilities of images say, and how well that is so; the terms of each image, to be summed.

    Calibration errors are those of Guo et al. 2017, eq. 3 (of the most probable class), and, classwise, of
    Kull et al. 2019, sec. 2 (of each class, averaged), over 15 equal-width bins (low, high].

    Attributes:
        guess: (n,) the most probable class; of equals the lower id.
        in_top2: (n,) whether the label is it or the next.

    Args:
        logits: (n, n_classes).
        label: (n,).
        weight: (n,).
        temperature: (n,) divides the logits; None for 1.
    """

    def __init__(
        self, logits: Floats, label: Ints, weight: Floats, temperature: Floats | None = None
    ) -> None:
        n = len(label)
        self._logits, self._label, self._weight, self._temperature = logits, label, weight, temperature
        self.guess, self.in_top2 = np.empty(n, dtype=np.int64), np.empty(n, dtype=bool)
        self._loss, confidence, hit = np.empty(n), np.empty(n), np.empty(n, dtype=bool)
        for some in in_parts(logits.shape):
            log_p = self._log_p(some)
            rows, of = np.arange(len(log_p)), label[some]
            p = np.exp(log_p)
            confidence[some], hit[some] = p.max(axis=1), p.argmax(axis=1) == of
            self._loss[some] = -weight[some] * log_p[rows, of]
            self.guess[some] = log_p.argmax(axis=1)
            log_p[rows, self.guess[some]] = -np.inf
            self.in_top2[some] = (self.guess[some] == of) | (log_p.argmax(axis=1) == of)
        self._bin = _bin(confidence)  # (n,)
        self._gap: Floats = weight * (hit - confidence)  # (n,)

    def _log_p(self, which: slice | Ints) -> Floats:
        """Of some images, (k, n_classes)."""
        logits = self._logits[which].astype(np.float64)
        return log_softmax(logits if self._temperature is None else logits / self._temperature[which, None])

    def nll(self, keep: Bools) -> float:
        return float(self._loss[keep].sum() / self._weight[keep].sum())

    def ece(self, keep: Bools) -> float:
        gaps = np.bincount(self._bin[keep], weights=self._gap[keep])
        return float(np.abs(gaps).sum() / self._weight[keep].sum())

    def classwise_ece(self, keep: Bools) -> float:
        gaps: Floats
        if 2 * keep.sum() > len(keep):  # fewer are left out
            gaps = self._all_gaps - self._gaps(np.flatnonzero(~keep))
        else:
            gaps = self._gaps(np.flatnonzero(keep))
        return float(np.abs(gaps).sum() / self._weight[keep].sum() / self._logits.shape[1])

    @cached_property
    def _all_gaps(self) -> Floats:
        return self._gaps(np.arange(len(self._label)))

    def _gaps(self, images: Ints) -> Floats:
        """(n_classes * 15,) by how much what happened surpasses what was said, in the bins of each class."""
        n_classes = self._logits.shape[1]
        gaps = np.zeros(ECE_BINS * n_classes)
        for some in in_parts((len(images), n_classes)):
            part = images[some]
            gap = -np.exp(self._log_p(part))  # (k, n_classes)
            bins = _bin(-gap) + ECE_BINS * np.arange(n_classes)
            gap[np.arange(len(part)), self._label[part]] += 1
            gap *= self._weight[part, None]
            gaps += np.bincount(bins.ravel(), weights=gap.ravel(), minlength=len(gaps))
        return gaps


def _bin(p: Floats) -> Ints:
    """The bin (low, high] of each probability; 0 lies in the first."""
    return np.clip(np.ceil(p * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)


def log_softmax(logits: Floats) -> Floats:
    """Of each row; (n, n_classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def in_parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a table, so few at a time that what is made of them stays small."""
    at_once = max(1, VALUES_AT_ONCE // max(1, shape[1]))
    for first in range(0, shape[0], at_once):
        yield slice(first, first + at_once)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_not_empty(predictions: ClassificationPredictions) -> None:
    if len(predictions.label) == 0:
        raise ValueError(f"no image to measure in split '{predictions.split}'")

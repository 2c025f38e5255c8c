"""Biases of the classes by coordinate ascent, in memory of about the logits'. Pure NumPy.

A step tries every bias of one class that changes a decision. What an image is called otherwise is known from
the two classes that lead in it, so a step costs n log n, whatever the number of classes. Most biases need no
try: the higher one is, the more images of other classes it takes, and by what these lose at least the score
can no longer be above what it is. Only what lies below is sorted, so most of a step's cost is a few passes
over n.
"""

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import Bools, Floats, Ints
from trainables.evaluation.calibration.target import MIN_GAP, Counts, Moves, Target
from trainables.evaluation.classification import in_parts

SWEEPS = 20  # over the classes, at most; it settles within a few
SAME = 1e-12  # scores that differ by less are equal
BINS = 256  # of thresholds, to tell roughly which biases are worth a try


class LogP:
    """Log-probabilities of all images, made where they are asked for: what is kept is a copy of the logits.

    Args:
        logits: (n, n_classes).
    """

    def __init__(self, logits: Floats) -> None:
        self._logits, self._by_class = logits, np.ascontiguousarray(logits.T)
        self._highest = logits.max(axis=1).astype(np.float64)  # (n,)
        self._log_sum = np.empty(len(logits))
        for some in in_parts(logits.shape):
            shifted = logits[some].astype(np.float64) - self._highest[some, None]
            self._log_sum[some] = np.log(np.exp(shifted).sum(axis=1))

    @property
    def n_classes(self) -> int:
        """Columns of the logits."""
        return len(self._by_class)

    def of_class(self, c: int, images: Ints) -> npt.NDArray[np.float64]:
        """(k,) of some images."""
        of = self._by_class[c].astype(np.float64) - self._highest - self._log_sum
        return np.asarray(of[images])

    def of_images(self, images: Ints) -> npt.NDArray[np.float64]:
        """(k, n_classes), of few."""
        of = self._logits[images].astype(np.float64)
        return np.asarray(of - self._highest[images, None] - self._log_sum[images, None])

    def largest(self, images: Ints, bias: Floats) -> Ints:
        """(k,) which class each image is called with these biases."""
        called = np.empty(len(images), dtype=np.int64)
        for some in in_parts((len(images), self.n_classes)):
            called[some] = (self.of_images(images[some]) + bias).argmax(axis=1)
        return called


class Decided:
    """The two classes that lead in each image, kept while biases change; of equals the lower id leads.

    Attributes:
        bias: (n_classes,) so far.
        labels: (n,) class ids of the images that count; `weight` (n,) likewise.
        counts: Of the decisions so far.

    Args:
        log_p: Of all images.
        images: (n,) those that count.
        labels: (n,) their class ids.
        weight: (n,).
    """

    def __init__(self, log_p: LogP, images: Ints, labels: Ints, weight: Floats) -> None:
        self.bias = np.zeros(log_p.n_classes)
        self.labels, self.weight = labels, weight
        self._log_p, self._images = log_p, images
        self._class = np.zeros((2, len(images)), dtype=np.int64)  # first and second
        self._value = np.zeros((2, len(images)))  # their log-probability + bias
        self._look(np.arange(len(images)))
        self.counts = self._counted()

    def _counted(self) -> Counts:
        return Counts.of(self.labels, self._class[0], self.weight, len(self.bias))

    def _look(self, which: Ints) -> None:
        """Find both anew, in some of the images."""
        for some in in_parts((len(which), len(self.bias))):
            part = which[some]
            values = self._log_p.of_images(self._images[part]) + self.bias
            rows = np.arange(len(part))
            for place in range(2):
                best = values.argmax(axis=1)
                self._class[place, part], self._value[place, part] = best, values[rows, best]
                values[rows, best] = -np.inf

    def without(self, c: int) -> tuple[Moves, npt.NDArray[np.float64]]:
        """What each image is called if not c, and by what more bias it would be called c; (n,)."""
        led = np.flatnonzero(self._class[0] == c)
        other, value = self._class[0].copy(), self._value[0].copy()
        other[led], value[led] = self._class[1, led], self._value[1, led]
        none = self.counts.without(c, self.labels[led], other[led], self.weight[led])
        return Moves(c, other, self.labels, self.weight, none), value - self._log_p.of_class(c, self._images)

    def set_bias(self, c: int, bias: float) -> None:
        """Change the bias of one class."""
        self.bias[c] = bias
        led = (self._class == c).any(axis=0)
        value = self._log_p.of_class(c, self._images) + bias
        ahead = ~led & ((value > self._value) | ((value == self._value) & (c < self._class)))  # (2, n)
        first, second = ahead[0], ahead[1] & ~ahead[0]
        self._class[1, first], self._value[1, first] = self._class[0, first], self._value[0, first]
        self._class[0, first], self._value[0, first] = c, value[first]
        self._class[1, second], self._value[1, second] = c, value[second]
        self._look(np.flatnonzero(led))
        self.counts = self._counted()


def ascend(decided: Decided, target: Target) -> npt.NDArray[np.float64]:
    """Biases of a local optimum, (n_classes,), from 0; a class without an image keeps 0."""
    support = decided.counts.images
    classes = [c for c in np.argsort(support, kind="stable").tolist() if support[c]]
    unchanged = 0  # classes since the last change
    for c in SWEEPS * classes:
        bias = _best_of_class(c, decided, target)
        unchanged = unchanged + 1 if bias == decided.bias[c] else 0
        if unchanged == len(classes):
            break
        if not unchanged:
            decided.set_bias(c, bias)
    return decided.bias


def _best_of_class(c: int, decided: Decided, target: Target) -> float:
    """The bias of class `c` with the highest score, given the others; of equals the nearest to its own."""
    moves, threshold = decided.without(c)  # above the threshold an image is called c
    own = float(decided.bias[c])
    tried = worth_trying(moves, threshold, own, target, target.of(decided.counts))
    highest = threshold[~tried].min() if not tried.all() else threshold.max() + 2
    some = np.flatnonzero(tried)
    order = some[np.argsort(threshold[some])]  # equals need no order: no bias lies between them
    threshold = threshold[order]
    scores = target.on_the_way(moves.some(order))  # (k + 1,)
    low, high = np.append(threshold[0] - 2, threshold), np.append(threshold, highest)
    scores[high - low <= MIN_GAP] = -np.inf
    now = np.searchsorted(threshold, own)
    best = scores.max()
    if scores[now] >= best - SAME:
        return own
    middle = ((low + high) / 2)[scores >= best - SAME]
    return float(middle[np.abs(middle - own).argmin()])


def worth_trying(moves: Moves, threshold: Floats, own: float, target: Target, score: float) -> Bools:
    """(n,) the images with the lowest thresholds, beyond which no bias scores above `score`; one at least.

    Those that the class's own bias takes, and the next, are among them. Thresholds are told apart roughly, in
    bins.
    """
    start, change = target.at_most(moves, score)
    lowest = threshold.min()
    width = 2 * (threshold.mean() - lowest) / BINS
    if not (0 < width < np.inf and np.isfinite(start)):
        return np.ones(len(threshold), dtype=bool)
    of_bin = ((threshold - lowest) / width).clip(max=BINS).astype(np.int64)  # (n,)
    after = start + np.bincount(of_bin, weights=change, minlength=BINS + 1).cumsum()  # (BINS + 1,)
    within = np.bincount(of_bin, weights=np.maximum(change, 0), minlength=BINS + 1)
    at_most = np.append(start, after[:-1]) + within
    last = np.flatnonzero(at_most > score + SAME / 2).max(initial=0)
    return np.asarray(of_bin <= max(last, (own - lowest) / width))

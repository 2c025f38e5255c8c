"""Biases by the plain algorithm, for tests: every score is counted anew over all classes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import Floats, Ints
from trainables.contract.trial import Goal
from trainables.evaluation.calibration.ascent import SAME, SWEEPS
from trainables.evaluation.calibration.target import MIN_GAP
from trainables.evaluation.classification import log_softmax


def plain_biases(
    logits: Floats, labels: Ints, weight: Floats, *, goal: Goal, minority: Ints, floor: float
) -> npt.NDArray[np.float64]:
    """(n_classes,) as `calibration.ascent.ascend` finds them."""
    score = partial(_score, goal=goal, minority=minority, floor=floor)
    return _ascend(log_softmax(logits.astype(np.float64)), labels, weight, score)


@dataclass(frozen=True, eq=False)
class _Counts:
    """What a score is made of, for one or many sets of decisions; shapes are (..., n_classes).

    Attributes:
        images: (n_classes,) images of each class, the same for all sets; `true` (n_classes,) their weight.
        found: Weight of the images of each class that are called so; `recalled` their number.
        called: Weight of all images that are called so.
    """

    images: Ints
    true: Floats
    found: Floats
    recalled: Floats
    called: Floats

    @classmethod
    def of(cls, labels: Ints, guess: Ints, weight: Floats, n_classes: int) -> "_Counts":
        """Of one set of decisions."""
        hit = guess == labels

        def weighed(which: Ints, weight: Floats) -> npt.NDArray[np.float64]:
            return np.bincount(which, weights=weight, minlength=n_classes).astype(np.float64)

        return cls(
            images=np.bincount(labels, minlength=n_classes),
            true=weighed(labels, weight),
            found=weighed(labels[hit], weight[hit]),
            recalled=weighed(labels, hit),
            called=weighed(guess, weight),
        )


def _score(counts: _Counts, *, goal: Goal, minority: Ints, floor: float) -> Floats:
    """What is maximised, (...), over the classes with an image; negative below the precision floor."""
    classes = minority if goal == "minority_recall" else np.arange(len(counts.images))
    held = classes[counts.images[classes] > 0]
    if len(held) == 0:
        return np.zeros(counts.found.shape[:-1])
    found, called = counts.found[..., held], counts.called[..., held]
    if goal == "macro_f1":
        return np.asarray((2 * found / (called + counts.true[held])).mean(axis=-1))
    recall = np.asarray((counts.recalled[..., held] / counts.images[held]).mean(axis=-1))
    if goal == "balanced_accuracy":
        return recall
    # Nothing called rare is no imprecision. Running sums of weights may miss 0 by rounding.
    precision = np.where(called > MIN_GAP, found / np.maximum(called, MIN_GAP), 1.0)
    shortfall = floor - precision.min(axis=-1)
    return np.asarray(np.where(shortfall > MIN_GAP, -shortfall, recall))


def _ascend(
    log_p: Floats, labels: Ints, weight: Floats, score: Callable[[_Counts], Floats]
) -> npt.NDArray[np.float64]:
    """Biases of a local optimum of `score`, (n_classes,), from 0; a class without an image keeps 0."""
    support = np.bincount(labels, minlength=log_p.shape[1])
    classes = [c for c in np.argsort(support, kind="stable").tolist() if support[c]]
    bias = np.zeros(log_p.shape[1])
    for _ in range(SWEEPS):
        before = bias.copy()
        for c in classes:
            bias[c] = _best_of_class(c, bias, log_p, labels, weight, score)
        if (bias == before).all():
            break
    return bias


def _best_of_class(
    c: int, bias: Floats, log_p: Floats, labels: Ints, weight: Floats, score: Callable[[_Counts], Floats]
) -> float:
    """The bias of class `c` with the highest score, given the others; of equals the nearest to `bias[c]`."""
    n, n_classes = log_p.shape
    others = log_p + bias
    others[:, c] = -np.inf
    second = others.argmax(axis=1)  # (n,) what each image is called if not c
    threshold = others[np.arange(n), second] - log_p[:, c]  # (n,) above it, it is called c
    order = np.argsort(threshold, kind="stable")
    threshold, second, labels, weight = threshold[order], second[order], labels[order], weight[order]
    none = _Counts.of(labels, second, weight, n_classes)  # nothing is called c
    rows = np.arange(1, n + 1)  # row k: the first k images are called c

    def passing(change_there: Floats, change_here: Floats, start: Floats) -> Floats:
        change = np.zeros((n + 1, n_classes))
        change[0] = start
        change[rows, second] -= change_there
        change[rows, c] += change_here
        return change.cumsum(axis=0)

    lost, won = second == labels, labels == c  # (n,)
    counts = _Counts(
        none.images,
        none.true,
        found=passing(lost * weight, won * weight, none.found),
        recalled=passing(lost, won, none.recalled),
        called=passing(weight, weight, none.called),
    )
    scores = score(counts)  # (n + 1,)
    low, high = np.append(threshold[0] - 2, threshold), np.append(threshold, threshold[-1] + 2)
    scores[high - low <= MIN_GAP] = -np.inf
    now = np.searchsorted(threshold, bias[c])
    best = scores.max()
    if scores[now] >= best - SAME:
        return float(bias[c])
    middle = ((low + high) / 2)[scores >= best - SAME]
    return float(middle[np.abs(middle - bias[c]).argmin()])

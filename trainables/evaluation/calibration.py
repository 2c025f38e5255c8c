"""What may be set after training, from the validation split alone: a temperature, and a bias of each class.

The temperature (Guo et al. 2017) divides the logits, so that probabilities mean what they say; it cannot
change a decision. The biases are added to the logits before the largest is taken, which moves the thresholds
between the classes: what a loss or a sampler does to them can so be told from what was learnt. Both are
fitted on all of val and then frozen. What they are worth *on val* is measured out of fold: each image is
judged by a fit that has not seen its source.

NumPy and a root finder: no files, no torch. It knows nothing of training; a test split's labels never come
here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from trainables.contract.predictions import ClassificationPredictions, Floats, Ints, Strings
from trainables.contract.trial import Goal
from trainables.evaluation.classification import log_softmax

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
FOLDS = 5
FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)  # how far the biases are trusted; 0 leaves the decisions untouched
SWEEPS = 20  # over the classes, at most; it settles within a few
SAME = 1e-12  # scores that differ by less are equal
MIN_GAP = 1e-9  # between two thresholds that a bias can tell apart


def fit_temperature(logits: Floats, labels: Ints, weight: Floats | None = None) -> float:
    """The temperature of the lowest NLL; exact, since the NLL is convex in 1 / T.

    It lies in [0.01, 100]: at the upper end if the logits are no better than chance. Where val cannot tell it
    it is 1: without an image, where no logit differs, and where every image is sure to be right or tied, as
    the NLL then falls for ever as T goes to 0 (which would turn the first mistake on test into a disaster).

    Args:
        logits: (n, n_classes), finite.
        labels: (n,) class ids.
        weight: (n,) positive; None weighs all the same.
    """
    logits = logits.astype(np.float64)
    weight = np.ones(len(labels)) if weight is None else weight
    margin = logits - logits[np.arange(len(labels)), labels][:, None]  # (n, n_classes), 0 at the true class
    if (margin <= 0).all():
        return 1.0

    def slope(log_beta: float) -> float:
        """Derivative of the summed NLL by 1 / T, at 1 / T = exp(log_beta); it never falls."""
        p = np.exp(log_softmax(margin * np.exp(log_beta)))
        return float((weight * (p * margin).sum(axis=1)).sum())

    low, high = -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE)
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))


@dataclass(frozen=True, eq=False)
class Biases:
    """What is added to the logits of each class before the largest is taken.

    Attributes:
        bias: (n_classes,) fitted on all images, times the factor; 0 for a class without an image.
        factor: One of `FACTORS`, that of the best score out of fold.
        held_out: (n,) the decision about each image by biases that were fitted without its fold, times the
            factor that does best for the other images.
    """

    bias: npt.NDArray[np.float64]
    factor: float
    held_out: Ints


def tune_biases(
    logits: Floats,
    labels: Ints,
    *,
    minority: Ints,
    goal: Goal,
    weight: Floats | None = None,
    min_precision: float | None = None,
    source: Strings | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Biases:
    """Per-class biases for the highest `goal`, shrunk to what cross-validation supports.

    Coordinate ascent over the classes, the rarest first; for each class every threshold that changes a
    decision is tried, so a step is exact, and the whole a local optimum. All fits are shrunk by one factor,
    the one whose out-of-fold decisions score best; none that beats untouched decisions leaves them so.

    Args:
        logits: (n, n_classes), finite.
        labels: (n,) class ids.
        minority: (m,) class ids.
        goal: `macro_f1`, `balanced_accuracy` or `minority_recall`, as in
            `evaluation.classification.classification_metrics`.
        weight: (n,) evaluation weight, positive; None weighs all the same.
        min_precision: For `minority_recall`, and needed there: precision that no minority class may fall
            below, in (0, 1]. Where untouched decisions do, precision comes first.
        source: (n,) images of one source stay in one fold; None: each image is its own.
        folds: Number of folds.
        seed: Of the folds.

    Raises:
        ValueError: `minority_recall` without `min_precision`: calling everything rare would win.
    """
    if goal == "minority_recall" and min_precision is None:
        raise ValueError("minority_recall needs min_precision")
    log_p = log_softmax(logits.astype(np.float64))
    weight = np.ones(len(labels)) if weight is None else weight
    fold = _folds(labels, np.arange(len(labels)) if source is None else source, folds, seed)
    score = partial(_score, goal=goal, minority=minority, floor=min_precision or 0.0)

    def scored(guess: Ints, images: npt.NDArray[np.bool_]) -> float:
        counts = _Counts.of(labels[images], guess[images], weight[images], log_p.shape[1])
        return float(score(counts))

    def fitted(images: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return _ascend(log_p[images], labels[images], weight[images], score)

    guesses = np.empty((len(FACTORS), len(labels)), dtype=np.int64)  # out of fold, for each factor
    for k in range(folds):
        bias = fitted(fold != k)
        for row, factor in zip(guesses, FACTORS, strict=True):
            row[fold == k] = (log_p[fold == k] + factor * bias).argmax(axis=1)
    held_out = guesses[0].copy()
    for k in range(folds):
        best = np.argmax([scored(guess, fold != k) for guess in guesses])
        held_out[fold == k] = guesses[best, fold == k]
    everything = np.ones(len(labels), dtype=bool)
    factor = FACTORS[int(np.argmax([scored(guess, everything) for guess in guesses]))]
    return Biases(factor * fitted(everything), factor, held_out)


def tuned_on(
    val: ClassificationPredictions, *, goal: Goal, min_precision: float | None = None
) -> ClassificationPredictions:
    """`val` with the biases and the temperature that its labels give, and its own decisions out of fold.

    Arguments as of `tune_biases`.
    """
    biases = tune_biases(
        val.logits,
        val.label,
        minority=val.minority,
        goal=goal,
        weight=val.weight,
        min_precision=min_precision,
        source=val.source,
    )
    fold = _folds(val.label, val.source, FOLDS, seed=0)
    image_temperature = np.empty(len(val.label))
    for k in range(FOLDS):
        seen = fold != k
        image_temperature[~seen] = fit_temperature(val.logits[seen], val.label[seen], val.weight[seen])
    return replace(
        val,
        bias=biases.bias,
        temperature=fit_temperature(val.logits, val.label, val.weight),
        tuned=biases.held_out,
        image_temperature=image_temperature,
    )


def frozen(
    predictions: ClassificationPredictions, val: ClassificationPredictions
) -> ClassificationPredictions:
    """`predictions` of another split, decided with what `tuned_on` found on `val`; no label is looked at."""
    return replace(
        predictions,
        bias=val.bias,
        temperature=val.temperature,
        tuned=(predictions.logits + val.bias).argmax(axis=1),
        image_temperature=np.full(len(predictions.label), val.temperature),
    )


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


def _folds(labels: Ints, source: npt.NDArray[Any], folds: int, seed: int) -> Ints:
    """The fold of each image, (n,): whole sources, dealt out in the order of the rarest class they hold."""
    rank = np.argsort(np.argsort(np.bincount(labels), kind="stable"))  # of each class, the rarest 0
    _, group = np.unique(source, return_inverse=True)
    n_groups = group.max(initial=-1) + 1
    rarest = np.full(n_groups, len(rank))
    np.minimum.at(rarest, group, rank[labels])
    dealt = np.lexsort((np.random.default_rng(seed).permutation(n_groups), rarest))
    fold = np.empty(n_groups, dtype=np.int64)
    fold[dealt] = np.arange(n_groups) % folds
    return fold[group]

"""What may be set after training, from the validation split alone: a temperature, and a bias of each class.

The temperature (Guo et al. 2017) divides the logits, so that probabilities mean what they say; it cannot
change a decision. The biases are added to the logits before the largest is taken, which moves the thresholds
between the classes: what a loss or a sampler does to them can so be told from what was learnt. Both are
fitted on all of val and then frozen. What they are worth *on val* is measured out of fold: each image is
judged by a fit that has not seen its source.

NumPy and a root finder: no files, no torch. It knows nothing of training; a test split's labels never come
here.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from trainables.contract.predictions import ClassificationPredictions, Floats, Ints, Strings
from trainables.contract.trial import Goal
from trainables.evaluation.calibration.ascent import Decided, LogP, ascend
from trainables.evaluation.calibration.target import Counts, Target
from trainables.evaluation.classification import in_parts

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
FOLDS = 5
FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)  # how far the biases are trusted; 0 leaves the decisions untouched


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
    weight = np.ones(len(labels)) if weight is None else weight
    own = logits[np.arange(len(labels)), labels]  # (n,)
    if (logits.max(axis=1, initial=-np.inf) <= own).all():
        return 1.0

    def slope(log_beta: float) -> float:
        """Derivative of the summed NLL by 1 / T, at 1 / T = exp(log_beta); it never falls."""
        of_image = np.empty(len(labels))
        for some in in_parts(logits.shape):
            margin = logits[some].astype(np.float64) - own[some, None].astype(np.float64)
            scaled = margin * np.exp(log_beta)
            p = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            of_image[some] = (p * margin).sum(axis=1) / p.sum(axis=1)
        return float((weight * of_image).sum())

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
    decision is tried, so a step is exact but for logits that tie, and the whole a local optimum. All fits are
    shrunk by one factor, the one whose out-of-fold decisions score best; none that beats untouched decisions
    leaves them so.

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
    log_p = LogP(logits)
    weight = np.ones(len(labels)) if weight is None else weight
    fold = _folds(labels, np.arange(len(labels)) if source is None else source, folds, seed)
    target = Target(goal, minority, min_precision or 0.0)

    def scored(guess: Ints, images: npt.NDArray[np.bool_]) -> float:
        return target.of(Counts.of(labels[images], guess[images], weight[images], logits.shape[1]))

    def fitted(images: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        which = np.flatnonzero(images)
        return ascend(Decided(log_p, which, labels[which], weight[which]), target)

    guesses = np.empty((len(FACTORS), len(labels)), dtype=np.int64)  # out of fold, for each factor
    for k in range(folds):
        bias = fitted(fold != k)
        for row, factor in zip(guesses, FACTORS, strict=True):
            row[fold == k] = log_p.largest(np.flatnonzero(fold == k), factor * bias)
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
    tuned = np.empty(len(predictions.label), dtype=np.int64)
    for some in in_parts(predictions.logits.shape):
        tuned[some] = (predictions.logits[some] + val.bias).argmax(axis=1)
    return replace(
        predictions,
        bias=val.bias,
        temperature=val.temperature,
        tuned=tuned,
        image_temperature=np.full(len(predictions.label), val.temperature),
    )


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

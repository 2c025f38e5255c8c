import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as oracle

from trainables.contract.predictions import ClassificationPredictions, restricted
from trainables.evaluation.classification import (
    VALUES_AT_ONCE,
    ClassifiedImages,
    classification_metrics,
    confusion_matrix,
    untouched_metrics,
)


def predicted(
    label: list[int] | np.ndarray,
    logits: np.ndarray,
    weight: np.ndarray | None = None,
    minority: tuple[int, ...] = (0,),
) -> ClassificationPredictions:
    n, n_classes = logits.shape
    ids = np.array([f"image_{i}" for i in range(n)])
    return ClassificationPredictions.untouched(
        split="val",
        class_names=np.array([f"c{i}" for i in range(n_classes)]),
        minority=np.array(minority),
        image=ids,
        source=ids,
        label=np.asarray(label, dtype=np.int64),
        logits=np.asarray(logits, dtype=np.float32),
        weight=np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64),
    )


def guessing(
    label: list[int], guess: list[int], n_classes: int = 3, **kwargs: object
) -> ClassificationPredictions:
    return predicted(label, 5.0 * np.eye(n_classes)[guess], **kwargs)  # type: ignore[arg-type]


@st.composite
def splits(draw: st.DrawFn) -> ClassificationPredictions:
    """Splits of any shape, also with absent and never predicted classes."""
    n, n_classes = draw(st.integers(1, 40)), draw(st.integers(3, 6))
    weighted = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    held = rng.permutation(n_classes)[: draw(st.integers(1, n_classes))]
    label = rng.choice(held, n)
    logits = rng.normal(0, 2, (n, n_classes)) + 2 * np.eye(n_classes)[label]
    logits[:, rng.permutation(n_classes)[: draw(st.integers(0, n_classes - 2))]] -= 50
    minority = tuple(rng.permutation(n_classes)[: draw(st.integers(1, n_classes))].tolist())
    return replace(
        predicted(label, logits, rng.uniform(0.1, 3, n) if weighted else None, minority),
        tuned=rng.integers(0, n_classes, n),
        image_temperature=rng.uniform(0.5, 3, n),
    )


def probabilities(split: ClassificationPredictions, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    return softmax(split.logits.astype(np.float64) / np.reshape(temperature, (-1, 1)), axis=1)


def calibration_error(p: np.ndarray, happened: np.ndarray, weight: np.ndarray) -> float:
    """Of probabilities and what happened, both (n,), bin by bin, with gaps of averages."""
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p > low) & (p <= low + 1 / 15) if low else p <= 1 / 15
        if inside.any():
            w = weight[inside]
            gap = np.average(happened[inside], weights=w) - np.average(p[inside], weights=w)
            error += abs(gap) * w.sum() / weight.sum()
    return error


def close(value: float | None) -> object:
    return pytest.approx(value, abs=1e-9)


@given(splits())
def test_metrics_equal_scikit_learns_with_sample_weights(split: ClassificationPredictions) -> None:
    """A class without an image is left out by `labels=held`; its oracle is not `f1_score`'s default."""
    ours = classification_metrics(split)
    label, weight = split.label, split.weight
    guess = split.logits.argmax(axis=1)
    classes = np.arange(len(split.class_names))
    support = np.bincount(label, minlength=len(classes))
    held = classes[support > 0]
    scored = {"labels": held, "zero_division": 0.0}
    for prefix, called in (("", guess), ("tuned/", split.tuned)):
        assert ours[f"{prefix}accuracy"] == close(oracle.accuracy_score(label, called, sample_weight=weight))
        assert ours[f"{prefix}macro_f1"] == close(
            oracle.f1_score(label, called, average="macro", sample_weight=weight, **scored)
        )
        assert ours[f"{prefix}balanced_accuracy"] == close(
            oracle.recall_score(label, called, average="macro", **scored)
        )
        rare = [c for c in split.minority if c in held]
        recalls = oracle.recall_score(label, called, labels=rare, average=None) if rare else None
        assert ours[f"{prefix}minority_recall"] == (None if recalls is None else close(recalls.mean()))
        assert ours[f"{prefix}minority_recall_worst"] == (None if recalls is None else close(recalls.min()))
    top2 = oracle.top_k_accuracy_score(label, split.logits, k=2, labels=classes, sample_weight=weight)
    assert ours["top2_accuracy"] == close(top2)
    assert ours["weighted_f1"] == close(
        oracle.f1_score(label, guess, average="weighted", sample_weight=weight, **scored)
    )
    for class_id in classes:
        name = split.class_names[class_id]
        assert ours[f"support/{name}"] == support[class_id]
        one = {"labels": [class_id], "average": "macro", "zero_division": np.nan}
        precision = oracle.precision_score(label, guess, sample_weight=weight, **one)
        assert ours[f"precision/{name}"] == (close(precision) if class_id in guess else None)
        recall = oracle.recall_score(label, guess, **one)
        assert ours[f"recall/{name}"] == (close(recall) if support[class_id] else None)
        f1 = oracle.f1_score(label, guess, sample_weight=weight, **one)
        assert ours[f"f1/{name}"] == (close(f1) if support[class_id] else None)


@given(splits())
def test_balanced_accuracy_is_scikit_learns_own_function(split: ClassificationPredictions) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # on classes called, but absent
        expected = oracle.balanced_accuracy_score(split.label, split.logits.argmax(axis=1))
    assert classification_metrics(split)["balanced_accuracy"] == close(expected)


@given(splits())
def test_nll_equals_scikit_learns_and_calibration_errors_their_definition(
    split: ClassificationPredictions,
) -> None:
    ours = classification_metrics(split)
    classes = np.arange(len(split.class_names))
    for prefix, temperature in (("", 1.0), ("calibrated/", split.image_temperature)):
        p = probabilities(split, temperature)
        # The probabilities are clipped in scikit-learn, so that oracle holds only where none is near 0.
        if p[np.arange(len(p)), split.label].min() > 1e-12:
            nll = oracle.log_loss(split.label, p, labels=classes, sample_weight=split.weight)
            assert ours[f"{prefix}nll"] == close(nll)
        hit = p.argmax(axis=1) == split.label
        assert ours[f"{prefix}ece"] == close(calibration_error(p.max(axis=1), hit, split.weight))
    p = probabilities(split)
    classwise = [calibration_error(p[:, c], split.label == c, split.weight) for c in classes]
    assert ours["classwise_ece"] == close(np.mean(classwise))


def test_the_calibration_errors_of_four_images_by_hand() -> None:
    # Two classes; class 0 has probability .8, .8, .6, .4, and is true in the first and the last.
    p = np.array([0.8, 0.8, 0.6, 0.4])
    ours = classification_metrics(predicted([0, 1, 1, 0], np.log(np.column_stack([p, 1 - p]))))
    # By confidence .8 (one of two right) and .6 (none of two right): |1 - 1.6| + |0 - 1.2|, over 4.
    assert ours["ece"] == pytest.approx(0.45, abs=1e-6)
    # Of class 0 by .8, .6 and .4: |1 - 1.6| + .6 + .6, over 4; of class 1 the same by symmetry.
    assert ours["classwise_ece"] == pytest.approx(0.45, abs=1e-6)


def test_the_classwise_error_also_sees_what_the_most_probable_class_hides() -> None:
    # Always .5 / .3 / .2, and half of the images are of class 0: it is sound, and 1 and 2 are mistaken.
    logits = np.tile(np.log([0.5, 0.3, 0.2]), (4, 1))
    ours = classification_metrics(predicted([0, 0, 2, 2], logits))
    assert ours["ece"] == pytest.approx(0, abs=1e-6)
    assert ours["classwise_ece"] == pytest.approx((0 + 0.3 + 0.3) / 3, abs=1e-6)


@given(splits())
def test_the_confusion_matrix_is_scikit_learns_and_its_diagonal_the_recall(
    split: ClassificationPredictions,
) -> None:
    classes = np.arange(len(split.class_names))
    ours = confusion_matrix(split)
    held = np.isin(classes, split.label)
    expected = oracle.confusion_matrix(
        split.label, split.logits.argmax(axis=1), labels=classes, normalize="true"
    )
    np.testing.assert_allclose(ours[held], expected[held], atol=1e-12)
    assert np.isnan(ours[~held]).all()
    metrics = classification_metrics(split)
    for c in classes[held]:
        assert ours[c, c] == close(metrics[f"recall/c{c}"])
    tuned = oracle.confusion_matrix(split.label, split.tuned, labels=classes, normalize="true")
    np.testing.assert_allclose(confusion_matrix(split, tuned=True)[held], tuned[held], atol=1e-12)


@given(splits())
def test_without_tuning_the_tuned_and_calibrated_metrics_are_the_untouched_ones(
    split: ClassificationPredictions,
) -> None:
    plain = predicted(split.label, split.logits, split.weight, tuple(split.minority))
    metrics = classification_metrics(plain)
    after = {name: value for name, value in metrics.items() if name.startswith(("tuned/", "calibrated/"))}
    assert len(after) == 7
    assert after == {name: metrics[name.split("/")[1]] for name in after}
    assert metrics["temperature"] == 1
    assert untouched_metrics(plain).items() == metrics.items() - after.items() - {("temperature", 1.0)}


@given(splits())
def test_what_is_untouched_does_not_move_with_the_tuning(split: ClassificationPredictions) -> None:
    plain = predicted(split.label, split.logits, split.weight, tuple(split.minority))
    assert untouched_metrics(split) == untouched_metrics(plain)


def test_minority_recall_is_the_mean_over_minority_classes_and_worst_their_minimum() -> None:
    split = guessing([0, 0, 1, 1, 2, 2], [0, 2, 1, 1, 2, 2], minority=(0, 1))
    ours = classification_metrics(split)
    assert (ours["minority_recall"], ours["minority_recall_worst"]) == (0.75, 0.5)


def test_a_minority_class_absent_from_the_split_is_left_out_of_the_mean() -> None:
    ours = classification_metrics(guessing([0, 0, 2], [0, 1, 2], minority=(0, 1)))
    assert ours["minority_recall"] == 0.5
    assert ours["recall/c1"] is None
    assert ours["f1/c1"] is None
    assert ours["precision/c1"] == 0  # it was predicted, wrongly


def test_no_minority_image_at_all_is_not_measurable() -> None:
    ours = classification_metrics(guessing([2, 2], [2, 2], minority=(0, 1)))
    assert ours["minority_recall"] is None
    assert ours["minority_recall_worst"] is None


def test_a_class_never_predicted_has_no_precision_and_f1_zero() -> None:
    ours = classification_metrics(guessing([0, 1], [1, 1], n_classes=3))
    assert ours["precision/c0"] is None
    assert ours["f1/c0"] == 0


def test_weights_move_precision_and_accuracy_but_no_recall() -> None:
    # The last image, a common one taken for the rare class, stands for nine.
    label, guess = [0, 0, 1, 1], [0, 1, 1, 0]
    weighted = classification_metrics(guessing(label, guess, weight=np.array([1.0, 1, 1, 9])))
    plain = classification_metrics(guessing(label, guess))
    assert (plain["precision/c0"], weighted["precision/c0"]) == (0.5, 0.1)
    assert (plain["accuracy"], weighted["accuracy"]) == (0.5, pytest.approx(2 / 12))
    assert plain["recall/c1"] == weighted["recall/c1"] == 0.5


@given(splits(), st.floats(0.01, 100))
def test_only_the_ratio_of_weights_matters(split: ClassificationPredictions, factor: float) -> None:
    scaled = replace(split, weight=split.weight * factor)
    ours, theirs = classification_metrics(split), classification_metrics(scaled)
    assert ours == {name: value if value is None else close(value) for name, value in theirs.items()}


@given(splits(), st.floats(0, 1))
def test_of_some_images_they_are_those_of_a_split_of_these_alone(
    split: ClassificationPredictions, share: float
) -> None:
    keep = np.random.default_rng(0).random(len(split.label)) < share
    keep[0] = True
    images = ClassifiedImages(split)
    images.metrics(np.ones(len(keep), dtype=bool))  # what was measured before changes nothing
    ours, alone = images.metrics(keep), classification_metrics(restricted(split, keep))
    assert ours == {name: value if value is None else close(value) for name, value in alone.items()}


def test_of_many_classes_no_table_as_large_as_the_logits_is_made() -> None:
    n, n_classes = 2000, 400
    rng = np.random.default_rng(0)
    split = predicted(rng.integers(0, n_classes, n), rng.normal(size=(n, n_classes)).astype(np.float32))
    tracemalloc.start()
    classification_metrics(split)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 8 * VALUES_AT_ONCE  # of a part of the logits
    assert 8 * n * n_classes > 8 * 8 * VALUES_AT_ONCE


def test_large_logits_stay_finite() -> None:
    ours = classification_metrics(predicted([0, 1], np.array([[1e4, -1e4], [1e4, -1e4]])))
    assert ours["nll"] == pytest.approx(1e4)
    assert ours["ece"] == pytest.approx(0.5)


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image to measure in split 'val'"):
        classification_metrics(predicted([], np.zeros((0, 2))))

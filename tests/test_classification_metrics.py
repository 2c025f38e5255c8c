import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from trainables.evaluation.classification import classification_metrics
from trainables.predictions import ClassificationPredictions


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
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    held = rng.permutation(n_classes)[: draw(st.integers(1, n_classes))]
    label = rng.choice(held, n)
    logits = rng.normal(0, 2, (n, n_classes)) + 2 * np.eye(n_classes)[label]
    logits[:, rng.permutation(n_classes)[: draw(st.integers(0, n_classes - 2))]] -= 50
    minority = tuple(rng.permutation(n_classes)[: draw(st.integers(1, n_classes))].tolist())
    return predicted(label, logits, rng.uniform(0.1, 3, n), minority)


def close(value: float | None) -> object:
    return pytest.approx(value, abs=1e-9)


@given(splits())
def test_metrics_equal_scikit_learns_with_sample_weights(split: ClassificationPredictions) -> None:
    ours = classification_metrics(split)
    label, weight = split.label, split.weight
    guess = split.logits.argmax(axis=1)
    classes = np.arange(len(split.class_names))
    support = np.bincount(label, minlength=len(classes))
    held = classes[support > 0]
    assert ours["accuracy"] == close(oracle.accuracy_score(label, guess, sample_weight=weight))
    top2 = oracle.top_k_accuracy_score(label, split.logits, k=2, labels=classes, sample_weight=weight)
    assert ours["top2_accuracy"] == close(top2)
    scored = {"labels": held, "zero_division": 0.0}
    assert ours["macro_f1"] == close(
        oracle.f1_score(label, guess, average="macro", sample_weight=weight, **scored)
    )
    assert ours["weighted_f1"] == close(
        oracle.f1_score(label, guess, average="weighted", sample_weight=weight, **scored)
    )
    assert ours["balanced_accuracy"] == close(oracle.recall_score(label, guess, average="macro", **scored))
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
def test_nll_equals_scikit_learns_and_ece_its_definition(split: ClassificationPredictions) -> None:
    ours = classification_metrics(split)
    exp = np.exp(split.logits.astype(np.float64))
    p = exp / exp.sum(axis=1, keepdims=True)
    true_p = p[np.arange(len(p)), split.label]
    # The probabilities are clipped in scikit-learn, so that oracle holds only where none is near 0.
    if true_p.min() > 1e-12:
        classes = np.arange(p.shape[1])
        assert ours["nll"] == close(
            oracle.log_loss(split.label, p, labels=classes, sample_weight=split.weight)
        )
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == split.label
    ece = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            w = split.weight[inside]
            gap = np.average(hit[inside], weights=w) - np.average(confidence[inside], weights=w)
            ece += abs(gap) * w.sum() / split.weight.sum()
    assert ours["ece"] == close(ece)


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
    scaled = predicted(split.label, split.logits, split.weight * factor, tuple(split.minority))
    ours, theirs = classification_metrics(split), classification_metrics(scaled)
    assert ours == {name: value if value is None else close(value) for name, value in theirs.items()}


def test_large_logits_stay_finite() -> None:
    ours = classification_metrics(predicted([0, 1], np.array([[1e4, -1e4], [1e4, -1e4]])))
    assert ours["nll"] == pytest.approx(1e4)
    assert ours["ece"] == pytest.approx(0.5)


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image to measure in split 'val'"):
        classification_metrics(predicted([], np.zeros((0, 2))))

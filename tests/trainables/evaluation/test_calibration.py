import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_biases import plain_biases
from pydantic import ValidationError
from scipy.special import log_softmax, softmax
from sklearn import metrics as oracle
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from trainables.contract.predictions import ClassificationPredictions
from trainables.contract.trial import Goal, TrainSpec
from trainables.evaluation.calibration.ascent import VALUES_AT_ONCE, Decided, LogP, ascend
from trainables.evaluation.calibration.fitting import FACTORS, fit_temperature, frozen, tune_biases, tuned_on
from trainables.evaluation.calibration.target import Target
from trainables.evaluation.classification import classification_metrics

Array = npt.NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
GOALS: tuple[Goal, ...] = ("macro_f1", "balanced_accuracy", "minority_recall")


def drawn(
    seed: int, images: tuple[int, ...], *, shift: float = 0.0, sharpness: float = 1.0
) -> tuple[Array, Array]:
    """Labels, and logits that are the true log-likelihoods but for what is done to them.

    Args:
        seed: Of the draw.
        images: Of each class.
        shift: Added to the logit of class 0: what training on another prevalence does.
        sharpness: Factor of the logits: above 1 they are overconfident.
    """
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(images)), images)
    seen = rng.normal(size=(len(label), len(images))) + 2.2 * np.eye(len(images))[label]
    return label, sharpness * (2.2 * seen + shift * np.eye(len(images))[0])


def split(label: Array, logits: Array, **changed: Any) -> ClassificationPredictions:
    n = len(label)
    given_: dict[str, Any] = {
        "split": "val",
        "class_names": np.array([f"c{i}" for i in range(logits.shape[1])]),
        "minority": np.array([0]),
        "image": np.array([f"i{i:04}" for i in range(n)]),
        "source": np.array([f"i{i:04}" for i in range(n)]),
        "label": label,
        "logits": logits.astype(np.float32),
        "weight": np.ones(n),
    }
    return ClassificationPredictions.untouched(**given_ | changed)


class GivenLogits(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Its input is its decision function, so that only scikit-learn's calibration is at work."""

    def fit(self, logits: Array, label: Array, sample_weight: Array | None = None) -> "GivenLogits":
        self.classes_ = np.unique(label)
        return self

    def predict(self, logits: Array) -> Array:
        return np.asarray(logits.argmax(axis=1))

    def decision_function(self, logits: Array) -> Array:
        return logits


def scikit_learns_temperature(logits: Array, label: Array, weight: Array) -> float:
    both = CalibratedClassifierCV(GivenLogits(), method="temperature", ensemble=False, cv=2)
    fitted = both.fit(logits, label, sample_weight=weight)
    return float(1 / fitted.calibrated_classifiers_[0].calibrators[0].beta_)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 2.885, 10.0])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_temperature_is_scikit_learns(sharpness: float, seed: int, weighted: bool) -> None:
    label, logits = drawn(seed, (40, 90, 60, 15), sharpness=sharpness)
    weight = np.random.default_rng(seed).uniform(0.1, 3, len(label)) if weighted else np.ones(len(label))
    expected = scikit_learns_temperature(logits, label, weight)
    ours = fit_temperature(logits, label, weight if weighted else None)
    assert ours == pytest.approx(expected, rel=1e-6)


def test_an_overconfidence_of_2_885_is_found_to_the_last_digit() -> None:
    # Each image stands there with every label, weighted by its true probability: no chance is left.
    true = np.random.default_rng(0).normal(0, 2, (50, 3))
    label, logits = np.tile(np.arange(3), 50), np.repeat(2.885 * true, 3, axis=0)
    assert fit_temperature(logits, label, softmax(true, axis=1).ravel()) == pytest.approx(2.885, abs=1e-9)


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        pytest.param([[3, 0], [0, 3]], [0, 1], 1, id="all right: the lower the better, so val cannot tell"),
        pytest.param([[2, 2], [2, 2]], [0, 1], 1, id="constant logits: no temperature changes anything"),
        pytest.param([[3, 0], [1, 1]], [0, 1], 1, id="right or tied"),
        pytest.param(np.zeros((0, 2)), [], 1, id="no image"),
        pytest.param([[3, 0], [0, 3]], [1, 0], 100, id="all wrong: as flat as it may be"),
        pytest.param(
            [[1e-3, 0]] * 9 + [[-1e-3, 0]], [0] * 10, 0.01, id="far too flat: as sharp as it may be"
        ),
        pytest.param(
            [[1.0, 0]] * 3 + [[-1.0, 0]], [0] * 4, 1 / np.log(3), id="three of four right at odds of 3"
        ),
    ],
)
def test_the_temperature_of_a_hard_case(logits: Any, label: list[int], expected: float) -> None:
    found = fit_temperature(np.asarray(logits, dtype=float), np.array(label, dtype=int))
    assert found == pytest.approx(expected, rel=1e-9)


@given(SEEDS, st.floats(0.2, 5))
def test_the_temperature_scales_with_the_logits_and_ignores_a_shift_of_each_image(
    seed: int, factor: float
) -> None:
    label, logits = drawn(seed, (8, 20, 20), sharpness=2)
    assume((logits.argmax(axis=1) != label).any())  # else val cannot tell
    shift = np.random.default_rng(seed).normal(0, 5, (len(label), 1))
    found = fit_temperature(factor * logits + shift, label)
    assert found == pytest.approx(np.clip(factor * fit_temperature(logits, label), 0.01, 100), rel=1e-6)


def oracle_score(goal: Goal, label: Array, guess: Array, weight: Array, floor: float) -> float:
    """By scikit-learn, of class 0 as the minority; below the floor, what is missing of it."""
    if goal == "macro_f1":
        return float(oracle.f1_score(label, guess, average="macro", sample_weight=weight, zero_division=0.0))
    if goal == "balanced_accuracy":
        return float(oracle.balanced_accuracy_score(label, guess))
    precision = oracle.precision_score(label, guess, pos_label=0, sample_weight=weight, zero_division=1.0)
    recall = float(oracle.recall_score(label, guess, pos_label=0))
    return recall if precision >= floor - 1e-9 else float(precision - floor)


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("seed", range(2))
def test_of_two_classes_the_best_of_all_thresholds_is_found(goal: Goal, seed: int) -> None:
    label, logits = drawn(seed, (30, 70), shift=-3)
    weight = np.random.default_rng(seed).uniform(0.2, 2, len(label))
    # Three of each image, so that cross-validation trusts what is best here.
    label, logits, weight = (np.repeat(array, 3, axis=0) for array in (label, logits, weight))
    found = tune_biases(logits, label, minority=np.array([0]), goal=goal, weight=weight, min_precision=0.7)
    assert found.factor > 0

    def score(bias: Array) -> float:
        return oracle_score(goal, label, (logits + bias).argmax(axis=1), weight, 0.7)

    edges = np.unique(logits[:, 1] - logits[:, 0])
    every = [score(np.array([bias, 0.0])) for bias in (edges[1:] + edges[:-1]) / 2]
    assert score(found.bias / found.factor) == pytest.approx(max(every), abs=1e-9)
    assert max(every) > score(np.zeros(2))


@settings(max_examples=15)
@given(SEEDS, st.sampled_from(GOALS))
def test_no_single_bias_of_four_can_do_better(seed: int, goal: Goal) -> None:
    label, logits = drawn(seed, (9, 30, 20, 40), shift=-2)
    found = tune_biases(logits, label, minority=np.array([0]), goal=goal, min_precision=0.01)
    bias = found.bias / found.factor if found.factor else np.zeros(4)
    tuned = {"minority_recall": "tuned/minority_recall"}.get(goal, f"tuned/{goal}")

    def score(bias: Array) -> float:
        decided = replace(split(label, logits), tuned=(logits + bias).argmax(axis=1))
        return classification_metrics(decided)[tuned] or 0.0

    reached = score(bias)
    if found.factor:
        for c in range(4):
            for change in (-3.0, -0.7, -0.1, 0.1, 0.7, 3.0):
                assert score(bias + change * np.eye(4)[c]) <= reached + 1e-9


def test_what_training_on_another_prevalence_did_is_undone() -> None:
    label, logits = drawn(0, (600, 600, 600), shift=-2)
    found = tune_biases(logits, label, minority=np.array([0]), goal="balanced_accuracy")
    assert found.bias[0] - found.bias[1:] == pytest.approx([2, 2], abs=0.5)
    fresh, fresh_logits = drawn(1, (600, 600, 600), shift=-2)
    before, after = (
        oracle.balanced_accuracy_score(fresh, (fresh_logits + bias).argmax(axis=1))
        for bias in (0, found.bias)
    )
    assert after > before + 0.02


def gains_on_small_vals(shift: float) -> dict[str, float]:
    """Mean change of macro-F1 over 25 validation splits of 60 images; `fresh` are 3,000 others."""
    fresh, fresh_logits = drawn(999, (750,) * 4, shift=shift)
    rows = []
    for seed in range(25):
        label, logits = drawn(seed, (15,) * 4, shift=shift)
        found = tune_biases(logits, label, minority=np.array([0]), goal="macro_f1")

        def gain(label: Array, logits: Array, guess: Array) -> float:
            plain = logits.argmax(axis=1)
            one, other = (oracle.f1_score(label, called, average="macro") for called in (guess, plain))
            return float(one - other)

        rows.append(
            {
                "fresh": gain(fresh, fresh_logits, (fresh_logits + found.bias).argmax(axis=1)),
                "held out": gain(label, logits, found.held_out),
                "in sample": gain(label, logits, (logits + found.bias).argmax(axis=1)),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def test_where_nothing_can_be_gained_small_vals_do_little_harm_and_out_of_fold_claims_no_gain() -> None:
    gains = gains_on_small_vals(0.0)
    assert -0.006 < gains["fresh"] < 0
    assert gains["held out"] < 0.002
    assert gains["in sample"] > gains["held out"] + 0.01


def test_where_there_is_a_gain_small_vals_find_it_and_out_of_fold_does_not_flatter() -> None:
    gains = gains_on_small_vals(-2.0)
    assert gains["fresh"] > 0.012
    assert abs(gains["held out"] - gains["fresh"]) < 0.01
    assert gains["in sample"] > gains["fresh"] + 0.02  # what would be reported without the folds


def test_a_class_without_an_image_keeps_bias_0_and_what_is_called_so_can_be_called_otherwise() -> None:
    label, logits = drawn(0, (20, 60, 60), shift=-2)
    wide = np.column_stack([logits, logits.max(axis=1) - 0.3, logits[:, 0] + 0.1])  # classes 3, 4: none is so
    found = tune_biases(wide, label, minority=np.array([0, 3]), goal="macro_f1")
    assert found.factor > 0
    assert found.bias[[3, 4]].tolist() == [0, 0]
    assert (found.held_out == 4).sum() < (wide.argmax(axis=1) == 4).sum()


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(
    ("label", "source"),
    [
        pytest.param([0, 1, 0, 1], ["s", "s", "s", "s"], id="one source, so nothing can be held out"),
        pytest.param([2], None, id="one image"),
    ],
)
def test_a_val_that_cannot_tell_leaves_decisions_untouched(
    goal: Goal, label: list[int], source: list[str] | None
) -> None:
    logits = np.random.default_rng(0).normal(size=(len(label), 3))
    found = tune_biases(
        logits,
        np.array(label),
        minority=np.array([0]),
        goal=goal,
        min_precision=0.5,
        source=None if source is None else np.array(source),
    )
    assert (found.factor, found.bias.tolist()) == (0, [0, 0, 0])
    assert (found.held_out == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("goal", GOALS)
def test_a_val_of_one_class_alone_is_no_error_and_the_others_keep_bias_0(goal: Goal) -> None:
    label, logits = drawn(0, (0, 20, 0))
    found = tune_biases(logits, label, minority=np.array([0]), goal=goal, min_precision=0.5)
    assert found.bias[[0, 2]].tolist() == [0, 0]


@pytest.mark.parametrize("goal", GOALS)
def test_perfect_decisions_are_left_alone(goal: Goal) -> None:
    label = np.repeat([0, 1, 2], 10)
    found = tune_biases(3.0 * np.eye(3)[label], label, minority=np.array([0]), goal=goal, min_precision=0.5)
    assert (found.factor, found.bias.tolist()) == (0, [0, 0, 0])


@pytest.mark.parametrize("floor", [0.3, 0.6, 0.9])
def test_the_rare_class_is_called_as_often_as_its_precision_allows(floor: float) -> None:
    label, logits = drawn(0, (200, 600, 600), shift=-3)
    rare = np.array([0])
    found = tune_biases(logits, label, minority=rare, goal="minority_recall", min_precision=floor)
    fresh, fresh_logits = drawn(1, (200, 600, 600), shift=-3)
    guess = (fresh_logits + found.bias).argmax(axis=1)
    precision = oracle.precision_score(fresh == 0, guess == 0)
    assert precision == pytest.approx(floor, abs=0.1)
    plain = fresh_logits.argmax(axis=1)
    assert oracle.recall_score(fresh == 0, guess == 0) > oracle.recall_score(fresh == 0, plain == 0) + 0.1


def test_without_a_floor_minority_recall_cannot_be_a_goal() -> None:
    label, logits = drawn(0, (5, 5))
    with pytest.raises(ValueError, match="minority_recall needs min_precision"):
        tune_biases(logits, label, minority=np.array([0]), goal="minority_recall")


def test_a_floor_for_another_goal_is_refused() -> None:
    train = {"model": "small_cnn", "steps": 10, "eval_every": 5, "tune_min_precision": 0.3}
    assert TrainSpec.model_validate(train | {"tune": "minority_recall"}).tune_min_precision == 0.3
    with pytest.raises(ValidationError, match="tune_min_precision is for tune: minority_recall"):
        TrainSpec.model_validate(train)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(GOALS), st.booleans(), st.sampled_from([1, 7]))
def test_biases_are_those_of_the_plain_algorithm(seed: int, goal: Goal, weighed: bool, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    n, n_classes = int(rng.integers(1, 120)), int(rng.integers(2, 9))
    label = rng.choice(n_classes, n, p=rng.dirichlet(np.ones(n_classes)))
    logits = (rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[label]).round(decimals)
    weight = rng.uniform(0.1, 3, n) if weighed else np.ones(n)
    minority = rng.permutation(n_classes)[: n_classes // 2]
    found = ascend(Decided(LogP(logits), np.arange(n)), label, weight, Target(goal, minority, 0.4))
    plain = plain_biases(logits, label, weight, goal=goal, minority=minority, floor=0.4)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-9)


def test_the_memory_of_many_classes_is_less_than_twice_the_logits_and_a_part_of_them() -> None:
    n, n_classes = 2000, 400
    rng = np.random.default_rng(0)
    label = rng.integers(0, n_classes, n)
    logits = (
        rng.normal(size=(n, n_classes)).astype(np.float32) + 3 * np.eye(n_classes, dtype=np.float32)[label]
    )
    some = np.arange(n)
    tracemalloc.start()
    decided = Decided(LogP(logits), some)
    ascend(decided, label, np.ones(n), Target("minority_recall", np.arange(100), 0.5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    parts = 8 * 8 * VALUES_AT_ONCE  # what is made of a part of the table on the way
    assert peak < 2 * logits.nbytes + parts


def test_the_same_seed_gives_the_same_folds_and_another_seed_others() -> None:
    label, logits = drawn(0, (30, 90, 90), shift=-1)
    one, same, other = (
        tune_biases(logits, label, minority=np.array([0]), goal="macro_f1", seed=seed).held_out
        for seed in (0, 0, 1)
    )
    assert (one == same).all()
    assert (one != other).any()


def test_images_of_one_source_are_judged_by_the_same_fit_which_has_not_seen_them() -> None:
    label, logits = drawn(0, (40, 80, 80), shift=-2, sharpness=2)
    source = np.array([f"s{i % 20:02}" for i in range(len(label))])
    val = split(label, logits, source=source)
    tuned = tuned_on(val, goal="macro_f1")
    by_fit = {t: set(source[tuned.image_temperature == t]) for t in np.unique(tuned.image_temperature)}
    assert len(by_fit) == 5
    assert sum(len(sources) for sources in by_fit.values()) == 20  # none in two folds
    for temperature, sources in by_fit.items():
        seen = ~np.isin(source, list(sources))
        assert temperature == fit_temperature(val.logits[seen], label[seen])
    whole, split_up = (
        tune_biases(val.logits, label, minority=val.minority, goal="macro_f1", source=which).held_out
        for which in (source, None)
    )
    np.testing.assert_array_equal(tuned.tuned, whole)
    assert (whole != split_up).any()


def test_rare_classes_are_spread_over_the_folds() -> None:
    label, logits = drawn(0, (5, 40, 100), sharpness=2)
    tuned = tuned_on(split(label, logits), goal="macro_f1")
    _, fold = np.unique(tuned.image_temperature, return_inverse=True)
    assert [np.bincount(fold[label == c]).tolist() for c in (0, 1)] == [[1] * 5, [8] * 5]


def test_another_split_is_decided_with_what_val_gave_and_its_labels_change_nothing() -> None:
    val = tuned_on(split(*drawn(0, (20, 60, 60), shift=-2, sharpness=3)), goal="macro_f1")
    assert np.abs(val.bias).max() > 0
    assert val.temperature == pytest.approx(fit_temperature(val.logits, val.label))
    test = split(*drawn(1, (20, 60, 60), shift=-2, sharpness=3), split="test")
    judged = frozen(test, val)
    shuffled = frozen(replace(test, label=np.random.default_rng(0).permutation(test.label)), val)
    for one in (judged, shuffled):
        np.testing.assert_array_equal(one.bias, val.bias)
        assert one.temperature == val.temperature
        np.testing.assert_array_equal(one.tuned, (test.logits + val.bias).argmax(axis=1))
        assert set(one.image_temperature) == {val.temperature}
    metrics = classification_metrics(judged)
    log_p = log_softmax(test.logits.astype(np.float64) / val.temperature, axis=1)
    nll = oracle.log_loss(test.label, np.exp(log_p), labels=range(3))
    assert metrics["calibrated/nll"] == pytest.approx(nll)
    assert metrics["calibrated/nll"] < metrics["nll"]  # type: ignore[operator]
    assert metrics["calibrated/ece"] < metrics["ece"]  # type: ignore[operator]
    assert metrics["temperature"] == val.temperature


def test_ten_classes_and_450_images_take_well_under_0_3_seconds() -> None:
    label, logits = drawn(0, (45,) * 10, shift=-2)
    seconds = []
    for _ in range(3):
        before = time.process_time()
        tune_biases(logits, label, minority=np.array([0, 1, 2]), goal="macro_f1")
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.3


def test_factors_begin_with_untouched_so_that_a_tie_changes_nothing() -> None:
    assert FACTORS[0] == 0
    assert list(FACTORS) == sorted(FACTORS)

"""The biases of the classes, as they are fitted on all of val."""

import time
from dataclasses import replace

import numpy as np
import pytest
from drawn_logits import Array, drawn, split
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as oracle

from trainables.contract.trial import Goal, TrainSpec
from trainables.evaluation.calibration.fitting import tune_biases
from trainables.evaluation.classification import classification_metrics

SEEDS = st.integers(0, 2**32 - 1)
GOALS: tuple[Goal, ...] = ("macro_f1", "balanced_accuracy", "minority_recall")


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


def test_ten_classes_and_450_images_take_well_under_0_3_seconds() -> None:
    label, logits = drawn(0, (45,) * 10, shift=-2)
    seconds = []
    for _ in range(3):
        before = time.process_time()
        tune_biases(logits, label, minority=np.array([0, 1, 2]), goal="macro_f1")
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.3

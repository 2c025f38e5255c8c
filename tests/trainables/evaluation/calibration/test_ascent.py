"""Coordinate ascent is that of the plain algorithm, in little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_biases import plain_biases

from trainables.contract.trial import Goal
from trainables.evaluation.calibration.ascent import Decided, LogP, ascend, worth_trying
from trainables.evaluation.calibration.target import Target
from trainables.evaluation.classification import VALUES_AT_ONCE

SEEDS = st.integers(0, 2**32 - 1)
GOALS: tuple[Goal, ...] = ("macro_f1", "balanced_accuracy", "minority_recall")


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(GOALS), st.booleans(), st.sampled_from([1, 7]))
def test_biases_are_those_of_the_plain_algorithm(seed: int, goal: Goal, weighed: bool, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    n, n_classes = int(rng.integers(1, 120)), int(rng.integers(2, 9))
    label = rng.choice(n_classes, n, p=rng.dirichlet(np.ones(n_classes)))
    logits = (rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[label]).round(decimals)
    weight = rng.uniform(0.1, 3, n) if weighed else np.ones(n)
    minority = rng.permutation(n_classes)[: n_classes // 2]
    found = ascend(Decided(LogP(logits), np.arange(n), label, weight), Target(goal, minority, 0.4))
    plain = plain_biases(logits, label, weight, goal=goal, minority=minority, floor=0.4)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("weighed", [False, True], ids=["unweighted", "weighted"])
def test_where_few_biases_are_worth_a_try_it_is_the_plain_algorithm_still(goal: Goal, weighed: bool) -> None:
    n, n_classes = 900, 30
    rng = np.random.default_rng(0)
    label = np.append(
        np.arange(n_classes), rng.choice(n_classes, n - n_classes, p=rng.dirichlet(np.ones(30)))
    )
    sure = 6 * np.eye(n_classes)[label] + 3 * np.eye(n_classes)[label - label % 3]  # kin are confused
    logits = (2 * rng.normal(size=(n, n_classes)) + sure).astype(np.float32)
    weight = rng.uniform(0.1, 3, n) if weighed else np.ones(n)
    minority = np.argsort(np.bincount(label), kind="stable")[:10]
    decided, target = Decided(LogP(logits), np.arange(n), label, weight), Target(goal, minority, 0.6)
    plain = plain_biases(logits, label, weight, goal=goal, minority=minority, floor=0.6)
    np.testing.assert_allclose(ascend(decided, target), plain, rtol=0, atol=1e-9)
    assert np.count_nonzero(plain) > 3
    score = target.of(decided.counts)
    tried = [
        worth_trying(*decided.without(c), decided.bias[c], target, score).mean() for c in range(n_classes)
    ]
    assert np.mean(tried) < 0.5


def test_the_memory_of_many_classes_is_less_than_twice_the_logits_and_a_part_of_them() -> None:
    n, n_classes = 2000, 400
    rng = np.random.default_rng(0)
    label = rng.integers(0, n_classes, n)
    logits = (
        rng.normal(size=(n, n_classes)).astype(np.float32) + 3 * np.eye(n_classes, dtype=np.float32)[label]
    )
    tracemalloc.start()
    decided = Decided(LogP(logits), np.arange(n), label, np.ones(n))
    ascend(decided, Target("minority_recall", np.arange(100), 0.5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    parts = 8 * 8 * VALUES_AT_ONCE  # what is made of a part of the table on the way
    assert peak < 2 * logits.nbytes + parts

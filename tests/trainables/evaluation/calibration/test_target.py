"""What bounds a score holds, whatever is moved and in whatever order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainables.contract.trial import Goal
from trainables.evaluation.calibration.target import Counts, Moves, Target

SEEDS = st.integers(0, 2**32 - 1)
GOALS: tuple[Goal, ...] = ("macro_f1", "balanced_accuracy", "minority_recall")


@given(SEEDS, st.sampled_from(GOALS), st.booleans())
def test_no_score_on_the_way_is_above_what_it_is_at_most(seed: int, goal: Goal, weighed: bool) -> None:
    rng = np.random.default_rng(seed)
    n, n_classes, c = int(rng.integers(1, 200)), int(rng.integers(2, 7)), 1
    label = rng.choice(n_classes, n, p=rng.dirichlet(np.ones(n_classes)))
    before = np.where(rng.random(n) < 0.7, label, rng.integers(0, n_classes, n))
    before[before == c] = 0
    weight = rng.uniform(0.1, 3, n) if weighed else np.ones(n)
    moves = Moves(c, before, label, weight, Counts.of(label, before, weight, n_classes))
    target = Target(goal, rng.permutation(n_classes)[: n_classes // 2], 0.4)
    scores = target.on_the_way(moves)
    start, change = target.at_most(moves, score=0.0)
    assert (scores <= start + np.append(0.0, change).cumsum() + 1e-9).all()


def test_while_a_precision_is_too_low_the_recalls_bound_nothing() -> None:
    label, before = np.array([0, 0, 1]), np.array([0, 0, 0])
    moves = Moves(1, before, label, np.ones(3), Counts.of(label, before, np.ones(3), 2))
    start, change = Target("minority_recall", np.array([0]), 0.9).at_most(moves, score=-0.2)
    assert start == np.inf
    assert change.tolist() == [0, 0, 0]

"""The one temperature of all logits."""

from typing import Any

import numpy as np
import pytest
from drawn_logits import Array, drawn
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from trainables.evaluation.calibration.fitting import fit_temperature

SEEDS = st.integers(0, 2**32 - 1)


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

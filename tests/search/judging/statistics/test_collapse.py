import numpy as np
import pytest
from scipy import stats

from search.judging.statistics.collapse import collapsed, highest_rate


@pytest.mark.parametrize(
    ("recalls", "number"),
    [
        pytest.param([0.6, 0.5, 0.62, 0.0, 0.58], 1, id="one that finds nothing"),
        pytest.param([0.6, 0.59, 0.62, 0.29, 0.58], 1, id="one below half of the median, .59"),
        pytest.param([0.6, 0.58, 0.62, 0.29, 0.58], 0, id="one at half of the median"),
        pytest.param([0.6, 0.3], 0, id="two seeds that differ by half"),
        pytest.param([0.0, 0.0, 0.0], 3, id="all find nothing, and so does the median"),
        pytest.param([0.4], 0, id="one seed is its own median"),
        pytest.param([], 0, id="no seed"),
    ],
)
def test_collapsed_is_nothing_or_less_than_half_of_the_median(recalls: list[float], number: int) -> None:
    assert collapsed(recalls) == number


@pytest.mark.parametrize("n", [2, 5, 10, 30])
def test_what_no_collapse_leaves_possible_is_clopper_and_pearsons(n: int) -> None:
    oracle = stats.binomtest(0, n, alternative="less").proportion_ci(0.95, method="exact")
    assert highest_rate(n) == pytest.approx(oracle.high)


def test_normal_noise_is_hardly_ever_taken_for_a_collapse() -> None:
    recalls = np.random.default_rng(0).normal(0.5, 0.05, size=(20_000, 10))
    assert sum(collapsed(arm.tolist()) > 0 for arm in recalls) <= 2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from search.judging.statistics.bounds import one_sample
from search.judging.statistics.levels import holm, level_of, levels_of, second_look_level
from search.judging.statistics.values import Plan, Seeds


def test_two_looks_at_the_second_level_err_as_often_as_one_at_alpha() -> None:
    level = second_look_level(0.05, 0.025, 5, 10)
    assert level == pytest.approx(0.033, abs=0.0005)
    values = np.random.default_rng(0).normal(size=(100_000, 10))
    first, both = one_sample(values[:, :5]), one_sample(values)
    errs = (first.p_value(0) <= 0.025) | (both.p_value(0) <= level)
    assert errs.mean() == pytest.approx(0.05, abs=3 * (0.05 / 100_000) ** 0.5)


def test_with_many_seeds_the_second_level_is_that_of_the_bivariate_normal() -> None:
    level = second_look_level(0.05, 0.025, 1000, 2000)
    correlated = stats.multivariate_normal(cov=[[1, 0.5**0.5], [0.5**0.5, 1]])
    assert 1 - correlated.cdf(stats.norm.isf([0.025, level])) == pytest.approx(0.05, abs=2e-4)


@pytest.mark.parametrize(
    ("first_level", "n_first", "n_second"),
    [
        pytest.param(0.05, 5, 10, id="all of alpha is spent"),
        pytest.param(0.025, 1, 10, id="one seed"),
        pytest.param(0.025, 5, 6, id="one more seed"),
    ],
)
def test_a_second_look_that_cannot_be_is_an_error(first_level: float, n_first: int, n_second: int) -> None:
    with pytest.raises(ValueError, match="no second look"):
        second_look_level(0.05, first_level, n_first, n_second)


def test_a_plan_gives_each_rank_of_each_look_its_level() -> None:
    assert levels_of(Plan(second=None), 1, 3) == pytest.approx(np.array([0.05 / 3, 0.025, 0.05]))
    assert levels_of(Plan(), 1, 2) == pytest.approx(np.array([0.0125, 0.025]))
    assert level_of(Plan(), 2) == second_look_level(0.05, 0.025, 5, 10)
    assert level_of(Plan(first=Seeds(4, 8), second=Seeds(8, 8)), 2) == second_look_level(0.05, 0.025, 4, 8)
    # The arm that grows most decides: it may be the noisy one.
    assert level_of(Plan(first=Seeds(5, 5), second=Seeds(7, 20)), 2) == second_look_level(0.05, 0.025, 5, 20)
    with pytest.raises(ValueError, match="look 2 is not planned"):
        level_of(Plan(second=None), 2)
    with pytest.raises(ValueError, match="no more seeds than the first"):
        level_of(Plan(first=Seeds(5, 10), second=Seeds(5, 10)), 2)


@pytest.mark.parametrize(
    ("p", "accepted", "tested"),
    [
        pytest.param([0.01, 0.02, 0.04], [True, True, True], [0.05 / 3, 0.025, 0.05], id="all, step by step"),
        pytest.param(
            [0.04, 0.01, 0.03],
            [False, True, False],
            [0.025, 0.05 / 3, 0.025],
            id="the second misses .025, so the third is not reached although below .05",
        ),
        pytest.param([0.02, 0.02, 0.02], [False] * 3, [0.05 / 3] * 3, id="none below .05 / 3"),
        pytest.param(
            [0.0, 0.024, 0.9], [True, True, False], [0.05 / 3, 0.025, 0.05], id="one accepted before"
        ),
    ],
)
def test_holm_by_hand(p: list[float], accepted: list[bool], tested: list[float]) -> None:
    found, levels = holm(np.array(p), levels_of(Plan(second=None), 1, 3))
    assert found.tolist() == accepted
    assert levels == pytest.approx(np.array(tested))


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=5), data=st.data())
def test_a_clearer_candidate_takes_no_acceptance_away(p: list[float], data: st.DataObject) -> None:
    levels = levels_of(Plan(second=None), 1, len(p))
    i = data.draw(st.integers(0, len(p) - 1))
    clearer = [*p[:i], data.draw(st.floats(0, p[i])), *p[i + 1 :]]
    before, _ = holm(np.array(p), levels)
    after, _ = holm(np.array(clearer), levels)
    assert (after >= before).all()

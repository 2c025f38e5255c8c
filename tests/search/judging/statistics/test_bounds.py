import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from benchmarks.rules import PointRule, normal, paired, percentile_bootstrap
from search.judging.statistics.bounds import (
    Floats,
    StudentGain,
    one_sample,
    satterthwaite_df,
    second_order_df,
    welch,
)

CANDIDATE = np.array([0.52, 0.55, 0.49, 0.58, 0.51])
BASELINE = np.array([0.40, 0.43, 0.38, 0.41, 0.44, 0.39, 0.42, 0.37, 0.45, 0.40])
LEVELS = st.floats(0.001, 0.4)


def seeds(n: int) -> st.SearchStrategy[Floats]:
    return arrays(np.float64, n, elements=st.floats(0, 1).map(lambda x: round(x, 3)))


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.2])
def test_welch_with_satterthwaites_degrees_is_scipys(margin: float) -> None:
    gain = welch(CANDIDATE, BASELINE, degrees=satterthwaite_df)
    oracle = stats.ttest_ind(CANDIDATE - margin, BASELINE, equal_var=False, alternative="greater")
    assert gain.p_value(margin) == pytest.approx(oracle.pvalue, rel=1e-9)
    assert gain.df == pytest.approx(oracle.df)
    assert gain.lower(0.05) - margin == pytest.approx(oracle.confidence_interval(0.95).low)
    other_way = stats.ttest_ind(CANDIDATE, BASELINE, equal_var=False, alternative="less")
    assert gain.upper(0.05) == pytest.approx(other_way.confidence_interval(0.95).high)


def test_paired_is_scipys() -> None:
    gain = paired(CANDIDATE, BASELINE[:5])
    oracle = stats.ttest_rel(CANDIDATE, BASELINE[:5], alternative="greater")
    assert gain.p_value(0.0) == pytest.approx(oracle.pvalue, rel=1e-9)
    assert gain.lower(0.025) == pytest.approx(oracle.confidence_interval(0.975).low)


def test_a_floor_is_scipys_one_sample_test() -> None:
    oracle = stats.ttest_1samp(CANDIDATE, 0.5, alternative="greater")
    assert one_sample(CANDIDATE).p_value(0.5) == pytest.approx(oracle.pvalue, rel=1e-9)


def test_normal_bounds_by_hand() -> None:
    # Means .6 and .5, variances .02 / 2 and .02 / 2, so a standard error of .1 * sqrt(2).
    gain = normal(np.array([0.5, 0.7]), np.array([0.4, 0.6]))
    assert gain.lower(0.025) == pytest.approx(0.1 - 1.959964 * 0.1 * 2**0.5)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([(1.0, 4.0)], 4.0, id="one part keeps its degrees"),
        pytest.param([(1.0, 8.0), (1.0, 8.0)], 16.0, id="two equal parts have the sum of theirs"),
        pytest.param([(1.0, 4.0), (0.0, 99.0)], 4.0, id="a part without variance does not count"),
        pytest.param([(1.0, 4.0), (1.0, np.inf)], 16.0, id="half known: (2 v)² / (v² / 4)"),
        pytest.param([(0.0, 4.0), (0.0, 9.0)], np.inf, id="no variance at all is known"),
    ],
)
def test_satterthwaites_degrees_by_hand(parts: list[tuple[float, float]], expected: float) -> None:
    arrays_of = [(np.array(v), np.array(df)) for v, df in parts]
    assert satterthwaite_df(*arrays_of) == pytest.approx(expected)
    assert second_order_df(*arrays_of) <= expected + 1e-9


def test_the_second_order_correction_by_hand() -> None:
    # Shares 1/2 and 1/2 with 4 and infinitely many: A = 1/16, B = 1/64, C = 1/128, and z = 2.394 at .05 / 6.
    z2 = stats.norm.isf(0.05 / 6) ** 2
    q = (3 + 5 * z2 + z2**2) / (1 + z2)
    inverse = 1 / 16 - 2 * (1 / 64 - 1 / 256) + 4 / 3 * q * (1 / 128 - 1 / 256)
    half = np.array(0.5)
    df = second_order_df((half, np.array(4.0)), (half, np.array(np.inf)))
    assert df == pytest.approx(1 / inverse)


variances = st.floats(1e-8, 1.0)
degrees = st.floats(1, 500)


@given(parts=st.lists(st.tuples(variances, degrees), min_size=1, max_size=4), scale=st.floats(0.01, 100))
def test_degrees_lie_between_the_smallest_and_satterthwaites(
    parts: list[tuple[float, float]], scale: float
) -> None:
    given_parts = [(np.array(v), np.array(df)) for v, df in parts]
    df = second_order_df(*given_parts)
    assert min(df for _, df in parts) <= df * (1 + 1e-9)
    assert df <= satterthwaite_df(*given_parts) * (1 + 1e-9)
    assert second_order_df(*((v * scale, df) for v, df in given_parts)) == pytest.approx(float(df))


@given(candidate=seeds(5), baseline=seeds(10), level=LEVELS)
def test_a_bound_clears_a_margin_exactly_when_the_p_value_does(
    candidate: Floats, baseline: Floats, level: float
) -> None:
    gain = welch(candidate, baseline)
    if gain.variance > 1e-8:
        assert gain.p_value(float(gain.lower(level))) == pytest.approx(level)
        assert gain.p_value(float(gain.upper(level))) == pytest.approx(1 - level)


def test_many_studies_at_once_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    candidate, baseline = rng.normal(size=(7, 5)), rng.normal(size=(7, 10))
    together = welch(candidate, baseline).p_value(0.1)
    alone = [welch(c, b).p_value(0.1) for c, b in zip(candidate, baseline, strict=True)]
    assert together == pytest.approx(np.array(alone))


@pytest.mark.parametrize(
    ("margin", "p"),
    [
        pytest.param(0.1, 0.0, id="a known gain on the margin meets it, whatever the last digit"),
        pytest.param(0.11, 1.0, id="a known gain below the margin misses it"),
    ],
)
def test_a_metric_that_never_moves_is_known(margin: float, p: float) -> None:
    gain = welch(np.full(5, 0.9), np.full(10, 0.8))
    assert gain.p_value(margin) == p
    assert gain.lower(0.05) == pytest.approx(0.1)


def test_one_seed_has_no_variance() -> None:
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        welch(CANDIDATE, BASELINE[:1])
    with pytest.raises(ValueError, match="pairs wanted, got 5 and 10"):
        paired(CANDIDATE, BASELINE)


def test_what_another_part_holds_too_is_taken_off_the_seeds_part() -> None:
    # Variances .02 and .02 over two seeds each, so .01 a mean; the test split's part is .03.
    candidate, baseline = np.array([0.5, 0.7]), np.array([0.4, 0.6])
    split = (np.array(0.03), np.array(9.0))
    gain = welch(candidate, baseline, split, shared=(0.004, 0.001))
    assert gain.variance == pytest.approx(0.006 + 0.009 + 0.03)
    one = np.array(1.0)
    assert gain.df == pytest.approx(
        float(second_order_df((np.array(0.006), one), (np.array(0.009), one), split))
    )
    floor = one_sample(candidate, split, shared=0.004)
    assert floor.variance == pytest.approx(0.006 + 0.03)


def test_a_part_is_never_below_nothing() -> None:
    split = (np.array(0.03), np.array(9.0))
    gain = welch(np.array([0.5, 0.7]), np.array([0.4, 0.6]), split, shared=(0.5, 0.5))
    assert gain.variance == pytest.approx(0.03)
    assert gain.df == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("lent", "variance", "df"),
    [
        pytest.param((0.08, 9.0), 0.08 / 3, 2.0, id="more than its own, and its own degrees are fewer"),
        pytest.param((0.08, 1.0), 0.08 / 3, 1.0, id="more than its own, of fewer seeds"),
        pytest.param((0.005, 1.0), 0.01 / 3, 2.0, id="less than its own changes nothing"),
    ],
)
def test_a_lent_variance_by_hand(lent: tuple[float, float], variance: float, df: float) -> None:
    candidate = np.array([0.4, 0.5, 0.6])  # variance .01
    gain = one_sample(candidate, lent=(np.array(lent[0]), np.array(lent[1])))
    assert (gain.variance, gain.df) == (pytest.approx(variance), pytest.approx(df))
    against = welch(candidate, np.full(4, 0.3), lent=(np.array(lent[0]), np.array(lent[1])))
    assert against.variance == pytest.approx(variance)


def test_the_bootstrap_is_narrower_than_welch_and_repeats_with_its_generator() -> None:
    one, again = (percentile_bootstrap(CANDIDATE, BASELINE, np.random.default_rng(1)) for _ in range(2))
    assert one.lower(0.05) == again.lower(0.05)
    assert welch(CANDIDATE, BASELINE).lower(0.05) < one.lower(0.05) < one.value < one.upper(0.05)
    assert one.p_value(float(one.lower(0.05))) == pytest.approx(0.05, abs=0.01)


def test_the_point_rule_takes_the_mean_for_the_truth() -> None:
    rule = PointRule(np.array([0.0499, 0.05, 0.0501]))
    assert rule.p_value(0.05).tolist() == [1.0, 0.0, 0.0]
    assert rule.lower(0.05) is rule.upper(0.05)


def test_a_gain_with_infinite_degrees_is_normal() -> None:
    gain = StudentGain(np.array(0.1), np.array(0.01), np.array(np.inf))
    assert gain.p_value(0.0) == pytest.approx(stats.norm.sf(1.0))

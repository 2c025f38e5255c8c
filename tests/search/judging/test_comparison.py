"""The numbers of a comparison: means, gains, p-values; and where none can be told."""

import numpy as np
import pytest
from compared_arms import LIFTED, NLL, RECALL, USUAL, arm, compared, gain, report, with_split
from hypothesis import given
from hypothesis import strategies as st
from reports import DIVERGED
from scipy import stats

from search.judging.compare import compare, holm_adjusted
from search.judging.comparison import Estimate, is_better
from search.judging.measured import Arm
from search.judging.statistics.bounds import satterthwaite_df, welch
from search.judging.statistics.jackknife import Replicates, split_noise
from search.judging.statistics.levels import holm, levels_of
from search.judging.statistics.values import Plan
from search.show.comparison import as_rows, caption
from spaces.strategy import PLAIN
from trainables.contract.trial import TrialFailure


def test_a_mean_has_the_t_interval_of_scipy() -> None:
    measured = compared(arm("plain", USUAL), arm("lifted", LIFTED)).arms[0].measured[RECALL]
    oracle = stats.ttest_1samp(USUAL, 0.0).confidence_interval(0.95)
    assert (measured.mean.value, measured.sd) == pytest.approx((np.mean(USUAL), np.std(USUAL, ddof=1)))
    assert measured.mean.interval == pytest.approx((oracle.low, oracle.high))
    assert measured.values == USUAL
    assert measured.gain is None


def test_with_equal_arms_a_gain_is_scipys_welch() -> None:
    # Equal spreads and numbers: then the second-order degrees of freedom are nearly Satterthwaite's, 8.
    shifted = [value + 0.03 for value in LIFTED]
    found = compared(arm("plain", LIFTED), arm("lifted", shifted)).arms[1]
    oracle = stats.ttest_ind(shifted, LIFTED, equal_var=False)
    estimate, interval = found.measured[RECALL].gain, oracle.confidence_interval(0.95)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.03)
    assert estimate.interval == pytest.approx((interval.low, interval.high), rel=0.05)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=0.05)


def test_otherwise_it_is_a_little_wider_and_the_p_value_its_own() -> None:
    found = compared(arm("plain", USUAL), arm("lifted", LIFTED)).arms[1]
    ours = welch(np.array(LIFTED), np.array(USUAL))
    oracle = stats.ttest_ind(LIFTED, USUAL, equal_var=False)
    textbook = welch(np.array(LIFTED), np.array(USUAL), degrees=satterthwaite_df)
    assert float(textbook.df) == pytest.approx(oracle.df)
    assert gain(compared(arm("plain", USUAL), arm("lifted", LIFTED)), "lifted").interval == pytest.approx(
        (ours.lower(0.025), ours.upper(0.025))
    )
    t = float(ours.value / np.sqrt(ours.variance))
    assert t == pytest.approx(oracle.statistic)
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, float(ours.df)))
    assert found.p_value >= oracle.pvalue


def test_swapping_arm_and_reference_turns_the_sign_and_keeps_the_p_value() -> None:
    arms = arm("plain", USUAL), arm("lifted", LIFTED)
    down = compare(arms, "lifted", [RECALL], deciding=RECALL, split="val").arms[0]
    up = compared(*arms).arms[1]
    there, back = up.measured[RECALL].gain, down.measured[RECALL].gain
    assert there is not None
    assert back is not None
    assert there.interval is not None
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert down.p_value == pytest.approx(up.p_value)


def test_the_splits_own_error_widens_a_gain_as_welch_with_its_part_does() -> None:
    rng = np.random.default_rng(0)
    plain, lifted = with_split(arm("plain", USUAL), rng), with_split(arm("lifted", LIFTED), rng)
    noise = split_noise(lifted.replicates[RECALL], plain.replicates[RECALL])
    oracle = welch(np.array(LIFTED), np.array(USUAL), noise.part, shared=noise.shared)
    assert min(noise.shared) > 0
    found = gain(compared(plain, lifted), "lifted")
    assert found.split_counted
    assert found.interval == pytest.approx((oracle.lower(0.025), oracle.upper(0.025)))
    half = gain(compared(arm("plain", USUAL), lifted), "lifted")
    assert not half.split_counted
    assert compared(arm("plain", USUAL), lifted).arms[1].measured[RECALL].mean.split_counted


@given(st.floats(-0.3, 0.3), st.lists(st.integers(0, 100), min_size=2, max_size=8))
def test_a_constant_added_to_all_seeds_moves_the_gain_by_it(constant: float, percents: list[int]) -> None:
    values = [percent / 100 for percent in percents]
    arms = arm("plain", USUAL), arm("one", values), arm("other", [value + constant for value in values])
    comparison = compared(*arms)
    one, other = gain(comparison, "one"), gain(comparison, "other")
    assert one.value is not None
    assert one.interval is not None
    assert other.value == pytest.approx(one.value + constant)
    assert other.interval == pytest.approx((one.interval[0] + constant, one.interval[1] + constant))


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        pytest.param([0.01, 0.04, 0.03], [0.03, 0.06, 0.06], id="times 3, then 2, then 1, never falling"),
        pytest.param([0.5, 0.6], [1.0, 1.0], id="never above 1"),
        pytest.param([0.02], [0.02], id="one arm as it is"),
        pytest.param([], [], id="no arm"),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm_adjusted(np.array(p_values)).tolist() == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_an_adjusted_p_value_is_below_alpha_where_the_step_down_rejects(p_values: list[float]) -> None:
    rejected, _ = holm(np.array(p_values), levels_of(Plan(second=None), 1, len(p_values)))
    adjusted = holm_adjusted(np.array(p_values))
    near = np.abs(adjusted - 0.05) < 1e-12
    assert ((adjusted <= 0.05) == rejected)[~near].all()


def test_an_arm_without_a_gain_still_counts_for_holm() -> None:
    arms = arm("plain", USUAL), arm("lifted", LIFTED), arm("broken", LIFTED[:4], DIVERGED)
    alone, beside = compared(*arms[:2]).arms[1], compared(*arms).arms[1]
    assert alone.p_holm == alone.p_value == beside.p_value
    assert beside.p_holm == pytest.approx(2 * (alone.p_value or 0))


def test_what_differs_is_what_holm_says() -> None:
    arms = arm("plain", USUAL), arm("same", USUAL), arm("lifted", LIFTED)
    assert [arm.differs for arm in compared(*arms).arms] == [False, False, True]
    assert compared(*arms).arms[1].p_value == pytest.approx(1)
    assert not any(arm.differs for arm in compared(*arms, alpha=1e-9).arms)


@pytest.mark.parametrize(
    ("value", "p_value"),
    [
        pytest.param(0.4, 1.0, id="equal: no difference"),
        pytest.param(0.5, 0.0, id="unequal: known"),
        pytest.param(0.3, 0.0, id="unequal the other way: known too"),
    ],
)
def test_a_metric_that_never_moves(value: float, p_value: float) -> None:
    found = compared(arm("plain", [0.4] * 3), arm("other", [value] * 3))
    assert found.arms[1].p_value == p_value
    assert gain(found, "other").interval == pytest.approx((value - 0.4, value - 0.4))


def test_where_lower_is_better_a_gain_keeps_its_sign() -> None:
    found = compared(arm("plain", USUAL), arm("lifted", LIFTED))
    nll, recall = gain(found, "lifted", NLL).value, gain(found, "lifted").value
    assert nll is not None
    assert recall is not None
    assert nll == pytest.approx(-recall)
    assert is_better(NLL, nll)
    assert is_better(RECALL, recall)
    assert not is_better(NLL, -nll)
    assert not is_better(RECALL, 0.0)


def test_of_an_arm_it_is_told_what_it_saw_and_took() -> None:
    reports = (report(0.4, exposure=0.1), report(0.5, exposure=0.2))
    lost = TrialFailure(key="k", kind="lost", reason="no node")
    found = compared(arm("plain", USUAL), Arm("other", PLAIN, reports, (DIVERGED, DIVERGED, lost))).arms[1]
    assert (found.exposure, found.images_seen, found.unique_images) == (pytest.approx(0.15), 960, 500)
    assert (found.seconds, found.seeds, found.failed) == (12, 2, {"diverged": 2, "lost": 1})


@pytest.mark.parametrize(
    ("other", "mean", "reason"),
    [
        pytest.param(
            arm("other", [0.4, None, 0.5]),
            None,
            "not measurable in 1 of 3 seeds",
            id="a seed without a value",
        ),
        pytest.param(
            arm("other", [0.4, 0.6], DIVERGED),
            0.5,
            "1 of 3 seeds gave no result (1 diverged)",
            id="a failed seed: the survivors' mean is shown, no gain claimed",
        ),
        pytest.param(
            arm("other", [], DIVERGED, DIVERGED),
            None,
            "2 of 2 seeds gave no result (2 diverged); 0 finished, and an error takes at least 2 seeds",
            id="no seed at all",
        ),
        pytest.param(
            arm("other", [0.4]), 0.4, "1 finished, and an error takes at least 2 seeds", id="one seed"
        ),
    ],
)
def test_no_gain_is_claimed(other: Arm, mean: float | None, reason: str) -> None:
    comparison = compared(arm("plain", USUAL), other)
    found = comparison.arms[1]
    assert found.measured[RECALL].mean.value == (None if mean is None else pytest.approx(mean))
    assert found.measured[RECALL].mean.reason == reason
    assert gain(comparison, "other") == Estimate(reason=reason)
    assert (found.p_value, found.p_holm, found.differs) == (None, None, False)
    assert f"other: {reason}; no gain is claimed of it." in caption(comparison)
    assert as_rows(comparison)[2]["note"] == reason


def test_over_a_reference_with_a_failed_seed_no_gain_is_claimed_of_any_arm() -> None:
    comparison = compared(arm("plain", USUAL, DIVERGED), arm("lifted", LIFTED))
    assert gain(comparison, "lifted").reason == "plain: 1 of 11 seeds gave no result (1 diverged)"
    assert "plain: 1 of 11 seeds gave no result (1 diverged); no gain is claimed of any arm." in caption(
        comparison
    )


def test_a_metric_that_only_one_arm_cannot_tell_takes_nothing_from_the_others() -> None:
    blind = Arm("blind", PLAIN, tuple(report(value, None) for value in LIFTED))
    comparison = compared(arm("plain", USUAL), blind, arm("lifted", LIFTED))
    assert gain(comparison, "blind", NLL).value is None
    assert gain(comparison, "blind").value == pytest.approx(gain(comparison, "lifted").value)
    assert gain(comparison, "lifted", NLL).value is not None
    assert "blind: not measurable in 5 of 5 seeds; no gain is claimed of it in nll." in caption(comparison)


@pytest.mark.parametrize(
    ("names", "reference", "deciding", "pairs"),
    [
        pytest.param(["plain"], "plain", RECALL, [], id="nothing to compare with"),
        pytest.param(["plain", "other", "other"], "plain", RECALL, [], id="a name twice"),
        pytest.param(["one", "other"], "plain", RECALL, [], id="no such reference"),
        pytest.param(["plain", "other"], "plain", "map50", [], id="a deciding metric that is not shown"),
        pytest.param(["plain", "other"], "plain", RECALL, [("other", "third")], id="a pair without one arm"),
    ],
)
def test_names_must_fit(
    names: list[str], reference: str, deciding: str, pairs: list[tuple[str, str]]
) -> None:
    arms = [arm(name, USUAL) for name in names]
    with pytest.raises(ValueError, match="arms"):
        compare(arms, reference, [RECALL], deciding=deciding, split="val", pairs=pairs)


def test_replicates_belong_to_reports() -> None:
    replicates = (Replicates(0.4, np.full(10, 0.4), tuple("abcdefghij")),)
    with pytest.raises(ValueError, match="1 replicates of minority_recall for 2 reports"):
        Arm("plain", PLAIN, (report(0.4), report(0.5)), replicates={RECALL: replicates})

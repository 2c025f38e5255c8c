import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from search.arms import (
    DEFAULT_ARMS,
    MATCHED,
    UNFIT,
    known_arms,
    matched_pairs,
    named_strategy,
)
from search.comparison import Arm, Comparison, Estimate, compare, holm_adjusted, is_better
from search.comparison_tables import as_json, as_rows, as_table, caption
from search.plots import Mark, comparison_picture, draw_comparison
from search.statistics.bounds import satterthwaite_df, welch
from search.statistics.levels import Plan, holm
from search.statistics.sources import Replicates, split_noise
from spaces.errors import UsageError
from spaces.strategy import BASELINE, NAMED
from trainables.sampling import expected_exposure
from trainables.trial import Task, TrialFailure, TrialReport

PLAIN = (0.40, 0.43, 0.38, 0.41, 0.44, 0.39, 0.42, 0.37, 0.45, 0.40)
LIFTED = (0.52, 0.55, 0.49, 0.58, 0.51)
DIVERGED = TrialFailure(key="k", kind="diverged", reason="the loss is nan")
RECALL, NLL = "minority_recall", "nll"


def report(recall: float | None, nll: float | None = 0.3, exposure: float = 0.1) -> TrialReport:
    return TrialReport(
        key="k",
        metrics={RECALL: recall, NLL: nll},
        curve=(),
        applied={},
        exposure=exposure,
        images_seen=960,
        unique_images=500,
        steps=60,
        seconds=12.0,
        device="cpu",
    )


def arm(name: str, recalls: Sequence[float | None], *failures: TrialFailure) -> Arm:
    """Its nll falls as its recall rises."""
    reports = tuple(report(value, None if value is None else 1 - value) for value in recalls)
    return Arm(name, BASELINE, reports, failures)


def with_split(of: Arm, rng: np.random.Generator) -> Arm:
    """With recall measured without each of 20 sources in turn."""
    names = tuple(f"slide{i:02}" for i in range(20))
    replicates = tuple(
        Replicates(value, value + rng.normal(0, 0.01, 20), names) for value in of.values(RECALL).tolist()
    )
    return Arm(of.name, of.strategy, of.reports, of.failures, {RECALL: replicates})


def compared(*arms: Arm, pairs: Sequence[tuple[str, str]] = (), alpha: float = 0.05) -> Comparison:
    return compare(arms, "plain", [RECALL, NLL], deciding=RECALL, split="test", pairs=pairs, alpha=alpha)


def gain(comparison: Comparison, name: str, metric: str = RECALL) -> Estimate:
    found = next(arm for arm in comparison.arms if arm.name == name).measured[metric].gain
    assert found is not None
    return found


# The numbers


def test_a_mean_has_the_t_interval_of_scipy() -> None:
    measured = compared(arm("plain", PLAIN), arm("lifted", LIFTED)).arms[0].measured[RECALL]
    oracle = stats.ttest_1samp(PLAIN, 0.0).confidence_interval(0.95)
    assert (measured.mean.value, measured.sd) == pytest.approx((np.mean(PLAIN), np.std(PLAIN, ddof=1)))
    assert measured.mean.interval == pytest.approx((oracle.low, oracle.high))
    assert measured.values == PLAIN
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
    found = compared(arm("plain", PLAIN), arm("lifted", LIFTED)).arms[1]
    ours = welch(np.array(LIFTED), np.array(PLAIN))
    oracle = stats.ttest_ind(LIFTED, PLAIN, equal_var=False)
    textbook = welch(np.array(LIFTED), np.array(PLAIN), degrees=satterthwaite_df)
    assert float(textbook.df) == pytest.approx(oracle.df)
    assert gain(compared(arm("plain", PLAIN), arm("lifted", LIFTED)), "lifted").interval == pytest.approx(
        (ours.lower(0.025), ours.upper(0.025))
    )
    t = float(ours.value / np.sqrt(ours.variance))
    assert t == pytest.approx(oracle.statistic)
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, float(ours.df)))
    assert found.p_value >= oracle.pvalue


def test_swapping_arm_and_reference_turns_the_sign_and_keeps_the_p_value() -> None:
    arms = arm("plain", PLAIN), arm("lifted", LIFTED)
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
    plain, lifted = with_split(arm("plain", PLAIN), rng), with_split(arm("lifted", LIFTED), rng)
    noise = split_noise(lifted.replicates[RECALL], plain.replicates[RECALL])
    oracle = welch(np.array(LIFTED), np.array(PLAIN), noise.part)
    found = gain(compared(plain, lifted), "lifted")
    assert found.split_counted
    assert found.interval == pytest.approx((oracle.lower(0.025), oracle.upper(0.025)))
    half = gain(compared(arm("plain", PLAIN), lifted), "lifted")
    assert not half.split_counted
    assert compared(arm("plain", PLAIN), lifted).arms[1].measured[RECALL].mean.split_counted


@given(st.floats(-0.3, 0.3), st.lists(st.integers(0, 100), min_size=2, max_size=8))
def test_a_constant_added_to_all_seeds_moves_the_gain_by_it(constant: float, percents: list[int]) -> None:
    values = [percent / 100 for percent in percents]
    arms = arm("plain", PLAIN), arm("one", values), arm("other", [value + constant for value in values])
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
    rejected, _ = holm(np.array(p_values), Plan(second=None).levels(1, len(p_values)))
    adjusted = holm_adjusted(np.array(p_values))
    near = np.abs(adjusted - 0.05) < 1e-12
    assert ((adjusted <= 0.05) == rejected)[~near].all()


def test_an_arm_without_a_gain_still_counts_for_holm() -> None:
    arms = arm("plain", PLAIN), arm("lifted", LIFTED), arm("broken", LIFTED[:4], DIVERGED)
    alone, beside = compared(*arms[:2]).arms[1], compared(*arms).arms[1]
    assert alone.p_holm == alone.p_value == beside.p_value
    assert beside.p_holm == pytest.approx(2 * (alone.p_value or 0))


def test_what_differs_is_what_holm_says() -> None:
    arms = arm("plain", PLAIN), arm("same", PLAIN), arm("lifted", LIFTED)
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
    found = compared(arm("plain", PLAIN), arm("lifted", LIFTED))
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
    found = compared(arm("plain", PLAIN), Arm("other", BASELINE, reports, (DIVERGED, DIVERGED, lost))).arms[1]
    assert (found.exposure, found.images_seen, found.unique_images) == (pytest.approx(0.15), 960, 500)
    assert (found.seconds, found.seeds, found.failed) == (12, 2, {"diverged": 2, "lost": 1})


# What cannot be told


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
    comparison = compared(arm("plain", PLAIN), other)
    found = comparison.arms[1]
    assert found.measured[RECALL].mean.value == (None if mean is None else pytest.approx(mean))
    assert found.measured[RECALL].mean.reason == reason
    assert gain(comparison, "other") == Estimate(reason=reason)
    assert (found.p_value, found.p_holm, found.differs) == (None, None, False)
    assert f"other: {reason}; no gain is claimed of it." in caption(comparison)
    assert as_rows(comparison)[2]["note"] == reason


def test_over_a_reference_with_a_failed_seed_no_gain_is_claimed_of_any_arm() -> None:
    comparison = compared(arm("plain", PLAIN, DIVERGED), arm("lifted", LIFTED))
    assert gain(comparison, "lifted").reason == "plain: 1 of 11 seeds gave no result (1 diverged)"
    assert "plain: 1 of 11 seeds gave no result (1 diverged); no gain is claimed of any arm." in caption(
        comparison
    )


def test_a_metric_that_only_one_arm_cannot_tell_takes_nothing_from_the_others() -> None:
    blind = Arm("blind", BASELINE, tuple(report(value, None) for value in LIFTED))
    comparison = compared(arm("plain", PLAIN), blind, arm("lifted", LIFTED))
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
    arms = [arm(name, PLAIN) for name in names]
    with pytest.raises(ValueError, match="arms"):
        compare(arms, reference, [RECALL], deciding=deciding, split="val", pairs=pairs)


def test_replicates_belong_to_reports() -> None:
    replicates = (Replicates(0.4, np.full(10, 0.4), tuple("abcdefghij")),)
    with pytest.raises(ValueError, match="1 replicates of minority_recall for 2 reports"):
        Arm("plain", BASELINE, (report(0.4), report(0.5)), replicates={RECALL: replicates})


# What is shown

WORDS = [
    "Exploratory, on the test split: 3 arms with 4 to 5 seeds each against plain with 10.",
    "Intervals are 95% each, not simultaneous. They count the seeds' error only, not the test split's own.",
    "* differs from plain in minority_recall after Holm over 3 arms at 5%.",
]


@pytest.fixture
def shown() -> Comparison:
    worse = [value - 0.1 for value in PLAIN[:5]]
    arms = (
        arm("plain", PLAIN),
        arm("lifted", LIFTED),
        arm("worse", worse),
        arm("broken", LIFTED[:4], DIVERGED),
    )
    return compared(*arms, pairs=[("lifted", "worse")])


def test_a_caption_says_how_to_read_it(shown: Comparison) -> None:
    assert caption(shown)[:3] == WORDS
    assert caption(shown)[3].startswith("Equal exposure, lifted minus worse: minority_recall +0.218 [+0.1")
    assert caption(shown)[4].startswith("broken: 1 of 5 seeds gave no result")


def test_a_caption_says_whose_error_is_counted() -> None:
    rng = np.random.default_rng(0)
    arms = [with_split(arm("plain", PLAIN), rng), with_split(arm("lifted", LIFTED), rng)]
    both = compared(*arms)
    assert "the seeds' error and the test split's own; for nll the seeds' only." in caption(both)[1]
    recall = compare(arms, "plain", [RECALL], deciding=RECALL, split="test")
    assert caption(recall)[1].endswith("They count the seeds' error and the test split's own.")


def test_a_pairs_difference_is_the_one_over_the_other(shown: Comparison) -> None:
    lifted, worse = (np.array(shown.arms[i].measured[RECALL].values) for i in (1, 2))
    expected = welch(lifted, worse)
    assert shown.pairs[0].differences[RECALL].interval == pytest.approx(
        (expected.lower(0.025), expected.upper(0.025))
    )


def test_the_table_shows_means_gains_and_marks(shown: Comparison) -> None:
    screen = io.StringIO()
    Console(width=140, file=screen).print(as_table(shown))
    text = screen.getvalue()
    assert "0.530 ± 0.035" in text
    lifted, worse = gain(shown, "lifted").interval, gain(shown, "worse").interval
    assert lifted is not None
    assert worse is not None
    assert f"+0.121 [{lifted[0]:+.3f},{lifted[1]:+.3f}] *" in text
    assert f"[{worse[0]:+.3f},{worse[1]:+.3f}] *" in text
    assert "4 seeds, 1 failed, 10% exposure" in text
    assert "lower is better" in text
    unwrapped = " ".join(text.split())  # a caption is as wide as its table
    assert all(line in unwrapped for line in WORDS)


def test_rows_have_one_line_per_arm_and_metric(shown: Comparison) -> None:
    rows = as_rows(shown)
    assert [(row["arm"], row["metric"]) for row in rows[:3]] == [
        ("plain", RECALL),
        ("plain", NLL),
        ("lifted", RECALL),
    ]
    assert len(rows) == 8
    assert list(rows[0]) == [
        *("arm", "metric", "n", "mean", "sd", "low", "high", "gain", "gain_low", "gain_high"),
        *("p", "p_holm", "exposure", "note"),
    ]
    lifted = rows[2]
    assert (lifted["n"], lifted["mean"], lifted["gain"]) == (
        5,
        pytest.approx(0.53),
        pytest.approx(0.1211, abs=1e-3),
    )
    assert lifted["gain_low"] < lifted["gain"] < lifted["gain_high"]
    assert lifted["p_holm"] == shown.arms[1].p_holm
    assert rows[3]["p"] is None  # only the deciding metric is tested
    assert rows[0]["gain"] is None


def test_json_holds_plain_values_only(shown: Comparison) -> None:
    read = json.loads(json.dumps(as_json(shown), allow_nan=False))
    assert read["reference"] == "plain"
    lifted = read["arms"][1]
    assert lifted["differs"]
    assert lifted["metrics"][NLL]["gain"]["better"]
    assert lifted["metrics"][RECALL]["values"] == list(LIFTED)
    assert read["arms"][0]["metrics"][RECALL]["gain"] is None
    assert read["arms"][3]["metrics"][RECALL]["gain"]["better"] is None
    assert read["pairs"][0]["differences"][RECALL]["better"]
    assert read["caption"][:3] == WORDS


def test_a_picture_has_a_panel_per_metric_and_a_point_per_arm(shown: Comparison) -> None:
    picture = comparison_picture(shown)
    assert [panel.metric for panel in picture.panels] == [RECALL, NLL]
    assert [panel.lower_is_better for panel in picture.panels] == [False, True]
    assert picture.labels[1] == ("lifted *", "5 seeds, 10% exposure")
    recall, nll = picture.panels
    marks: list[Mark] = [point.mark for point in recall.points]
    assert marks == ["reference", "better", "worse", "unclaimed"]
    assert [point.mark for point in nll.points] == ["reference", "unclear", "unclear", "unclaimed"]
    assert recall.reference == shown.arms[0].measured[RECALL].mean.value
    assert recall.points[1].seeds == LIFTED
    assert recall.points[1].interval == shown.arms[1].measured[RECALL].mean.interval
    assert picture.caption == tuple(caption(shown))


def test_a_picture_of_what_cannot_be_told_is_drawn_all_the_same(tmp_path: Path) -> None:
    picture = comparison_picture(compared(arm("plain", [None, None]), arm("other", [], DIVERGED)))
    assert picture.panels[0].reference is None
    draw_comparison(picture, tmp_path / "empty.svg")
    assert "</svg>" in (tmp_path / "empty.svg").read_text()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_comparison_gives_the_same_file(shown: Comparison, tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        draw_comparison(comparison_picture(shown), tmp_path / f"{name}.{kind}")
    written = (tmp_path / f"one.{kind}").read_bytes()
    assert written == (tmp_path / f"two.{kind}").read_bytes()
    assert written.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])


def test_a_picture_of_another_kind_is_refused(shown: Comparison, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg or \.png, got arms\.pdf"):
        draw_comparison(comparison_picture(shown), tmp_path / "arms.pdf")


# The arms

CLASSES = [*[frozenset({0})] * 960, *[frozenset({0, 1})] * 30, *[frozenset({1})] * 10]
TASKS: list[Task] = ["classification", "detection", "toy"]


@pytest.mark.parametrize("task", TASKS)
def test_default_arms_are_known_different_and_begin_with_the_reference(task: Task) -> None:
    arms = DEFAULT_ARMS[task]
    assert arms[0] == "plain"
    assert set(arms) <= set(known_arms(task))
    strategies = [named_strategy(name, CLASSES, {1}) for name in arms]
    assert len({strategy.model_dump_json() for strategy in strategies}) == len(arms)


def test_a_classifier_has_no_arm_without_the_majority_and_none_that_needs_boxes() -> None:
    assert set(known_arms("detection")) - set(known_arms("classification")) == {
        "filtered",
        "filtered_weighted",
        "copy_paste",
        "weighted_copy_paste",
        "mosaic",
    }
    assert set(UNFIT) <= set(NAMED)


@pytest.mark.parametrize("name", MATCHED)
def test_a_matched_arm_draws_from_all_images_at_the_others_exposure(name: str) -> None:
    matched, other = named_strategy(name, CLASSES, {1}), NAMED[MATCHED[name]]
    assert set(matched.changed()) == {"sampler_power"}
    exposures = [
        expected_exposure(
            CLASSES,
            {1},
            retention=strategy.sampling.retention,
            power=strategy.sampling.sampler_power,
            max_repeat=strategy.sampling.max_repeat,
        )
        for strategy in (matched, other)
    ]
    assert exposures[0] == pytest.approx(exposures[1], abs=1e-5)


def test_a_misspelt_arm_is_an_error_with_a_hint() -> None:
    with pytest.raises(
        UsageError, match="no such strategy 'weighted_as_undersampled_45'\nhint: did you mean"
    ):
        named_strategy("weighted_as_undersampled_45", CLASSES, {1})


def test_an_arm_that_the_data_do_not_allow_is_named() -> None:
    many = [*[frozenset({0})] * 40, *[frozenset({1})] * 60]
    with pytest.raises(UsageError, match=r"weighted_as_undersampled_30: retention 0\.3 gives"):
        named_strategy("weighted_as_undersampled_30", many, {1})


def test_pairs_are_those_whose_both_arms_are_there() -> None:
    assert matched_pairs(DEFAULT_ARMS["detection"]) == (("undersampled_40", "weighted_as_undersampled_40"),)
    assert matched_pairs(["plain", "weighted_as_undersampled_30", "undersampled_50"]) == ()

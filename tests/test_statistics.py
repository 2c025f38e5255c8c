import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from search.statistics.bounds import (
    Floats,
    PointRule,
    StudentGain,
    normal,
    one_sample,
    paired,
    percentile_bootstrap,
    satterthwaite_df,
    second_order_df,
    welch,
)
from search.statistics.decision import Candidate, Evidence, Requirement, Verdict, decide
from search.statistics.levels import Plan, Seeds, holm, second_look_level
from search.statistics.planning import (
    Noise,
    advise,
    power,
    sd_upper_limit,
    seeds_needed,
    sources_factor,
)
from search.statistics.sources import (
    Bools,
    Replicates,
    SplitNoise,
    TooFewSources,
    UnmeasurableWithout,
    jackknife,
    leave_one_source_out,
    split_noise,
)
from trainables.evaluation.classification import classification_metrics
from trainables.evaluation.detection import detection_metrics
from trainables.predictions import ClassificationPredictions, DetectionPredictions

CANDIDATE = np.array([0.52, 0.55, 0.49, 0.58, 0.51])
BASELINE = np.array([0.40, 0.43, 0.38, 0.41, 0.44, 0.39, 0.42, 0.37, 0.45, 0.40])
LEVELS = st.floats(0.001, 0.4)


def seeds(n: int) -> st.SearchStrategy[Floats]:
    return arrays(np.float64, n, elements=st.floats(0, 1).map(lambda x: round(x, 3)))


# Bounds


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


def test_the_bootstrap_is_narrower_than_welch_and_repeats_with_its_generator() -> None:
    one, again = (percentile_bootstrap(CANDIDATE, BASELINE, np.random.default_rng(1)) for _ in range(2))
    assert one.lower(0.05) == again.lower(0.05)
    assert welch(CANDIDATE, BASELINE).lower(0.05) < one.lower(0.05) < one.value < one.upper(0.05)
    assert one.p_value(float(one.lower(0.05))) == pytest.approx(0.05, abs=0.01)


def test_the_point_rule_takes_the_mean_for_the_truth() -> None:
    rule = PointRule(np.array([0.0499, 0.05, 0.0501]))
    assert rule.p_value(0.05).tolist() == [1.0, 0.0, 0.0]
    assert rule.lower(0.05) is rule.upper(0.05)


# The test split's own error


def per_image_mean(values: Floats) -> Callable[[Bools], float]:
    return lambda keep: float(values[keep].mean())


def test_for_a_mean_of_equal_sources_the_jackknife_is_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=12)
    sources = [f"slide{i}" for i in range(12)]
    noise = split_noise([leave_one_source_out(per_image_mean(values), sources)])
    assert noise.variance == pytest.approx(stats.sem(values) ** 2)
    assert noise.df == 11
    assert noise.half_width(0.05) == pytest.approx(stats.t.isf(0.05, 11) * stats.sem(values))


def test_images_of_one_source_are_left_out_together() -> None:
    per_slide = np.random.default_rng(0).normal(size=10)
    once = split_noise([leave_one_source_out(per_image_mean(per_slide), [str(i) for i in range(10)])])
    thrice = split_noise(
        [leave_one_source_out(per_image_mean(np.repeat(per_slide, 3)), [str(i // 3) for i in range(30)])]
    )
    assert thrice.variance == pytest.approx(float(once.variance))


def test_what_candidate_and_baseline_share_cancels() -> None:
    hard = np.random.default_rng(0).normal(size=20)
    sources = [str(i) for i in range(20)]
    baseline = leave_one_source_out(per_image_mean(hard), sources)
    candidate = leave_one_source_out(per_image_mean(hard + 0.1), sources)
    assert split_noise([candidate], [baseline]).variance == pytest.approx(0, abs=1e-20)
    assert split_noise([candidate]).variance > 0.01


def test_deviations_are_averaged_over_seeds() -> None:
    rng = np.random.default_rng(0)
    sources = tuple(str(i) for i in range(10))
    runs = [Replicates(0.5, 0.5 + rng.normal(size=10), sources) for _ in range(3)]
    mean = Replicates(0.5, np.mean([run.without for run in runs], axis=0), sources)
    assert split_noise(runs).variance == pytest.approx(float(split_noise([mean]).variance))


def test_a_source_without_a_rare_object_gives_no_degree_of_freedom() -> None:
    label = np.array([1] * 14 + [0] * 26)  # the rare class lives in 7 of 20 sources
    predictions = ClassificationPredictions(
        split="test",
        class_names=np.array(["common", "rare"]),
        minority=np.array([1]),
        image=np.array([str(i) for i in range(40)]),
        source=np.array([str(i // 2) for i in range(40)]),
        label=label,
        logits=np.random.default_rng(0).normal(size=(40, 2)),
        weight=np.ones(40),
    )

    def metric(name: str) -> Callable[[Bools], float | None]:
        return lambda keep: classification_metrics(
            replace(
                predictions,
                label=label[keep],
                logits=predictions.logits[keep],
                weight=predictions.weight[keep],
            )
        )[name]

    found = (predictions.logits.argmax(axis=1) == label)[:14]
    recall = split_noise([leave_one_source_out(metric("minority_recall"), predictions.source)])
    accuracy = split_noise([leave_one_source_out(metric("accuracy"), predictions.source)])
    by_hand = [found.mean() - np.delete(found, [2 * i, 2 * i + 1]).mean() for i in range(7)]
    assert recall.variance == pytest.approx(19 / 20 * np.square(by_hand).sum())
    assert recall.df == np.count_nonzero(by_hand) - 1
    assert recall.df <= 6 < accuracy.df


def test_too_few_sources_are_an_error_that_says_so() -> None:
    with pytest.raises(TooFewSources, match="9 source images, 10 are needed"):
        leave_one_source_out(per_image_mean(np.zeros(9)), [str(i) for i in range(9)])


def test_a_metric_that_hangs_on_one_source_is_an_error_that_names_it() -> None:
    with pytest.raises(UnmeasurableWithout, match="without source 's3'"):
        leave_one_source_out(lambda keep: 0.5 if keep[3] else None, [f"s{i}" for i in range(10)])


def test_runs_on_different_sources_do_not_mix() -> None:
    run = Replicates(0.5, np.zeros(10), tuple(str(i) for i in range(10)))
    with pytest.raises(ValueError, match="same sources"):
        split_noise([run], [replace(run, sources=tuple(str(i) for i in range(1, 11)))])
    with pytest.raises(ValueError, match="same sources"):
        split_noise([])


def test_the_jackknife_is_right_on_average_for_clustered_recalls() -> None:
    rng = np.random.default_rng(0)
    size = rng.poisson(3, size=(4000, 40)) + 1
    found = rng.binomial(size, rng.beta(4.5, 4.5, size=size.shape))
    recall = found.sum(1) / size.sum(1)
    without = (found.sum(1, keepdims=True) - found) / (size.sum(1, keepdims=True) - size)
    noise = jackknife(without - recall[:, None])
    assert np.sqrt(noise.variance.mean()) == pytest.approx(recall.std(), rel=0.05)


def detections(truth: dict[str, Floats], skill: float, rng: np.random.Generator) -> DetectionPredictions:
    """A detector that scores objects by their ease; all detectors meet the same, and the same phantoms."""
    ease = np.concatenate([truth["ease"] + skill, truth["false"]])
    score = 1 / (1 + np.exp(-ease - 0.4 * rng.normal(size=len(ease))))
    order = np.argsort(-score)
    n, n_false = len(truth["ease"]), len(truth["false"])
    return DetectionPredictions(
        split="test",
        class_names=np.array(["cluster"]),
        minority=np.array([0]),
        image=np.arange(30).astype(str),
        source=np.arange(30).astype(str),
        size=np.full((30, 2), 512),
        pred_image=np.concatenate([truth["image"], truth["false_image"]])[order].astype(int),
        pred_class=np.zeros(n + n_false, dtype=int),
        pred_score=score[order],
        pred_box=np.zeros((n + n_false, 4)),
        pred_match=np.repeat((order < n)[:, None], 10, axis=1),
        true_image=truth["image"].astype(int),
        true_class=np.zeros(n, dtype=int),
        true_box=np.zeros((n, 4)),
        max_det=300,
        conf=0.0,
        iou=0.7,
    )


def without_sources(predictions: DetectionPredictions, metric: str) -> Replicates:
    def measured(keep: Bools) -> float | None:
        pred, true = keep[predictions.pred_image], keep[predictions.true_image]
        kept = replace(
            predictions,
            pred_class=predictions.pred_class[pred],
            pred_score=predictions.pred_score[pred],
            pred_match=predictions.pred_match[pred],
            true_class=predictions.true_class[true],
        )
        return detection_metrics(kept, threshold=0.5)[metric]

    return leave_one_source_out(measured, predictions.source)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["minority_recall", "minority_ap50"])
def test_the_jackknife_tells_the_error_of_a_detectors_gain_on_fresh_test_splits(metric: str) -> None:
    rng = np.random.default_rng(0)
    gains, variances = [], []
    for _ in range(150):
        of_source = 0.5 * rng.normal(size=30)
        image = np.sort(rng.integers(0, 30, 60)).astype(float)
        truth = {
            "image": image,
            "ease": of_source[image.astype(int)] + rng.normal(size=60),
            "false_image": rng.integers(0, 30, 120).astype(float),
            "false": rng.normal(size=120) - 1.5,
        }
        candidate, baseline = (without_sources(detections(truth, skill, rng), metric) for skill in (0.5, 0.0))
        gains.append(candidate.whole - baseline.whole)
        variances.append(float(split_noise([candidate], [baseline]).variance))
    # 150 splits tell an sd to 6 %.
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(gains), rel=0.2)


# Levels


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
    assert Plan(second=None).levels(1, 3) == pytest.approx(np.array([0.05 / 3, 0.025, 0.05]))
    assert Plan().levels(1, 2) == pytest.approx(np.array([0.0125, 0.025]))
    assert Plan().level(2) == second_look_level(0.05, 0.025, 5, 10)
    assert Plan(first=Seeds(4, 8), second=Seeds(8, 8)).level(2) == second_look_level(0.05, 0.025, 4, 8)
    # The arm that grows most decides: it may be the noisy one.
    assert Plan(first=Seeds(5, 5), second=Seeds(7, 20)).level(2) == second_look_level(0.05, 0.025, 5, 20)
    with pytest.raises(ValueError, match="look 2 is not planned"):
        Plan(second=None).level(2)
    with pytest.raises(ValueError, match="no more seeds than the first"):
        Plan(first=Seeds(5, 10), second=Seeds(5, 10)).level(2)


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
    found, levels = holm(np.array(p), Plan(second=None).levels(1, 3))
    assert found.tolist() == accepted
    assert levels == pytest.approx(np.array(tested))


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=5), data=st.data())
def test_a_clearer_candidate_takes_no_acceptance_away(p: list[float], data: st.DataObject) -> None:
    levels = Plan(second=None).levels(1, len(p))
    i = data.draw(st.integers(0, len(p) - 1))
    clearer = [*p[:i], data.draw(st.floats(0, p[i])), *p[i + 1 :]]
    before, _ = holm(np.array(p), levels)
    after, _ = holm(np.array(clearer), levels)
    assert (after >= before).all()


# Decision

RECALL = Requirement("minority_recall", 0.05)
MAP = Requirement("map50_95", -0.03)
SPREAD = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
NO_SPLIT_NOISE = SplitNoise(np.zeros(10), np.array(0.0), np.array(9.0))


def evidence(
    requirement: Requirement, gain: float, split: SplitNoise | None = NO_SPLIT_NOISE, spread: Floats = SPREAD
) -> Evidence:
    # Not a constant spread for the baseline: two arms with the same residuals would hide a swap.
    baseline = 0.4 + np.concatenate([0.5 * spread, spread[::-1]])
    return Evidence(requirement, baseline.mean() + gain + spread, baseline, split)


def one(*of: Evidence, problems: tuple[str, ...] = (), plan: Plan = Plan(second=None)) -> Verdict:  # noqa: B008
    return decide([Candidate("weighted", of, problems)], plan)[0]


@pytest.mark.parametrize(
    ("recall_gain", "map_gain", "outcome"),
    [
        pytest.param(0.12, 0.0, "accepted", id="both bounds clear their margins"),
        pytest.param(0.12, -0.03, "inconclusive", id="a guard exactly at its limit is not shown to hold"),
        pytest.param(0.06, 0.0, "inconclusive", id="a gain above the margin by less than its error"),
        pytest.param(0.00, 0.0, "rejected", id="even the upper bound of the gain is too low"),
        pytest.param(0.12, -0.10, "rejected", id="a gain that costs too much"),
    ],
)
def test_outcomes(recall_gain: float, map_gain: float, outcome: str) -> None:
    verdict = one(evidence(RECALL, recall_gain), evidence(MAP, map_gain))
    assert verdict.outcome == outcome
    assert bool(verdict.reasons) == (outcome != "accepted")


def test_a_rejection_says_which_requirement_and_by_how_much() -> None:
    verdict = one(evidence(RECALL, 0.12), evidence(MAP, -0.10))
    (recall, map_) = verdict.bounds
    assert recall.short_by < 0 < map_.short_by
    assert verdict.reasons == (
        f"map50_95: at most {map_.upper:+.3f}, -0.030 is asked for, {map_.short_by:.3f} short",
    )


def test_bounds_are_welchs_with_the_split_noise_at_their_levels() -> None:
    split = SplitNoise(np.full(10, 0.003), np.array(0.0001), np.array(9.0))
    measured = evidence(RECALL, 0.12, split)
    bound = one(measured, evidence(MAP, 0.0)).bounds[0]
    gain = welch(measured.candidate, measured.baseline, (np.array(0.0001), np.array(9.0)))
    assert (bound.lower_level, bound.upper_level) == (0.05, 0.025)
    assert bound.lower == pytest.approx(float(gain.lower(0.05)))
    assert bound.upper == pytest.approx(float(gain.upper(0.025)))
    assert bound.standard_error == pytest.approx(float(gain.variance) ** 0.5)
    assert bound.split_half_width == pytest.approx(stats.t.isf(0.05, 9) * 0.01)


def test_where_lower_is_better_a_fall_is_the_gain() -> None:
    verdict = one(evidence(Requirement("ece", 0.05, lower_is_better=True), -0.12))
    assert verdict.outcome == "accepted"
    assert verdict.bounds[0].gain == pytest.approx(0.12)


def test_a_floor_needs_no_baseline() -> None:
    floor = Requirement("accuracy", 0.9, against_baseline=False)
    accuracy = Evidence(floor, 0.95 + SPREAD, np.zeros(0), None)
    assert one(accuracy).outcome == "accepted"
    assert one(accuracy).bounds[0].lower == pytest.approx(float(one_sample(0.95 + SPREAD).lower(0.05)))


def test_the_notes_point_rule_is_shown_beside_the_verdict() -> None:
    assert one(evidence(RECALL, 0.06), evidence(MAP, 0.0)).point_rule
    assert not one(evidence(RECALL, 0.04), evidence(MAP, 0.0)).point_rule


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"candidate": CANDIDATE[:1]}, "candidate: 1 seed, at least 2", id="one seed"),
        pytest.param({"candidate": np.array([0.5, np.nan])}, "candidate: a seed diverged", id="NaN"),
        pytest.param({"baseline": np.array([0.5, np.inf])}, "baseline: a seed diverged", id="infinite"),
        pytest.param(
            {"candidate": np.full(5, 0.5)}, "candidate: all 5 seeds give identical", id="identical seeds"
        ),
    ],
)
def test_bad_input_is_invalid_and_says_why(changed: dict[str, Floats], reason: str) -> None:
    both = (replace(evidence(RECALL, 0.12), **changed), replace(evidence(MAP, 0.0), **changed))
    verdict = one(*both)
    assert verdict.outcome == "invalid"
    assert verdict.reasons[0].startswith(reason)
    assert not verdict.bounds
    assert not verdict.point_rule


def test_problems_that_only_the_caller_knows_make_it_invalid() -> None:
    verdict = one(evidence(RECALL, 0.12), problems=("no test split",))
    assert (verdict.outcome, verdict.reasons) == ("invalid", ("no test split",))


def test_one_metric_that_never_moves_is_no_reason_to_distrust_the_seeds() -> None:
    assert one(evidence(RECALL, 0.12), evidence(MAP, 0.0, spread=np.zeros(5))).outcome == "accepted"


def test_candidates_share_alpha_by_rank() -> None:
    clear, close = (
        Candidate("clear", (evidence(RECALL, 0.2),)),
        Candidate("close", (evidence(RECALL, 0.068),)),
    )
    alone = decide([close], Plan(second=None))[0]
    beside_clear = decide([close, clear], Plan(second=None))[0]
    beside_null = decide([close, Candidate("null", (evidence(RECALL, 0.0),))], Plan(second=None))[0]
    assert (alone.outcome, beside_clear.outcome, beside_null.outcome) == (
        "accepted",
        "accepted",
        "inconclusive",
    )
    assert [v.bounds[0].lower_level for v in (alone, beside_clear, beside_null)] == [0.05, 0.05, 0.025]


def test_at_the_second_look_an_accepted_candidate_has_passed_its_alpha_on() -> None:
    close = Candidate("close", (evidence(RECALL, 0.068),))
    plan = Plan()
    two_left = decide([close], plan, look=2, family=3, accepted_before=1)[0]
    one_left = decide([close], plan, look=2, family=3, accepted_before=2)[0]
    assert two_left.bounds[0].lower_level == plan.level(2, holders=2)
    assert one_left.bounds[0].lower_level == plan.level(2)
    with pytest.raises(ValueError, match="of a family of 1"):
        decide([close], plan, family=1, accepted_before=1)


ORDER = {"rejected": 0, "inconclusive": 1, "accepted": 2}
gains = st.floats(-0.3, 0.3)


@given(gain=gains, more=st.floats(0, 0.3), cost=gains, sd=st.floats(0.1, 3))
def test_a_verdict_is_monotone_in_the_gain(gain: float, more: float, cost: float, sd: float) -> None:
    less, better = (
        one(evidence(RECALL, g, spread=sd * SPREAD), evidence(MAP, cost)).outcome for g in (gain, gain + more)
    )
    assert ORDER[less] <= ORDER[better]


@given(gain=gains, margin=gains, wider=st.floats(0, 0.3), cost=gains)
def test_a_wider_margin_never_betters_a_verdict(
    gain: float, margin: float, wider: float, cost: float
) -> None:
    narrow, wide = (
        one(evidence(Requirement("minority_recall", m), gain), evidence(MAP, cost)).outcome
        for m in (margin, margin + wider)
    )
    assert ORDER[wide] <= ORDER[narrow]


def simulated(
    n: int, gain: float, split_sd: float, *, n_sources: int = 40
) -> tuple[Floats, Floats, SplitNoise]:
    """`n` studies of one metric: seeds of sd .03, doubled in the candidate, and a shared test split."""
    rng = np.random.default_rng(0)
    per_source = rng.normal(scale=split_sd * n_sources**0.5, size=(n, n_sources))
    mean = per_source.mean(axis=1, keepdims=True)
    candidate = gain + mean + rng.normal(scale=0.06, size=(n, 5))
    baseline = rng.normal(scale=0.03, size=(n, 10))
    return candidate, baseline, jackknife((mean - per_source) / (n_sources - 1))


def test_a_gain_on_the_margin_is_accepted_at_most_as_often_as_stated() -> None:
    n = 20_000
    candidate, baseline, split = simulated(n, RECALL.margin, split_sd=0.03)
    errs = (welch(candidate, baseline, split.part).p_value(RECALL.margin) <= 0.05).mean()
    assert 0.04 < errs < 0.055
    seeds_only = (welch(candidate, baseline).p_value(RECALL.margin) <= 0.05).mean()
    assert seeds_only > 0.08
    assert (PointRule(candidate.mean(1) - baseline.mean(1)).p_value(RECALL.margin) == 0).mean() > 0.48


def test_the_decision_is_the_bounds_that_were_simulated() -> None:
    candidate, baseline, split = simulated(60, 0.15, split_sd=0.02)
    together = welch(candidate, baseline, split.part).p_value(RECALL.margin) <= 0.05
    one_by_one = [
        one(Evidence(RECALL, candidate[i], baseline[i], jackknife(split.deviations[i]))).outcome == "accepted"
        for i in range(60)
    ]
    assert one_by_one == together.tolist()
    assert 10 < sum(one_by_one) < 60


# Planning


def noise(sd: float = 0.03, map_sd: float = 0.0075, split: tuple[float, float] = (0.01, 0.003)) -> Noise:
    correlation = np.array([[1.0, 0.5], [0.5, 1.0]])
    seed = correlation * np.outer([sd, map_sd], [sd, map_sd])
    return Noise(seed, seed, np.diag(np.square(split)), np.array([39.0, 39.0]))


DISTANCE = np.array([0.07, 0.03])  # a gain of .12 against .05, no drop against .03


def test_the_power_of_one_bound_without_split_noise_is_the_noncentral_ts() -> None:
    alone = Noise(*(np.array([[v]]) for v in (0.03**2, 0.0, 0.0)), np.array([np.inf]))
    expected = stats.nct.sf(stats.t.isf(0.05, 4), 4, 0.04 / (0.03 / 5**0.5))
    assert power(np.array([0.04]), alone, 5, 10, 0.05) == pytest.approx(expected, abs=0.005)


def test_planned_power_is_what_simulated_studies_have() -> None:
    n, n_studies, sources = 5, 40_000, 40
    given_noise = noise(sd=0.04, map_sd=0.02)
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(given_noise.candidate)
    passed = np.ones(n_studies, dtype=bool)
    candidate = np.tensordot(root, rng.normal(size=(2, n_studies, n)), axes=1)
    baseline = np.tensordot(root, rng.normal(size=(2, n_studies, 2 * n)), axes=1)
    for k in range(2):
        per_source = rng.normal(scale=(given_noise.split[k, k] * sources) ** 0.5, size=(n_studies, sources))
        mean = per_source.mean(axis=1, keepdims=True)
        split = jackknife((mean - per_source) / (sources - 1))
        passed &= welch(candidate[k] + mean + DISTANCE[k], baseline[k], split.part).p_value(0.0) <= 0.05
    assert power(DISTANCE, given_noise, n, 2 * n, 0.05) == pytest.approx(passed.mean(), abs=0.03)


def test_the_seeds_asked_for_are_the_fewest_that_reach_the_target() -> None:
    n = seeds_needed(DISTANCE, noise(sd=0.05), 0.05)
    assert n is not None
    assert power(DISTANCE, noise(sd=0.05), n, 2 * n, 0.05) >= 0.8
    assert power(DISTANCE, noise(sd=0.05), n - 1, 2 * n - 2, 0.05) < 0.8


@given(sd=st.floats(0.005, 0.1), more=st.floats(0, 0.05))
@settings(max_examples=20)
def test_more_noise_asks_for_no_fewer_seeds(sd: float, more: float) -> None:
    few, many = (seeds_needed(DISTANCE, noise(sd=s, split=(0.0, 0.0)), 0.05) for s in (sd, sd + more))
    assert few is not None
    assert many is None or few <= many


@pytest.mark.parametrize("distance", [1e-6, 0.5, 1e3])
@pytest.mark.parametrize("sd", [1e-9, 0.03, 1e3])
def test_power_is_a_probability_at_any_scale(distance: float, sd: float) -> None:
    value = power(np.array([distance, distance]), noise(sd=sd, map_sd=sd), 5, 10, 0.05)
    assert 0 <= value <= 1
    if distance > 1e5 * sd:
        assert value > 0.79  # the test split is all that is left


def test_the_upper_limit_of_an_sd_covers_the_true_one_as_often_as_stated() -> None:
    samples = np.random.default_rng(0).normal(scale=0.03, size=(20_000, 5)).std(axis=1, ddof=1)
    covered = np.mean([sd_upper_limit(float(sd), df=4, confidence=0.8) >= 0.03 for sd in samples])
    assert covered == pytest.approx(0.8, abs=0.01)


def test_noise_is_estimated_from_the_evidence() -> None:
    split = jackknife(np.random.default_rng(0).normal(scale=0.001, size=20))
    found = Noise.of([evidence(RECALL, 0.1, split), evidence(MAP, 0.0, None)], confidence=None)
    assert found.candidate == pytest.approx(np.full((2, 2), np.var(SPREAD, ddof=1)))
    assert found.split == pytest.approx(np.diag([float(split.variance), 0.0]))
    assert found.split_df.tolist() == [float(split.df), np.inf]
    inflated = Noise.of([evidence(RECALL, 0.1, split)])
    assert inflated.candidate[0, 0] == pytest.approx(sd_upper_limit(float(SPREAD.std(ddof=1)), 4) ** 2)


def test_where_lower_is_better_noise_keeps_its_sign() -> None:
    ece = Requirement("ece", -0.03, lower_is_better=True)
    found = Noise.of([evidence(RECALL, 0.1), evidence(ece, 0.0)], confidence=None)
    assert found.candidate[0, 1] == pytest.approx(-np.var(SPREAD, ddof=1))


SPLIT = jackknife(np.random.default_rng(0).normal(scale=0.2, size=40) / 40)


@pytest.mark.parametrize(
    ("gain", "split", "kind"),
    [
        pytest.param(0.10, NO_SPLIT_NOISE, "seeds", id="a gain that the seeds' noise hides"),
        pytest.param(0.10, SPLIT, "labels", id="a gain that the test split cannot resolve"),
        pytest.param(0.06, NO_SPLIT_NOISE, "too_many_seeds", id="a gain that is too small for its noise"),
        pytest.param(0.05, SPLIT, "no_gain", id="an estimate on its margin has nothing to confirm"),
    ],
)
def test_advice(gain: float, split: SplitNoise, kind: str) -> None:
    advice = advise([evidence(RECALL, gain, split, spread=3 * SPREAD)], 0.05)
    assert advice.kind == kind
    assert (advice.candidate_seeds is not None) == (kind == "seeds")
    assert (advice.sources is not None) == (kind == "labels")
    if advice.candidate_seeds is not None:
        assert advice.baseline_seeds == 2 * advice.candidate_seeds
    if advice.sources is not None:
        assert advice.best_power < 0.8 < 1 < advice.sources


def test_so_many_more_sources_would_reach_the_target() -> None:
    factor = sources_factor(DISTANCE, noise(split=(0.05, 0.003)), 0.05)
    assert factor is not None
    enough = noise(split=(0.05, 0.003)).without_seeds().with_sources(factor)
    assert 0.8 <= power(DISTANCE, enough, 2, 2, 0.05) < 0.85
    assert sources_factor(np.array([0.07, 0.0]), noise(), 0.05) is None


def test_a_gain_with_infinite_degrees_is_normal() -> None:
    gain = StudentGain(np.array(0.1), np.array(0.01), np.array(np.inf))
    assert gain.p_value(0.0) == pytest.approx(stats.norm.sf(1.0))


@pytest.mark.slow
def test_the_benchmark_runs_and_its_plans_hold() -> None:
    command = [sys.executable, "-m", "benchmarks.verdict", "--quick"]
    root = Path(__file__).parents[1]
    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    off = re.search(r"planned power differ by at most ([\d.]+)\.$", shown, re.MULTILINE)
    assert off is not None
    assert float(off[1]) < 0.04

import re
from dataclasses import replace

import numpy as np
import pytest
from gains import MAP, RECALL, SPREAD, evidence
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.rules import PointRule
from search.judging.statistics.bounds import Floats, one_sample, welch
from search.judging.statistics.decision import Candidate, Evidence, decide
from search.judging.statistics.jackknife import SplitNoise, jackknife
from search.judging.statistics.levels import level_of
from search.judging.statistics.values import Plan, Requirement, Verdict


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
        f"map50_95: at most {map_.upper:+.3f}, at least -0.030 is asked for, {map_.short_by:.3f} short",
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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(
            0.0, r"ece: at least -0\.0\d\d, at most -0\.050 is asked for, 0\.0\d\d short", id="rejected"
        ),
        pytest.param(
            -0.06, r"ece: between -0\.0[7-9]\d and -0\.04\d, at most -0\.050 is asked for", id="inconclusive"
        ),
    ],
)
def test_where_lower_is_better_the_reason_speaks_of_the_metric_itself(change: float, sentence: str) -> None:
    (reason,) = one(evidence(Requirement("ece", 0.05, lower_is_better=True), change)).reasons
    assert re.fullmatch(sentence, reason), reason


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
        pytest.param({"candidate": np.array([0.5])}, "candidate: 1 seed, at least 2", id="one seed"),
        pytest.param({"candidate": np.array([0.5, np.nan])}, "candidate: a seed diverged", id="NaN"),
        pytest.param({"baseline": np.array([0.5, np.inf])}, "baseline: a seed diverged", id="infinite"),
        pytest.param(
            {"candidate": np.full(5, 0.5)}, "candidate: all 5 seeds give the same value", id="identical seeds"
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
    assert two_left.bounds[0].lower_level == level_of(plan, 2, holders=2)
    assert one_left.bounds[0].lower_level == level_of(plan, 2)
    with pytest.raises(ValueError, match="of a family of 1"):
        decide([close], plan, family=1, accepted_before=1)


def two_way(n: int = 5) -> SplitNoise:
    """Each seed is lucky in a source of its own: all of the candidate's variance is theirs together."""
    own = 0.02 * np.concatenate([np.eye(n), -np.eye(n)], axis=1)
    return replace(jackknife(own.mean(axis=0)), candidate=own)


def test_what_seed_and_source_make_together_counts_once() -> None:
    split = two_way()
    interaction = 9 / 10 * 10 * 0.02**2 * (1 / 5) / 5  # G-1 / G * sources * variance of 1 in 5 / seeds
    measured = evidence(RECALL, 0.12, split)
    bound = one(measured).bounds[0]
    seeds = [SPREAD.var(ddof=1) / 5, measured.baseline.var(ddof=1) / 10]
    once = max(seeds[0] - interaction, 0.0) + seeds[1] + float(split.variance)
    assert bound.standard_error**2 == pytest.approx(once)
    assert bound.standard_error**2 < sum(seeds) + float(split.variance)
    assert bound.split_half_width == 0  # with more and more seeds nothing of it is left


def test_a_collapsed_seed_leaves_a_candidate_open_at_best_and_says_how_many() -> None:
    clear, bad = evidence(RECALL, 0.5), evidence(RECALL, 0.0)
    verdicts = [decide([Candidate("c", (of,), collapsed=2)], Plan())[0] for of in (clear, bad)]
    assert [verdict.outcome for verdict in verdicts] == ["inconclusive", "rejected"]
    assert verdicts[0].reasons == (
        "2 of 5 trainings collapsed (minority_recall 0, or below half of their median): "
        "what it gains hangs on how often that happens",
    )
    assert verdicts[0].settled  # its seeds stay in the second look
    assert verdicts[0].remarks == ()


def test_without_a_collapse_the_verdict_says_what_is_known() -> None:
    (verdict,) = decide([Candidate("c", (evidence(RECALL, 0.5),), collapsed=0, remarks=("more",))], Plan())
    assert verdict.outcome == "accepted"
    assert verdict.remarks == (
        "0 of 5 trainings collapsed: up to 45% of trainings may (one-sided 95 %)",
        "more",
    )
    assert one(evidence(RECALL, 0.5)).remarks == ()  # nobody looked


def test_a_collapsed_candidate_passes_no_alpha_on() -> None:
    close = Candidate("close", (evidence(RECALL, 0.068),))
    clear = Candidate("clear", (evidence(RECALL, 0.5),))
    plan = Plan(second=None)
    assert decide([close, clear], plan)[0].outcome == "accepted"
    assert decide([close, replace(clear, collapsed=1)], plan)[0].outcome == "inconclusive"


def test_a_baseline_that_collapses_lends_its_variance() -> None:
    measured = evidence(RECALL, 0.12)
    lent = (np.asarray(0.04), np.asarray(9.0))
    steady, unsteady = (one(replace(measured, lent=of)).bounds[0] for of in (None, lent))
    by_hand = 0.04 / 5 + measured.baseline.var(ddof=1) / 10
    assert unsteady.standard_error**2 == pytest.approx(by_hand)
    assert steady.standard_error < unsteady.standard_error
    floor = replace(measured, requirement=Requirement("accuracy", 0.3, against_baseline=False), lent=lent)
    assert one(floor).bounds[0].standard_error ** 2 == pytest.approx(0.04 / 5)


@pytest.mark.parametrize(
    ("sd", "settled"),
    [
        pytest.param(0.034, False, id="test images that leave room"),
        # At .033 with 39 degrees 1.89 sd; seeds can lift .12 to about .14, and .05 is asked for.
        pytest.param(0.045, False, id="a lucky second look could still clear the margin"),
        pytest.param(0.055, True, id="no estimate that seeds can give would do"),
        pytest.param(0.5, True, id="images that say nothing"),
    ],
)
def test_no_second_look_where_the_test_images_alone_rule_it_out(sd: float, settled: bool) -> None:
    split = SplitNoise(np.full(40, 0.0), np.asarray(sd**2), np.asarray(39.0))
    candidate = Candidate("c", (evidence(RECALL, 0.12, split), evidence(MAP, 0.0, None)))
    (verdict,) = decide([candidate], Plan())
    assert verdict.outcome == "inconclusive"
    assert verdict.settled == settled
    width = stats.t.isf(level_of(Plan(), 2), 39) * sd
    said = f"minority_recall: the test images alone leave it uncertain by ±{width:.3f}, so more seeds cannot"
    assert any(reason.startswith(said) for reason in verdict.reasons) == settled
    (last,) = decide([candidate], Plan(), look=2)
    assert not last.settled  # no look is left that could be spared


@pytest.mark.parametrize(
    ("requirement", "least", "most"),
    [
        pytest.param(RECALL, -1.0, 1.0, id="the gain of a recall"),
        pytest.param(Requirement("accuracy", 0.9, against_baseline=False), 0.0, 1.0, id="a floor"),
        pytest.param(Requirement("ece", -0.1, True, False), -1.0, 0.0, id="a ceiling, as a negative floor"),
    ],
)
def test_bounds_stay_where_a_metric_can_be(requirement: Requirement, least: float, most: float) -> None:
    split = SplitNoise(np.zeros(10), np.asarray(4.0), np.asarray(1.0))
    bound = one(evidence(requirement, 0.1, split)).bounds[0]
    assert (bound.lower, bound.upper) == (least, most)


@pytest.mark.parametrize("metric", ["nll", "calibrated/nll", "deployed/false_alarms"])
def test_bounds_of_what_is_no_share_are_not_limited(metric: str) -> None:
    split = SplitNoise(np.zeros(10), np.asarray(4.0), np.asarray(1.0))
    bound = one(evidence(Requirement(metric, -0.1, lower_is_better=True), 0.1, split)).bounds[0]
    assert bound.lower < -1
    beyond = evidence(Requirement("alarms", 0.0), 3.0, split)  # no share, whatever it is called
    assert one(beyond).bounds[0].upper > 1


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

"""Each look's verdicts, and when a confirmation has finished."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gains import SPREAD
from in_process import config
from judged_arms import CONFIG, NAMES, arm, by_name, looked, outcomes, plan, said
from reports import DIVERGED

from search.judging.confirmation import Confirmation, Look, requirements
from search.judging.judge import judge
from search.judging.measured import Arm
from search.judging.statistics.jackknife import Replicates
from search.judging.statistics.levels import level_of
from search.judging.statistics.values import Seeds
from search.record.experiments import BASELINE_ARM
from search.request.guards import Floor
from spaces.strategy import NAMED


def test_accepted_rejected_and_inconclusive() -> None:
    results = looked(arm("weighted", 0.7), arm("focal", 0.4), arm("class_weighted", 0.46))
    assert outcomes(results) == {
        "weighted": "accepted",
        "focal": "rejected",
        "class_weighted": "inconclusive",
    }
    (gain, map_, ranking) = results["weighted"].verdict.bounds
    assert gain.gain == pytest.approx(0.3)
    assert [bound.requirement for bound in (gain, map_, ranking)] == list(requirements(CONFIG))
    assert gain.split_half_width is None  # the toy has no images
    assert results["weighted"].seeds == Seeds(5, 10)
    assert results["weighted"].means["minority_recall"] == pytest.approx(0.7)
    assert results["weighted"].baseline["minority_recall"] == pytest.approx(0.4)


def test_a_broken_guard_rejects_whatever_the_gain() -> None:
    results = looked(arm("weighted", 0.7, map50_95=0.3))
    assert outcomes(results) == {"weighted": "rejected"}
    assert results["weighted"].verdict.reasons[0].startswith("map50_95: at most -0.")


def test_levels_are_holms_over_the_candidates_and_half_for_the_first_of_two_looks() -> None:
    results = looked(arm("weighted", 0.7), arm("focal", 0.4), arm("class_weighted", 0.46))
    levels = {name: result.verdict.bounds[0].lower_level for name, result in results.items()}
    assert levels == pytest.approx({"weighted": 0.025 / 3, "focal": 0.025 / 2, "class_weighted": 0.025 / 2})
    alone = looked(arm("weighted", 0.7), of=plan("weighted", more_seeds=0))
    assert alone["weighted"].verdict.bounds[0].lower_level == 0.05


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"problems": ("weighted: a seed gave no result",)}, id="a diverged seed"),
        pytest.param({"problems": ("weighted: seeds 1 and 3 give identical predictions",)}, id="identical"),
        pytest.param({"untold": {"map50_95": "weighted: 6 source images"}}, id="a requirement untold"),
    ],
)
def test_a_problem_makes_its_candidate_invalid_and_no_other(more: dict[str, Any]) -> None:
    results = looked(arm("weighted", 0.7, **more), arm("focal", 0.7))
    assert outcomes(results) == {"weighted": "invalid", "focal": "accepted"}
    (reason,) = results["weighted"].verdict.reasons
    assert reason in [*more.get("problems", ()), *more.get("untold", {}).values()]


def test_a_metric_that_is_not_asked_for_may_be_untold() -> None:
    assert outcomes(looked(arm("weighted", 0.7, untold={"map50": "six sources"}))) == {"weighted": "accepted"}


def test_what_the_baseline_cannot_tell_of_a_floor_leaves_its_candidates_alone() -> None:
    untold = {"minority_ap50": "plain: test split: 3 source images"}
    baseline = arm(BASELINE_ARM, 0.4, seeds=10, untold=untold)
    floor = CONFIG.model_copy(update={"guards": (Floor(metric="minority_ap50", floor=0.1),)})
    for asked, outcome in ((CONFIG, "invalid"), (floor, "accepted")):
        known = {BASELINE_ARM: baseline, "weighted": arm("weighted", 0.7)}
        look = judge(asked, (), plan("weighted"), 1, known, None)
        assert outcomes(by_name(look)) == {"weighted": outcome}


def test_a_problem_of_the_baseline_makes_all_invalid() -> None:
    baseline = arm(BASELINE_ARM, 0.4, seeds=9, problems=("baseline: a seed gave no result (diverged): nan",))
    results = looked(arm("weighted", 0.7), arm("focal", 0.4), baseline=baseline)
    assert outcomes(results) == {"weighted": "invalid", "focal": "invalid"}
    assert results["focal"].verdict.reasons == baseline.problems


def test_a_candidate_of_which_no_seed_finished_is_invalid_and_shown() -> None:
    lost = Arm("weighted", NAMED["weighted"], (), (DIVERGED,), problems=("weighted: nan",))
    look = judge(
        CONFIG,
        (),
        plan("weighted"),
        1,
        {BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=10), "weighted": lost},
        None,
    )
    (result,) = look.results
    assert (result.verdict.outcome, result.means, result.notes) == ("invalid", {}, ())
    assert "weighted: nan" in said(Confirmation("confirm/1", plan("weighted"), (look,)))


def test_the_second_look_is_for_the_open_ones_and_the_others_keep_their_result() -> None:
    planned = plan()
    arms = [arm("weighted", 0.7), arm("focal", 0.4), arm("class_weighted", 0.475)]
    known = {one.name: one for one in (arm(BASELINE_ARM, 0.4, seeds=10), *arms)}
    first = judge(CONFIG, (), planned, 1, known, None)
    assert first.open_names == ["class_weighted"]
    more = {
        BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=15),
        "class_weighted": arm("class_weighted", 0.475, seeds=10),
    }
    second = judge(CONFIG, (), planned, 2, more, first)
    before, after = by_name(first), by_name(second)
    assert list(after) == list(NAMES)
    assert after["weighted"] is before["weighted"]
    assert after["focal"] is before["focal"]
    decided = after["class_weighted"]
    assert decided.seeds == Seeds(10, 15)
    assert decided.verdict.outcome == "accepted"
    # One of three was accepted before and has passed its alpha on; the rejected one still counts.
    assert decided.verdict.bounds[0].lower_level == level_of(planned.looks, 2, holders=2)
    assert [result.candidate.name for result in second.accepted] == ["weighted", "class_weighted"]


def test_advice_is_for_who_stays_open_after_the_last_look() -> None:
    arms = [arm("weighted", 0.7), arm("focal", 0.46)]
    first = looked(*arms)
    last = looked(*arms, of=plan("weighted", "focal", more_seeds=0))
    assert [result.advice for result in first.values()] == [None, None]
    assert last["weighted"].advice is None
    assert last["focal"].advice.kind == "seeds"


COLLAPSING = np.array([0.0, 0.01, -0.01, 0.02, -0.45])  # of recalls around .7: one below half of their median


def test_one_collapsed_training_leaves_a_candidate_open_and_no_look_is_made_for_it() -> None:
    results = looked(arm("weighted", 0.7, spread=COLLAPSING), arm("focal", 0.7))
    assert outcomes(results) == {"weighted": "inconclusive", "focal": "accepted"}
    assert (
        results["weighted"]
        .verdict.reasons[-1]
        .startswith("1 of 5 trainings collapsed (minority_recall 0, or")
    )
    assert results["weighted"].advice is None
    assert results["focal"].verdict.remarks == (
        "0 of 5 trainings collapsed: up to 45% of trainings may (one-sided 95 %)",
    )
    planned = plan("weighted", "focal")
    look = Look(number=1, finished="now", results=tuple(results.values()))
    assert look.open_names == []
    confirmation = Confirmation("confirm/1", planned, (look,))
    assert confirmation.finished
    assert "up to 45% of trainings may" in said(confirmation)


def test_a_baseline_that_collapses_makes_its_candidates_no_surer_than_itself() -> None:
    steady, unsteady = (arm(BASELINE_ARM, 0.4, seeds=10, spread=of) for of in (SPREAD, 0.6 * COLLAPSING))
    before, after = (
        looked(arm("weighted", 0.7), baseline=of)["weighted"].verdict for of in (steady, unsteady)
    )
    assert (before.outcome, after.outcome) == ("accepted", "accepted")
    assert after.remarks[-1].startswith("1 of 10 trainings of the baseline collapsed: those of the candidate")
    variance = np.var([report.metrics["minority_recall"] for report in unsteady.reports], ddof=1)
    assert after.bounds[0].standard_error ** 2 == pytest.approx(variance / 5 + variance / 10)


def test_advice_comes_as_soon_as_the_test_images_settle_it() -> None:
    rng = np.random.default_rng(0)
    sources = tuple(f"slide{i:02}" for i in range(20))
    metrics = ("minority_recall", "accuracy")

    def measured(name: str, recall: float, seeds: int) -> Arm:
        of = arm(name, recall, seeds=seeds)
        reports = tuple(
            one.model_copy(update={"metrics": one.metrics | {"accuracy": 0.9}}) for one in of.reports
        )
        whole = [[report.metrics[metric] for report in reports] for metric in metrics]
        replicates = {
            metric: tuple(Replicates(value, value + of_source, sources) for value in values)
            for metric, values, of_source in zip(
                metrics, whole, (0.1 * rng.normal(size=20), np.zeros(20)), strict=True
            )
        }
        return replace(of, reports=reports, replicates=replicates)

    request = config(task="classification", guards=[{"metric": "accuracy", "max_drop": 0.03}])
    arms = {BASELINE_ARM: measured(BASELINE_ARM, 0.4, 10), "weighted": measured("weighted", 0.6, 5)}
    look = judge(request, (), plan("weighted"), 1, arms, None)
    (result,) = look.results
    assert (result.verdict.outcome, result.verdict.settled, look.open_names) == ("inconclusive", True, [])
    assert "so more seeds cannot help: label more" in result.verdict.reasons[-1]
    assert result.advice is not None
    assert result.advice.kind == "labels"


@pytest.mark.parametrize(
    ("looks", "recall", "finished"),
    [
        pytest.param(2, None, False, id="no look yet"),
        pytest.param(2, 0.46, False, id="something is open and a look is left"),
        pytest.param(2, 0.7, True, id="nothing is open"),
        pytest.param(1, 0.46, True, id="no look is left"),
    ],
)
def test_when_a_confirmation_has_finished(looks: int, recall: float | None, finished: bool) -> None:
    planned = plan("weighted", more_seeds=5 * (looks - 1))
    known = {BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=10)} | (
        {} if recall is None else {"weighted": arm("weighted", recall)}
    )
    done = () if recall is None else (judge(CONFIG, (), planned, 1, known, None),)
    assert Confirmation("confirm/1", planned, done).finished == finished

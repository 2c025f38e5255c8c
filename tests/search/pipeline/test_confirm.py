"""A confirmation: carried out, interrupted, gone on with, refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from in_process import Here, config, failure
from toy_experiments import COSTLY, GOOD, confirmed_here, outcomes, timeless

from search.judging.confirmation import Asked, latest
from search.record.folder import StudyFolder
from spaces.errors import Interrupted, RunError, UsageError
from trainables.contract.trial import Outcome, TrialSpec
from trainables.data.sources import describe


@pytest.fixture
def study(searched_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched_study, tmp_path / "study"))


def states(path: Path) -> dict[int, str]:
    return {trial.number: trial.state for trial in StudyFolder(path).open().trials()}


def test_the_search_finalists_and_the_named_strategies_are_confirmed(study: Path) -> None:
    here = Here()
    confirmation = confirmed_here(study, here=here)
    first, *named = [one.name for one in confirmation.plan.candidates]
    trials = {f"trial {trial.number}": trial for trial in StudyFolder(study).open().trials()}
    assert confirmation.plan.candidates[0].strategy == trials[first].strategy
    assert trials[first].feasible
    assert named == [GOOD, COSTLY]
    assert confirmation.experiment == "confirm/1"
    assert confirmation.finished
    assert outcomes(confirmation)[GOOD] == "accepted"
    assert outcomes(confirmation)[COSTLY] == "rejected"
    look = confirmation.looks[0]
    still_open = len(look.open_names)
    assert 0 < still_open < 3  # or this example would not show a second look
    assert len(confirmation.looks) == 2
    # Four seeds of each arm, then two more of the baseline and of each candidate that was open.
    assert len(here.ran) == len(set(here.ran)) == 4 * 4 + 2 * (1 + still_open)
    assert {spec.split for spec in here.ran} == {"test"}
    assert StudyFolder(study).open().trials() == list(trials.values())


def test_once_finished_it_is_shown_and_nothing_runs(study: Path) -> None:
    first = confirmed_here(study)
    again = Here()
    assert confirmed_here(study, here=again) == first
    assert again.connections == 0


def test_fresh_makes_another_with_seeds_of_its_own(study: Path) -> None:
    one, other = Here(), Here()
    first = confirmed_here(study, Asked(strategies=(GOOD,), one_look=True), one)
    second = confirmed_here(study, Asked(strategies=(GOOD,), one_look=True), other, fresh=True)
    assert (first.experiment, second.experiment) == ("confirm/1", "confirm/2")
    assert {spec.seed for spec in one.ran}.isdisjoint(spec.seed for spec in other.ran)
    assert latest(StudyFolder(study).open()) == second


def test_an_interrupted_confirmation_goes_on_as_planned(study: Path, confirmed_study: Path) -> None:
    stopped, resumed = Here(at_most=5), Here()
    with pytest.raises(Interrupted) as stop:
        confirmed_here(study, here=stopped)
    assert stop.value.hint.endswith("--resume")
    with pytest.raises(UsageError, match=r"confirm/1 in .* is not finished"):
        confirmed_here(study)
    # What is asked plays no part any more: the plan stands.
    whole = confirmed_here(study, Asked(seeds=9), resumed, resume=True)
    undisturbed = latest(StudyFolder(confirmed_study).open())
    assert undisturbed is not None
    assert whole.plan == undisturbed.plan
    assert timeless(whole) == timeless(undisturbed)
    assert set(stopped.ran).isdisjoint(resumed.ran)


def test_one_interrupted_in_its_second_look_keeps_the_first(study: Path) -> None:
    stopped, resumed = Here(at_most=17), Here()  # the first look has 16 runs
    with pytest.raises(Interrupted):
        confirmed_here(study, here=stopped)
    begun = latest(StudyFolder(study).open())
    assert begun is not None
    assert len(begun.looks) == 1
    whole = confirmed_here(study, here=resumed, resume=True)
    assert whole.looks[0] == begun.looks[0]
    assert set(stopped.ran).isdisjoint(resumed.ran)


def test_one_that_cannot_be_finished_can_be_left(study: Path) -> None:
    with pytest.raises(Interrupted):
        confirmed_here(study, Asked(seeds=20), Here(at_most=2))
    second = confirmed_here(study, Asked(strategies=(GOOD,)), fresh=True)
    assert second.experiment == "confirm/2"
    assert len(second.plan.candidates) == 1


def test_a_seed_that_crashes_every_time_is_named_and_tried_again_on_resume(study: Path) -> None:
    broken = Here(instead=lambda spec: failure(spec, "lost") if spec.strategy.changed() else None)
    with pytest.raises(RunError, match=rf"{GOOD}, seed \d+ crashed 2 times \(lost\)"):
        confirmed_here(study, Asked(strategies=(GOOD,)), broken)
    assert outcomes(confirmed_here(study, resume=True)) == {GOOD: "accepted"}


@pytest.mark.parametrize(
    ("of_baseline", "expected"),
    [
        pytest.param(False, {GOOD: "invalid", COSTLY: "rejected"}, id="a candidate's own"),
        pytest.param(True, {GOOD: "invalid", COSTLY: "invalid"}, id="the baseline's makes all invalid"),
    ],
)
def test_one_diverged_seed(study: Path, of_baseline: bool, expected: dict[str, str]) -> None:
    diverged: list[TrialSpec] = []

    def once(spec: TrialSpec) -> Outcome | None:
        plain = not spec.strategy.changed()
        augmented = spec.strategy.augmentation.augment_minority > 0
        if diverged or not (plain if of_baseline else augmented):
            return None
        diverged.append(spec)
        return failure(spec, "diverged")

    confirmation = confirmed_here(study, Asked(strategies=(GOOD, COSTLY), one_look=True), Here(instead=once))
    found = outcomes(confirmation)
    assert found[GOOD] == expected[GOOD] == "invalid"
    assert (found[COSTLY] == "invalid") == of_baseline
    reasons = confirmation.looks[-1].results[0].verdict.reasons
    assert any("a seed gave no result (diverged)" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"strategies": ("filtred",)}, "hint: did you mean 'filtered'?", id="an unknown strategy"
        ),
        pytest.param({"trials": (99,)}, "--trial 99: no such trial", id="an unknown trial"),
        pytest.param(
            {"seeds": 1}, "confirm.seeds: should be greater than or equal to 2, got 1", id="one seed"
        ),
    ],
)
def test_what_cannot_be_confirmed_starts_nothing(study: Path, changes: dict[str, Any], said: str) -> None:
    here = Here()
    with pytest.raises(UsageError) as error:
        confirmed_here(study, Asked(**changes), here)
    assert said in str(error.value)
    assert here.connections == 0
    assert StudyFolder(study).open().experiments() == []


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        pytest.param(
            {"seeds": 3},
            "confirm.seeds: at least 4 are needed to judge 2 candidates, got 3\nhint: --seeds 4, or one",
            id="of the candidates",
        ),
        pytest.param(
            {"baseline_seeds": 2}, "confirm.baseline_seeds: at least 4 are needed", id="of the baseline"
        ),
    ],
)
def test_several_candidates_want_four_seeds_an_arm(study: Path, seeds: dict[str, int], said: str) -> None:
    here = Here()
    with pytest.raises(UsageError) as error:
        confirmed_here(study, Asked(strategies=(GOOD, COSTLY), **seeds), here)
    assert said in str(error.value)
    assert here.connections == 0
    assert StudyFolder(study).open().experiments() == []
    alone = confirmed_here(study, Asked(strategies=(GOOD,), one_look=True, **seeds), here)
    assert alone.finished


def test_a_failed_trial_cannot_be_confirmed_and_a_trial_named_twice_is_one_candidate(study: Path) -> None:
    number, failed = (
        next(number for number, state in states(study).items() if state == wanted)
        for wanted in ("complete", "failed")
    )
    with pytest.raises(UsageError, match=f"--trial {failed}: it is failed"):
        confirmed_here(study, Asked(trials=(failed,)))
    confirmation = confirmed_here(study, Asked(trials=(number, number), one_look=True))
    assert [one.name for one in confirmation.plan.candidates] == [f"trial {number}"]


def test_a_classifiers_confirmation_counts_the_test_splits_own_error(tmp_path: Path) -> None:
    request = config(
        name="digits",
        task="classification",
        data="demo:digits",
        minority=["1", "8", "9"],
        train={"model": "small_cnn", "imgsz": 8, "batch": 32, "steps": 30, "eval_every": 15},
        guards=[{"metric": "accuracy", "max_drop": 0.5}],
        confirm={
            "finalists": 0,
            "seeds": 2,
            "baseline_seeds": 2,
            "more_seeds": 0,
            "strategies": ["weighted"],
        },
    )
    fingerprint = describe("demo:digits", "classification").fingerprint
    StudyFolder(tmp_path / "study").create(request, fingerprint, ["1", "8", "9"])
    confirmation = confirmed_here(tmp_path / "study")
    (result,) = confirmation.looks[0].results
    widths = [bound.split_half_width for bound in result.verdict.bounds]
    assert [bound.requirement.metric for bound in result.verdict.bounds] == ["minority_recall", "accuracy"]
    assert all(width is not None and 0 < width < 0.5 for width in widths)

"""What is asked of a candidate, and which runs a confirmation plans."""

from collections import Counter
from typing import Any

import pytest
from in_process import DATA, config
from judged_arms import CONFIG, NAMES, plan

from search.judging.confirmation import Asked, requirements
from search.judging.statistics.values import Requirement
from search.record.experiments import BASELINE_ARM
from search.request.config import StudyConfig
from spaces.errors import UsageError

RANKING = Requirement("minority_ap50", 0.0)
GAIN = Requirement("minority_recall", 0.05)


def detection(guards: list[dict[str, Any]]) -> StudyConfig:
    return config(task="detection", data="data.yaml", space="detection", guards=guards)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(
            config(guards=[{"metric": "map50_95", "max_drop": 0.03}]),
            [GAIN, Requirement("map50_95", -0.03)],
            id="a drop is a negative gain that is allowed",
        ),
        pytest.param(
            config(guards=[{"metric": "map50_95", "floor": 0.4}]),
            [GAIN, Requirement("map50_95", 0.4, against_baseline=False)],
            id="a floor is not against the baseline",
        ),
        pytest.param(
            config(
                task="classification",
                guards=[{"metric": "ece", "max_drop": 0.05}, {"metric": "nll", "floor": 0.7}],
            ),
            [
                GAIN,
                Requirement("ece", -0.05, lower_is_better=True),
                Requirement("nll", -0.7, lower_is_better=True, against_baseline=False),
            ],
            id="where lower is better a ceiling is a negative floor",
        ),
        pytest.param(
            detection([{"metric": "map50_95", "max_drop": 0.03}]),
            [GAIN, Requirement("map50_95", -0.03), RANKING],
            id="a detector's ranking may not fall, guarded or not",
        ),
        pytest.param(
            detection([{"metric": "minority_ap50", "max_drop": 0.02}]),
            [GAIN, Requirement("minority_ap50", -0.02)],
            id="a guard on the ranking says how much",
        ),
        pytest.param(
            config(task="classification", guards=[]), [GAIN], id="a classifier without guards needs the gain"
        ),
        pytest.param(
            config(guards=[], confirm={"min_gain": 0.1}),
            [Requirement("minority_recall", 0.1)],
            id="the gain of the study file",
        ),
    ],
)
def test_requirements(request_: StudyConfig, expected: list[Requirement]) -> None:
    assert requirements(request_) == tuple(expected)


def test_a_drop_of_nothing_is_not_said_as_minus_nothing() -> None:
    allowed = requirements(CONFIG)[-1]
    assert f"{allowed.margin:+.3f}" == "+0.000"


def test_on_whole_images_the_same_is_asked_of_their_metrics() -> None:
    tiles, wholes = requirements(CONFIG), requirements(CONFIG, whole_images=True)
    assert [one.metric for one in wholes] == [f"merged/{one.metric}" for one in tiles]
    assert [one.margin for one in wholes] == [one.margin for one in tiles]


def test_all_runs_of_a_plan_merge_alike() -> None:
    planned = plan().model_copy(update={"merging": "joined"})
    runs = planned.wanted("confirm/1", CONFIG, DATA, 1, NAMES)
    assert {run.spec.data.merging for run in runs} == {"joined"}


def test_a_plan_runs_each_arm_with_its_seeds_on_the_test_split() -> None:
    runs = plan().wanted("confirm/1", CONFIG, DATA, 1, NAMES)
    assert Counter(run.arm for run in runs) == {BASELINE_ARM: 10, **dict.fromkeys(NAMES, 5)}
    assert {run.spec.split for run in runs} == {"test"}
    assert len({run.spec.seed for run in runs}) == 25
    assert [run.arm for run in runs[:4]] == [BASELINE_ARM, *NAMES]  # seed by seed, so that all arms get on


def test_a_second_look_adds_seeds_to_the_baseline_and_to_what_is_open() -> None:
    first = plan().wanted("confirm/1", CONFIG, DATA, 1, NAMES)
    second = plan().wanted("confirm/1", CONFIG, DATA, 2, ["focal"])
    assert Counter(run.arm for run in second) == {BASELINE_ARM: 15, "focal": 10}
    known = [run for run in second if run in first]
    assert Counter(run.arm for run in known) == {BASELINE_ARM: 10, "focal": 5}


def test_another_confirmation_has_seeds_of_its_own() -> None:
    one, other = (
        {run.spec.seed for run in plan().wanted(name, CONFIG, DATA, 2, NAMES)}
        for name in ("confirm/1", "confirm/2")
    )
    assert len(one) == len(other) == 45
    assert one.isdisjoint(other)


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        pytest.param(Asked(), {}, id="nothing"),
        pytest.param(Asked(seeds=7, baseline_seeds=9), {"seeds": 7, "baseline_seeds": 9}, id="seeds"),
        pytest.param(Asked(one_look=True), {"more_seeds": 0}, id="one look"),
        pytest.param(Asked(trials=(3,)), {"finalists": 0, "strategies": ()}, id="a trial, and nothing else"),
        pytest.param(
            Asked(strategies=("focal",)), {"finalists": 0, "strategies": ("focal",)}, id="a named strategy"
        ),
    ],
)
def test_what_is_asked_overrides_the_study_file(asked: Asked, changed: dict[str, Any]) -> None:
    study = config(confirm={"strategies": ["weighted"], "min_gain": 0.1})
    assert asked.settings(study) == study.confirm.model_copy(update=changed)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param(
            Asked(seeds=1), "confirm.seeds: should be greater than or equal to 2, got 1", id="one seed"
        ),
        pytest.param(Asked(seeds=0), "confirm.seeds: should be greater", id="no seed"),
        pytest.param(Asked(strategies=("focla",)), "hint: did you mean 'focal'?", id="a misspelt strategy"),
        pytest.param(Asked(strategies=("focal", "focal")), "named twice", id="a strategy twice"),
        pytest.param(Asked(strategies=("filtered",)), "'filtered' is not for classification", id="unfit"),
    ],
)
def test_what_cannot_be_asked(asked: Asked, said: str) -> None:
    with pytest.raises(UsageError) as error:
        asked.settings(config(task="classification"))
    assert said in str(error.value)

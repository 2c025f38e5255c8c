"""What is asked of a candidate, each look's verdicts, what is kept of them and said of them."""

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gains import SPREAD
from in_process import DATA, Here, config

from search.cli import _parser
from search.config import ConfirmConfig, StudyConfig
from search.confirmation import (
    BASELINE,
    Asked,
    Confirmation,
    ConfirmPlan,
    Look,
    PlannedCandidate,
    SplitUse,
    judge,
    latest,
    ledger,
    requirements,
    store,
)
from search.experiment import ExperimentWork, Wanted, seed_of
from search.folder import StudyFolder
from search.measured import MeasuredArm
from search.statistics.bounds import Floats
from search.statistics.decision import Requirement
from search.statistics.levels import Seeds
from search.tables import wide_console
from search.verdict_tables import confirmation_json, ledger_sentence, sentences, verdict_table
from spaces.errors import UsageError
from spaces.strategy import NAMED
from trainables.trial import EpochMetrics, Split, TrialFailure, TrialReport

CONFIG = config()
RANKING = Requirement("minority_ap50", 0.0)
GAIN = Requirement("minority_recall", 0.05)
NAMES = ("weighted", "focal", "class_weighted")
DIVERGED = TrialFailure(key="gone", kind="diverged", reason="the loss is nan")


def plan(*names: str, **settings: Any) -> ConfirmPlan:
    candidates = tuple(PlannedCandidate(name=name, strategy=NAMED[name]) for name in names or NAMES)
    return ConfirmPlan(settings=ConfirmConfig(**settings), candidates=candidates)


def arm(
    name: str, recall: float, *, seeds: int = 5, map50_95: float = 0.5, spread: Floats = SPREAD, **more: Any
) -> MeasuredArm:
    """Seeds around a minority recall, with a ranking that always rises beside it."""
    around = np.resize(np.concatenate([spread, 0.5 * spread[::-1]]), seeds)
    return MeasuredArm(
        name,
        NAMED.get(name, NAMED["plain"]),
        tuple(
            report(recall=recall + step, map50_95=map50_95 + 0.2 * step, ranking=recall + step)
            for step in around
        ),
        **more,
    )


def report(*, recall: float, map50_95: float, ranking: float) -> TrialReport:
    metrics: dict[str, float | None] = {
        "minority_recall": recall,
        "map50_95": map50_95,
        "minority_ap50": ranking,
    }
    return TrialReport(
        key="k",
        metrics=metrics,
        curve=(EpochMetrics(epoch=1, metrics=metrics),),
        applied={},
        exposure=0.1,
        images_seen=1,
        unique_images=1,
        steps=1,
        seconds=1.0,
        device="cpu",
    )


def looked(
    *arms: MeasuredArm, baseline: MeasuredArm | None = None, of: ConfirmPlan | None = None
) -> dict[str, Any]:
    """The first look's outcomes by name."""
    known = {one.name: one for one in (baseline or arm(BASELINE, 0.4, seeds=10), *arms)}
    planned = of or plan(*(one.name for one in arms))
    return by_name(judge(CONFIG, (), planned, 1, known, None))


def by_name(look: Look) -> dict[str, Any]:
    return {result.candidate.name: result for result in look.results}


def outcomes(results: dict[str, Any]) -> dict[str, str]:
    return {name: result.verdict.outcome for name, result in results.items()}


# What is asked


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


# The plan


def test_a_plan_runs_each_arm_with_its_seeds_on_the_test_split() -> None:
    runs = plan().wanted("confirm/1", CONFIG, DATA, 1, NAMES)
    assert Counter(run.arm for run in runs) == {BASELINE: 10, **dict.fromkeys(NAMES, 5)}
    assert {run.spec.split for run in runs} == {"test"}
    assert len({run.spec.seed for run in runs}) == 25
    assert [run.arm for run in runs[:4]] == [BASELINE, *NAMES]  # seed by seed, so that all arms get on


def test_a_second_look_adds_seeds_to_the_baseline_and_to_what_is_open() -> None:
    first = plan().wanted("confirm/1", CONFIG, DATA, 1, NAMES)
    second = plan().wanted("confirm/1", CONFIG, DATA, 2, ["focal"])
    assert Counter(run.arm for run in second) == {BASELINE: 15, "focal": 10}
    known = [run for run in second if run in first]
    assert Counter(run.arm for run in known) == {BASELINE: 10, "focal": 5}


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


# Verdicts


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


def test_a_problem_of_the_baseline_makes_all_invalid() -> None:
    baseline = arm(BASELINE, 0.4, seeds=9, problems=("baseline: a seed gave no result (diverged): nan",))
    results = looked(arm("weighted", 0.7), arm("focal", 0.4), baseline=baseline)
    assert outcomes(results) == {"weighted": "invalid", "focal": "invalid"}
    assert results["focal"].verdict.reasons == baseline.problems


def test_a_candidate_of_which_no_seed_finished_is_invalid_and_shown() -> None:
    lost = MeasuredArm("weighted", NAMED["weighted"], (), (DIVERGED,), problems=("weighted: nan",))
    look = judge(
        CONFIG, (), plan("weighted"), 1, {BASELINE: arm(BASELINE, 0.4, seeds=10), "weighted": lost}, None
    )
    (result,) = look.results
    assert (result.verdict.outcome, result.means, result.notes) == ("invalid", {}, ())
    assert "weighted: nan" in said(Confirmation("confirm/1", plan("weighted"), (look,)))


def test_the_second_look_is_for_the_open_ones_and_the_others_keep_their_result() -> None:
    planned = plan()
    arms = [arm("weighted", 0.7), arm("focal", 0.4), arm("class_weighted", 0.475)]
    known = {one.name: one for one in (arm(BASELINE, 0.4, seeds=10), *arms)}
    first = judge(CONFIG, (), planned, 1, known, None)
    assert first.open_names == ["class_weighted"]
    more = {BASELINE: arm(BASELINE, 0.4, seeds=15), "class_weighted": arm("class_weighted", 0.475, seeds=10)}
    second = judge(CONFIG, (), planned, 2, more, first)
    before, after = by_name(first), by_name(second)
    assert list(after) == list(NAMES)
    assert after["weighted"] is before["weighted"]
    assert after["focal"] is before["focal"]
    decided = after["class_weighted"]
    assert decided.seeds == Seeds(10, 15)
    assert decided.verdict.outcome == "accepted"
    # One of three was accepted before and has passed its alpha on; the rejected one still counts.
    assert decided.verdict.bounds[0].lower_level == planned.looks.level(2, holders=2)
    assert [result.candidate.name for result in second.accepted] == ["weighted", "class_weighted"]


def test_advice_is_for_who_stays_open_after_the_last_look() -> None:
    arms = [arm("weighted", 0.7), arm("focal", 0.46)]
    first = looked(*arms)
    last = looked(*arms, of=plan("weighted", "focal", more_seeds=0))
    assert [result.advice for result in first.values()] == [None, None]
    assert last["weighted"].advice is None
    assert last["focal"].advice.kind == "seeds"


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
    known = {BASELINE: arm(BASELINE, 0.4, seeds=10)} | (
        {} if recall is None else {"weighted": arm("weighted", recall)}
    )
    done = () if recall is None else (judge(CONFIG, (), planned, 1, known, None),)
    assert Confirmation("confirm/1", planned, done).finished == finished


# What is kept


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    folder.create(CONFIG, "fingerprint")
    return folder


def frozen_look() -> Look:
    """The guarded metric never moves, so its bound has infinite degrees of freedom."""
    known = {
        BASELINE: arm(BASELINE, 0.4, seeds=10),
        "weighted": arm("weighted", 0.7),
    }
    known = {
        name: MeasuredArm(
            name,
            one.strategy,
            tuple(of.model_copy(update={"metrics": of.metrics | {"map50_95": 0.5}}) for of in one.reports),
        )
        for name, one in known.items()
    }
    return judge(CONFIG, (), plan("weighted"), 1, known, None)


def test_a_look_reads_back_as_it_was_kept_with_infinite_degrees_of_freedom(folder: StudyFolder) -> None:
    look = frozen_look()
    assert look.results[0].verdict.bounds[1].df == np.inf
    study = folder.open()
    record = study.experiment("confirm/1")
    record.set_plan(plan("weighted").model_dump_json())
    store(record, look)
    study.flush()
    assert latest(folder.open()) == Confirmation("confirm/1", plan("weighted"), (look,))


def test_the_last_confirmation_is_the_one_begun_last(folder: StudyFolder) -> None:
    study = folder.open()
    assert latest(study) is None
    for number in range(1, 11):
        study.experiment(f"confirm/{number}").set_plan(plan("focal").model_dump_json())
    study.experiment("compare").set_plan("another's")
    study.flush()
    assert latest(folder.open()) == Confirmation("confirm/10", plan("focal"), ())


def test_the_ledger_counts_runs_on_the_test_split_by_experiment(folder: StudyFolder) -> None:
    study = folder.open()

    def experiment(name: str, split: Split, arms: tuple[str, ...], at_most: int = 100) -> None:
        record = study.experiment(name)
        record.set_plan("planned")
        runs = [
            Wanted(arm, CONFIG.spec(NAMED["plain"], DATA, seed=seed_of(0, name, arm, index), split=split))
            for arm in arms
            for index in range(2)
        ]
        work = ExperimentWork(name, record, folder, runs, lambda snapshot: None)
        Here(at_most=at_most).launch(work, folder.path)

    assert ledger(study) == ()
    experiment("compare", "val", ("plain", "focal"))
    assert ledger(study) == ()
    experiment("confirm/1", "test", (BASELINE, "focal", "weighted"))
    experiment(
        "confirm/2", "test", (BASELINE, "focal", "weighted"), at_most=3
    )  # interrupted: two arms so far
    study.flush()
    uses = ledger(folder.open())
    assert [(use.experiment, use.arms, use.runs) for use in uses] == [
        ("confirm/1", 3, 6),
        ("confirm/2", 2, 3),
    ]
    assert uses[0].created == study.experiment("confirm/1").created


# What is said


def said(confirmation: Confirmation) -> str:
    console = wide_console()
    with console.capture() as captured:
        console.print(verdict_table(confirmation))
    return captured.get() + "\n".join(sentences(confirmation, "runs/toy"))


def test_every_number_that_decides_is_shown() -> None:
    results = judge(
        CONFIG,
        (),
        plan("weighted"),
        1,
        {BASELINE: arm(BASELINE, 0.4, seeds=10), "weighted": arm("weighted", 0.7)},
        None,
    )
    shown = said(Confirmation("confirm/1", plan("weighted"), (results,)))
    bound = results.results[0].verdict.bounds[0]
    row = next(line for line in shown.splitlines() if "minority_recall" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        "weighted",
        "accepted",
        "5 v 10",
        "minority_recall",
        "0.400",
        "0.700",
        "+0.300",
        "≥ +0.050",
        f"≥ {bound.lower:+.3f}",
        "2.50%",
        "",
    ]
    assert "after look 1 of 2" in shown
    assert "weighted (sampler_power 1.00): accepted" in shown
    assert "the point rule (means alone; wrong for half of those on the margin): met" in shown


def test_the_command_that_would_decide_it_can_be_typed() -> None:
    planned = plan("focal", more_seeds=0)
    known = {BASELINE: arm(BASELINE, 0.4, seeds=10), "focal": arm("focal", 0.46)}
    look = judge(CONFIG, (), planned, 1, known, None)
    advice = look.results[0].advice
    assert advice is not None
    line = next(
        line
        for line in sentences(Confirmation("confirm/1", planned, (look,)), "runs/toy")
        if "rarecall confirm" in line
    )
    command = shlex.split(line[line.index("rarecall confirm") :])
    args = _parser().parse_args(command[1:])
    assert (args.strategy, args.seeds, args.baseline_seeds) == (
        ["focal"],
        advice.candidate_seeds,
        advice.baseline_seeds,
    )
    assert (args.fresh, args.one_look, str(args.study)) == (True, True, "runs/toy")
    Asked(seeds=args.seeds, baseline_seeds=args.baseline_seeds).settings(CONFIG)  # within the limits


def test_json_is_strict_and_has_what_the_screen_has() -> None:
    look = frozen_look()
    confirmation = Confirmation("confirm/1", plan("weighted"), (look,))
    text = json.dumps(confirmation_json(confirmation, ()), allow_nan=False)
    shown = json.loads(text)
    (candidate,) = shown["candidates"]
    assert candidate["verdict"]["bounds"][1]["df"] is None
    assert candidate["verdict"]["point_rule"] is True
    assert candidate["candidate"]["strategy"]["sampler_power"] == 1.0
    assert shown["accepted"] == ["weighted"]
    assert (shown["finished"], shown["look"], shown["looks"]) == (True, 1, 2)


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        pytest.param([], "the test split has not been used yet", id="never"),
        pytest.param(
            [SplitUse("confirm/1", "2026-11-21T10:00:00+00:00", 3, 20)],
            "the test split has been used by confirm/1 (2026-11-21, 3 arms, 20 runs)",
            id="once",
        ),
        pytest.param(
            [
                SplitUse("confirm/1", "2026-11-21T10:00:00+00:00", 3, 20),
                SplitUse("compare", "2026-11-22T10:00:00+00:00", 2, 4),
            ],
            "the test split has been used by confirm/1 (2026-11-21, 3 arms, 20 runs), "
            "compare (2026-11-22, 2 arms, 4 runs); the error rate holds for each by itself",
            id="twice",
        ),
    ],
)
def test_the_ledger_in_words(uses: list[SplitUse], expected: str) -> None:
    assert ledger_sentence(uses) == expected

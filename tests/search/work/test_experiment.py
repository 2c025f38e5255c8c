"""An experiment's queue and its record, with runs of the toy in this process."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import DATA, Bench, Here, as_stored, config, failure, train_here
from trials import report_of

from search.judging.front import front
from search.record.experiments import ExperimentRecord, Wanted, seed_of
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.computing.resources import Resources
from search.work.experiment_queue import ExperimentQueue, ExperimentSnapshot
from search.work.protocol import Job
from spaces.errors import RunError
from spaces.strategy import NAMED
from trainables.contract.trial import EpochMetrics, Outcome, TrialReport, TrialSpec

CONFIG = config()
EXPERIMENT = "confirm/1"


def wanted(arm: str, seeds: int, strategy: str = "plain", experiment: str = EXPERIMENT) -> list[Wanted]:
    """The runs of an arm, on the test split."""
    return [
        Wanted(arm, CONFIG.spec(NAMED[strategy], DATA, seed=seed_of(0, experiment, arm, index), split="test"))
        for index in range(seeds)
    ]


TWO_ARMS = [*wanted("baseline", 3), *wanted("weighted", 2, "weighted")]


class Trial:
    """One experiment of a new study, as successive processes find it."""

    def __init__(self, root: Path) -> None:
        self.folder = StudyFolder(root / "study")
        self.study = self.folder.create(CONFIG, "fingerprint", DATA.minority)
        self.snapshots: list[ExperimentSnapshot] = []

    def reopen(self) -> None:
        self.study.flush()
        self.study = self.folder.open()

    def record(self) -> ExperimentRecord:
        return self.study.begin(EXPERIMENT)

    def work(self, runs: list[Wanted]) -> ExperimentQueue:
        return ExperimentQueue(
            "toy", self.record(), self.folder.files, runs, self.snapshots.append, time.monotonic
        )

    def run(
        self,
        runs: list[Wanted],
        instead: Callable[[TrialSpec], Outcome | None] = lambda spec: None,
        *,
        at_most: int = 1000,
    ) -> tuple[ExperimentQueue, list[TrialSpec]]:
        """One process: its queue at the end, and what it ran."""
        work, here = self.work(runs), Here(at_most=at_most, instead=instead)
        here.launch(work, self.folder.files)
        self.study.flush()
        return work, here.ran


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


# The queue


def test_every_run_is_made_once_and_comes_back_by_arm_and_seed(trial: Trial) -> None:
    work, ran = trial.run(TWO_ARMS)
    assert work.complete()
    assert ran == [one.spec for one in TWO_ARMS]
    for arm in ("baseline", "weighted"):
        expected = [one.spec.key for one in TWO_ARMS if one.arm == arm]
        assert [outcome.key for outcome in work.outcomes_of(arm)] == expected
    last = trial.snapshots[-1]
    assert (last.done, last.failed, last.runs, last.running, last.eta_s) == (5, 0, 5, (), 0.0)


def test_a_later_process_runs_nothing_again(trial: Trial) -> None:
    first, _ = trial.run(TWO_ARMS)
    trial.reopen()
    again, ran = trial.run(TWO_ARMS)
    assert ran == []
    assert again.complete()
    assert again.outcomes_of("weighted") == [as_stored(one) for one in first.outcomes_of("weighted")]


def test_an_interrupted_experiment_goes_on_with_what_is_missing(trial: Trial) -> None:
    stopped, first = trial.run(TWO_ARMS, at_most=3)
    assert not stopped.complete()
    entries = [run.number for run in trial.record().runs()]
    trial.reopen()
    resumed, second = trial.run(TWO_ARMS)
    assert resumed.complete()
    assert [*first, *second] == [one.spec for one in TWO_ARMS]
    assert [run.number for run in trial.record().runs()] == entries == [0, 1, 2, 3, 4]


def test_a_run_that_had_a_worker_when_the_process_ended_is_made_again(trial: Trial) -> None:
    work = trial.work(TWO_ARMS)
    job = work.take()
    assert job is not None
    work.started(job.spec.key, Resources())
    trial.reopen()
    _, ran = trial.run(TWO_ARMS)
    assert job.spec in ran
    assert len(trial.record().runs()) == 5


def test_more_runs_may_be_wanted_later(trial: Trial) -> None:
    trial.run(TWO_ARMS)
    trial.reopen()
    more = [*wanted("baseline", 4), *wanted("weighted", 2, "weighted"), *wanted("focal", 1, "focal")]
    work, ran = trial.run(more)
    assert work.complete()
    assert Counter(run.arm for run in trial.record().runs()) == {"baseline": 4, "weighted": 2, "focal": 1}
    assert ran == [more[3].spec, more[6].spec]


def test_while_runs_are_in_flight_the_queue_is_neither_exhausted_nor_complete(trial: Trial) -> None:
    work = trial.work(TWO_ARMS[:2])
    jobs: list[Job] = []
    while (job := work.take()) is not None:
        jobs.append(job)
    assert len(jobs) == 2
    for left in jobs:
        assert not work.exhausted()  # this one could crash, and would have to be run again
        assert not work.complete()
        work.finish(left.spec.key, train_here(left.spec, trial.folder.files, lambda measured: None))
    assert work.exhausted()
    assert work.complete()


@pytest.mark.parametrize("kind", ["error", "lost"])
def test_a_crashed_seed_is_run_again_with_the_same_seed_and_then_counts(trial: Trial, kind: str) -> None:
    unlucky, crashes = TWO_ARMS[1].spec, []

    def once(spec: TrialSpec) -> Outcome | None:
        if spec != unlucky or crashes:
            return None
        crashes.append(spec)
        return failure(spec, kind)

    work, ran = trial.run(TWO_ARMS, once)
    assert ran == [*(one.spec for one in TWO_ARMS), unlucky]
    assert all(isinstance(outcome, TrialReport) for outcome in work.outcomes_of("baseline"))
    assert trial.snapshots[-1].failed == 0


@pytest.mark.parametrize("kind", ["error", "lost"])
def test_a_seed_that_crashes_again_ends_it_and_a_later_process_tries_again(trial: Trial, kind: str) -> None:
    unlucky = TWO_ARMS[1].spec
    work, ran = trial.run(TWO_ARMS, lambda spec: failure(spec, kind) if spec == unlucky else None)
    assert Counter(ran)[unlucky] == 2
    assert work.complete()
    assert len(work.outcomes_of("weighted")) == 2
    with pytest.raises(RunError, match=rf"baseline, seed {unlucky.seed} crashed 2 times \({kind}\)") as error:
        work.outcomes_of("baseline")
    assert "--resume" in error.value.hint
    assert trial.snapshots[-1].failed == 1
    trial.reopen()
    mended, again = trial.run(TWO_ARMS)
    assert again == [unlucky]
    assert all(isinstance(outcome, TrialReport) for outcome in mended.outcomes_of("baseline"))


@pytest.mark.parametrize("kind", ["diverged", "receipt"])
def test_a_seed_whose_strategy_fails_is_a_result(trial: Trial, kind: str) -> None:
    unlucky = TWO_ARMS[1].spec
    work, ran = trial.run(TWO_ARMS, lambda spec: failure(spec, kind) if spec == unlucky else None)
    assert Counter(ran)[unlucky] == 1
    assert [isinstance(outcome, TrialReport) for outcome in work.outcomes_of("baseline")] == [
        True,
        False,
        True,
    ]
    trial.reopen()
    again, ran = trial.run(TWO_ARMS)
    assert ran == []
    assert again.outcomes_of("baseline") == [as_stored(one) for one in work.outcomes_of("baseline")]


def test_an_experiments_run_is_never_stopped_early(trial: Trial) -> None:
    work = trial.work(TWO_ARMS)
    job = work.take()
    assert job is not None
    with pytest.raises(AssertionError, match="was stopped"):
        work.stopped(job.spec.key)


def test_the_screen_names_who_runs(trial: Trial) -> None:
    work = trial.work(TWO_ARMS)
    for _ in range(5):
        job = work.take()
        assert job is not None
        work.started(job.spec.key, Resources())
    work.epoch(TWO_ARMS[4].spec.key, EpochMetrics(epoch=1, metrics={}))
    running = [(run.label, run.epoch) for run in trial.snapshots[-1].running]
    assert running[0] == ("baseline seed 1", 0)
    assert running[-1] == ("weighted seed 2", 1)


# Seeds


def test_seeds_are_fresh_for_each_experiment_arm_and_study() -> None:
    seeds = [
        seed_of(study, experiment, arm, index)
        for study in (0, 1)
        for experiment in ("confirm/1", "confirm/2", "compare")
        for arm in ("baseline", "plain", "weighted")
        for index in range(10)
    ]
    assert len(set(seeds)) == len(seeds) == 180
    of_searches = range(1000 * 1000)  # study seed times 1000, and a few
    assert all(seed not in of_searches and seed < 2**31 for seed in seeds)


def test_two_arms_of_one_strategy_are_different_runs(trial: Trial) -> None:
    runs = [*wanted("baseline", 3), *wanted("plain", 3)]
    assert {one.spec.strategy for one in runs} == {NAMED["plain"]}
    work, ran = trial.run(runs)
    assert len(set(ran)) == 6
    recalls = [
        outcome.metrics["minority_recall"]
        for arm in ("baseline", "plain")
        for outcome in work.outcomes_of(arm)
        if isinstance(outcome, TrialReport)
    ]
    assert len(set(recalls)) == 6


# The record


def test_what_one_process_writes_another_reads(trial: Trial) -> None:
    work, _ = trial.run(
        TWO_ARMS, lambda spec: failure(spec, "diverged") if spec == TWO_ARMS[3].spec else None
    )
    trial.reopen()
    runs = trial.record().runs()
    for run, one in zip(runs, TWO_ARMS, strict=True):
        assert (run.arm, run.seed, run.split, run.key) == (one.arm, one.spec.seed, "test", one.spec.key)
    told = [*work.outcomes_of("baseline"), *work.outcomes_of("weighted")]
    assert [run.outcome for run in runs] == [as_stored(outcome) for outcome in told]


def test_a_report_without_an_objective_is_kept_whole(trial: Trial, tmp_path: Path) -> None:
    # Optuna completes no trial without its values, so for Optuna it has failed.
    report = report_of(TWO_ARMS[0].spec, tmp_path / "elsewhere")
    unmeasured = report.model_copy(update={"metrics": report.metrics | {"minority_recall": None}})
    trial.run(TWO_ARMS[:1], lambda spec: unmeasured)
    trial.reopen()
    assert [run.outcome for run in trial.record().runs()] == [as_stored(unmeasured)]


def test_the_plan_stands_with_the_time_it_was_first_fixed_and_conclusions_append(trial: Trial) -> None:
    record = trial.record()
    assert record.plan is None
    assert record.conclusions == []
    record.set_plan("first")
    created = record.created
    record.set_plan("second")
    record.conclude("one")
    record.conclude("two")
    trial.reopen()
    stored = trial.record()
    assert (stored.plan, stored.created, stored.conclusions) == ("second", created, ["one", "two"])
    assert created.endswith("+00:00")


def test_experiments_are_listed_in_the_order_they_were_made(trial: Trial) -> None:
    assert trial.study.experiments() == []
    names = ["compare", *(f"confirm/{number}" for number in range(1, 12))]
    for name in names:
        trial.study.begin(name)
    assert trial.study.experiments() == names  # and not: confirm/10 before confirm/2
    trial.reopen()
    trial.study.begin("compare")
    assert trial.study.experiments() == names


def test_a_search_is_untouched_by_an_experiment(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 3, "sampler": "random"}))
    bench.run()
    before = shown(bench.study)
    record = bench.study.begin(EXPERIMENT)
    work = ExperimentQueue("toy", record, bench.folder.files, TWO_ARMS, lambda snapshot: None, time.monotonic)
    Here().launch(work, bench.folder.files)
    bench.reopen()
    assert shown(bench.study) == before
    assert bench.work.complete()


def shown(study: Study) -> tuple[object, ...]:
    baseline = study.baseline()
    return study.trials(), study.baseline_trials(), front(study.trials(), study.config.objectives, baseline)


def test_a_study_is_empty_until_something_has_run(trial: Trial) -> None:
    assert trial.study.empty
    trial.study.begin(EXPERIMENT)
    assert trial.study.empty
    trial.work(TWO_ARMS)
    trial.study.flush()
    assert not trial.study.empty

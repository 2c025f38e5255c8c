import itertools
from pathlib import Path

import pytest
from in_process import Bench, config

from search.judging.front import front
from search.record.study import Study
from spaces.errors import RunError
from spaces.strategy import Strategy
from trainables.contract.trial import Outcome, TrialFailure, TrialReport, TrialSpec


def test_a_search_runs_its_budget_and_tells_everything(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    bench.run()
    trials = bench.study.trials()
    assert bench.work.complete()
    assert len(trials) == 14
    assert {trial.state for trial in trials} == {"complete"}
    assert len(bench.ran) == len({spec.key for spec in bench.ran}) == 14 + 3
    assert len(bench.study.baseline().seeds) == 3  # type: ignore[union-attr]
    assert bench.snapshots[-1].done == 14
    assert bench.snapshots[-1].ended == tuple(trials)


def test_the_baseline_comes_first_then_the_named_strategies(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    bench.run()
    asked = [spec.strategy for spec in bench.ran]
    assert asked[:3] == [Strategy()] * 3
    assert [spec.seed for spec in bench.ran[:3]] == [0, 1, 2]
    retentions = [strategy.sampling.retention for strategy in asked[3:13]]
    assert {0.3, 0.4, 0.5} <= set(retentions)


def test_reports_that_come_before_the_baseline_are_judged_after_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    jobs = [bench.work.take() for _ in range(5)]
    specs = [job.spec for job in jobs if job is not None]
    for spec in reversed(specs):  # two trials first, then the baseline's seeds
        bench.work.finish(spec.key, bench.train(spec))
        early = [trial for trial in bench.study.trials() if trial.state == "complete"]
        assert (early == []) == (spec != specs[0])
    told = [trial for trial in bench.study.trials() if trial.state == "complete"]
    assert len(told) == 2
    assert all(set(trial.violations) == {"map50_95", "minority_ap50"} for trial in told)


def test_violations_are_measured_against_the_mean_of_the_baselines_seeds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    bench.run()
    baseline = bench.study.baseline()
    assert baseline is not None
    for trial in bench.study.trials():
        assert trial.report is not None
        drop = baseline.metrics["map50_95"] - trial.report.metrics["map50_95"]  # type: ignore[operator]
        assert trial.violations["map50_95"] == pytest.approx(drop - 0.03, abs=1e-8)


def test_a_duplicate_is_told_the_stored_report_and_costs_no_training(tmp_path: Path) -> None:
    space = {"retention": {"choices": [0.4, 0.5]}, "sampler_power": {"choices": [0.0, 1.0]}}
    bench = Bench(tmp_path, config(space=space, search={"trials": 10, "sampler": "random"}))
    bench.run()
    trials = bench.study.trials()
    assert bench.work.complete()  # the space holds four points, so the budget of ten is never reached
    assert len({spec.key for spec in bench.ran}) == len(bench.ran) == 4 + 3
    assert len(trials) > 4
    assert {trial.state for trial in trials} == {"complete"}
    by_point: dict[Strategy, set[str]] = {}
    for trial in trials:
        assert trial.report is not None
        by_point.setdefault(trial.strategy, set()).add(trial.report.model_dump_json())
    assert all(len(reports) == 1 for reports in by_point.values())


def test_a_duplicate_of_a_running_trial_waits_for_it(tmp_path: Path) -> None:
    space = {"retention": {"choices": [0.4, 0.5]}}
    bench = Bench(tmp_path, config(space=space, search={"trials": 10, "sampler": "random"}))
    jobs = []
    while (job := bench.work.take()) is not None:
        jobs.append(job)
    assert len(jobs) == 3 + 2
    for job in jobs:
        bench.work.finish(job.spec.key, bench.train(job.spec))
    assert {trial.state for trial in bench.study.trials()} == {"complete"}


def test_a_failed_trial_is_told_as_failed_and_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 4, "sampler": "tpe"}))
    bench.run(at_most=3)
    bench.run(lambda spec: TrialFailure(key=spec.key, kind="diverged", reason="loss is nan"))
    trials = bench.study.trials()
    assert [trial.state for trial in trials] == ["failed"] * 4
    assert trials[0].failure is not None
    assert trials[0].failure.reason == "loss is nan"
    assert bench.snapshots[-1].failed == 4


def test_a_crashed_baseline_seed_ends_the_search_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())

    def train(spec: TrialSpec) -> Outcome:
        broken = TrialFailure(key=spec.key, kind="error", reason="no such file")
        return broken if spec.seed == 1 else bench.train(spec)

    bench.run(train)
    assert len(bench.ran) < 14
    with pytest.raises(RunError, match=r"baseline's seed 1 failed \(error\): no such file"):
        bench.work.check_baseline()
    assert bench.study.trials() == [] or {t.state for t in bench.study.trials()} == {"running"}


def test_an_interrupted_search_goes_on_without_losing_or_repeating_a_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    bench.run(at_most=6)
    left = [bench.work.take() for _ in range(2)]  # these two are running when the driver dies
    before = len(bench.ran)
    bench.reopen()
    bench.run()
    assert bench.work.complete()
    resumed = {job.spec.key for job in left if job is not None}
    assert resumed <= {spec.key for spec in bench.ran[before:]}
    assert len({spec.key for spec in bench.ran}) == len(bench.ran) == 14 + 3
    assert {trial.state for trial in bench.study.trials()} == {"complete"}


def test_reports_waiting_for_the_baseline_survive_an_interruption(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    jobs = [bench.work.take() for _ in range(4)]
    assert jobs[3] is not None
    bench.work.finish(jobs[3].spec.key, bench.train(jobs[3].spec))
    bench.reopen()
    bench.run()
    assert [spec.key for spec in bench.ran].count(jobs[3].spec.key) == 1
    assert {trial.state for trial in bench.study.trials()} == {"complete"}


def test_a_stopped_trial_is_told_as_stopped_without_values(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "tpe"}))
    bench.run(at_most=3)
    job = bench.work.take()
    assert job is not None
    bench.work.stopped(job.spec.key)
    assert bench.study.trials()[0].state == "stopped"
    assert bench.study.trials()[0].report is None


def test_without_a_guarded_metric_a_trial_fails_with_the_metrics_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 1, "sampler": "tpe"}))
    bench.run(at_most=3)

    def train(spec: TrialSpec) -> Outcome:
        report = bench.train(spec)
        assert isinstance(report, TrialReport)
        return report.model_copy(update={"metrics": report.metrics | {"minority_ap50": None}})

    bench.run(train)
    (trial,) = bench.study.trials()
    assert trial.state == "failed"
    assert trial.failure is not None
    assert "minority_ap50" in trial.failure.reason


def test_the_same_seed_and_order_give_the_same_suggestions(tmp_path: Path) -> None:
    asked = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, config())
        bench.run()
        asked.append([spec.key for spec in bench.ran])
    assert asked[0] == asked[1]
    (tmp_path / "three").mkdir()
    other = Bench(tmp_path / "three", config(search={"trials": 14, "sampler": "tpe", "seed": 1}))
    other.run()
    assert asked[0] != [spec.key for spec in other.ran]


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2", "random"])
def test_every_sampler_by_name(tmp_path: Path, sampler: str) -> None:
    bench = Bench(tmp_path, config(search={"trials": 13, "sampler": sampler}))
    bench.run()
    found = front(bench.study.trials(), bench.study.config.objectives, bench.study.baseline())
    assert found.best
    assert not found.failed


def test_the_baselines_mean_is_a_point_the_sampler_knows_but_no_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "tpe"}))
    bench.run()
    bench.reopen()
    stored = bench.study._search.trials()
    means = [trial for trial in stored if "baseline_mean" in trial.user_attrs]
    baseline = bench.study.baseline()
    assert baseline is not None
    assert len(means) == 1
    assert means[0].values == [baseline.metrics["minority_recall"], baseline.metrics["map50_95"]]
    assert means[0].constraints == {"map50_95": -0.03, "minority_ap50": 0.0}
    assert len(bench.study.trials()) == 2


def test_the_sampler_knows_that_the_baseline_breaks_a_floor(tmp_path: Path) -> None:
    floors = [{"metric": "map50_95", "floor": 0.9}, {"metric": "minority_recall", "floor": 0.1}]
    bench = Bench(tmp_path, config(guards=floors, search={"trials": 2, "sampler": "tpe"}))
    bench.run()
    baseline = bench.study.baseline()
    assert baseline is not None
    (mean,) = [one for one in bench.study._search.trials() if "baseline_mean" in one.user_attrs]
    assert mean.constraints == pytest.approx(
        {
            "map50_95": 0.9 - baseline.metrics["map50_95"],  # type: ignore[operator]
            "minority_recall": 0.1 - baseline.metrics["minority_recall"],  # type: ignore[operator]
        }
    )
    assert mean.constraints["map50_95"] > 0


def test_opening_a_record_that_is_not_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    with pytest.raises(Exception, match="holds no study"):
        Study(f"sqlite:///{bench.folder.path / 'study.db'}", config(name="other"), ("rare",))


def test_a_resumed_search_asks_what_the_uninterrupted_one_asks(tmp_path: Path) -> None:
    asked = []
    for name, pause in (("whole", 1000), ("paused", 15)):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, config())
        bench.run(at_most=pause)
        bench.reopen()
        bench.run()
        asked.append([spec.key for spec in bench.ran])
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("seconds", "sampler"),
    [
        pytest.param(100.0, "gp", id="an ask of seconds is nothing beside minutes"),
        pytest.param(1.0, "tpe", id="a second's trial is not worth half a second's ask"),
    ],
)
def test_auto_weighs_an_ask_against_a_trial(tmp_path: Path, seconds: float, sampler: str) -> None:
    ticks = itertools.count()  # half a second each time it is read, so an ask takes half a second
    bench = Bench(tmp_path, config(search={"trials": 13, "sampler": "auto"}), clock=lambda: 0.5 * next(ticks))

    def train(spec: TrialSpec) -> Outcome:
        report = bench.train(spec)
        assert isinstance(report, TrialReport)
        return report.model_copy(update={"seconds": seconds})

    bench.run(train)
    assert bench.study.sampler_name() == sampler


def test_a_record_that_cannot_be_written_ends_the_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    (bench.folder.path / "study.db").unlink()
    (bench.folder.path / "study.db").mkdir()  # what is left of it takes no rows
    with pytest.raises(RunError, match="the study's record cannot be written"):
        bench.run()


def test_a_missing_objective_fails_the_trial_and_a_missing_one_of_the_baseline_the_search(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, config(search={"trials": 1, "sampler": "tpe"}))

    def train(spec: TrialSpec) -> Outcome:
        report = bench.train(spec)
        assert isinstance(report, TrialReport)
        return report.model_copy(update={"metrics": report.metrics | {"minority_recall": None}})

    bench.run(at_most=3)
    bench.run(train)
    (trial,) = bench.study.trials()
    assert trial.failure is not None
    assert "objective 'minority_recall' was not measured" in trial.failure.reason
    (tmp_path / "second").mkdir()
    bench = Bench(tmp_path / "second", config(baseline={"seeds": 1}))
    bench.run(train, at_most=1)
    with pytest.raises(RunError, match="objective 'minority_recall' was not measured"):
        bench.work.check_baseline()


def test_a_guard_that_the_baseline_cannot_measure_ends_the_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(baseline={"seeds": 1}))

    def train(spec: TrialSpec) -> Outcome:
        report = bench.train(spec)
        assert isinstance(report, TrialReport)
        return report.model_copy(update={"metrics": report.metrics | {"minority_ap50": None}})

    with pytest.raises(RunError, match="guard on 'minority_ap50': the baseline could not measure it"):
        bench.run(train)


def test_a_baseline_that_calls_nothing_a_minority_object_may_still_be_searched_from(tmp_path: Path) -> None:
    guards = [{"metric": "map50_95", "max_drop": 0.5}, {"metric": "minority_precision", "floor": 0.2}]
    bench = Bench(
        tmp_path, config(baseline={"seeds": 1}, search={"trials": 1, "sampler": "random"}, guards=guards)
    )

    def train(spec: TrialSpec) -> Outcome:
        report = bench.train(spec)
        assert isinstance(report, TrialReport)
        return report.model_copy(update={"metrics": report.metrics | {"minority_precision": None}})

    bench.run(train)
    (trial,) = bench.study.trials()
    assert trial.state == "complete"
    assert trial.violations["minority_precision"] == 0.2

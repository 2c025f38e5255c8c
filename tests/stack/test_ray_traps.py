"""The traps of Ray Tune + OptunaSearch, each twice: our loop does right, and stock is still as we know it.

The tests named `stock_...` are there to notice when Ray or Optuna mends something; none of our code runs in
them.
"""

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from in_process import DATA, Bench, config
from on_ray import Searched, search_on_ray
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Repeater
from ray.tune.search.optuna import OptunaSearch
from reports import report_with

from search.record.study import Study
from spaces.errors import RunError

pytestmark = pytest.mark.slow

OBJECTIVES = ["minority_recall", "map50_95"]
POWER = {"sampler_power": [0.0, 1.0]}  # along it recall rises, and beyond some point the guard breaks
TWO_SEEDS = {"strategy": "plain", "seeds": 2}


@pytest.fixture(scope="module")
def searched(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Two baseline seeds and ten trials, of which the second diverges and the third has a false receipt."""
    return search_on_ray(
        tmp_path_factory.mktemp("traps"),
        faults={3: "toy:nan=2", 4: "toy:receipt"},
        space=POWER,
        guards=[{"metric": "map50_95", "max_drop": 0.005}],
        baseline=TWO_SEEDS,
        search={"trials": 10, "sampler": "random", "seed": 1},
    )


@pytest.fixture(scope="module")
def stock(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """Stock OptunaSearch with two objectives and a constraint, as people write it; one trial reports NaN."""

    with pytest.warns(FutureWarning, match="constraints_func"):
        sampler = optuna.samplers.TPESampler(seed=0, constraints_func=recall_at_most_half)
    algorithm = OptunaSearch(
        {"x": optuna.distributions.FloatDistribution(0, 1)},
        metric=OBJECTIVES,
        mode=["max", "max"],
        sampler=sampler,
        points_to_evaluate=[{"x": 0.9}, {"x": 0.5}, {"x": 0.1}],
    )

    def train(given: dict[str, Any]) -> None:
        value = math.nan if given["x"] == 0.5 else given["x"]
        tune.report({"minority_recall": value, "map50_95": 1 - given["x"]})

    fit(train, algorithm, tmp_path_factory.mktemp("stock"), samples=3)
    study: optuna.Study = algorithm._ot_study
    return study


def recall_at_most_half(trial: optuna.trial.FrozenTrial) -> list[float]:
    return [trial.values[0] - 0.5]


def fit(train: Any, algorithm: Any, folder: Path, *, samples: int, scheduler: Any = None) -> None:
    tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            search_alg=algorithm, scheduler=scheduler, num_samples=samples, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()


# a: constraints


def test_infeasible_trials_are_stored_as_infeasible_with_the_optuna_trial(searched: Searched) -> None:
    ours = {trial.number: trial for trial in searched.study.trials() if trial.state == "complete"}
    stored = {trial.number: trial.constraints for trial in searched.record() if trial.number in ours}
    assert stored == {number: trial.violations for number, trial in ours.items()}
    feasible = {trial.feasible for trial in ours.values()}
    assert feasible == {True, False}  # otherwise this test shows nothing
    infeasible = {number for number, trial in ours.items() if not trial.feasible}
    best = {trial.number for trial in searched.optuna_study().best_trials}
    assert not best & infeasible


@pytest.mark.parametrize(
    ("guarded", "low", "high"),
    [
        pytest.param(True, 0.35, 1.0, id="told the constraint, the sampler stays where it holds"),
        pytest.param(False, 0.0, 0.2, id="without it the sampler goes for recall alone"),
    ],
)
def test_the_sampler_sees_infeasible_trials_as_infeasible(
    tmp_path: Path, guarded: bool, low: float, high: float
) -> None:
    bench = Bench(tmp_path, config(space=POWER, search={"trials": 50, "sampler": "tpe"}))
    study: Study = bench.study
    powers = []
    for _ in range(40):
        trial = study.ask(0, time.monotonic)
        power = trial.strategy.sampling.sampler_power
        powers.append(power)
        key = study.config.spec(trial.strategy, DATA, seed=trial.seed).key
        report = report_with({"minority_recall": power, "map50_95": 0.5}, key=key)
        study.tell(trial.number, report, {"map50_95": power - 0.4} if guarded else {})
    within = sum(power <= 0.4 for power in powers[-20:]) / 20
    assert low <= within <= high


def test_stock_optuna_search_loses_the_constraints(stock: optuna.Study) -> None:
    complete = [trial for trial in stock.trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == 2
    assert [trial.constraints for trial in complete] == [{}, {}]


# b: a trial that is ended early


def test_a_trial_ended_early_is_told_pruned_without_values(local_ray: None, tmp_path: Path) -> None:
    searched = search_on_ray(
        tmp_path,
        stop_at={3: 1},  # the second trial, after two baseline seeds
        space=POWER,
        baseline=TWO_SEEDS,
        search={"trials": 4, "sampler": "tpe"},
    )
    states = [trial.state for trial in searched.study.trials()]
    assert states == ["complete", "stopped", "complete", "complete"]
    pruned = [trial for trial in searched.record() if trial.state == TrialState.PRUNED]
    assert len(pruned) == 1
    assert pruned[0].values is None
    assert searched.work.work.complete()


def test_stock_tells_a_trial_stopped_by_asha_as_complete(local_ray: None, tmp_path: Path) -> None:
    algorithm = OptunaSearch(
        {"x": optuna.distributions.FloatDistribution(0, 1)},
        metric="score",
        mode="max",
        points_to_evaluate=[{"x": 0.9}, {"x": 0.1}],
    )

    def train(given: dict[str, Any]) -> None:
        for epoch in range(1, 9):
            tune.report({"score": given["x"] * epoch / 8})

    one_by_one = tune.with_resources(train, {"CPU": 2})
    asha = ASHAScheduler(metric="score", mode="max", grace_period=1, max_t=8, reduction_factor=2)
    fit(one_by_one, algorithm, tmp_path, samples=2, scheduler=asha)
    stopped = algorithm._ot_study.trials[1]
    assert stopped.value == pytest.approx(0.1 / 8)  # its first epoch's
    assert stopped.state == TrialState.COMPLETE


# c: no value


def test_a_diverged_trial_is_told_as_failed_and_nothing_stays_running(searched: Searched) -> None:
    record = [trial for trial in searched.record() if "baseline_mean" not in trial.user_attrs]
    by_number = {trial.number: trial for trial in searched.study.trials()}
    diverged, mismatched = (trial for trial in by_number.values() if trial.failure is not None)
    assert diverged.failure is not None
    assert mismatched.failure is not None
    assert (diverged.failure.kind, mismatched.failure.kind) == ("diverged", "receipt")
    states = [trial.state for trial in record]
    assert states.count(TrialState.FAIL) == 2
    assert states.count(TrialState.COMPLETE) == len(states) - 2
    assert all(trial.values is None for trial in record if trial.state == TrialState.FAIL)
    assert searched.work.work.complete()


def test_stock_leaves_a_trial_with_nan_running_for_ever(stock: optuna.Study) -> None:
    states = [trial.state for trial in stock.trials]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.COMPLETE]


# d: seeds


def test_a_crashed_baseline_seed_stops_the_search_by_name(local_ray: None, tmp_path: Path) -> None:
    searched = search_on_ray(
        tmp_path,
        faults={1: "toy:raise"},
        space=POWER,
        baseline=TWO_SEEDS,
        search={"trials": 6, "sampler": "tpe"},
    )
    with pytest.raises(
        RunError, match=r"(?s)baseline's seed 1 failed \(error\).*the toy was told to raise"
    ) as stop:
        searched.work.work.check_baseline()
    assert "seed 1" in stop.value.message
    assert len(searched.work.ran) < 2 + 6  # it did not go on asking
    states = {trial.state for trial in searched.study.trials()}
    assert "complete" not in states  # without its mean nothing is judged
    assert [trial.state for trial in searched.record("baseline")] == [TrialState.COMPLETE, TrialState.FAIL]


def test_stock_repeater_averages_crashed_seeds_away() -> None:
    told = {}

    class Inner(tune.search.Searcher):
        def suggest(self, trial_id: str) -> dict[str, Any]:
            return {"x": 0.5}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            told.update(result)

    repeater = Repeater(Inner(metric="score", mode="max"), repeat=2, set_index=False)
    for trial_id in ("0", "1"):
        repeater.suggest(trial_id)
    repeater.on_trial_complete("0", {"score": 0.4})
    repeater.on_trial_complete("1", None, error=True)
    assert told == {"score": 0.4}  # as if both seeds had reached it


def test_stock_repeater_crashes_with_two_metrics() -> None:
    algorithm = OptunaSearch(
        {"x": optuna.distributions.FloatDistribution(0, 1)}, metric=OBJECTIVES, mode=["max", "max"]
    )
    repeater = Repeater(algorithm, repeat=2, set_index=False)
    for trial_id in ("0", "1"):
        repeater.suggest(trial_id)
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        repeater.on_trial_complete("0", dict.fromkeys(OBJECTIVES, 0.4))


# e: a measured point


def test_the_baselines_mean_is_a_completed_point_of_the_record(searched: Searched) -> None:
    baseline = searched.study.baseline()
    assert baseline is not None
    assert baseline.seeds == (1000, 1001)
    points = [trial for trial in searched.record() if "baseline_mean" in trial.user_attrs]
    assert len(points) == 1
    assert points[0].state == TrialState.COMPLETE
    assert points[0].values == [baseline.metrics[name] for name in OBJECTIVES]
    assert points[0].params == {"sampler_power": 0.0}


def test_stock_cannot_take_a_measured_point_with_two_objectives() -> None:
    with pytest.raises(TypeError, match="must be real number, not list"):
        OptunaSearch(
            {"x": optuna.distributions.FloatDistribution(0, 1)},
            metric=OBJECTIVES,
            mode=["max", "max"],
            points_to_evaluate=[{"x": 0.5}],
            evaluated_rewards=[[0.4, 0.5]],
        )


# f: two objectives and a scheduler


def test_two_objectives_are_told_together(searched: Searched) -> None:
    assert [direction.name for direction in searched.optuna_study().directions] == ["MAXIMIZE"] * 2
    for trial in searched.study.trials():
        if trial.report is not None:
            told = searched.record()[trial.number].values
            assert told == [trial.report.metrics[name] for name in OBJECTIVES]


def test_stock_asha_refuses_two_objectives() -> None:
    with pytest.raises((ValueError, TypeError, AssertionError)):
        ASHAScheduler(metric=OBJECTIVES, mode=["max", "max"])


def test_stock_asha_draws_its_brackets_from_the_global_generator() -> None:
    scheduler = ASHAScheduler(metric="score", mode="max", brackets=3, max_t=100)
    before = np.random.get_state()[2]  # noqa: NPY002 - its position in the stream is what this is about
    scheduler.on_trial_add(None, SimpleNamespace(trial_id="0"))
    assert np.random.get_state()[2] != before  # noqa: NPY002


# g: Optuna alone


def test_optuna_has_no_pruning_with_two_objectives_but_takes_pruned() -> None:
    study = optuna.create_study(directions=["maximize"] * 2)
    trial = study.ask()
    with pytest.raises(NotImplementedError):
        trial.report(0.5, step=1)
    with pytest.raises(NotImplementedError):
        trial.should_prune()
    told = study.tell(trial, state=TrialState.PRUNED)
    assert (told.state, told.values) == (TrialState.PRUNED, None)

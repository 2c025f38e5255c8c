"""What a search takes of its budget, by workers whose own tally is held against it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import Bench, config
from made_up_runs import Workers

from search.request.computing.budget import Budget, Limit
from search.request.computing.resources import Resources
from search.work.spending import account

TRIALS, SEEDS, EPOCHS = 8, 2, 4
ALL_OF_IT_S = (
    (TRIALS + SEEDS) * EPOCHS * 60 * 1.13
)  # of workers, about: a lognormal's mean is above its median


def bench_of(folder: Path, workers: Workers, budget: dict[str, Any] | None, gpu: float = 0.0) -> Bench:
    request = config(
        search={"trials": TRIALS, "sampler": "random"},
        baseline={"seeds": SEEDS},
        train={"model": "toy", "steps": 10 * EPOCHS, "eval_every": 10},
        resources={"cpu": 1, "gpu": gpu},
        budget=budget,
    )
    workers.resources = Resources(cpu=1, gpu=gpu)
    return Bench(folder, request, workers.clock)


def with_budget(bench: Bench, **budget: float) -> None:
    """Go on as another process, with another budget in the study's request."""
    bench.study.flush()
    asked = Budget.model_validate(budget)
    bench.folder.write_request(bench.study.config.model_copy(update={"budget": asked}))
    bench.reopen()


def states(bench: Bench) -> list[str]:
    return [trial.state for trial in bench.study.trials()]


@pytest.mark.parametrize("seed", range(20))
def test_no_limit_is_exceeded_by_more_than_an_epoch_of_what_runs(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    workers, gpu = Workers(int(rng.integers(1, 7)), rng), float(rng.choice([0.25, 0.5, 1.0]))
    price, share = float(rng.uniform(0.5, 9)), float(rng.choice([0.0, 1 / 3, rng.uniform()]))
    whole = {"hours": ALL_OF_IT_S / workers.count / 3600, "gpu_hours": gpu * ALL_OF_IT_S / 3600}
    whole["cost"] = price * whole["gpu_hours"]
    named = rng.choice(list(whole), size=int(rng.integers(1, 4)), replace=False)
    asked = {str(name): whole[name] * float(rng.uniform(0.1, 1.3)) / (1 - share) for name in named}
    bench = bench_of(tmp_path, workers, asked | {"price_per_gpu_hour": price, "confirm_share": share}, gpu)
    workers.work_off(bench.work)
    assert bench.work.complete()

    last_epochs = [seconds for _, seconds in workers.ended[-workers.count :]]
    an_epoch = {"hours": max(last_epochs) / 3600, "gpu_hours": gpu * sum(last_epochs) / 3600}
    used = {"hours": workers.now / 3600, "gpu_hours": gpu * workers.run_seconds / 3600}
    latest = {"hours": workers.started[-1][0] / 3600, "gpu_hours": gpu * workers.started[-1][1] / 3600}
    for of in (an_epoch, used, latest):
        of["cost"] = price * of["gpu_hours"]
    for name, allowed in asked.items():
        assert used[name] <= allowed * (1 - share) + an_epoch[name]
        assert latest[name] < allowed * (1 - share)  # or nothing would have been started
    reached = [name for name, allowed in asked.items() if used[name] >= allowed * (1 - share)]
    ended = bench.work.ended_by
    assert states(bench).count("complete") == TRIALS or ended is not None
    assert ended is None or ended.name in reached
    if bench.work.snapshot().baseline is not None:  # else nothing can be judged
        assert set(states(bench)) <= {"complete", "stopped"}
    bench.work.meter.write(now=True)
    bench.reopen()
    for limit in account(bench.study).limits:
        assert limit.used == pytest.approx(used[limit.name])


def test_a_larger_budget_goes_on_with_what_the_first_one_ended(tmp_path: Path) -> None:
    workers = Workers(3, np.random.default_rng(0))
    bench = bench_of(tmp_path, workers, {"hours": 0.12, "confirm_share": 0})
    workers.work_off(bench.work)
    bench.work.meter.write(now=True)
    stopped = [trial for trial in bench.study.trials() if trial.state == "stopped"]
    assert {trial.ended_by for trial in stopped} == {"budget"}
    assert len(stopped) == 3
    with_budget(bench, hours=0.12, confirm_share=0)
    assert bench.work.complete()  # and so no cluster is asked for
    assert bench.work.ended_by is not None
    with_budget(bench, hours=0.16, confirm_share=0)
    workers.work_off(bench.work)
    latest = 0.16 * 3600 + max(seconds for _, seconds in workers.ended[-3:])
    assert 0.16 * 3600 <= workers.now <= latest
    bench.work.meter.write(now=True)
    with_budget(bench, hours=9)
    workers.work_off(bench.work)
    assert bench.work.ended_by is None
    assert states(bench) == ["complete"] * TRIALS
    undisturbed = bench_of(tmp_path / "undisturbed", Workers(3, np.random.default_rng(0)), None)
    Workers(3, np.random.default_rng(0)).work_off(undisturbed.work)
    asked = {trial.strategy for trial in undisturbed.study.trials()}
    assert {trial.strategy for trial in bench.study.trials()} == asked


def test_a_baseline_that_the_budget_has_cut_is_measured_with_a_larger_one(tmp_path: Path) -> None:
    workers = Workers(4, np.random.default_rng(1))
    bench = bench_of(tmp_path, workers, {"hours": 0.02, "confirm_share": 0})
    workers.work_off(bench.work)
    assert bench.work.complete()
    assert bench.study.baseline() is None
    assert bench.snapshots[-1].baseline_done == 0
    bench.work.meter.write(now=True)
    with_budget(bench, hours=9)
    workers.work_off(bench.work)
    assert states(bench) == ["complete"] * TRIALS
    assert bench.study.baseline() is not None


def test_what_a_killed_process_took_is_known_but_for_an_epoch(tmp_path: Path) -> None:
    workers = Workers(2, np.random.default_rng(2))
    bench = bench_of(tmp_path, workers, {"hours": 9}, gpu=0.5)
    workers.work_off(bench.work, at_most=15)
    bench.reopen()
    (limit,) = account(bench.study).limits
    assert 0 <= workers.now / 3600 - limit.used < 0.1
    before = limit.used
    workers.work_off(bench.work)
    bench.work.meter.write(now=True)
    (limit,) = account(bench.study).limits
    assert limit.used > before
    assert states(bench) == ["complete"] * TRIALS


def test_what_an_earlier_version_ran_is_counted_by_its_reports(tmp_path: Path) -> None:
    workers = Workers(2, np.random.default_rng(3))
    bench = bench_of(tmp_path, workers, None, gpu=0.5)
    workers.work_off(bench.work)
    bench.study._search._attrs.clear()  # as if nothing had been written
    reports = [trial.report for trial in [*bench.study.baseline_trials(), *bench.study.trials()]]
    seconds = sum(report.seconds for report in reports if report is not None)
    assert account(bench.study).searching.gpu_seconds == pytest.approx(0.5 * seconds)


@pytest.mark.parametrize(
    ("confirming", "of_search"),
    [
        pytest.param(0.0, 6.0, id="what is kept is not the search's"),
        pytest.param(3.0, 6.0, id="nor while confirmations use less than that"),
        pytest.param(5.0, 5.0, id="what they use beyond it is the search's no more"),
    ],
)
def test_what_is_kept_for_confirming(confirming: float, of_search: float) -> None:
    limit = Limit("hours", allowed=10.0, kept=4.0, searching=5.5, confirming=confirming)
    assert limit.of_search == of_search
    assert limit.reached == (of_search <= 5.5)

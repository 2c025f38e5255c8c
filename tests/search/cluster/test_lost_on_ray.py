"""Workers that are lost on a real Ray: how often a run is tried, what is told of it, and what comes later."""

import sys
import time
import types
from pathlib import Path

import pytest
from in_process import DATA, config
from on_ray import search_on_ray
from trials import report_of

from search.cluster import launch
from search.cluster.launch import MAX_RETRIES, run_connected
from search.cluster.searcher import HUNG_TWICE
from search.record.folder import StudyFolder
from search.work import silence
from search.work.search_queue import SearchQueue
from spaces.errors import RunError

pytestmark = pytest.mark.slow

SEARCH = {
    "space": {"sampler_power": [0.0, 1.0]},
    "baseline": {"strategy": "plain", "seeds": 1},
    "search": {"trials": 2, "sampler": "random"},
}


def epochs(count: int) -> dict[str, object]:
    return {"model": "toy", "steps": count, "eval_every": 1}


def test_a_run_that_gets_on_may_lose_more_workers_than_it_has_retries(
    local_ray: None, tmp_path: Path
) -> None:
    last = MAX_RETRIES + 3
    done = search_on_ray(tmp_path, {1: "toy:kill_each"}, **SEARCH | {"train": epochs(last)})
    report = done.work.report(1)
    assert report.restarts == last - 1 > MAX_RETRIES
    assert done.work.epochs_of(1) == [*range(1, last + 1)]
    undisturbed = report_of(done.work.ran[1], tmp_path / "alone")
    assert (report.metrics, report.curve) == (undisturbed.metrics, undisturbed.curve)


def test_a_lost_worker_costs_no_more_than_the_time_between_two_checkpoints(
    local_ray: None, tmp_path: Path
) -> None:
    search = SEARCH | {"search": {"trials": 2, "sampler": "random", "checkpoint_s": 0.5}}
    done = search_on_ray(tmp_path, {1: "toy:sleep=0.2,kill_at=9"}, **search | {"train": epochs(12)})
    report = done.work.report(1)
    told = done.work.epochs_of(1)
    again = told[8]
    assert told == [*range(1, 9), *range(again, 13)]
    assert 9 - again <= 0.5 / 0.2 + 1
    assert again > 1
    assert report.restarts == 1
    undisturbed = report_of(done.work.ran[1], tmp_path / "alone")
    assert (report.metrics, report.curve) == (undisturbed.metrics, undisturbed.curve)
    assert [trial.state for trial in done.study.trials()] == ["complete"] * 2


def test_a_run_that_is_lost_at_the_same_epoch_each_time_is_run_again_only_when_resumed(
    local_ray: None, tmp_path: Path
) -> None:
    done = search_on_ray(tmp_path, {1: "toy:lost=2"}, **SEARCH | {"train": epochs(3)})
    failure = done.work.failure(1)
    assert (failure.kind, failure.retry) == ("lost", True)
    assert "worker or node lost, and every retry with it: ActorDiedError: The actor" in failure.reason
    assert "\n" not in failure.reason
    lost, other = done.study.trials()
    assert (lost.state, other.state) == ("failed", "complete")

    study = done.folder.open()
    work = SearchQueue(study, done.folder.files, DATA, lambda snapshot: None, time.monotonic)
    run_connected(work, done.folder.files, done.config.resources)
    study.flush()
    trials = done.folder.open().trials()
    assert [trial.state for trial in trials] == ["complete", "complete"]
    assert {trial.strategy for trial in trials} == {lost.strategy, other.strategy}
    assert [trial.state.name for trial in done.record()].count("FAIL") == 1  # what happened is not forgotten
    assert work.complete()


def test_a_run_that_hangs_goes_on_once_from_its_checkpoint(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "HUNG_S", 8.0)
    done = search_on_ray(tmp_path, {1: "toy:hang=6"}, **SEARCH | {"train": epochs(8)})
    report = done.work.report(1)
    assert report.restarts == 1
    assert done.work.epochs_of(1) == [*range(1, 9)]
    undisturbed = report_of(done.work.ran[1], tmp_path / "alone")
    assert (report.metrics, report.curve) == (undisturbed.metrics, undisturbed.curve)
    assert [trial.state for trial in done.study.trials()] == ["complete"] * 2


def test_a_run_that_hangs_again_is_given_up(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "HUNG_S", 8.0)
    search = SEARCH | {"search": {"trials": 2, "sampler": "random", "checkpoint_s": 60}}
    done = search_on_ray(tmp_path, {1: "toy:hang=6"}, **search | {"train": epochs(8)})
    failure = done.work.failure(1)
    assert (failure.kind, failure.reason, failure.retry) == ("timeout", HUNG_TWICE, False)
    assert done.work.epochs_of(1) == [*range(1, 6), *range(1, 6)]
    assert [trial.state for trial in done.study.trials()] == ["failed", "complete"]


def test_what_no_worker_can_import_ends_the_search_with_its_name(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here_alone = types.ModuleType("here_alone")
    exec("def train(config):\n    pass\n", here_alone.__dict__)  # the driver has it, and no worker
    monkeypatch.setitem(sys.modules, "here_alone", here_alone)
    monkeypatch.setattr(launch, "train_on_ray", here_alone.train)
    request = config(**SEARCH)
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    work = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
    with pytest.raises(RunError, match=r"could not start: ModuleNotFoundError: No module named 'here_alone'"):
        run_connected(work, folder.files, request.resources)
    study.flush()
    told = [*study.baseline_trials(), *study.trials()]
    assert {trial.state for trial in told} == {"running"}  # none has failed of it; all go on

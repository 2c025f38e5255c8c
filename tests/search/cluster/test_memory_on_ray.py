"""Runs that share a GPU on a real Ray, and for which their share of its memory is too small."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from in_process import DATA, config
from on_ray import Searched, search_on_ray

from search.cluster.launch import connected, occupied, run_connected
from search.record.experiments import Wanted
from search.record.folder import StudyFolder
from search.work.experiment_queue import ExperimentQueue
from spaces.strategy import NAMED
from trainables.contract.trial import TrialFailure, TrialReport

SHARED = {"cpu": 0.5, "gpu": 0.5}


def test_what_is_reserved_for_a_run() -> None:
    shared = {"resources": {"cpu": 2, "gpu": 0.25}}
    assert occupied(shared | {"whole_device": False}) == {"CPU": 2, "GPU": 0.25}
    assert occupied(shared | {"whole_device": True}) == {"CPU": 2, "GPU": 1}


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local Ray that takes itself to have a GPU; the toy needs none."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": 1}))
    with connected(None, cpus=2):
        yield


def searched(root: Path, model: str, faults: Mapping[int, str] | None = None) -> Searched:
    return search_on_ray(
        root,
        faults,
        space={"sampler_power": [0.0, 1.0]},
        train={"model": model, "steps": 2, "eval_every": 1},
        baseline={"seeds": 2},
        search={"trials": 4, "sampler": "random"},
        resources=SHARED,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("one_gpu")
def test_a_share_that_is_too_small_becomes_a_whole_gpu(tmp_path: Path) -> None:
    done = searched(tmp_path, "toy:memory,sleep=0.2")  # each run: only with a whole one it trains
    told = [*done.study.baseline_trials(), *done.study.trials()]
    assert [trial.state for trial in told] == ["complete"] * 6
    attempts = [outcome for _, outcome in sorted(done.work.outcomes.items())]
    failures = [outcome for outcome in attempts if isinstance(outcome, TrialFailure)]
    assert [(one.kind, one.retry, one.reason) for one in failures] == [
        ("memory", True, "the toy was told to need more than 0.5 of a GPU")
    ] * 6
    assert sum(isinstance(outcome, TrialReport) for outcome in attempts) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("one_gpu")
def test_runs_that_share_a_gpu_make_way_for_one_that_needs_it_and_go_on_after_it(tmp_path: Path) -> None:
    done = searched(tmp_path, "toy:sleep=0.3", faults={1: "toy:memory,sleep=0.1"})
    told = [*done.study.baseline_trials(), *done.study.trials()]
    assert [trial.state for trial in told] == ["complete"] * 6
    assert done.work.failure(1).kind == "memory"
    assert len(done.work.ran) == 7
    assert len(set(done.work.ran)) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("one_gpu")
def test_a_whole_gpu_that_is_too_small_too_is_the_end_of_that_run_alone(tmp_path: Path) -> None:
    request = config(train={"model": "toy:memory=2", "steps": 2, "eval_every": 1}, resources=SHARED)
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    wanted = [Wanted("plain", request.spec(NAMED["plain"], DATA, seed=seed)) for seed in range(3)]
    work = ExperimentQueue(
        "toy", study.begin("compare"), folder.files, wanted, lambda shown: None, time.monotonic
    )
    run_connected(work, folder.files, request.resources)
    assert work.complete()
    failures = [outcome for outcome in work.outcomes.values() if isinstance(outcome, TrialFailure)]
    assert [(one.kind, one.retry, one.reason) for one in failures] == [
        ("memory", False, "the toy was told to need more than 1 of a GPU")
    ] * 3

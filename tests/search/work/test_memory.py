"""A run that ran out of its share of a GPU's memory: once more with a whole one, which it is waited for."""

import time
from pathlib import Path
from typing import Any

import pytest
from in_process import DATA, Bench, config, train_here

from search.record.experiments import Wanted
from search.request.computing.resources import Resources
from search.work.experiment_queue import ExperimentQueue
from search.work.protocol import Job
from search.work.queue import RunQueue
from spaces.errors import RunError
from spaces.strategy import NAMED
from trainables.contract.trial import TrialFailure

SHARED = Resources(cpu=1, gpu=0.25)


def out_of_memory(job: Job) -> TrialFailure:
    """What comes back of a run for which its share of a GPU, or the whole of it, was too small."""
    reason = "batch 16, imgsz 32: out of memory; less is needed with a train.batch below 16"
    return TrialFailure(key=job.spec.key, kind="memory", reason=reason, retry=not job.whole_device)


def taken(work: RunQueue) -> Job:
    job = work.take()
    assert job is not None
    return job


def started(work: RunQueue) -> Job:
    job = taken(work)
    work.started(job.spec.key, SHARED)
    return job


class Two:
    """A search and an experiment, each with runs left."""

    def __init__(self, kind: str, folder: Path, **changes: Any) -> None:
        self.bench = Bench(folder, config(**{"resources": SHARED, "baseline": {"seeds": 3}} | changes))
        self.study, self.files = self.bench.study, self.bench.folder.files
        self.work: RunQueue = self.bench.work
        if kind == "experiment":
            self.record = self.study.begin("confirm/1")
            spec = self.bench.study.config.spec
            wanted = [
                Wanted("baseline", spec(NAMED["plain"], DATA, seed=seed, split="test")) for seed in range(3)
            ]
            self.work = ExperimentQueue(
                "toy", self.record, self.files, wanted, lambda shown: None, time.monotonic
            )

    def train(self, job: Job) -> None:
        self.work.finish(job.spec.key, train_here(job.spec, self.files, lambda measured: None))


@pytest.fixture(params=["search", "experiment"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Two:
    return Two(request.param, tmp_path)


def test_it_is_the_next_run_and_wants_a_whole_gpu(two: Two) -> None:
    first, second = started(two.work), started(two.work)
    assert not first.whole_device
    two.work.finish(first.spec.key, out_of_memory(first))
    again = taken(two.work)
    assert (again.spec, again.whole_device) == (first.spec, True)
    assert again.spec != second.spec


def test_until_it_has_a_worker_no_other_run_is_handed_out(two: Two) -> None:
    first, second = started(two.work), started(two.work)
    two.work.finish(first.spec.key, out_of_memory(first))
    again = taken(two.work)
    two.train(second)  # its share is free, and yet
    assert two.work.take() is None
    assert not two.work.exhausted()
    two.work.started(again.spec.key, SHARED)
    following = taken(two.work)
    assert not following.whole_device
    assert following.spec not in {first.spec, second.spec}


def test_a_second_one_waits_until_the_first_has_its_gpu(two: Two) -> None:
    first, second = started(two.work), started(two.work)
    for job in (first, second):
        two.work.finish(job.spec.key, out_of_memory(job))
    waiting = {first.spec, second.spec}
    one = taken(two.work)
    assert two.work.take() is None
    two.work.started(one.spec.key, SHARED)
    other = taken(two.work)
    assert {one.spec, other.spec} == waiting
    assert one.whole_device
    assert other.whole_device


def test_one_that_is_lost_before_it_has_a_worker_holds_nothing_up(two: Two) -> None:
    first = started(two.work)
    two.work.finish(first.spec.key, out_of_memory(first))
    again = taken(two.work)
    lost = TrialFailure(key=again.spec.key, kind="lost", reason="no node", retry=True)
    two.work.finish(again.spec.key, lost)
    assert two.work.take() is not None or two.work.exhausted()


def test_with_the_whole_gpu_it_has_a_result_like_any_other(tmp_path: Path) -> None:
    two = Two("experiment", tmp_path)
    assert isinstance(two.work, ExperimentQueue)
    while (job := two.work.take()) is not None:
        two.work.started(job.spec.key, SHARED)
        if job.whole_device:
            two.train(job)
        else:
            two.work.finish(job.spec.key, out_of_memory(job))
    assert two.work.exhausted()
    assert [outcome.key for outcome in two.work.outcomes_of("baseline")] == [
        run.key for run in two.record.runs()
    ]
    assert len(two.record.runs()) == 3  # an attempt with a share is no entry of its own


def test_in_an_experiment_a_second_time_is_no_result_and_is_not_tried_again(tmp_path: Path) -> None:
    two = Two("experiment", tmp_path)
    assert isinstance(two.work, ExperimentQueue)
    tried = []
    while (job := two.work.take()) is not None:
        two.work.started(job.spec.key, SHARED)
        tried.append((job.spec.seed, job.whole_device))
        if job.spec.seed == 1:
            two.work.finish(job.spec.key, out_of_memory(job))
        else:
            two.train(job)
    assert tried == [(0, False), (1, False), (1, True), (2, False)]
    assert two.work.complete()
    with pytest.raises(
        RunError, match=r"baseline, seed 1 could not be trained \(memory\): batch 16, imgsz 32"
    ):
        two.work.outcomes_of("baseline")


def test_without_a_share_it_has_failed_at_once(tmp_path: Path) -> None:
    two = Two("experiment", tmp_path, resources={"cpu": 1, "gpu": 1})
    first = started(two.work)
    two.work.finish(first.spec.key, out_of_memory(first).model_copy(update={"retry": False}))
    assert [taken(two.work).spec.seed for _ in range(2)] == [1, 2]


def test_in_a_search_the_last_run_may_still_come_back_and_then_fails_for_good(tmp_path: Path) -> None:
    two = Two("search", tmp_path, baseline={"seeds": 1}, search={"trials": 1, "sampler": "random"})
    two.train(started(two.work))
    last = started(two.work)
    assert two.work.take() is None
    assert not two.work.exhausted()  # or Ray would ask no more
    two.work.finish(last.spec.key, out_of_memory(last))
    assert two.study.trials()[0].state == "running"
    again = started(two.work)
    two.work.finish(again.spec.key, out_of_memory(again))
    assert two.work.exhausted()
    (trial,) = two.study.trials()
    assert trial.state == "failed"
    assert trial.failure is not None
    assert trial.failure.kind == "memory"


def test_a_baseline_that_does_not_fit_ends_the_search_with_the_reason(tmp_path: Path) -> None:
    two = Two("search", tmp_path, baseline={"seeds": 1})
    for _ in range(2):
        job = started(two.work)
        two.work.finish(job.spec.key, out_of_memory(job))
    with pytest.raises(RunError, match=r"the baseline's seed 0 failed \(memory\): batch 16, imgsz 32"):
        two.bench.work.check_baseline()

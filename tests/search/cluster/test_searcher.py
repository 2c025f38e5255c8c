"""What Tune is handed for each run, without Ray: what a run gets, and which one is measured."""

import time
from pathlib import Path

from in_process import Bench, config

from search.cluster.launch import occupied
from search.cluster.searcher import WorkSearcher
from search.request.computing.resources import Choice, Resources
from search.work.allotting import Allotment, Auto
from search.work.protocol import Clock
from spaces.errors import RunError
from trainables.contract.node import Used
from trainables.contract.trial import EpochMetrics
from trainables.worker.tune_adapter import EPOCH, USED

NODE = {"CPU": 4.0, "GPU": 1.0}
USED_HALF = Used(seconds=9, cpus=1, memory=2**30, gpu_busy=0.5, gpu_memory=2**30, gpu_total=2**35, node=NODE)
EPOCH_1 = {EPOCH: EpochMetrics(epoch=1, metrics={}).model_dump_json()}


class Moment:
    """A clock that stands still unless it is set."""

    at = 0.0

    def __call__(self) -> float:
        return self.at


def bench_of(folder: Path, clock: Clock = time.monotonic) -> Bench:
    return Bench(folder, config(resources="auto", search={"trials": 3, "sampler": "random"}), clock)


def searcher(bench: Bench, kept: list[Choice]) -> WorkSearcher:
    return WorkSearcher(bench.work, Allotment(Auto(lambda: None, kept.append), [NODE]))


def test_while_the_first_run_is_measured_there_is_no_other_and_then_they_get_what_was_chosen(
    tmp_path: Path,
) -> None:
    kept: list[Choice] = []
    found = searcher(bench_of(tmp_path), kept)
    first = found.suggest("a")
    assert first["measure"]
    assert occupied(first) == {"CPU": 4, "GPU": 1}
    found.work_started("a")
    assert found.suggest("b") is None
    assert found.epoch("a", EPOCH_1 | {USED: USED_HALF.model_dump_json()}) == "go on"
    assert [choice.resources for choice in kept] == [Resources(cpu=2, gpu=0.5)]
    for trial in "bc":
        other = found.suggest(trial)
        assert not other["measure"]
        assert occupied(other) == {"CPU": 2, "GPU": 0.5}
    assert found.error is None


def test_if_it_ends_before_its_first_epoch_has_the_next_one_is_measured(tmp_path: Path) -> None:
    kept: list[Choice] = []
    found = searcher(bench_of(tmp_path), kept)
    found.suggest("a")
    found.work_started("a")
    found.reasons["a"] = "the node is gone"
    found.on_trial_complete("a", error=True)
    assert found.suggest("b")["measure"]
    assert kept == []


def test_each_run_is_counted_with_the_gpu_that_it_has_whatever_is_chosen_meanwhile(tmp_path: Path) -> None:
    clock, kept = Moment(), list[Choice]()
    bench = bench_of(tmp_path, clock)
    found = searcher(bench, kept)
    found.suggest("a")
    found.work_started("a")
    clock.at = 10
    assert bench.work.meter.now.gpu_seconds == 10
    found.epoch("a", EPOCH_1 | {USED: USED_HALF.model_dump_json()})
    assert kept[0].resources.gpu == 0.5
    found.suggest("b")
    found.work_started("b")
    clock.at = 20
    assert bench.work.meter.now.gpu_seconds == 20 + 0.5 * 10


def test_the_wait_for_another_worker_is_not_counted(tmp_path: Path) -> None:
    clock = Moment()
    bench = bench_of(tmp_path, clock)
    found = searcher(bench, [])
    found.suggest("a")
    found.work_started("a")
    clock.at = 10
    found.failed("a", RunError("its node is gone"))
    clock.at = 3610
    found.work_started("a")
    clock.at = 3620
    taken = bench.work.meter.now
    assert (taken.seconds, taken.run_seconds, taken.gpu_seconds) == (3620, 20, 20)


def test_a_run_for_which_its_share_was_too_small_has_a_whole_gpu_all_the_same() -> None:
    asked = {"resources": {"cpu": 2.0, "gpu": 0.25}, "whole_device": True}
    assert occupied(asked) == {"CPU": 2, "GPU": 1}

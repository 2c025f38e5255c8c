"""What Tune is handed for each run, without Ray: what a run gets, and which one is measured."""

from pathlib import Path

from in_process import Bench, config

from search.cluster.launch import occupied
from search.cluster.searcher import WorkSearcher
from search.request.computing.resources import Choice, Resources
from search.work.allotting import Allotment, Auto
from trainables.contract.node import Used
from trainables.contract.trial import EpochMetrics
from trainables.worker.tune_adapter import EPOCH, USED

NODE = {"CPU": 4.0, "GPU": 1.0}
USED_HALF = Used(seconds=9, cpus=1, memory=2**30, gpu_busy=0.5, gpu_memory=2**30, gpu_total=2**35, node=NODE)
EPOCH_1 = {EPOCH: EpochMetrics(epoch=1, metrics={}).model_dump_json()}


def searcher(folder: Path, kept: list[Choice]) -> WorkSearcher:
    bench = Bench(folder, config(resources="auto", search={"trials": 3, "sampler": "random"}))
    return WorkSearcher(bench.work, Allotment(Auto(lambda: None, kept.append), [NODE]))


def test_while_the_first_run_is_measured_there_is_no_other_and_then_they_get_what_was_chosen(
    tmp_path: Path,
) -> None:
    kept: list[Choice] = []
    found = searcher(tmp_path, kept)
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
    found = searcher(tmp_path, kept)
    found.suggest("a")
    found.work_started("a")
    found.reasons["a"] = "the node is gone"
    found.on_trial_complete("a", error=True)
    assert found.suggest("b")["measure"]
    assert kept == []


def test_a_run_for_which_its_share_was_too_small_has_a_whole_gpu_all_the_same() -> None:
    asked = {"resources": {"cpu": 2.0, "gpu": 0.25}, "whole_device": True}
    assert occupied(asked) == {"CPU": 2, "GPU": 1}

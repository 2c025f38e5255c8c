"""The in-process cluster: what it keeps, where it stops, how it goes on."""

import os
from pathlib import Path
from typing import Any

import pytest
from in_process import Bench, config
from toy_experiments import request_of

from search.cli.main import main
from search.cluster.here import Here
from search.record.files import RunFiles
from search.record.folder import StudyFolder
from search.request.computing.resources import Resources
from search.work.protocol import Answer
from search.work.search_queue import SearchQueue
from trainables.contract.node import GPUS, own_gpus, own_threads
from trainables.contract.trial import EpochMetrics, OnEpoch, Outcome, TrialFolder, TrialSpec
from trainables.worker.run import run_trial

THREE_EPOCHS = {"model": "toy", "steps": 3, "eval_every": 1}


def bench(folder: Path, **changes: Any) -> Bench:
    asked = {"train": THREE_EPOCHS, "search": {"trials": 2, "sampler": "random"}, "baseline": {"seeds": 1}}
    return Bench(folder, config(**asked | changes))


def test_a_search_is_carried_out_and_each_run_leaves_its_result_alone(tmp_path: Path) -> None:
    toy = bench(tmp_path)
    Here().launch(toy.work, toy.folder.files)
    assert toy.work.complete()
    for trial in toy.study.trials():
        assert trial.report is not None
        result = toy.folder.files.result(trial.report.key)
        assert result is not None
        assert [path.name for path in result.parent.iterdir()] == [result.name]


class StopsSecond(SearchQueue):
    """A search whose second run is told to stop after its first epoch."""

    heard: list[tuple[str, float | None]]

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        super().epoch(key, measured)
        self.heard = [*getattr(self, "heard", []), (key, measured.metrics["minority_recall"])]
        return "stop" if key != self.heard[0][0] and measured.epoch == 1 and len(self.heard) == 4 else "go on"


def test_a_queue_hears_metrics_and_a_run_that_it_stops_is_told_stopped(tmp_path: Path) -> None:
    toy = bench(tmp_path)
    toy.study.flush()
    work = StopsSecond(toy.folder.open(), toy.folder.files, toy.work._data, toy.snapshots.append, toy.clock)
    Here().launch(work, toy.folder.files)
    trials = work._study.trials()
    assert [trial.state for trial in trials] == ["stopped", "complete"]
    assert trials[1].report is not None
    curve = [point.metrics["minority_recall"] for point in toy.folder.files.curve(trials[1].report)]
    assert [recall for _, recall in work.heard[4:]] == curve


def test_ctrl_c_keeps_the_last_epoch_and_the_next_process_goes_on_from_it(tmp_path: Path) -> None:
    toy = bench(tmp_path)

    def interrupted(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
        def press(measured: EpochMetrics) -> None:
            on_epoch(measured)
            if measured.epoch == 2:
                raise KeyboardInterrupt

        return run_trial(spec, folder, press)

    Here(interrupted).launch(toy.work, toy.folder.files)
    assert not toy.work.complete()
    toy.reopen()
    Here().launch(toy.work, toy.folder.files)
    (seed,) = toy.study.baseline_trials()
    assert seed.report is not None
    assert seed.report.restarts == 1
    assert [point.epoch for point in toy.folder.files.curve(seed.report)] == [1, 2, 3]


def test_a_run_that_is_interrupted_before_its_time_has_come_leaves_no_checkpoint(tmp_path: Path) -> None:
    toy = bench(tmp_path, search={"trials": 2, "sampler": "random", "checkpoint_s": 60})
    kept, told = [], []

    class Watched(RunFiles):
        def keep(self, key: str, files: Path) -> None:
            kept.append(files.name)
            super().keep(key, files)

    def interrupted(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
        def press(measured: EpochMetrics) -> None:
            on_epoch(measured)
            told.append(measured.epoch)
            if told == [1, 2]:
                raise KeyboardInterrupt

        return run_trial(spec, folder, press)

    files = Watched(toy.folder.files.root)
    Here(interrupted).launch(toy.work, files)
    assert (kept, told) == ([], [1, 2])
    toy.reopen()
    Here(interrupted).launch(toy.work, files)
    assert toy.work.complete()
    (seed,) = toy.study.baseline_trials()
    assert seed.report is not None
    assert seed.report.restarts == 0
    assert told == [1, 2] + [1, 2, 3] * 3  # both epochs of the baseline's seed once more
    assert [point.epoch for point in toy.folder.files.curve(seed.report)] == [1, 2, 3]
    assert kept == ["result"] * 3


def test_a_run_has_its_threads_and_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for before in (None, "7"):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if before is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", before)
        with Here().connected(Resources(cpu=3)):
            seen.append(own_threads())
        assert os.environ.get("OMP_NUM_THREADS") == before
    assert seen == [3, 3]


@pytest.mark.parametrize(("asked", "gpus"), [(0, 0.0), (0.25, 1.0), (1, 1.0)])
def test_a_run_has_the_whole_of_a_gpu_that_it_wants_a_share_of(
    asked: float, gpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    with Here().connected(Resources(gpu=asked)):
        assert own_gpus() == gpus
    assert own_gpus() == 0


def test_the_command_runs_without_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", request_of(tmp_path), "--runs", str(tmp_path / "runs")]
    assert main([*command, "--here", "--address", "auto"]) == 2
    assert "--here and --address: one of them" in capsys.readouterr().err
    assert main([*command, "--here"]) == 1
    assert "0 best, 0 dominated, 1 infeasible" in capsys.readouterr().out
    assert len(StudyFolder(tmp_path / "runs" / "toy").open().trials()) == 1

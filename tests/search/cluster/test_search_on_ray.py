"""The search on a real local Ray: nothing is lost, nothing runs twice, whatever happens to its processes."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from in_process import DATA, config
from on_ray import Searched, search_on_ray

from search.cluster.launch import run_connected
from search.cluster.searcher import WorkSearcher
from search.record.experiments import Wanted
from search.record.files import RunFiles
from search.record.folder import StudyFolder
from search.record.outcomes import StudyTrial
from search.work.experiment_queue import ExperimentQueue
from search.work.protocol import Answer
from spaces.strategy import NAMED
from trainables.contract.node import own_threads
from trainables.contract.trial import Outcome, TrialFailure, TrialFolder, TrialReport
from trainables.worker.run import run_trial
from trainables.worker.tune_adapter import hide_other_gpus, use_own_cpus

pytestmark = pytest.mark.slow

POWER = {"sampler_power": [0.0, 1.0]}
THREE_EPOCHS = {"model": "toy", "steps": 3, "eval_every": 1}
ONE_SEED = {"strategy": "plain", "seeds": 1}


@dataclass(frozen=True)
class Faulty:
    searched: Searched
    pids: dict[int, set[int]]  # worker processes of each run that reported an epoch


@pytest.fixture(scope="module")
def faulty(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    """A baseline seed and eight trials; run 2's worker is killed at epoch 3, run 3's code raises at 2."""
    pids_of_key: dict[str, set[int]] = {}
    plain = WorkSearcher.epoch

    def watched(self: WorkSearcher, trial_id: str, result: dict[str, Any]) -> Answer:
        pids_of_key.setdefault(self._keys[trial_id], set()).add(result["pid"])
        return plain(self, trial_id, result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkSearcher, "epoch", watched)
        searched = search_on_ray(
            tmp_path_factory.mktemp("faulty"),
            faults={2: "toy:kill_at=3", 3: "toy:raise=2"},
            space=POWER,
            train=THREE_EPOCHS,
            baseline=ONE_SEED,
            search={"trials": 8, "sampler": "tpe"},
        )
    return Faulty(searched, {searched.work.number(key): pids for key, pids in pids_of_key.items()})


def test_a_killed_workers_trial_goes_on_from_its_last_checkpoint(faulty: Faulty) -> None:
    report = faulty.searched.work.report(2)
    assert report.restarts == 1
    assert [point.epoch for point in report.curve] == [1, 2, 3]
    assert faulty.searched.work.epochs_of(2) == [1, 2, 3]  # so epochs 1 and 2 were not trained again
    assert len(faulty.pids[2]) == 2


def test_a_killed_and_resumed_run_measures_what_an_undisturbed_one_does(
    faulty: Faulty, tmp_path: Path
) -> None:
    undisturbed = run_trial(faulty.searched.work.ran[2], TrialFolder(tmp_path), lambda measured: None)
    assert isinstance(undisturbed, TrialReport)
    resumed = faulty.searched.work.report(2)
    assert resumed.metrics == undisturbed.metrics
    assert resumed.curve == undisturbed.curve


def test_code_that_raises_is_a_failure_with_its_traceback_and_not_retried(faulty: Faulty) -> None:
    failure = faulty.searched.work.failure(3)
    assert (failure.kind, failure.retry) == ("error", False)
    assert "Traceback" in failure.reason
    assert "RuntimeError: the toy was told to raise at epoch 2" in failure.reason
    assert faulty.searched.work.epochs_of(3) == [1]  # a retry would have reported epoch 1 again
    assert len(faulty.pids[3]) == 1


def test_what_happens_to_one_trial_leaves_the_others_alone(faulty: Faulty) -> None:
    trials = faulty.searched.study.trials()
    assert faulty.searched.work.work.complete()
    assert len(trials) == 8
    assert sorted(trial.state for trial in trials) == ["complete"] * 7 + ["failed"]
    restarts = [trial.report.restarts for trial in trials if trial.report is not None]
    assert sorted(restarts) == [0] * 6 + [1]


def test_workers_are_used_for_several_trials(faulty: Faulty) -> None:
    assert len(faulty.pids) == 9
    assert len(set.union(*faulty.pids.values())) <= 4  # two at once, one killed, and Ray may start one ahead


def test_each_trial_keeps_only_its_result(faulty: Faulty) -> None:
    folders = sorted(path for path in faulty.searched.folder.files.root.iterdir() if path.is_dir())
    done = [path for path in folders if [*path.glob("checkpoint_*")]]
    for folder in done:
        left = [path.name for path in folder.glob("checkpoint_*")]
        assert len(left) == 1, f"{folder.name}: {left}"
    assert len(done) == 9


def test_a_duplicate_is_told_the_stored_report_and_not_run_twice(local_ray: None, tmp_path: Path) -> None:
    searched = search_on_ray(
        tmp_path,
        space={"retention": {"choices": [0.4, 0.5]}, "sampler_power": {"choices": [0.0, 1.0]}},
        baseline=ONE_SEED,
        search={"trials": 6, "sampler": "random"},
    )
    trials = searched.study.trials()
    assert len(searched.work.ran) == 4 + 1
    assert len(trials) > 4
    reports: dict[Any, set[str]] = {}
    for trial in trials:
        assert trial.report is not None
        reports.setdefault(trial.strategy, set()).add(trial.report.model_dump_json())
    assert len(reports) == 4
    assert all(len(stored) == 1 for stored in reports.values())


def test_the_same_study_seed_and_one_worker_give_the_same_suggestions(
    local_ray: None, tmp_path: Path
) -> None:
    asked = []
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        searched = search_on_ray(
            tmp_path / name,
            space={"sampler_power": [0.0, 1.0], "focal_gamma": [0.0, 2.0]},
            train={"model": "toy", "steps": 1, "eval_every": 1},
            baseline=ONE_SEED,
            search={"trials": 13, "sampler": "tpe", "seed": seed},
            resources={"cpu": 2},  # both CPUs: one trial at a time
        )
        asked.append([trial.strategy for trial in searched.study.trials()])
    first, again, other = asked
    assert len(first) == 13  # beyond the ten that TPE draws at random
    assert first == again
    assert first != other


class FirstCrashes(ExperimentQueue):
    """An experiment whose first outcome is taken for a crash, which leaves no result."""

    crashed = False

    def finish(self, key: str, outcome: Outcome) -> None:
        if not self.crashed:
            self.crashed = True
            shutil.rmtree(self._files.root / key)
            outcome = TrialFailure(key=key, kind="error", reason="told to")
        super().finish(key, outcome)


def test_a_run_that_is_made_again_leaves_its_results_in_its_own_folder(
    local_ray: None, tmp_path: Path
) -> None:
    request = config()
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    run = Wanted("plain", request.spec(NAMED["plain"], DATA, seed=0, split="test"))
    record = study.begin("compare")
    work = FirstCrashes("toy", record, folder.files, [run], lambda snapshot: None, time.monotonic)
    run_connected(work, folder.files, request.resources)
    study.flush()
    assert work.complete()
    assert [entry.key for entry in record.runs()] == [run.spec.key] * 2
    assert [path.name for path in folder.files.root.iterdir() if path.is_dir()] == [run.spec.key]
    assert folder.files.result(run.spec.key) is not None


# The command in a process of its own: Ctrl-C, --resume, a raised budget


SLOW = {"model": "toy:sleep=0.5", "steps": 4, "eval_every": 1}
STOP_WITHIN_S = 40  # on an idle machine it takes about 5; a shared one may be slow
RUN_WITHIN_S = 200


@dataclass(frozen=True)
class Interrupted:
    """A search stopped by Ctrl-C, continued by the command it printed, then with a raised budget."""

    code: int
    seconds: float
    said: str
    at_stop: list[StudyTrial]
    resumed: int
    at_end: list[StudyTrial]
    files: RunFiles
    raised: int
    at_raised_end: list[StudyTrial]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    root = tmp_path_factory.mktemp("interrupted")
    request = {
        "name": "stopped",
        "task": "toy",
        "data": "demo:toy",
        "minority": ["rare"],
        "train": SLOW,
        "space": POWER,
        "guards": [{"metric": "map50_95", "max_drop": 0.5}],  # all trials are feasible
        "baseline": ONE_SEED,
        "search": {"trials": 5, "sampler": "tpe", "checkpoint_s": 0},
    }
    (root / "study.yaml").write_text(yaml.safe_dump(request))
    folder = StudyFolder(root / "runs" / "stopped")
    command = [str(Path(sys.executable).with_name("rarecall")), "search", "study.yaml"]
    with running(command, root) as process:
        wait_for_epochs_after(folder, finished=3)  # the baseline and, told by now, a trial
        started = time.monotonic()
        os.killpg(
            process.pid, signal.SIGINT
        )  # as a terminal does: to the whole group, Ray's processes included
        _, said = process.communicate(timeout=STOP_WITHIN_S)
        seconds = time.monotonic() - started
    at_stop = folder.open().trials()
    printed = shlex.split(said.splitlines()[-1])
    assert printed[0] == "rarecall", said
    resumed = run([command[0], *printed[1:]], root)
    at_end = folder.open().trials()
    (root / "study.yaml").write_text(yaml.safe_dump(request | {"search": {"trials": 7, "sampler": "tpe"}}))
    raised = run([*command, "--resume"], root)
    return Interrupted(
        process.returncode,
        seconds,
        said,
        at_stop,
        resumed,
        at_end,
        folder.files,
        raised,
        folder.open().trials(),
    )


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which does not outlive the context."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def run(command: list[str], folder: Path) -> int:
    with running(command, folder) as process:
        _, said = process.communicate(timeout=RUN_WITHIN_S)
    assert process.returncode in {0, 1}, said
    return process.returncode


def wait_for_epochs_after(folder: StudyFolder, *, finished: int) -> None:
    """Until so many runs have finished and another one has a checkpoint to go on from."""
    deadline = time.monotonic() + RUN_WITHIN_S
    while time.monotonic() < deadline:
        runs = [path for path in folder.files.root.glob("*") if path.is_dir()]
        done = [path for path in runs if folder.files.result(path.name) is not None]
        under_way = [path for path in runs if path not in done and [*path.glob("checkpoint_*/progress.json")]]
        if len(done) >= finished and under_way:
            return
        time.sleep(0.1)
    raise TimeoutError("the search has not come so far")


def test_ctrl_c_ends_the_search_soon_with_the_command_to_go_on(interrupted: Interrupted) -> None:
    assert interrupted.code == 130
    assert interrupted.said.splitlines()[-1].split() == ["rarecall", "search", "runs/stopped", "--resume"]
    assert "Traceback" not in interrupted.said
    states = {trial.state for trial in interrupted.at_stop}
    assert states == {"complete", "running"}  # it really was in the midst of it


def test_the_printed_command_finishes_the_study(interrupted: Interrupted) -> None:
    assert interrupted.resumed == 0
    assert [trial.state for trial in interrupted.at_end] == ["complete"] * 5


def test_what_had_finished_is_not_run_again(interrupted: Interrupted) -> None:
    before = {trial.number: trial for trial in interrupted.at_stop if trial.state == "complete"}
    after = {trial.number: trial for trial in interrupted.at_end}
    assert before
    assert all(after[number] == trial for number, trial in before.items())  # seconds of training included


def test_interrupted_trials_go_on_from_their_checkpoint(interrupted: Interrupted) -> None:
    cut = {trial.number for trial in interrupted.at_stop if trial.state == "running"}
    reports = {trial.number: trial.report for trial in interrupted.at_end}
    restarts = {number: report.restarts for number, report in reports.items() if report is not None}
    assert max(restarts[number] for number in cut) == 1  # at least one had a checkpoint by then
    assert all(restarts[number] == 0 for number in restarts.keys() - cut)
    for report in reports.values():
        assert report is not None
        assert [point.epoch for point in interrupted.files.curve(report)] == [1, 2, 3, 4]


def test_a_raised_budget_continues_a_finished_study(interrupted: Interrupted) -> None:
    assert interrupted.raised == 0
    assert [trial.state for trial in interrupted.at_raised_end] == ["complete"] * 7
    assert interrupted.at_raised_end[:5] == interrupted.at_end


# Devices


def test_a_run_that_asked_for_no_gpu_sees_none(local_ray: None) -> None:
    @ray.remote(num_cpus=1, runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": "0"}})
    def visible() -> str:
        hide_other_gpus()
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert ray.get(visible.remote()) == ""


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_run_computes_on_as_many_threads_as_it_asked_for_cpus(local_ray: None, cpus: int) -> None:
    @ray.remote(num_cpus=cpus, runtime_env={"env_vars": {"OMP_NUM_THREADS": "4"}})
    def threads() -> int:
        use_own_cpus()
        return own_threads()

    assert ray.get(threads.remote()) == cpus

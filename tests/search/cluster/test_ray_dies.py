"""A local Ray that dies, a run that hangs on one, and signals to a search on one: real processes."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from commands import Command, alive, end, start, study_file

from search.record.folder import StudyFolder
from search.record.study import Study

pytestmark = pytest.mark.slow

STARTED_S, LOST_S, STOPPED_S = 90.0, 120.0, 45.0


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Command]:
    """With a run that trains."""
    command = start("search", study_file(tmp_path), at=tmp_path)
    try:
        command.wait_for("running", STARTED_S)
        yield command
    finally:
        end(command)


def record(folder: Path) -> Study:
    return StudyFolder(folder / "runs" / "toy").open()


@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_dead_part_of_ray_ends_the_search_and_all_its_processes(
    searching: Command, part: str, tmp_path: Path
) -> None:
    time.sleep(2.0)
    family = searching.family()
    workers = [process for process in family if process.name().startswith("ray::")]
    assert len(workers) > 1
    next(process for process in family if process.name() == part).kill()
    killed = time.monotonic()
    assert searching.ended(LOST_S) == 3
    assert time.monotonic() - killed < LOST_S
    assert f"Ray is gone: its {'raylet' if part == 'raylet' else 'GCS'}" in searching.text
    assert "Go on with: rarecall search runs/toy --resume" in searching.text
    assert "Traceback" not in searching.text
    psutil.wait_procs(family, timeout=30.0)
    assert alive(family) == []
    assert {trial.state for trial in record(tmp_path).baseline_trials()} <= {"running", "complete"}
    assert {trial.state for trial in record(tmp_path).trials()} <= {"running", "complete"}
    again = start("search", "runs/toy", "--resume", at=tmp_path)
    try:
        assert again.ended(240) in (0, 1), again.text
    finally:
        end(again)
    assert [trial.state for trial in record(tmp_path).trials()] == ["complete"] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_on_ray_answers_and_ends_with_all_its_processes(
    searching: Command, number: signal.Signals, tmp_path: Path
) -> None:
    time.sleep(2.0)
    family = searching.family()
    sent = searching.send(number)
    assert searching.wait_for("stopping; Ctrl-C again ends at once", 60) - sent < 3
    assert searching.ended(STOPPED_S) == 130
    assert "rarecall search runs/toy --resume" in searching.text
    psutil.wait_procs(family, timeout=30.0)
    assert alive(family) == []
    assert len(record(tmp_path).baseline_trials()) == 1


def test_a_second_ctrl_c_on_ray_ends_at_once(searching: Command) -> None:
    family = searching.family()
    searching.send(signal.SIGINT)
    searching.wait_for("stopping", 60)
    time.sleep(0.5)
    sent = searching.send(signal.SIGINT)
    assert searching.ended(30) == 130
    assert time.monotonic() - sent < 8
    psutil.wait_procs(family, timeout=30.0)
    assert alive(family) == []


def test_sigterm_while_ray_starts_ends_it(tmp_path: Path) -> None:
    command = start("search", study_file(tmp_path), at=tmp_path)
    try:
        until = time.monotonic() + STARTED_S
        while not (family := command.family()) and time.monotonic() < until:
            time.sleep(0.02)
        sent = command.send(signal.SIGTERM)
        assert command.wait_for("stopping", 60) - sent < 3
        assert command.ended(60) == 130
        psutil.wait_procs(family, timeout=30.0)
        assert alive(family) == []
    finally:
        end(command)


def test_a_run_that_hangs_on_a_worker_is_ended_after_its_time(tmp_path: Path) -> None:
    hangs = {"model": "toy:hang=3", "steps": 40, "eval_every": 10}
    limited = {"trials": 1, "sampler": "random", "trial_timeout_s": 25, "checkpoint_s": 0}
    command = start("search", study_file(tmp_path, train=hangs, search=limited), at=tmp_path)
    try:
        assert command.ended(240) == 3
    finally:
        end(command)
    assert "ran for longer than search.trial_timeout_s, 25 s" in command.text
    assert "Traceback" not in command.text
    failures = [trial.failure for trial in record(tmp_path).baseline_trials()]
    assert [failure.kind for failure in failures if failure is not None] == ["timeout"]
    assert {trial.state for trial in record(tmp_path).trials()} <= {"failed"}
    # What it had reached is kept, and the toy hangs only once; the limit may change.
    longer = limited | {"trial_timeout_s": 60}
    again = start("search", study_file(tmp_path, train=hangs, search=longer), "--resume", at=tmp_path)
    try:
        assert again.ended(240) in (0, 1), again.text
    finally:
        end(again)
    assert [trial.state for trial in record(tmp_path).baseline_trials()] == ["failed", "complete"]

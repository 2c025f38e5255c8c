"""Ctrl-C, SIGTERM and SIGHUP: answered at once, ended cleanly; a second one ends at once."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Command, end, start, study_file

from search.record.folder import StudyFolder

ANSWER, CLEAN_S = "stopping; Ctrl-C again ends at once", 45.0
RUNNING = "1 running"

# The main thread is in native code that no signal gets it out of, as in a library that hangs.
HANGS = """
import hashlib, os, signal, sys, threading, time
from search.cluster.stopping import Stop

stop = Stop(lambda: print("answered", flush=True), lambda: (print("ended", flush=True), os._exit(130)))
with stop.heard(raising=sys.argv[1] == "raising"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)
"""


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Command]:
    command = start("search", study_file(tmp_path), "--here", at=tmp_path)
    try:
        command.wait_for(RUNNING, 60)
        yield command
    finally:
        end(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_search_here_answers_and_ends_and_can_go_on(
    searching: Command, number: signal.Signals, tmp_path: Path
) -> None:
    time.sleep(0.7)  # there is a checkpoint
    sent = searching.send(number)
    assert searching.wait_for(ANSWER, 60) - sent < 3
    assert searching.ended(CLEAN_S) == 130
    assert "rarecall search runs/toy --resume" in searching.text
    assert "Traceback" not in searching.text
    folder = StudyFolder(tmp_path / "runs" / "toy")
    assert len(folder.open().baseline_trials()) == 1
    assert [*folder.files.root.glob("*/checkpoint_*")]


def test_a_file_in_the_studys_folder_asks_a_search_to_end_and_asks_once(
    searching: Command, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "runs" / "toy")
    folder.files.stop_request.touch()
    searching.wait_for(ANSWER, 60)
    assert searching.ended(CLEAN_S) == 130
    assert "rarecall search runs/toy --resume" in searching.text
    assert "Traceback" not in searching.text
    assert not folder.files.stop_request.exists()
    assert len(folder.open().baseline_trials()) == 1


def test_a_hangup_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    command = start("search", study_file(tmp_path), "--here", at=tmp_path, before=["nohup"])
    try:
        command.wait_for(RUNNING, 60)
        command.send(signal.SIGHUP)
        time.sleep(1.0)
        assert command.process.poll() is None
        assert ANSWER not in command.text
        command.send(signal.SIGTERM)
        assert command.ended(CLEAN_S) == 130
    finally:
        end(command)


def test_a_comparison_here_answers_and_says_how_to_go_on(tmp_path: Path) -> None:
    compared = {"strategies": ["filtered"], "seeds": 2, "reference_seeds": 2}
    command = start("compare", study_file(tmp_path, compare=compared), "--here", at=tmp_path)
    try:
        command.wait_for(RUNNING, 60)
        sent = command.send(signal.SIGTERM)
        assert command.wait_for(ANSWER, 60) - sent < 3
        assert command.ended(CLEAN_S) == 130
        assert "rarecall compare runs/toy --resume" in command.text
    finally:
        end(command)


def test_a_confirmation_here_answers_and_says_how_to_go_on(tmp_path: Path) -> None:
    study = study_file(tmp_path, search={"trials": 1, "sampler": "random"})
    rarecall = Path(sys.executable).with_name("rarecall")
    searched = subprocess.run([rarecall, "search", study, "--here"], cwd=tmp_path, capture_output=True)
    assert searched.returncode in (0, 1), searched.stderr
    asked = ["--strategy", "filtered", "--seeds", "4", "--baseline-seeds", "4"]
    command = start("confirm", "runs/toy", "--here", *asked, at=tmp_path)
    try:
        command.wait_for(RUNNING, 60)
        sent = command.send(signal.SIGINT)
        assert command.wait_for(ANSWER, 60) - sent < 3
        assert command.ended(CLEAN_S) == 130
        assert "rarecall confirm runs/toy --resume" in command.text
    finally:
        end(command)


@pytest.mark.parametrize("mode", ["raising", "waiting"])
def test_native_code_that_hangs_keeps_neither_the_answer_nor_the_second_signal(mode: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS, mode], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # until it is in native code
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "answered\n"
        assert time.monotonic() - sent < 5
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ended\n"
        assert process.wait(30) == 130
        assert time.monotonic() - sent < 8
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

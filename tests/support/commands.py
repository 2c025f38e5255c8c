"""The `rarecall` command as a process of its own, for tests: what it says when, and real signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from in_process import config

RARECALL = Path(sys.executable).with_name("rarecall")


@dataclass
class Command:
    """A running command.

    Attributes:
        process: Its own; the leader of a session.
        said: What it has printed so far, each line with the time at which it was read.
    """

    process: subprocess.Popen[str]
    said: list[tuple[float, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(line for _, line in self.said)

    def wait_for(self, words: str, within_s: float) -> float:
        """When a line with these words was read."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for at, line in list(self.said):
                if words in line:
                    return at
            assert self.process.poll() is None or words in self.text, self.text
            time.sleep(0.01)
        raise AssertionError(f"no '{words}' within {within_s} s in:\n{self.text}")

    def send(self, number: signal.Signals) -> float:
        """Send a signal to the command alone; when that was."""
        at = time.monotonic()
        os.kill(self.process.pid, number)
        return at

    def ended(self, within_s: float) -> int:
        code = self.process.wait(within_s)
        time.sleep(0.1)  # for what is still read
        return code

    def family(self) -> list[psutil.Process]:
        """All that it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)


def start(*args: str, at: Path, before: Sequence[str] = ()) -> Command:
    """Start `rarecall` in the folder `at`; `before` is what stands before it, e.g. nohup."""
    process = subprocess.Popen(
        [*before, str(RARECALL), *args],
        cwd=at,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    command = Command(process)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                command.said.append((time.monotonic(), line))

    threading.Thread(target=read, daemon=True).start()
    return command


def end(command: Command) -> None:
    """Kill what is left of it."""
    left = command.family() if command.process.poll() is None else []
    for process in [*left, command.process]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    command.process.wait()


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """Names of those that still run."""
    return [
        process.name()
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def study_file(folder: Path, **changes: object) -> str:
    """A toy study of one baseline seed whose epochs last half a second each; its name in the folder."""
    slow = {"model": "toy:sleep=0.5", "steps": 40, "eval_every": 10}
    small = {
        "train": slow,
        "baseline": {"seeds": 1},
        "search": {"trials": 4, "sampler": "random", "checkpoint_s": 0},
    }
    request = config().model_dump(mode="json") | small | changes
    (folder / "study.yaml").write_text(yaml.safe_dump(request))
    return "study.yaml"

"""Connecting to Ray, where no Ray is needed to see what happens."""

import os
import signal
import subprocess
import sys
import time

import pytest
import ray

from search.cluster import launch


def test_ctrl_c_while_ray_starts_waits_until_it_has_and_then_stops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    def start(address: str | None, cpus: int | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # where Python would raise the interrupt
        happened.append("started")

    monkeypatch.setattr(launch, "_start", start)
    monkeypatch.setattr(ray, "shutdown", lambda: happened.append("stopped"))
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), launch.connected(None):
        happened.append("used")
    assert happened == ["started", "stopped"]
    assert signal.getsignal(signal.SIGINT) is usual


def test_what_asks_a_ray_that_is_gone_starts_no_other() -> None:
    asks = "import search.cluster.launch, ray; ray.put(1)"
    asked = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, timeout=60)
    assert asked.returncode == 1
    assert "ray.init" in asked.stderr

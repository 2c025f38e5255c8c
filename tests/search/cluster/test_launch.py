"""Connecting to Ray, where no Ray is needed to see what happens."""

import os
import signal
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

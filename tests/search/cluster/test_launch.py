"""Connecting to Ray, where no Ray is needed to see what happens."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import worker

from search.cluster import launch
from search.cluster.nodes import guard_token
from spaces.errors import UsageError


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


def test_rays_client_is_refused_with_the_way_that_outlives_this_machine() -> None:
    with pytest.raises(UsageError, match="Ray's client") as raised, launch.connected("ray://head:10001"):
        pass
    assert "--on jobs" in raised.value.hint


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_token_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    guard_token()  # there is none
    (tmp_path / ".ray").mkdir()
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("a-token")
    token.chmod(mode)
    guard_token()
    assert token.stat().st_mode & 0o777 == 0o600


@pytest.mark.cluster
def test_ray_says_nothing_on_our_screen(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    says, said = worker.print_to_stdstream, threading.Event()

    def saying(*told: Any, **how: Any) -> None:
        says(*told, **how)
        said.set()

    monkeypatch.setattr(worker, "print_to_stdstream", saying)
    publish = ray._private.utils.publish_error_to_driver
    for number in range(60):  # who has only just subscribed may miss the first
        publish("node_died", f"The node {number} has been marked dead", worker.global_worker.gcs_client)
        if said.wait(timeout=0.5):
            break
    assert said.is_set()
    assert tuple(capfd.readouterr()) == ("", "")

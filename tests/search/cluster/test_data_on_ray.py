"""Nodes that do not see the data: refused at the start by name, and later named by the run that meets one."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from commands import RARECALL, end, start
from raylets import Raylets, raylets

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
OPEN = {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (OPEN | {"RARECALL_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images of two classes, and a study file beside that trains on them for long."""
    rng = np.random.default_rng(0)
    for split, label, count in (
        ("train", "rare", 12),
        ("train", "common", 40),
        ("val", "rare", 8),
        ("val", "common", 12),
    ):
        folder = tmp_path / "apart" / "data" / split / label
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
    study = {
        "name": "seen",
        "task": "classification",
        "data": str(tmp_path / "apart" / "data"),
        "minority": ["rare"],
        "train": {"model": "small_cnn", "imgsz": 16, "steps": 30000, "eval_every": 3000, "batch": 8},
        "baseline": {"seeds": 1},
        "search": {"trials": 20, "sampler": "random"},
        "resources": {"cpu": 1},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return tmp_path / "apart" / "data"


@pytest.fixture
def head() -> Iterator[Raylets]:
    with raylets(OPEN) as cluster:
        yield cluster


@pytest.fixture
def join(head: Raylets, tmp_path: Path) -> Callable[[], object]:
    """Has another node come in that does not see the data."""
    (tmp_path / "empty").mkdir()
    hide = f'mount --bind {tmp_path / "empty"} {tmp_path / "apart"} && exec "$@"'
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"]
    return lambda: head.start(f"--address={head.address}", before=before)


def search(head: Raylets, at: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [RARECALL, "search", "study.yaml", "--runs", "runs", "--address", head.address, *options]
    return subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=300, check=False)


def test_a_node_that_lacks_the_data_is_named_before_anything_is_trained(
    head: Raylets, data: Path, join: Callable[[], object], tmp_path: Path
) -> None:
    join()
    done = search(head, tmp_path)
    assert done.returncode == 2, done.stderr
    assert f") does not see {data}, which runs read" in done.stderr
    assert "hint: have it where every node mounts it" in done.stderr
    assert not (tmp_path / "runs" / "seen").exists()


def test_a_node_that_joins_without_the_data_is_named_and_fails_no_trial(
    head: Raylets, data: Path, join: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = start("search", "study.yaml", "--runs", "runs", "--address", head.address, at=tmp_path)
    try:
        command.wait_for("1 running", 120)
        join()
        assert command.ended(600) == 3, command.text
    finally:
        end(command)
    assert f"does not see {data}" in command.text
    assert "go on with --resume" in command.text
    status = subprocess.run(
        [RARECALL, "status", "runs/seen", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert '"failed": 0' in status.stdout, status.stdout

"""A study on shared storage that has no file locks, as some NFS: its address works where its path cannot."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from commands import RARECALL, study_file
from no_locks import WHY_NOT, without_locks
from raylets import raylets

EXAMPLES = Path(__file__).parents[3] / "examples"
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


def test_a_search_on_file_addresses_needs_no_locks_there(tmp_path: Path) -> None:
    shared, own = tmp_path / "nfs", tmp_path / "own"
    for folder in (shared, own):
        folder.mkdir()
    inside = {"RAY_AUTH_MODE": "disabled", "RARECALL_CACHE": str(own), **without_locks(shared, own)}
    study = study_file(own, train={"model": "toy:sleep=0.2", "steps": 40, "eval_every": 10})

    def rarecall(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [RARECALL, *args],
            cwd=own,
            env=os.environ | inside,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    refused = rarecall("search", study, "--runs", str(shared / "runs"), "--here")
    assert refused.returncode == 2
    assert "has no file locks (No locks available)" in refused.stderr
    assert "name it file:///… with --runs" in refused.stderr
    assert not (shared / "runs").exists()
    with raylets(inside) as cluster:
        runs = f"file://{shared}/stored"
        done = rarecall("search", study, "--runs", runs, "--address", cluster.address)
        assert done.returncode in (0, 1), done.stderr
        more = rarecall("search", f"{runs}/toy", "--resume", "--address", cluster.address)
        assert more.returncode in (0, 1), more.stderr
    status = rarecall("status", f"{runs}/toy", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["complete"] == 4
    assert list((shared / "stored" / "toy").glob("study.*"))


def test_a_cache_without_locks_is_named(tmp_path: Path) -> None:
    inside = (
        os.environ | without_locks(tmp_path / "nfs", tmp_path) | {"RARECALL_CACHE": str(tmp_path / "nfs")}
    )
    (tmp_path / "nfs").mkdir()
    toy, runs = study_file(tmp_path), f"file://{tmp_path}/stored"
    for command in (
        ["check", str(EXAMPLES / "cytology.yaml")],
        ["search", toy, "--here", "--runs", runs],
    ):
        said = subprocess.run(
            [RARECALL, *command], cwd=tmp_path, env=inside, capture_output=True, text=True, check=False
        )
        assert said.returncode in (2, 3)
        assert "No locks available" in said.stderr
        assert "hint: set RARECALL_CACHE to " in said.stderr
        assert "on this machine's own disk" in said.stderr

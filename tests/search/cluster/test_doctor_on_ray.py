"""`rarecall doctor`, and what a search says of its nodes, against raylets that are processes of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import RARECALL, study_file
from raylets import Raylets, raylets

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OPEN = {"RAY_AUTH_MODE": "disabled"}


def doctor(address: str, runs: Path, environment: Mapping[str, str] = OPEN) -> tuple[int, Any]:
    """Its exit code; its checks, or what it says where it has none."""
    done = subprocess.run(
        [RARECALL, "doctor", "--address", address, "--runs", str(runs), "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def told(checks: Any, name: str) -> list[tuple[str, str]]:
    return [(one["verdict"], one["said"]) for one in checks if one["name"] == name]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `shared`, and `hidden`, of which the second node has another."""
    root = tmp_path_factory.mktemp("places")
    for name in ("shared", "hidden", "packages/optuna-4.9.9.dist-info"):
        (root / name).mkdir(parents=True)
    metadata = root / "packages" / "optuna-4.9.9.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: optuna\nVersion: 4.9.9\n")
    return root


@pytest.fixture(scope="module")
def cluster(places: Path) -> Iterator[Raylets]:
    """A head, and a node with another Optuna that does not see one of the folders."""
    with raylets(OPEN) as started:
        hide = f'mount -t tmpfs none "{places / "hidden"}" && exec "$@"'
        paths = [str(places / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
        started.start(
            f"--address={started.address}",
            environment={"PYTHONPATH": os.pathsep.join(paths)},
            before=["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"],
        )
        yield started


def test_each_node_is_examined_and_a_version_that_differs_is_named(cluster: Raylets, places: Path) -> None:
    code, checks = doctor(cluster.address, places / "shared")
    assert code == 0, [one for one in checks if one["verdict"] == "problem"]
    ((verdict, names),) = told(checks, "nodes")
    assert verdict == "ok"
    assert names.count("(") == 2
    ((verdict, said),) = told(checks, "versions")
    assert (verdict, said.partition(": ")[2]) == ("warning", "optuna 4.9.9, the driver has 5.0.0")
    assert [verdict for verdict, _ in told(checks, "storage")] == ["ok"]
    assert [verdict for verdict, _ in told(checks, "clock")] == ["ok"]
    ports = told(checks, "ports")
    assert [verdict for verdict, _ in ports] == ["warning", "warning"]
    assert all("open without a token" in said for _, said in ports)
    assert f"GCS {cluster.address.partition(':')[2]}" in ports[0][1]
    assert all("raylet" in said for _, said in ports)
    assert list((places / "shared").iterdir()) == []


def test_a_node_without_the_common_folder_is_named_with_the_way_out(cluster: Raylets, places: Path) -> None:
    code, checks = doctor(cluster.address, places / "hidden")
    assert code == 1
    ((verdict, said),) = told(checks, "storage")
    assert verdict == "problem"
    assert said.endswith(f"{places / 'hidden'} is not the driver's folder there")
    (mend,) = [one["mend"] for one in checks if one["name"] == "storage"]
    assert "a folder that every node mounts" in mend
    assert list((places / "hidden").iterdir()) == []


def test_a_search_names_other_versions_before_its_first_trial(
    cluster: Raylets, places: Path, tmp_path: Path
) -> None:
    quick = {"train": {"model": "toy", "steps": 10, "eval_every": 10}, "search": {"trials": 1}}
    study = study_file(tmp_path, **quick)
    done = subprocess.run(
        [RARECALL, "search", study, "--runs", str(tmp_path / "runs"), "--address", cluster.address],
        cwd=tmp_path,
        env={**os.environ, **OPEN},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    token, version = warned[0], warned[-1]
    assert "the cluster asks for no token: whoever reaches " in token
    assert f":{cluster.address.partition(':')[2]} can run code there" in token
    assert version.endswith(": optuna 4.9.9, the driver has 5.0.0")


def test_a_node_that_does_not_answer_is_named(cluster: Raylets, places: Path) -> None:
    raylet = cluster.start(f"--address={cluster.address}")  # the third
    asks = (
        "import json, sys; from dataclasses import asdict; from pathlib import Path;"
        "from search.cluster.examining import examine;"
        "found = examine(sys.argv[1], Path(sys.argv[2]), patience_s=150);"
        "print(json.dumps([asdict(one) for one in found]))"
    )
    raylet.suspend()
    try:
        done = subprocess.run(
            [sys.executable, "-c", asks, cluster.address, str(places / "shared")],
            env={**os.environ, **OPEN},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    finally:
        raylet.send_signal(signal.SIGKILL)
        psutil.wait_procs([raylet], timeout=10)
    assert done.returncode == 0, done.stderr
    nodes = told(json.loads(done.stdout), "nodes")
    assert [verdict for verdict, _ in nodes] == ["problem", "ok"]
    assert nodes[1][1].count("(") == 2


def test_gpus_that_torch_does_not_see_are_a_problem(places: Path) -> None:
    with raylets(OPEN, "--num-gpus=64") as started:  # more than any machine has
        code, checks = doctor(started.address, places / "shared")
    assert code == 1
    (gpus,) = [one for one in checks if one["name"] == "gpus"]
    assert gpus["verdict"] == "problem"
    assert "Ray gives out 64, torch sees " in gpus["said"]
    assert "ray start --num-gpus " in gpus["mend"]


def test_a_cluster_that_wants_a_token_is_named_to_a_client_without(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a" * 64)
    token.chmod(0o600)
    knows = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with raylets(knows) as started:
        code, said = doctor(started.address, tmp_path / "runs")
        assert code == 3, said
        assert "set RAY_AUTH_MODE=token" in said
        code, said = doctor(started.address, tmp_path / "runs", knows | {"RAY_AUTH_TOKEN_PATH": "/nowhere"})
        assert code == 3
        assert "hint: take the head's ~/.ray/auth_token" in said
        code, checks = doctor(started.address, tmp_path / "runs", knows)
        assert code == 0, checks
        ((verdict, heard),) = told(checks, "ports")
        assert verdict == "ok"
        assert "open to who has the token: " in heard
        assert "GCS" in heard
    assert not (tmp_path / "runs").exists()

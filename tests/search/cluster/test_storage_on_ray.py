"""Studies on a real S3 server (moto's): nodes without a common folder, a driver that dies, a storage away."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import RARECALL, end, start, study_file
from pyarrow.fs import FileSystem
from raylets import Raylets, raylets
from s3_server import KEYS, S3, WHY_NOT, s3_server

from search.record.storage.lease import LEASE, Lease

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
on_s3 = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
OPEN = {"RAY_AUTH_MODE": "disabled"}
# A driver as it is, but for how long it has patience.
IMPATIENT = (
    "import sys; from trainables.storage import reading; reading.PATIENCE_S = 15.0; "
    "from search.cli.main import main; sys.exit(main(sys.argv[2:]))"
)
QUICK = {"train": {"model": "toy:sleep=0.3", "steps": 40, "eval_every": 10}}
SLOW = {  # so that much can be looked at before it ends
    "train": {"model": "toy:sleep=1.0", "steps": 60, "eval_every": 10},
    "search": {"trials": 12, "sampler": "random"},
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (KEYS | OPEN).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[Raylets]:
    """Two raylets with a cache of their own; the second does not see the test's folder either."""
    for name in ("apart", "worker"):
        (tmp_path / name).mkdir()
    node = OPEN | KEYS | {"RARECALL_CACHE": str(tmp_path / "worker")}
    with raylets(node) as cluster:
        hide = f'mount --bind {tmp_path / "worker"} {tmp_path / "apart"} && exec "$@"'
        cluster.start(
            f"--address={cluster.address}",
            before=["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh"],
        )
        yield cluster


def rarecall(*args: str, at: Path, cache: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RARECALL, *args],
        cwd=at,
        env=os.environ | {"RARECALL_CACHE": str(at / cache)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def measured(study: str, at: Path, cache: str) -> int:
    """How many trials have been, as a machine with that cache sees it."""
    done = rarecall("pareto", study, "--all", "--csv", at=at, cache=cache)
    assert done.returncode == 0, done.stderr
    rows = [row for row in csv.DictReader(done.stdout.splitlines()) if row["number"].isdigit()]
    assert len({row["number"] for row in rows}) == len(rows)
    return sum(row["group"] in ("best", "dominated", "infeasible") for row in rows)


@on_s3
def test_two_nodes_without_a_common_folder_search_on_s3(s3: S3, two_nodes: Raylets, tmp_path: Path) -> None:
    study = study_file(tmp_path, **QUICK)
    runs, where = s3.address("bucket/two"), s3.address("bucket/two/toy")
    done = rarecall(
        "search", study, "--runs", runs, "--address", two_nodes.address, at=tmp_path, cache="driver"
    )
    assert done.returncode in (0, 1), done.stderr
    assert f"next: rarecall confirm '{where}'" in done.stdout.replace("\n", "") or done.returncode == 1
    assert measured(where, tmp_path, "elsewhere") == 4
    assert not list((tmp_path / "driver").rglob("checkpoint_*"))  # workers have written nothing there
    assert not list((tmp_path / "worker").rglob("study.*"))
    written = rarecall("report", where, at=tmp_path, cache="elsewhere")
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "toy" / "report.html").is_file()
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.suffix in (".yaml", ".json", ".html", ".db"):
            assert b"not-a-secret" not in file.read_bytes()


@on_s3
def test_a_driver_that_was_killed_goes_on_elsewhere(s3: S3, two_nodes: Raylets, tmp_path: Path) -> None:
    study, runs, where = study_file(tmp_path, **SLOW), s3.address("bucket/k"), s3.address("bucket/k/toy")
    os.environ["RARECALL_CACHE"] = str(tmp_path / "first")
    command = start("search", study, "--runs", runs, "--address", two_nodes.address, at=tmp_path)
    system, _ = FileSystem.from_uri(runs)
    try:
        command.wait_for("1 running", 120)
        until = time.monotonic() + 120
        while measured(where, tmp_path, "looking") < 1:
            assert time.monotonic() < until, command.text
            time.sleep(1)
        refused = rarecall("search", where, "--resume", "--here", at=tmp_path, cache="second")
        assert refused.returncode == 2
        assert f"being searched right now, by process {command.process.pid} on " in refused.stderr
    finally:
        os.environ.pop("RARECALL_CACHE")
        command.process.send_signal(signal.SIGKILL)
        end(command)
    with system.open_input_stream(f"bucket/k/toy/{LEASE}") as stream:
        lease = Lease.model_validate_json(stream.read())
    with system.open_output_stream(f"bucket/k/toy/{LEASE}") as stream:  # as if two minutes had passed
        stream.write(lease.model_copy(update={"seen": lease.seen - 200}).model_dump_json().encode())
    done = rarecall("search", where, "--resume", "--address", two_nodes.address, at=tmp_path, cache="second")
    assert done.returncode in (0, 1), done.stderr
    assert measured(where, tmp_path, "third") == 12


@on_s3
def test_a_storage_that_is_away_for_a_while_costs_no_trial(
    s3: S3, two_nodes: Raylets, tmp_path: Path
) -> None:
    slow = {"train": {"model": "toy:sleep=1.0", "steps": 60, "eval_every": 10}}
    study, runs, where = study_file(tmp_path, **slow), s3.address("bucket/w"), s3.address("bucket/w/toy")
    command = start("search", study, "--runs", runs, "--address", two_nodes.address, at=tmp_path)
    try:
        command.wait_for("1 running", 120)
        time.sleep(3)
        with s3.away():
            time.sleep(60)
        assert command.ended(300) in (0, 1), command.text
    finally:
        end(command)
    assert measured(where, tmp_path, "looking") == 4


@on_s3
def test_a_storage_that_is_away_for_too_long_ends_the_search_and_nothing_is_lost(
    s3: S3, two_nodes: Raylets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_file(tmp_path, train=SLOW["train"])
    runs, where = s3.address("bucket/o"), s3.address("bucket/o/toy")
    typed = ("search", study, "--runs", runs, "--address", two_nodes.address)
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    command = start(*typed, at=tmp_path, before=[sys.executable, "-c", IMPATIENT])
    try:
        command.wait_for("1 running", 120)
        until = time.monotonic() + 120
        while (before := measured(where, tmp_path, "looking")) < 1:
            assert time.monotonic() < until, command.text
            time.sleep(1)
        with s3.away():
            assert command.ended(300) == 3, command.text  # a call of pyarrow takes long to give up
    finally:
        end(command)
    assert "s3://bucket/o/toy cannot be used: " in command.text
    assert f"rarecall search '{where}' --resume" in command.text
    assert "Traceback" not in command.text
    assert measured(where, tmp_path, "looking") >= before
    done = rarecall("search", where, "--resume", "--address", two_nodes.address, at=tmp_path, cache="cache")
    assert done.returncode in (0, 1), done.stderr
    assert measured(where, tmp_path, "looking") == 4


@on_s3
@pytest.mark.parametrize(
    ("runs", "said"),
    [("nobucket/x", "there is no bucket 'nobucket'"), ("", "is not the address of a storage")],
)
def test_a_wrong_address_is_refused_before_anything_is_trained(
    s3: S3, tmp_path: Path, runs: str, said: str
) -> None:
    study = study_file(tmp_path, **QUICK)
    began = time.monotonic()
    done = rarecall("search", study, "--runs", s3.address(runs), "--here", at=tmp_path, cache="driver")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert time.monotonic() - began < 100
    assert {path.name for path in tmp_path.iterdir()} <= {"study.yaml", "driver"}


def test_nodes_without_a_common_folder_are_refused_with_the_ways_out(
    two_nodes: Raylets, tmp_path: Path
) -> None:
    study = study_file(tmp_path, **QUICK)
    runs = tmp_path / "apart" / "runs"
    done = rarecall(
        "search", study, "--runs", str(runs), "--address", two_nodes.address, at=tmp_path, cache="driver"
    )
    assert done.returncode == 2, done.stderr
    assert f"does not see {runs}" in done.stderr
    assert "a folder that every node mounts" in done.stderr
    assert "s3://bucket/runs" in done.stderr
    assert not (runs / "toy").exists()

"""Studies on a storage, launched: the address goes along, and nothing secret does."""

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from commands import study_file

from search.cli.main import main
from search.launching import kuberay, slurm
from search.launching.jobs import entrypoint, launch
from search.launching.package import package
from search.launching.wanted import Wanted
from search.request.reading import load_config
from spaces.errors import UsageError
from trainables.storage.address import parsed

RUNS = "s3://bucket/runs?endpoint_override=host:9000&scheme=http"
STUDY = "s3://bucket/runs/toy?endpoint_override=host:9000&scheme=http"
KEY = "not-to-be-seen"
POD = {"image": "lab/rarecall:1", "service_account": "reads-s3", "secret": "s3"}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


def wanted(folder: Path, **changes: object) -> Wanted:
    file = folder / study_file(folder, **changes)
    return Wanted(file, load_config(file), parsed(RUNS))


@pytest.mark.parametrize("place", ["jobs", "slurm", "kuberay"])
def test_the_address_goes_along_and_no_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch that would have to have a Slurm
    launching = {"nodes": 2, "cpus": 2, "gpus": 0, "extra": POD if place == "kuberay" else {}}
    file = str(tmp_path / study_file(tmp_path, launch=launching))
    assert main(["launch", file, "--on", place, "--runs", RUNS, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"watch: rarecall status {shlex.quote(STUDY)}" in said
    assert ("credentials for s3://bucket/runs" in said) == (place != "kuberay")  # which has a secret
    written = {path for path in tmp_path.iterdir() if path.is_file()}
    assert len(written) == 2
    for one in written:
        assert KEY.encode() not in one.read_bytes()
    assert KEY not in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("s3")]


def test_a_job_asks_the_storage_whether_there_is_the_study(tmp_path: Path) -> None:
    asked = wanted(tmp_path)
    for known in (0, 2):
        (tmp_path / "python").write_text(
            f'#!/bin/sh\n[ "$3" = status ] && exit {known}\nprintf "%s\\n" "$@"\n'
        )
        (tmp_path / "python").chmod(0o755)
        script = Path(launch.__code__.co_filename).parent / "assets" / "job.sh"
        (tmp_path / "job.sh").write_text(script.read_text())
        done = subprocess.run(
            shlex.split(entrypoint(asked)),
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/bin:/usr/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        resumed = [] if known else ["--resume"]
        typed = ["-m", "rarecall", "search", "study.yaml", "--runs", RUNS, *resumed, "--address", "auto"]
        assert done.stdout.splitlines() == typed


def test_data_that_would_have_to_come_along_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"train\.model: what a job brings is placed in a folder of --runs"):
        package(wanted(tmp_path, train={"model": str(tmp_path / "model.pt"), "steps": 9, "eval_every": 3}))


def test_pods_of_a_study_that_is_all_on_a_storage_need_no_claim(tmp_path: Path) -> None:
    asked = wanted(tmp_path, launch={"nodes": 2, "extra": POD})
    _, job = yaml.safe_load_all(kuberay.launch(asked, dry_run=True).written.read_text())
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] == "reads-s3"
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "s3"}}]
        assert "shared" not in [volume["name"] for volume in pod.get("volumes", [])]
    assert f"rarecall status {shlex.quote(STUDY)}" in shlex.split(job["spec"]["entrypoint"])[2]


def test_slurms_script_stops_a_study_on_a_storage_by_its_address(tmp_path: Path) -> None:
    script = slurm.script(wanted(tmp_path, launch={"nodes": 2}))
    assert f"--output={tmp_path}/toy-%j.log" in script
    (tmp_path / "rarecall").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "rarecall").chmod(0o755)
    lines = script.splitlines()
    asks = [line for line in lines if line.startswith(("folder=", "request()"))]
    done = subprocess.run(
        ["bash", "-c", "\n".join([*asks, "request"])],
        env={"PATH": f"{tmp_path}:/bin:/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["stop", STUDY]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0

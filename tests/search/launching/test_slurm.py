"""A study as a job of Slurm: what the script asks for, and a real Slurm of one node that runs it."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import RARECALL, study_file
from in_process import config
from one_node_slurm import WHY_NOT, Slurm, one_node_slurm

from search.launching.slurm import launch, options, script
from search.launching.wanted import Wanted
from search.request.reading import load_config
from spaces.errors import UsageError


def wanted(folder: Path, **changes: object) -> Wanted:
    file = folder / study_file(folder, **changes)
    return Wanted(file, load_config(file), folder / "runs")


def test_options_say_what_the_study_file_asks_for(tmp_path: Path) -> None:
    extra = {"partition": "gpu", "account": "lab", "qos": "low", "sbatch": ["--constraint=a100|h100"]}
    asked = config(
        resources={"cpu": 4, "gpu": 0.5},
        launch={"nodes": 3, "gpus": 4, "memory": "64Gi", "time": "1-00:00:00", "extra": extra},
    )
    said = shlex.split(" ".join(options(asked, tmp_path / "a run % of mine")))
    assert {"--exclusive", "--requeue", "--nodes=3", "--gpus-per-node=4", "--mem=64G"} <= set(said)
    assert {"--time=1-00:00:00", "--partition=gpu", "--account=lab", "--qos=low"} <= set(said)
    assert "--signal=B:USR1@180" in said
    assert f"--output={tmp_path}/a run %% of mine/toy-%j.log" in said
    assert said[-1] == "--constraint=a100|h100"


def test_a_node_has_as_many_gpus_as_a_run_unless_it_is_said(tmp_path: Path) -> None:
    assert "--gpus-per-node=1" in options(config(resources={"gpu": 0.5}), tmp_path)
    assert not [one for one in options(config(), tmp_path) if one.startswith("--gpu")]


def test_the_script_is_bash_whatever_folders_are_called(tmp_path: Path) -> None:
    strange = tmp_path / "it's $(a) folder"
    strange.mkdir()
    text = script(wanted(strange, launch={"extra": {"setup": ["module load cuda"]}}))
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    head = text.partition("# Above:")[0] + 'printf "%s|" "$folder" "${search[@]}"'
    module = 'module() { printf "%s|" "$@"; }\n'
    said = subprocess.run(
        ["bash"], input=module + head, text=True, capture_output=True, check=True, env={"PATH": "/bin"}
    ).stdout
    runs = str(strange / "runs")
    assert said.split("|")[:-1] == [
        *("load", "cuda", f"{runs}/toy"),
        *("rarecall", "search", str(strange / "study.yaml"), "--runs", runs),
    ]


def test_no_password_gets_into_the_script(tmp_path: Path) -> None:
    asked = wanted(tmp_path, study_db="postgresql://me:hush@host/name")
    assert "hush" not in script(asked)


def test_runs_outside_of_what_nodes_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not in launch\.shared"):
        launch(wanted(tmp_path, launch={"shared": "/mnt/all"}), dry_run=True)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    with one_node_slurm(tmp_path / "slurm") as running:
        yield running


def trials(slurm: Slurm, at: Path) -> dict[str, object]:
    status: dict[str, object] = json.loads(slurm.typed(str(RARECALL), "status", "runs/toy", "--json", at=at))
    return status


def submitted(slurm: Slurm, at: Path, **changes: object) -> str:
    """The job of a toy study."""
    study = study_file(at, **changes)
    said = json.loads(slurm.typed(str(RARECALL), "launch", study, "--on", "slurm", "--json", at=at))
    assert said["job"].isdigit()
    assert f"tail -F {at}/runs/toy-{said['job']}.log" in said["watch"]
    return str(said["job"])


@pytest.mark.cluster
@pytest.mark.timeout(3600)
def test_a_search_that_is_asked_to_stop_goes_on_in_the_requeued_job(slurm: Slurm, tmp_path: Path) -> None:
    # Slurm warns a job at the earliest a minute before its end, so the test sends what it would send then.
    job = submitted(slurm, tmp_path, search={"trials": 6, "sampler": "random"}, resources={"cpu": 1})
    slurm.wait_until(job, {"RUNNING"}, 300)
    log = tmp_path / "runs" / f"toy-{job}.log"
    slurm.wait_for(lambda: [*(tmp_path / "runs" / "toy" / "trials").glob("*/checkpoint_*")], 900)
    slurm.typed("scancel", "--batch", "--signal=USR1", job, at=tmp_path)
    slurm.wait_for(lambda: "starts again" in log.read_text(), 600)
    before = trials(slurm, tmp_path)
    assert before["complete"] != 6
    assert slurm.wait_until(job, {"COMPLETED", "FAILED"}, 1800) == "COMPLETED", log.read_text()
    after = trials(slurm, tmp_path)
    assert after["complete"] == 6, after
    assert "the search is finished" in log.read_text()
    assert not [*(tmp_path / "runs").glob(".ray-token-*")]
    assert not (tmp_path / "runs" / "toy" / "stop").exists()


@pytest.mark.cluster
@pytest.mark.timeout(1500)
def test_a_job_whose_ray_cannot_start_fails(slurm: Slurm, tmp_path: Path) -> None:
    job = submitted(slurm, tmp_path, launch={"extra": {"setup": ["export RAY_REDIS_ADDRESS=127.0.0.1:1"]}})
    assert slurm.wait_until(job, {"COMPLETED", "FAILED"}, 900) == "FAILED"
    assert "the search has not begun" in (tmp_path / "runs" / f"toy-{job}.log").read_text()

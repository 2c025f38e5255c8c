"""What a launch should take: its plan, on the nodes that the study file asks for."""

import json
from pathlib import Path

import pytest
from commands import study_file
from detection_files import plain
from places import ROOT

from search.cli.main import main
from search.launching.wanted import Wanted, planned
from search.request.reading import load_config


def wanted(folder: Path, **changes: object) -> Wanted:
    file = folder / study_file(folder, **changes)
    return Wanted(file, load_config(file), folder / "runs")


@pytest.mark.parametrize(
    ("launch", "resources", "at_once"),
    [
        pytest.param({"nodes": 3}, {"cpu": 4}, 3, id="a node of unknown size holds one run"),
        pytest.param({"nodes": 3, "cpus": 8}, {"cpu": 4}, 6, id="by CPUs"),
        pytest.param({"nodes": 2, "cpus": 16, "gpus": 2}, {"cpu": 4, "gpu": 0.5}, 8, id="two on each GPU"),
        pytest.param({"nodes": 2, "cpus": 4, "gpus": 2}, {"cpu": 4, "gpu": 0.5}, 2, id="CPUs are too few"),
        pytest.param({"nodes": 2, "cpus": 4, "gpus": 1}, "auto", 8, id="auto, at the least"),
    ],
)
def test_so_many_runs_fit_as_the_study_file_has_nodes(
    tmp_path: Path, launch: dict[str, int], resources: object, at_once: int
) -> None:
    assert planned(wanted(tmp_path, launch=launch, resources=resources)).at_once == at_once


@pytest.mark.parametrize("place", ["jobs", "ray", "slurm", "kuberay"])
def test_a_dry_run_prints_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch, which may be here without its daemons
    extra = {"image": "lab/rarecall:1", "claim": "studies"}
    launch = {"nodes": 2, "cpus": 1, "shared": str(tmp_path), "extra": extra}
    asked = [str(wanted(tmp_path, launch=launch).file), "--on", place, "--runs", str(tmp_path / "runs")]
    asked += ["--cluster", str(ROOT / "cluster.yaml")] if place == "ray" else []
    assert main(["launch", *asked, "--dry-run"]) == 0
    assert "2 nodes as `launch` says" in capsys.readouterr().out
    assert main(["launch", *asked, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["runs"]["baseline"] == 1
    assert plan["runs"]["trials"] == 4
    assert plan["at_once"] == 2


@pytest.mark.parametrize("place", ["jobs", "slurm", "kuberay"])
@pytest.mark.parametrize("written", ["scratch/runs", "disk/runs", "runs", "scratch/../disk/runs"])
def test_a_shared_folder_that_is_a_link_is_known_by_both_its_names(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    written: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch, which may be here without its daemons
    disk, scratch = tmp_path / "disk", tmp_path / "scratch"
    disk.mkdir()
    scratch.symlink_to(disk)
    for name in ("train/common", "train/rare", "val/common", "val/rare"):
        (disk / "cells" / name).mkdir(parents=True)
        for i in range(4):
            plain((8, 8), f"{name}{i}").save(disk / "cells" / name / f"{i}.png")
    monkeypatch.chdir(disk)
    extra = {"image": "lab/rarecall:1", "claim": "studies"}
    study_file(
        scratch,
        launch={"shared": str(scratch), "extra": extra},
        task="classification",
        train={"model": "small_cnn", "imgsz": 8, "steps": 4, "eval_every": 2},
        objectives=["macro_f1", "minority_recall"],
        guards=[],
        data="cells",
    )
    runs = written if written == "runs" else f"{tmp_path}/{written}"
    assert main(["launch", "study.yaml", "--on", place, "--runs", runs, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"written: {scratch}/study." in said
    assert f"{scratch}/runs/toy" in said
    assert f"{disk}/" not in said
    if place == "kuberay":
        assert f"data: {scratch}/cells" in (disk / "study.rayjob.yaml").read_text()

"""What commands write into a study on a storage without working on it, and what they leave at hand."""

from pathlib import Path

import pytest
from left_by_runs import KEY, result
from machines import Machines, written

import rarecall
from search.cli.main import main
from search.record.away import StoredFiles
from search.record.storage.remote import Remote
from trainables.storage.address import parsed


def test_a_ranking_is_seen_from_another_machine(machines: Machines) -> None:
    with written(machines.on("a")):
        pass
    second = machines.on("b")
    (second.path / "fusions.json").write_text("[]")
    second.keep("fusions.json")
    assert (machines.on("c").path / "fusions.json").read_text() == "[]"
    assert (machines.on("b").path / "fusions.json").read_text() == "[]"


def test_a_curve_is_read_without_the_weights(tmp_path: Path) -> None:
    there = tmp_path / "there" / "trials" / KEY
    result(there / "checkpoint_000001")
    files = StoredFiles(tmp_path / "here" / "trials", Remote(parsed((tmp_path / "there").as_uri())))
    report = files.report(KEY)
    assert report is not None
    assert files.curve(report) == report.curve
    assert not list(files.root.rglob("weights.pt"))
    assert files.result(KEY) is not None
    assert list(files.root.rglob("weights.pt"))


def test_trackers_files_lie_where_they_are_typed(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written(machines.on("a")):
        pass
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    machines.on("b")
    assert main(["track", f"{machines.there.as_uri()}/toy", "--to", "mlflow"]) == 0
    assert (tmp_path / "toy" / "mlflow.db").is_file()
    assert not (machines.there / "toy" / "mlflow.db").exists()


def test_an_opened_study_follows_what_another_machine_does(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rarecall.study.AGAIN_S", 0.0)
    first = machines.on("a")
    with written(first):
        pass
    machines.on("b")
    opened = rarecall.open(f"{machines.there.as_uri()}/toy")
    assert repr(opened) == f"Study('{machines.there.as_uri()}/toy')"
    assert len(opened.baseline()) == 0
    seen = len(opened._record.baseline_trials())
    first = machines.on("a")
    with first.claimed():
        study = first.open("write")
        study.add_baseline(0)
        study.flush()
    machines.on("b")
    assert len(opened._record.baseline_trials()) == seen + 1

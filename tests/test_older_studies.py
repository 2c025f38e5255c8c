"""Studies that 0.1.0 made: they open, are shown and exported, and go on.

`studies/0.1.0/finished` is a searched, compared and confirmed classifier, of which only the files of trial 0
are kept; `half_done` a search of the toy and a confirmation, both interrupted.
"""

import io
import json
import shutil
from pathlib import Path

import pytest
from in_process import DATA, Here
from places import ROOT
from rich.console import Console

from search.cli.main import main
from search.judging.confirmation import Asked, latest
from search.pipeline.confirming import confirm
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from trainables.contract.trial import DataSpec

MADE = ROOT / "tests" / "studies" / "0.1.0"


@pytest.fixture(params=["finished", "half_done"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one of them, to write to."""
    return Path(shutil.copytree(MADE / request.param, tmp_path / request.param))


@pytest.fixture
def half_done(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MADE / "half_done", tmp_path / "half_done"))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MADE / "finished", tmp_path / "finished"))


@pytest.mark.parametrize("command", ["status", "pareto"])
def test_it_is_shown(command: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(made), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["baseline_seeds"] == 2 if command == "status" else shown["best"]


def test_what_is_stored_is_what_was_said(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "recommended: trial 0, minority_recall 0.798 +0.798, macro_f1 0.919 +0.249" in said
    assert "trial 0 (sampler_power 1.00): accepted\n    focal (focal_gamma 2.00): rejected" in said
    assert "compare: finished, 4 runs" in said
    assert main(["confirm", str(finished), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["accepted"] == ["trial 0"]
    assert shown["candidates"][0]["verdict"]["bounds"][0]["lower"] == pytest.approx(0.677, abs=5e-4)
    assert main(["compare", str(finished)]) == 0
    assert "+0.819 [+0.763,+0.875] *" in capsys.readouterr().out


def test_it_is_exported_with_its_verdict(finished: Path, tmp_path: Path) -> None:
    assert main(["export", str(finished), "--out", str(tmp_path / "bundle")]) == 0
    verdict = json.loads((tmp_path / "bundle" / "verdict.json").read_text())
    assert (verdict["experiment"], verdict["outcome"]) == ("confirm/1", "accepted")
    assert (tmp_path / "bundle" / "weights.pt").stat().st_size > 10_000


def test_its_runs_have_the_same_names() -> None:
    stored = {name: StudyFolder(MADE / name).open() for name in ("finished", "half_done")}
    digits = DataSpec(source="demo:digits", minority=("1", "8", "9"))
    for name, data in (("finished", digits), ("half_done", DATA)):
        study = stored[name]
        for trial in [*study.trials(), *study.baseline_trials()]:
            if trial.report is not None:
                assert study.config.spec(trial.strategy, data, seed=trial.seed).key == trial.report.key
        begun = latest(study)
        assert begun is not None
        names = [one.name for one in begun.plan.candidates]
        wanted = begun.plan.wanted("confirm/1", study.config, data, 1, names)
        known = {run.key for run in study.experiment("confirm/1").runs()}
        assert {one.spec.key for one in wanted} == known


def test_its_search_and_its_confirmation_go_on(half_done: Path) -> None:
    quiet = Console(file=io.StringIO())
    left, more = Here(), Here()
    found = search(half_done, half_done.parent, cluster=left, resume=True, console=quiet)
    trials = found.study.trials()
    assert [trial.state for trial in trials] == ["complete"] * 12
    assert len(left.ran) == 12 - 5
    restarts = [trial.report.restarts for trial in trials if trial.report is not None]
    assert sorted(restarts) == [0] * 11 + [1]  # one had left a checkpoint, and another only its name
    _, confirmation = confirm(
        StudyFolder(half_done), Asked(), cluster=more, resume=True, fresh=False, console=quiet
    )
    assert confirmation.finished
    assert confirmation.looks[0].number == 1
    first_look = [spec for spec in more.ran if spec.split == "test"][:4]
    assert len({spec.key for spec in first_look}) == 4  # of its seven runs three had finished

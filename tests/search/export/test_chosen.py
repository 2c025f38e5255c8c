"""Which run is exported, where to, and what is refused; of the toy, on a copy of a confirmed study."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from search.cli.main import main
from search.export.bundle import export_run
from search.export.chosen import chosen_baseline, chosen_confirmed, chosen_trial
from search.judging.confirmation import latest
from search.record.folder import StudyFolder
from spaces.errors import UsageError
from spaces.strategy import Strategy


@pytest.fixture
def study(confirmed_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(confirmed_study, tmp_path / "study"))


def test_the_baseline_is_its_first_finished_seed_and_no_trial_of_that_number(study: Path) -> None:
    opened = StudyFolder(study).open()
    chosen = chosen_baseline(opened)
    first = opened.baseline_trials()[0]
    assert (chosen.seed, chosen.report) == (first.seed, first.report)
    assert (chosen.trial, chosen.judged, chosen.strategy.changed()) == (None, None, {})
    bundle = export_run(StudyFolder(study), opened, chosen)
    assert bundle.name == "baseline"
    measured = json.loads((bundle / "metrics.json").read_text())
    assert (measured["of"], measured["split"]) == ("baseline", "val")
    assert not (bundle / "verdict.json").exists()


def test_what_was_confirmed_is_the_first_run_of_the_accepted_candidate_on_the_test_split(
    study: Path, tmp_path: Path
) -> None:
    folder = StudyFolder(study)
    opened = folder.open()
    last = latest(opened)
    assert last is not None
    accepted = last.looks[-1].accepted
    surest = max(accepted, key=lambda result: result.verdict.bounds[0].lower)
    runs = [run for run in opened.experiment(last.experiment).runs() if run.arm == surest.candidate.name]
    assert len(runs) > 1
    chosen = chosen_confirmed(opened)
    assert (chosen.seed, chosen.report, chosen.split) == (runs[0].seed, runs[0].outcome, "test")
    kept = folder.files.result(runs[0].key)
    assert kept is not None
    (kept / "weights.pt").write_bytes(b"of the first seed")  # the toy leaves none
    bundle = export_run(folder, opened, chosen, tmp_path / "bundle")
    assert json.loads((bundle / "verdict.json").read_text())["outcome"] == "accepted"
    assert (bundle / "weights.pt").read_bytes() == b"of the first seed"


def test_confirmed_is_refused_where_nothing_was(
    searched_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(searched_study), "--confirmed"]) == 2
    assert "--confirmed: nothing has been confirmed" in capsys.readouterr().err


def test_the_configuration_alone_is_printed_and_makes_the_same_strategy(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(study.rglob("*"))
    assert main(["export", str(study), "--confirmed", "--best-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert sorted(study.rglob("*")) == before
    chosen = chosen_confirmed(StudyFolder(study).open())
    assert Strategy.from_knobs(printed["strategy"]) == chosen.strategy
    assert (printed["data"], printed["minority"], printed["seed"]) == ("demo:toy", ["rare"], chosen.seed)
    assert printed["train"]["steps"] == 20


def test_a_bundle_is_replaced_only_by_force_and_no_other_folder_ever_is(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, mine = tmp_path / "bundle", tmp_path / "mine"
    export = ["export", str(study), "--out", str(out)]
    assert main([*export, "--trial", "1"]) == 0
    first = (out / "metrics.json").read_bytes()
    assert main([*export, "--baseline"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (out / "metrics.json").read_bytes() == first
    (out / "of_the_first").write_text("")
    assert main([*export, "--baseline", "--force"]) == 0
    assert json.loads((out / "metrics.json").read_text())["of"] == "baseline"
    assert not (out / "of_the_first").exists()

    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    assert main(["export", str(study), "--out", str(mine), "--force"]) == 2
    assert "no bundle, and not empty" in capsys.readouterr().err
    assert (mine / "thesis.txt").read_text() == "years"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_that_cannot_be_finished_leaves_the_one_before_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(study)
    opened = folder.open()
    bundle = export_run(folder, opened, chosen_baseline(opened), tmp_path / "bundle")
    files = folder.files.result(chosen_trial(opened, 1).report.key)
    assert files is not None
    (files / "weights.pt").write_bytes(b"large")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(UsageError, match="cannot write"):
        export_run(folder, opened, chosen_trial(opened, 1), bundle, force=True)
    assert json.loads((bundle / "metrics.json").read_text())["of"] == "baseline"
    assert [path.name for path in tmp_path.iterdir()].count("bundle") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

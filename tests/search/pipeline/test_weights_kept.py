"""Whose weights are left when a search has ended, and what those without are still good for."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import Here
from rich.console import Console

from search.export.bundle import export_run
from search.export.chosen import chosen_baseline, chosen_trial
from search.judging.choosing import recommended
from search.judging.front import front
from search.judging.measured import Measurer
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from spaces.errors import UsageError

REQUEST = {
    "name": "digits",
    "task": "classification",
    "data": "demo:digits",
    "train": {"model": "small_cnn", "imgsz": 8, "batch": 16, "steps": 12, "eval_every": 6, "lr": 0.0025},
    "guards": [{"metric": "accuracy", "max_drop": 0.9}],
    "baseline": {"seeds": 2},
    "confirm": {"finalists": 0},
    "search": {"trials": 4, "sampler": "random"},
}


def searched(root: Path, *, resume: bool = False, **changes: Any) -> tuple[StudyFolder, str]:
    """The study's folder, and what was said."""
    (root / "digits.yaml").write_text(yaml.safe_dump(REQUEST | changes))
    console = Console(file=io.StringIO(), width=200)
    found = search(root / "digits.yaml", root, cluster=Here(), resume=resume, console=console)
    return found.folder, console.file.getvalue()  # type: ignore[attr-defined]


def with_weights(folder: StudyFolder) -> set[str]:
    return {path.parent.parent.name for path in folder.files.root.glob("*/checkpoint_*/weights.pt")}


def wanted(folder: StudyFolder) -> set[str]:
    """Keys of the baseline, the front and the recommended trial."""
    study = folder.open()
    best = recommended(study.trials(), study.config, study.baseline())
    assert best is not None
    shown = front(study.trials(), study.config.objectives, study.baseline()).best
    kept = [*study.baseline_trials(), *shown, best.trial]
    return {trial.report.key for trial in kept if trial.report is not None}


def test_a_search_leaves_the_weights_of_its_front_and_goes_on(tmp_path: Path) -> None:
    folder, said = searched(tmp_path)
    runs, kept = {path.name for path in folder.files.root.iterdir()}, wanted(folder)
    assert len(runs) == 6
    assert kept < runs
    assert with_weights(folder) == kept
    freed = re.search(r"removed the weights of (\d+) trials?, .*, (\d+\.\d) MiB; `keep: all`", said)
    assert freed is not None
    assert int(freed[1]) == len(runs - kept)

    before, more = folder.open().trials(), {"search": {"trials": 6, "sampler": "random"}}
    folder, _ = searched(tmp_path, resume=True, **more)
    assert [trial.state for trial in folder.open().trials()] == ["complete"] * 6
    assert folder.open().trials()[:4] == before
    assert with_weights(folder) == wanted(folder)
    _, said = searched(tmp_path, resume=True, **more)
    assert "removed" not in said


def test_what_was_removed_is_said_and_the_rest_of_a_run_is_as_good_as_before(tmp_path: Path) -> None:
    folder, _ = searched(tmp_path)
    study, kept = folder.open(), wanted(folder)
    finished = [(trial, trial.report) for trial in study.trials() if trial.report is not None]
    removed, report = next(one for one in finished if one[1].key not in kept)
    with pytest.raises(UsageError, match=f"the weights of trial {removed.number} were removed"):
        export_run(folder, study, chosen_trial(study, removed.number), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    for number, chosen in enumerate((chosen_trial(study, None), chosen_baseline(study))):
        assert (export_run(folder, study, chosen, tmp_path / f"{number}") / "weights.pt").is_file()
    measurer = Measurer(folder.files, "classification", ("accuracy",))
    (accuracy,) = measurer.measure("removed", removed.strategy, [report]).replicates["accuracy"]
    assert accuracy.whole == pytest.approx(report.metrics["accuracy"])
    assert [point.epoch for point in folder.files.curve(report)] == [1, 2]


def test_keep_all_keeps_them_and_may_change_as_a_study_goes_on(tmp_path: Path) -> None:
    folder, said = searched(tmp_path, keep="all")
    assert with_weights(folder) == {path.name for path in folder.files.root.iterdir()}
    assert "removed" not in said
    folder, said = searched(tmp_path, resume=True)
    assert with_weights(folder) == wanted(folder)
    assert "removed" in said


def test_a_search_that_has_not_ended_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(REQUEST))
    quiet = Console(file=io.StringIO())
    with pytest.raises(Exception, match="interrupted"):
        search(tmp_path / "digits.yaml", tmp_path, cluster=Here(at_most=5), resume=False, console=quiet)
    assert len(with_weights(StudyFolder(tmp_path / "digits"))) == 5

"""What is written to a study's record belongs to its trial, or nothing is written any more."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
import yaml
from in_process import Bench, config

from search.cli.main import main
from search.record.folder import StudyFolder
from search.request.computing.budget import Spent
from spaces.errors import RunError
from trainables.contract.trial import TrialFailure

REFUSE = """CREATE TRIGGER refuse BEFORE INSERT ON trials BEGIN SELECT RAISE(ABORT, 'no room'); END"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, config(search={"trials": 6, "sampler": "random"}))


def change(study: Path, *statements: str) -> None:
    """What somebody else does to the database."""
    with closing(sqlite3.connect(study / "study.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def swap_reports(study: Path, name: str) -> None:
    """Exchange the first two reports of an Optuna study."""
    of_study = f"""trial_id IN (SELECT trial_id FROM trials JOIN studies USING (study_id)
        WHERE study_name = '{name}') AND "key" = 'report' ORDER BY trial_id LIMIT 2"""
    with closing(sqlite3.connect(study / "study.db")) as database:
        query = f"SELECT trial_id, value_json FROM trial_user_attributes WHERE {of_study}"
        (one, first), (other, second) = database.execute(query).fetchall()
        for trial, report in ((one, second), (other, first)):
            database.execute(
                'UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = ? AND "key" = ?',
                (report, trial, "report"),
            )
        database.commit()


def test_after_a_failed_write_nothing_is_written(bench: Bench) -> None:
    study = bench.study
    asked = [study.ask(0, time.monotonic)]
    study.flush()
    change(bench.folder.path, REFUSE)
    asked.append(study.ask(0, time.monotonic))
    with pytest.raises(RunError, match=r"record cannot be written: .*no room"):
        study.flush()
    change(bench.folder.path, "DROP TRIGGER refuse")
    for _ in range(2):  # it stays so, whatever would work by now
        with pytest.raises(RunError, match="no room"):
            study.ask(0, time.monotonic)
        with pytest.raises(RunError, match="no room"):
            study.tell(asked[0].number, TrialFailure(key="any", kind="error", reason="none"), {})
        with pytest.raises(RunError, match="no room"):
            study.flush()
    (stored,) = bench.folder.open().trials()
    assert stored == asked[0]


def test_what_waits_behind_a_failed_write_is_not_written(bench: Bench) -> None:
    experiment = bench.study.begin("compare")
    bench.study.flush()
    seeds = bench.study.baseline_trials()
    change(bench.folder.path, REFUSE)
    with closing(sqlite3.connect(bench.folder.path / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer waits, and five asks and a plan behind it
        for seed in range(100, 105):
            bench.study.add_baseline(seed)
        experiment.set_plan("{}")
        other.execute("ROLLBACK")
    with pytest.raises(RunError, match="no room"):
        bench.study.flush()
    change(bench.folder.path, "DROP TRIGGER refuse")
    reopened = bench.folder.open()
    assert reopened.baseline_trials() == seeds
    assert reopened.experiment("compare").plan is None


def test_a_record_is_read_with_all_that_waits_to_be_written(bench: Bench) -> None:
    kept = Spent(seconds=16 * 3600)
    experiment = bench.study.begin("compare")
    bench.study.flush()
    other = sqlite3.connect(bench.folder.path / "study.db", isolation_level=None, check_same_thread=False)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")  # the writer waits
        experiment.keep_spent(kept)
        ends = Timer(0.5, lambda: other.execute("ROLLBACK"))
        ends.start()
        assert bench.study.experiment("compare").spent == kept
        ends.join()


@pytest.fixture
def half_searched(tmp_path: Path) -> Path:
    """The file of a study whose search ended early, to be resumed with a larger budget."""
    request = {
        "name": "toy",
        "task": "toy",
        "data": "demo:toy",
        "minority": ["rare"],
        "train": {"model": "toy", "steps": 20, "eval_every": 10},
        "space": "classification",
        "search": {"trials": 2, "sampler": "random"},
    }
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(request))
    assert main(["search", str(file), "--runs", str(tmp_path / "runs"), "--here", "--json"]) in (0, 1)
    file.write_text(yaml.safe_dump(request | {"search": {"trials": 5, "sampler": "random"}}))
    return file


def test_a_search_whose_record_cannot_be_written_ends_with_the_reason_and_goes_on(
    half_searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = half_searched.parent / "runs"
    command = ["search", str(half_searched), "--runs", str(runs), "--here", "--resume", "--json"]
    change(runs / "toy", REFUSE)
    assert main(command) == 3
    assert "the study's record cannot be written:" in capsys.readouterr().err
    assert len(StudyFolder(runs / "toy").open().trials()) == 2
    change(runs / "toy", "DROP TRIGGER refuse")
    assert main(command) in (0, 1)
    trials = StudyFolder(runs / "toy").open().trials()  # each report is its own: opening looks
    assert [trial.state for trial in trials] == ["complete"] * 5


def test_two_writers_of_one_study_do_not_mix(bench: Bench) -> None:
    other = bench.folder.open("write")
    assert other.trials() == []
    other._search.live  # noqa: B018  (from here on it counts by itself)
    bench.study.ask(0, time.monotonic)
    bench.study.flush()
    other.ask(0, time.monotonic)
    with pytest.raises(RunError, match="the number of trial 0 is another's there: another process"):
        other.flush()
    bench.study.ask(0, time.monotonic)
    bench.study.flush()
    assert len(bench.folder.open().trials()) == 2


def refused(command: str, study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([command, str(study)]) == 3
    return capsys.readouterr().err


def test_a_report_that_is_anothers_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run()
    first, second = bench.study.trials()[:2]
    assert first.report is not None
    assert second.report is not None
    keys = [first.report.key, second.report.key]
    swap_reports(bench.folder.path, "toy/search")
    told = f"toy: trial {first.number} is run {keys[0]}, but what is stored with it is of run {keys[1]}"
    for command in ("status", "pareto", "confirm", "export"):
        assert told in refused(command, bench.folder.path, capsys)
    with pytest.raises(RunError, match="but what is stored with it is of run"):
        bench.reopen()


def test_a_report_of_an_experiment_that_is_anothers_is_refused(
    confirmed_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Path(shutil.copytree(confirmed_study, tmp_path / "study"))
    (name,) = StudyFolder(study).open().experiments()
    swap_reports(study, f"toy/{name}")
    for command in ("status", "confirm"):
        assert f"toy/{name}: run 0 is run" in refused(command, study, capsys)

"""A study's folder: what is there when a process ends at a bad moment."""

import json
import time
from pathlib import Path

import pytest
from in_process import Bench, config

from search.record.folder import StudyFolder
from spaces.errors import UsageError
from trainables.data.demo.toy import describe


def test_an_attempt_that_ended_before_the_request_was_written_is_no_study(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    bench.study.flush()
    bench.folder.study_yaml.unlink()
    with pytest.raises(UsageError, match="no study in"):
        StudyFolder(bench.folder.path).open()
    bench.folder.create(config(), "fingerprint", ["rare"])
    assert bench.folder.open().trials() == []


def test_a_request_to_a_process_that_was_killed_does_not_stop_the_next_one(tmp_path: Path) -> None:
    folder = Bench(tmp_path, config()).folder
    with folder.claimed("searched"):
        assert StudyFolder(folder.path).ask_to_stop() == "searched"
    assert folder.files.stop_request.exists()
    with folder.claimed("searched"):
        assert not folder.files.stop_request.exists()


def test_a_request_to_whoever_is_about_to_begin_is_heard(tmp_path: Path) -> None:
    folder = Bench(tmp_path, config()).folder
    folder.files.stop_request.touch()  # as a Slurm job's script does while the command starts
    with folder.claimed("searched"):
        assert folder.files.stop_request.exists()


def test_provenance_says_what_a_study_ran_with(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    stored = json.loads((bench.folder.path / "provenance.json").read_text())
    assert stored["data_fingerprint"] == describe().fingerprint
    assert {"rarecall", "ray", "optuna", "torch", "ultralytics"} <= set(stored["versions"])


def test_two_studies_share_a_database_by_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one = StudyFolder(tmp_path / "one").create(config(name="one", study_db=url), "", ["rare"])
    StudyFolder(tmp_path / "two").create(config(name="two", study_db=url), "", ["rare"])
    one.ask(0, time.monotonic)
    one.flush()
    assert len(StudyFolder(tmp_path / "one").open().trials()) == 1
    assert StudyFolder(tmp_path / "two").open().trials() == []
    with pytest.raises(UsageError, match="already holds a study 'one/search'"):
        StudyFolder(tmp_path / "three").create(config(name="one", study_db=url), "", ["rare"])

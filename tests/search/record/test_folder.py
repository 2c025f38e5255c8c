"""A study's folder: what is there when a process ends at a bad moment."""

import json
import time
from pathlib import Path

import pytest
from in_process import Bench, config

from search.record.files import RunFiles
from search.record.folder import StudyFolder
from spaces.errors import UsageError
from trainables.contract.trial import PROGRESS
from trainables.data.demo.toy import describe


def checkpoint(folder: Path, epochs: int) -> None:
    folder.mkdir(parents=True)
    (folder / PROGRESS).write_text(json.dumps({"curve": [{}] * epochs, "seconds": 1.0, "restarts": 0}))
    (folder / "state.pt").write_text(f"after {epochs}")


def test_an_attempt_that_ended_before_the_request_was_written_is_no_study(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    bench.study.flush()
    bench.folder.study_yaml.unlink()
    with pytest.raises(UsageError, match="no study in"):
        StudyFolder(bench.folder.path).open()
    bench.folder.create(config(), "fingerprint", ["rare"])
    assert bench.folder.open().trials() == []


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


def test_a_run_resumes_from_its_furthest_checkpoint_wherever_it_lies(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    assert files.resumable("key") is None
    checkpoint(files.root / "key" / "checkpoint_000000", 3)
    aside = files.resumable("key")
    assert aside is not None
    assert (aside / "state.pt").read_text() == "after 3"
    # The next attempt counts its checkpoints from 0 again, and ends before its first epoch, or after it.
    assert files.resumable("key") == aside
    checkpoint(files.root / "key" / "checkpoint_000000", 4)
    assert files.resumable("key") == aside
    assert (aside / "state.pt").read_text() == "after 4"
    assert not list((files.root / "key").glob("checkpoint_*"))


def test_a_finished_run_is_known_by_a_folder_without_progress(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    checkpoint(files.root / "key" / "checkpoint_000000", 3)
    assert files.result("key") is None
    (files.root / "key" / "checkpoint_000001").mkdir()
    assert files.result("key") == files.root / "key" / "checkpoint_000001"


def test_what_is_kept_replaces_what_was_kept_before(tmp_path: Path) -> None:
    files, made = RunFiles(tmp_path / "trials"), tmp_path / "made"
    checkpoint(made, 1)
    for number in (0, 1):
        files.keep("key", made)
        assert [path.name for path in (files.root / "key").iterdir()] == [f"checkpoint_00000{number}"]
    assert files.result("key") is None
    (made / PROGRESS).unlink()
    files.keep("key", made)
    assert files.result("key") == files.root / "key" / "checkpoint_000002"

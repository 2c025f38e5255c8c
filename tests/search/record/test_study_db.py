"""A study in a database that others use: what it leaves there, and its password, which is nowhere."""

import errno
import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from in_process import config
from refusals import refused, tree

from search.cli.main import main
from search.pipeline.opening import continued, read_request
from search.record.connection import PASSWORD, parsed
from search.record.folder import StudyFolder
from search.show.common import wide_console
from spaces.errors import UsageError

SECRET = "s3cr3t/:pw"  # as typed in an address
UNREACHABLE = ["--address", "127.0.0.1:1"]


def study_file(folder: Path, **changes: Any) -> Path:
    request: dict[str, Any] = {
        "name": "toy",
        "task": "toy",
        "data": "demo:toy",
        "minority": ["rare"],
        "train": {"model": "toy", "steps": 20, "eval_every": 10},
        "space": "classification",
        "search": {"trials": 2, "sampler": "random"},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(request | changes))
    return path


def names(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [name for (name,) in connection.execute("SELECT study_name FROM studies ORDER BY study_name")]


@pytest.mark.parametrize("command", ["search", "compare"])
def test_a_search_that_could_not_start_leaves_nothing(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_file(tmp_path, study_db=f"sqlite:///{tmp_path / 'shared.db'}")
    (tmp_path / "runs").mkdir()
    argv = [command, str(file), "--runs", str(tmp_path / "runs"), *UNREACHABLE]
    refused(argv, tmp_path, capsys, "no Ray cluster at", code=3)


def test_a_search_that_could_not_start_leaves_the_studies_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    StudyFolder(tmp_path / "theirs").create(config(name="theirs", study_db=url), "", ["rare"]).flush()
    file = study_file(tmp_path, study_db=url)
    assert main(["search", str(file), "--runs", str(tmp_path / "runs"), *UNREACHABLE]) == 3
    assert names(tmp_path / "shared.db") == ["theirs/baseline", "theirs/search"]
    assert not (tmp_path / "runs" / "toy").exists()


def test_a_name_that_the_database_has_leaves_that_study_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    theirs = StudyFolder(tmp_path / "theirs").create(config(study_db=url), "", ["rare"])
    theirs.add_baseline(0)
    theirs.flush()
    (tmp_path / "runs").mkdir()
    argv = ["search", str(study_file(tmp_path, study_db=url)), "--runs", str(tmp_path / "runs"), "--here"]
    refused(argv, tmp_path, capsys, "already holds a study 'toy/search'")
    assert len(StudyFolder(tmp_path / "theirs").open().baseline_trials()) == 1


def test_of_a_study_whose_second_half_is_taken_the_first_is_not_left(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    optuna.create_study(storage=url, study_name="toy/baseline", directions=["maximize"] * 2)
    with pytest.raises(UsageError, match="already holds a study 'toy/baseline'"):
        StudyFolder(tmp_path / "study").create(config(study_db=url), "", ["rare"])
    assert names(tmp_path / "shared.db") == ["toy/baseline"]
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("url", "says", "code"),
    [
        ("sqlite:////nowhere/at/all/x.db", "no such folder: /nowhere/at/all", 2),
        (f"postgres://me:{SECRET}@127.0.0.1/x", "no kind of database 'postgres'", 2),
        (f"mysql+nodriver://me:{SECRET}@127.0.0.1/x", "no kind of database 'mysql+nodriver'", 2),
        (f"mssql+pymssql://me:{SECRET}@127.0.0.1:1/x", "needs the Python package 'pymssql'", 2),
        (f"postgresql://me:{SECRET}@127.0.0.1:port/x", "not the address of a database", 2),
        (f"postgresql://me:{SECRET}@x@127.0.0.1:1/x", "write an @ that is part of a password as %40", 2),
        (f"postgresql://127.0.0.1:1/x?user=me&password={SECRET}", "belongs before the host", 2),
        (f"me:{SECRET}@127.0.0.1", "not the address of a database", 2),
        (f"{{me: {SECRET}", "not readable as yaml", 2),
    ],
)
def test_a_database_that_is_none_leaves_nothing_and_tells_no_password(
    url: str, says: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_file(tmp_path)
    file.write_text(f"{file.read_text()}study_db: {url}\n")
    (tmp_path / "runs").mkdir()
    refused(["search", str(file), "--runs", str(tmp_path / "runs"), "--here"], tmp_path, capsys, says, code)
    assert main(["search", str(file), "--runs", str(tmp_path / "runs"), "--here"]) == code
    assert "s3cr3t" not in capsys.readouterr().err


def test_a_password_is_not_kept_and_the_study_file_has_it_again(tmp_path: Path) -> None:
    typed = f"postgresql://me:{SECRET}@host:1/x"
    request = read_request(study_file(tmp_path, study_db=typed), tmp_path / "runs", wide_console())
    assert "s3cr3t" not in repr(request)
    folder = request.folder
    StudyFolder(folder.path).create(config(), request.summary.fingerprint, ["rare"])
    folder.write_request(request.config)
    assert "study_db: postgresql://me@host:1/x\n" in folder.study_yaml.read_text()
    assert StudyFolder(folder.path).config.study_db == "postgresql://me@host:1/x"
    again = read_request(tmp_path / "toy.yaml", tmp_path / "runs", wide_console())
    assert continued(again, tmp_path / "toy.yaml").config.study_db == typed
    assert again.folder.config.study_db == typed  # what it is opened with
    assert all("s3cr3t" not in path.read_text() for path in folder.path.glob("*.[yj]*"))


def test_a_password_that_an_earlier_version_kept_goes_with_the_next_resume(tmp_path: Path) -> None:
    typed = f"postgresql://me:{SECRET}@host:1/x"
    file = study_file(tmp_path, study_db=typed)
    request = read_request(file, tmp_path / "runs", wide_console())
    StudyFolder(request.folder.path).create(config(), request.summary.fingerprint, ["rare"])
    plain = yaml.safe_dump(request.config.model_dump(mode="json"))
    assert "s3cr3t" in plain
    request.folder.study_yaml.write_text(plain)
    continued(read_request(file, tmp_path / "runs", wide_console()), file)
    assert "s3cr3t" not in request.folder.study_yaml.read_text()


def test_the_environment_has_the_password_of_an_address_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, SECRET)
    address = parsed("postgresql://me@host/x")
    assert (address.username, address.password, address.host) == ("me", SECRET, "host")
    assert parsed("postgresql://me:own@host/x").password == "own"


@pytest.mark.parametrize("how", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_said_to_be_one(
    how: int, searched_study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(how, os.strerror(how))

    monkeypatch.setattr(fcntl, "flock", no_locks)  # no file system without is at hand
    before = tree(searched_study)
    argv = ["search", str(searched_study), "--resume", "--here"]
    refused(argv, searched_study, capsys, f"has no file locks ({os.strerror(how)})")
    assert tree(searched_study) == before
    assert main(["status", str(searched_study)]) == 0

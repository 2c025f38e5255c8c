"""A database that is locked, damaged or of a newer version: what is said, and what works all the same."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from refusals import refused
from small_disk import Disk

import rarecall
from search.cli.main import main
from search.record import connection
from search.record.folder import StudyFolder
from search.record.storage.snapshot import snapshot
from spaces.errors import RunError

COMMANDS = ("status", "pareto", "confirm", "compare", "export", "search --resume --here")


@pytest.fixture
def study(confirmed_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(confirmed_study, tmp_path / "study"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for access in ("look", "read", "write"):
        monkeypatch.setitem(connection.WAIT_S, access, 0.1)


def said_by(command: str, study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([command, str(study)]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("command", ["status", "pareto"])
def test_a_locked_study_is_shown(
    lock: str, command: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = said_by(command, study, capsys)
    with closing(sqlite3.connect(study / "study.db", isolation_level=None)) as other:
        other.execute("PRAGMA cache_size = 1")  # so that what it changes is in the file at once
        other.execute(lock)
        other.execute("DELETE FROM trial_user_attributes")
        assert said_by(command, study, capsys) == usual
        other.execute("ROLLBACK")


@pytest.mark.usefixtures("impatient")
def test_who_has_to_write_to_a_locked_study_is_told(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(study / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for command in ("search --resume --here", "export"):
            name, *more = command.split()
            refused([name, str(study), *more], study, capsys, "study.db is locked by another process", code=3)
        with pytest.raises(rarecall.RunError, match="locked by another process"):
            rarecall.open(study)


@pytest.mark.usefixtures("impatient")
def test_a_snapshot_is_what_was_there_before_the_transaction(tmp_path: Path) -> None:
    file = tmp_path / "some.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE t (n, text)")
        writer.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x" * 2000) for i in range(500)])
        writer.execute("PRAGMA cache_size = 5")
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("UPDATE t SET n = -1")
        assert (tmp_path / "some.db-journal").stat().st_size > 100_000
        memory = snapshot(file)
        assert memory is not None
        assert memory.execute("SELECT sum(n), count(*) FROM t").fetchone() == (124_750, 500)
        memory.close()
        writer.execute("COMMIT")
    memory = snapshot(file)
    assert memory is not None
    assert memory.execute("SELECT sum(n) FROM t").fetchone() == (-500,)
    memory.close()


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)]), None)[1]


def nonsense(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


DAMAGE = pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut(0), id="nothing left"),
        pytest.param(cut(0.5), id="half"),
        pytest.param(cut(0.9), id="nine tenths"),
        pytest.param(nonsense, id="nonsense"),
    ],
)


@DAMAGE
@pytest.mark.parametrize("file", ["study.db", "provenance.json"])
def test_a_damaged_file_is_named(
    file: str, damage: Callable[[Path], None], study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(study / file)
    for command in COMMANDS:
        name, *more = command.split()
        refused([name, str(study), *more], study, capsys, str(study / file), code=3)
    with pytest.raises(rarecall.RarecallError, match=file):
        rarecall.open(study)


def test_a_file_that_lacks_its_end_is_not_written_to(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (study / "study.db").open("r+b") as file:
        file.truncate((study / "study.db").stat().st_size - 4096)
    refused(["search", str(study), "--resume", "--here"], study, capsys, "study.db is damaged", code=3)


def test_a_database_that_is_gone_is_not_made_anew(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "study.db").unlink()
    for command in COMMANDS:
        name, *more = command.split()
        refused([name, str(study), *more], study, capsys, "study.db cannot be opened: it is gone", code=3)


def newer_provenance(study: Path) -> None:
    file = study / "provenance.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 2, "unheard_of": 1}))
    with (study / "study.yaml").open("a") as request:
        request.write("unheard_of: 1\n")


def newer_rows(table: str, key: str) -> Callable[[Path], None]:
    def make(study: Path) -> None:
        with closing(sqlite3.connect(study / "study.db")) as database:
            database.execute(
                f"""UPDATE {table} SET value_json = replace(value_json, '"schema\\": 1', '"schema\\": 2')
                WHERE "key" = '{key}'"""
            )
            assert database.total_changes
            database.commit()

    return make


@pytest.mark.parametrize(
    ("make", "commands"),
    [
        pytest.param(newer_provenance, COMMANDS, id="the request"),
        pytest.param(
            newer_rows("trial_user_attributes", "report"), ("status", "pareto", "export"), id="reports"
        ),
        pytest.param(newer_rows("study_user_attributes", "plan"), ("status", "confirm"), id="plans"),
        pytest.param(
            newer_rows("study_user_attributes", "conclusions"), ("status", "confirm"), id="conclusions"
        ),
    ],
)
def test_what_a_newer_version_made_is_said_to_be(
    make: Callable[[Path], None],
    commands: tuple[str, ...],
    study: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(study)
    for command in commands:
        name, *more = command.split()
        refused([name, str(study), *more], study, capsys, "it was made by a newer rarecall", code=2)


def test_a_folder_name_is_no_template_and_no_address(confirmed_study: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(confirmed_study, tmp_path / "a {b} %20 c?d#e"))
    assert StudyFolder(study).open().trials()
    assert StudyFolder(study).open("write").trials()


def test_a_row_that_nobody_wrote_is_damage(study: Path) -> None:
    with closing(sqlite3.connect(study / "study.db")) as database:
        database.execute("DELETE FROM trial_user_attributes WHERE \"key\" = 'strategy'")
        database.commit()
    with pytest.raises(RunError, match=r"study\.db is damaged"):
        StudyFolder(study).open().trials()


KEEP_THE_JOURNAL = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE trial_user_attributes SET value_json = '0'")
os._exit(0)
"""


def test_a_study_that_was_cut_while_writing_is_shown_where_nobody_may_write(
    confirmed_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = said_by("pareto", confirmed_study, capsys)
    disk = Disk(tmp_path / "disk", "50m")
    try:
        study = Path(shutil.copytree(confirmed_study, disk.root / "study"))
        subprocess.run([sys.executable, "-c", KEEP_THE_JOURNAL, str(study / "study.db")], check=True)
        assert (study / "study.db-journal").stat().st_size > 0
        disk.forbid_writing()
        assert said_by("pareto", study, capsys).replace(str(study), str(confirmed_study)) == usual
        assert len(rarecall.open(study).trials()) == len(rarecall.open(confirmed_study).trials())
    finally:
        disk.close()


def test_a_trial_that_is_told_without_its_report(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(study / "study.db")) as database:
        database.execute("DELETE FROM trial_user_attributes WHERE \"key\" = 'report'")
        database.commit()
    refused(["status", str(study)], study, capsys, "has no report", code=3)


@pytest.mark.timeout(60)
def test_a_provenance_that_is_a_pipe(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "provenance.json").unlink()
    os.mkfifo(study / "provenance.json")
    refused(["status", str(study)], study, capsys, "provenance.json is not a file", code=3)

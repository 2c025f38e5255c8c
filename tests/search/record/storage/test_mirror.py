"""A study on a storage, here a folder by `file://`, as several machines see it: each has its own cache."""

import csv
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
import yaml
from in_process import DATA, config
from machines import Machines, written

from search.cli.main import main
from search.record.folder import StudyFolder
from search.record.storage import mirror
from search.record.storage.lease import LEASE, OWN, STALE_S
from spaces.errors import RunError, UsageError


def rows(printed: str) -> list[dict[str, str]]:
    """Lines of CSV, without what a clock says."""
    found = list(csv.DictReader(printed.splitlines()))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def told(folder: StudyFolder) -> int:
    return len(folder.open().baseline_trials())


def test_what_is_told_is_seen_elsewhere_while_it_goes_on(machines: Machines) -> None:
    with written(machines.on("a")):
        study = machines.here().open("write")
        study.add_baseline(0)
        study.flush()
        until = time.monotonic() + 120
        while told(other := machines.on("b")) < 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert other.being() == "searched"
    assert machines.on("b").being() is None


def test_another_machine_goes_on_and_the_first_one_sees_it(machines: Machines) -> None:
    with written(machines.on("a")):
        pass
    second = machines.on("b")
    with second.claimed():
        study = second.open("write")
        study.add_baseline(0)
        study.flush()
    assert told(machines.on("a")) == 1


def test_what_a_machine_did_not_live_to_copy_is_still_there_on_it(machines: Machines) -> None:
    folder = machines.on("a")
    with written(folder):
        pass
    study = folder.open("write")  # as a process that was killed before it could copy
    study.add_baseline(0)
    study.flush()
    assert told(machines.on("b")) == 0
    folder = machines.on("a")
    assert told(folder) == 1
    with folder.claimed():
        pass
    assert told(machines.on("b")) == 1


def test_a_copy_that_another_machine_has_gone_on_with_counts(machines: Machines) -> None:
    folder = machines.on("a")
    with written(folder):
        pass
    study = folder.open("write")
    study.add_baseline(0)
    study.add_baseline(1)
    study.flush()
    with machines.on("b").claimed():
        pass
    assert told(machines.on("a")) == 0


def test_a_second_machine_is_refused_until_the_first_is_gone(machines: Machines) -> None:
    folder = machines.on("a")
    with pytest.raises(RunError, match="was taken over by process"), written(folder):
        _taken_over(machines, machines.on("b"))


def _taken_over(machines: Machines, other: StudyFolder) -> None:
    with pytest.raises(UsageError, match="is being searched right now, by process"), other.claimed():
        pass
    machines.age(STALE_S + 1)
    with other.claimed("confirmed"):
        assert machines.lease().being == "confirmed"


def test_a_machine_that_was_taken_over_writes_no_more(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "REFRESH_S", 0.2)
    folder = machines.on("a")
    folder.create(config(), "fingerprint", DATA.minority).flush()
    with pytest.raises(RunError, match="was taken over by process"), folder.claimed():
        _lose(folder, machines)
    assert machines.lease().id == "other"


def _lose(folder: StudyFolder, machines: Machines) -> None:
    """Let another machine take the study, and work on until that is noticed."""
    study = folder.open("write")
    foreign = machines.lease().model_copy(update={"id": "other", "seen": time.time()})
    (machines.there / "toy" / LEASE).write_text(foreign.model_dump_json())
    until = time.monotonic() + 120
    while time.monotonic() < until:
        study.check_written()
        time.sleep(0.05)


def test_the_same_machine_goes_on_at_once_after_a_crash(machines: Machines) -> None:
    folder = machines.on("a")
    with written(folder):
        held = machines.lease()
    (machines.there / "toy" / LEASE).write_text(held.model_dump_json())  # as a process that was killed
    (folder.path / OWN).write_text(held.id)
    with folder.claimed():
        assert machines.lease().id != held.id


def test_a_study_that_was_removed_from_the_storage_is_gone(machines: Machines) -> None:
    with written(machines.on("a")):
        pass
    shutil.rmtree(machines.there / "toy")
    assert not machines.on("a").study_yaml.exists()


def test_a_discarded_study_leaves_nothing(machines: Machines) -> None:
    folder = machines.on("a")
    with written(folder):
        assert (machines.there / "toy" / "study.yaml").exists()
        folder.discard()
    assert [path for path in machines.there.rglob("*") if path.is_file()] == []


def test_a_copy_is_whole_while_the_record_is_written(machines: Machines) -> None:
    folder = machines.on("a")
    folder.create(config(), "fingerprint", DATA.minority).flush()
    copied = machines.there / "toy" / "study.db"
    with folder.claimed():
        study = folder.open("write")
        for number in range(40):
            study.add_baseline(number)
            stored = sqlite3.connect(f"file:{copied}?mode=ro&immutable=1", uri=True)
            assert stored.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            stored.close()
        study.flush()
    assert told(machines.on("b")) == 40


def test_a_search_on_a_storage_is_read_and_gone_on_with_elsewhere(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    request = config(baseline={"seeds": 1}, search={"trials": 3, "sampler": "random"}).kept()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(request.model_dump(mode="json")))
    where = f"{machines.there.as_uri()}/toy"
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "a"))
    assert main(["search", "study.yaml", "--here", "--runs", machines.there.as_uri()]) in (0, 1)
    assert main(["search", "study.yaml", "--here", "--runs", machines.there.as_uri()]) == 2
    assert f"{where} already holds a study" in capsys.readouterr().err
    assert main(["search", "study.yaml", "--here"]) in (0, 1)
    capsys.readouterr()
    assert main(["pareto", "runs/toy", "--all", "--csv"]) == 0
    usual = rows(capsys.readouterr().out)

    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "b"))
    assert main(["pareto", where, "--all", "--csv"]) == 0
    assert rows(capsys.readouterr().out) == usual
    assert main(["report", where]) == 0
    assert (tmp_path / "toy" / "report.html").is_file()
    more = request.model_copy(update={"search": request.search.model_copy(update={"trials": 5})})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(more.model_dump(mode="json")))
    runs = ["--runs", machines.there.as_uri()]
    assert main(["search", "study.yaml", "--here", "--resume", *runs]) in (0, 1)
    capsys.readouterr()
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "a"))
    assert main(["pareto", where, "--all", "--csv"]) == 0
    assert len(rows(capsys.readouterr().out)) == len(usual) + 2

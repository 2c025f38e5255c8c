"""Who asks a study on a storage to stop, and whether it is heard on the machine that works on it."""

import time
from pathlib import Path

import pytest
import yaml
from commands import end, start, study_file
from machines import Machines, written

from search.cli.main import main
from search.record.storage import mirror
from search.record.storage.mirror import STOP
from spaces.errors import UsageError


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_request_of_another_machine_is_passed_on_once(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "REFRESH_S", 0.1)
    first = machines.on("a")
    with written(first):
        assert machines.on("b").ask_to_stop() == "searched"
        wait_for(first.files.stop_request)
        assert not (machines.there / "toy" / STOP).exists()
        second = machines.on("b")
        assert not second.files.stop_request.exists()
        first.files.stop_request.unlink()
        time.sleep(0.5)
        assert not first.files.stop_request.exists()
        second.ask_to_stop()  # and nobody hears it in time
    assert not (machines.there / "toy" / STOP).exists()
    assert not first.files.stop_request.exists()


def test_a_request_to_who_is_gone_stops_nobody_else(machines: Machines) -> None:
    first = machines.on("a")
    with written(first):
        pass
    (machines.there / "toy" / STOP).touch()
    first.files.stop_request.touch()
    assert not machines.on("b").files.stop_request.exists()
    with machines.on("a").claimed():
        assert not first.files.stop_request.exists()
        assert not (machines.there / "toy" / STOP).exists()


def test_nobody_is_asked_where_nobody_works(machines: Machines) -> None:
    with written(machines.on("a")):
        pass
    with pytest.raises(UsageError, match=r"nobody works on file:.*toy"):
        machines.on("b").ask_to_stop()


@pytest.mark.parametrize("scheme", ["", "file"])
def test_a_search_elsewhere_ends_cleanly_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    """Of a plain folder at once, on a storage when the lease is next refreshed."""
    slow = {"model": "toy:sleep=0.3", "steps": 40, "eval_every": 10}
    study_file(tmp_path, train=slow, search={"trials": 60, "sampler": "random"})
    runs = (tmp_path / "there").as_uri() if scheme else str(tmp_path / "there")
    where = f"{runs}/toy"
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "a"))
    command = start("search", "study.yaml", "--here", "--runs", runs, at=tmp_path)
    try:
        command.wait_for("1 running", 120)
        monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "b"))
        wait_for(tmp_path / "there" / "toy" / "study.yaml")
        assert main(["stop", where]) == 0
        assert "it is being searched, and was asked to end" in capsys.readouterr().out
        assert command.ended(60) == 130, command.text
    finally:
        end(command)
    assert "stopping" in command.text
    assert f"rarecall search {where if scheme else 'there/toy'} --resume" in command.text
    assert main(["stop", where]) == 2
    study = yaml.safe_load((tmp_path / "there" / "toy" / "study.yaml").read_text())
    assert study["search"]["trials"] == 60
    assert not (tmp_path / "there" / "toy" / STOP).exists()

"""A study whose record is in a real PostgreSQL, which may be restarted in between."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import yaml
from commands import study_file
from in_process import Bench, Here, config
from postgres import PASSWORD, Postgres, running

from search.cli.main import main
from search.record import connection
from spaces.errors import RunError

pytestmark = [
    pytest.mark.slow,
    # psycopg wants each connection closed by hand.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running() as started:
        yield started


def test_a_study_is_kept_there_and_its_password_nowhere(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / study_file(tmp_path, study_db=server.address)
    runs = tmp_path / "runs"
    search = ["search", str(file), "--runs", str(runs)]
    assert main([*search, "--address", "127.0.0.1:1"]) == 3
    assert optuna.get_all_study_names(server.address) == []
    assert main([*search, "--here", "--json"]) in (0, 1)
    assert main(["status", str(runs / "toy")]) == 3
    monkeypatch.setenv(connection.PASSWORD, PASSWORD)
    assert main(["status", str(runs / "toy")]) == 0
    monkeypatch.delenv(connection.PASSWORD)
    request = yaml.safe_load(file.read_text())
    request["search"]["trials"] += 1
    file.write_text(yaml.safe_dump(request))
    assert main([*search, "--here", "--json", "--resume"]) in (0, 1)
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err
    assert all(PASSWORD.encode() not in path.read_bytes() for path in runs.rglob("*") if path.is_file())


def bench_on(server: Postgres, folder: Path) -> Bench:
    return Bench(folder, config(study_db=server.address, search={"trials": 6, "sampler": "random"}))


def test_a_restart_between_two_writes_is_not_noticed(server: Postgres, tmp_path: Path) -> None:
    bench = bench_on(server, tmp_path)
    server.stop()
    server.start()
    Here().launch(bench.work, bench.folder.files)
    bench.study.flush()
    assert [trial.state for trial in bench.study.trials()] == ["complete"] * 6


def test_a_server_that_is_away_for_a_while_is_waited_for(server: Postgres, tmp_path: Path) -> None:
    bench = bench_on(server, tmp_path)
    server.stop()
    back = threading.Timer(3.0, server.start)
    back.start()
    began = time.monotonic()
    Here().launch(bench.work, bench.folder.files)
    bench.study.flush()
    assert time.monotonic() - began > 2.0
    back.join()
    assert [trial.state for trial in bench.study.trials()] == ["complete"] * 6


def test_one_that_stays_away_ends_the_search(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "AWAY_S", 1.0)
    bench = bench_on(server, tmp_path)
    server.stop()
    with pytest.raises(RunError, match="cannot be used"):
        Here().launch(bench.work, bench.folder.files)
    server.start()

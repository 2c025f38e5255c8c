"""The page of a study on a storage that another machine works on, and of one that is away."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from in_process import DATA, config
from machines import Machines
from served_pages import TOKEN, served

from search.export.page import following
from search.export.page.following import brought_here
from search.pipeline.planning.known import PROBES
from search.record.folder import StudyFolder
from search.record.storage.address import runs_folder, study_folder
from spaces.errors import RunError


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY_S", 0.2)
    monkeypatch.setattr("search.record.folder.ANSWERS_S", 0.2)


@contextmanager
def searched(machines: Machines) -> Iterator[Callable[[int], None]]:
    """A study that machine `a` works on; yields what begins another seed of its baseline."""
    folder = machines.on("a")
    folder.create(config(baseline={"seeds": 5}), "fingerprint", DATA.minority).flush()
    with folder.claimed():
        study = folder.open("write")

        def begin(seed: int) -> None:
            study.add_baseline(seed)
            study.flush()

        yield begin


def get(address: str, page: str) -> str:
    with urllib.request.urlopen(f"{address}{page}?token={TOKEN}", timeout=20) as answer:
        return str(answer.read().decode())


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not _so(what):
        assert time.monotonic() < until
        time.sleep(0.05)


def _so(what: Callable[[], bool]) -> bool:
    try:
        return what()
    except HTTPError as error:  # of a study that goes while it is looked at; the next look has what there is
        if error.code != 503:
            raise
        return False


def test_the_page_follows_a_search_elsewhere(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    with searched(machines) as begin, ExitStack() as stack:
        begin(0)
        monkeypatch.setenv("RARECALL_CACHE", str(machines.there.parent / "b"))
        place = brought_here(study_folder(f"{machines.there.as_uri()}/toy"))
        address = stack.enter_context(served(place))

        def news() -> Any:
            return json.loads(get(address, "data.json"))

        assert news()["being"] == "searched"
        fetched = (place / "study.db").stat().st_mtime_ns
        begin(1)

        def renewed() -> bool:
            news()
            return (place / "study.db").stat().st_mtime_ns != fetched

        wait_for(renewed)
        assert len(StudyFolder(place, offline=True).open("look").baseline_trials()) == 2
        stack.pop_all().close()
    wait_for(lambda: machines.lease().released)
    with served(place) as address:
        wait_for(lambda: news_of(address)["being"] is None)


def news_of(address: str) -> Any:
    return json.loads(get(address, "data.json"))


def test_a_storage_that_is_away_shows_what_was_known_and_says_so(machines: Machines) -> None:
    with searched(machines) as begin:
        begin(0)
    machines.on("b")
    place = study_folder(f"{machines.there.as_uri()}/toy")
    gone = machines.there.with_name("gone")
    machines.there.rename(gone)
    machines.there.write_text("no folder")
    assert brought_here(place) == place
    with served(place) as address:
        wait_for(lambda: news_of(address)["away"] != "")
        said = news_of(address)
        assert said["title"] == "toy"
        assert "cannot be used" in said["away"]
        assert "Shown is what was known at " in said["away"]
        machines.there.unlink()
        gone.rename(machines.there)
        wait_for(lambda: news_of(address)["away"] == "")


def test_all_studies_of_a_storage_are_listed_and_new_ones_come_in(machines: Machines) -> None:
    with searched(machines):
        pass
    beside = machines.there / "data"  # no study
    beside.mkdir()
    (beside / "large.bin").write_bytes(b"x")
    machines.on("b")
    place = brought_here(study_folder(machines.there.as_uri()))
    assert place == runs_folder(machines.there.as_uri())
    with served(place) as address:
        assert 'href="/study/toy/' in get(address, "")
        assert json.loads(get(address, "study/toy/data.json"))["title"] == "toy"
        (machines.there / "toy").rename(machines.there / "other")
        wait_for(lambda: 'href="/study/other/' in get(address, ""))
        assert 'href="/study/toy/' not in get(address, "")
    assert not (place / "data").exists()


def test_what_probes_have_measured_stays_where_a_storage_is_looked_at(machines: Machines) -> None:
    with searched(machines):
        pass
    measured = runs_folder(machines.there.as_uri()) / PROBES / "kind.json"
    measured.parent.mkdir()
    measured.write_text("{}")
    brought_here(study_folder(machines.there.as_uri()))
    assert measured.exists()


def test_what_is_away_and_was_never_here_is_said_at_once(tmp_path: Path, machines: Machines) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="cannot be used"):
        brought_here(study_folder((tmp_path / "file").as_uri() + "/toy"))

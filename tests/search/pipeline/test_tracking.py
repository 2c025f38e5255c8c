"""Searches and experiments that tell a tracker, and what becomes of them if it fails."""

import io
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import Here, config
from rich.console import Console
from toy_experiments import SMALL

from search.cli.main import main
from search.export.trackers import told
from search.export.trackers.told import Told
from search.judging.confirmation import Asked
from search.pipeline import tracking
from search.pipeline.confirming import confirm
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from spaces.errors import Interrupted, RunError, UsageError


def request_of(folder: Path, *trackers: str, trials: int = 4) -> Path:
    request = config(search={"trials": trials, "sampler": "tpe"}, confirm=SMALL).model_dump(mode="json")
    (folder / "study.yaml").write_text(yaml.safe_dump(request | {"tracking": list(trackers)}))
    return folder / "study.yaml"


def searched(request: Path, here: Here, *, resume: bool = False) -> str:
    """Search in this process; what was said meanwhile."""
    console = Console(file=io.StringIO(), width=200)
    try:
        search(request, request.parent / "runs", cluster=here, resume=resume, console=console)
    finally:
        assert isinstance(console.file, io.StringIO)
        said = console.file.getvalue()
    return said


def ids(folder: Path) -> Counter[str]:
    """How often each run was written for TensorBoard."""
    return Counter(file.read_text().split()[0] for file in folder.rglob(".rarecall"))


@pytest.mark.slow
def test_a_search_that_is_interrupted_and_resumed_has_each_run_once(tmp_path: Path) -> None:
    request, board = request_of(tmp_path, "tensorboard"), tmp_path / "runs" / "toy" / "tensorboard"
    with pytest.raises(Interrupted):
        searched(request, Here(at_most=5))
    _wait_until(lambda: len(ids(board)) == 1 + 3 + 2)  # the baseline with its seeds, and two trials
    before = ids(board)
    searched(request, Here(), resume=True)
    after = ids(board)
    assert set(after.values()) == {1}
    assert set(before) <= set(after)
    assert len(after) == 1 + 3 + 4
    confirm(
        StudyFolder(tmp_path / "runs" / "toy"),
        Asked(),
        cluster=Here(),
        resume=False,
        fresh=False,
        console=Console(file=io.StringIO()),
    )
    assert set(after) < set(ids(board))
    assert set(ids(board).values()) == {1}
    assert main(["track", str(tmp_path / "runs" / "toy"), "--to", "tensorboard"]) == 0
    assert not list(board.glob(".writing*"))


def _wait_until(true: Any, within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_tracker_that_fails_is_a_warning_said_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "EVERY_S", 0.01)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    (tmp_path / "runs" / "toy" / "tensorboard").write_text("a file where a folder has to be")
    request = request_of(tmp_path, "tensorboard")
    said = searched(request, Here())
    assert said.count("warning: tensorboard") == 1
    assert "the work goes on, and `rarecall track" in said
    trials = StudyFolder(tmp_path / "runs" / "toy").open().trials()
    assert [trial.state for trial in trials] == ["complete"] * 4


def test_a_tracker_that_hangs_holds_up_the_end_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hangs(*args: object) -> Told:
        answers.wait(200)
        raise RunError("too late")

    monkeypatch.setattr(tracking, "tell", hangs)
    monkeypatch.setattr(tracking, "LAST_S", 0.2)
    try:
        said = searched(request_of(tmp_path, "mlflow"), Here())
    finally:
        answers.set()
    assert "tracking has not ended within 0.2 s" in said


def test_a_study_without_trackers_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(tracking, "_Teller", refused)
    searched(request_of(tmp_path), Here())


def test_tracking_may_change_while_a_study_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        searched(request_of(tmp_path), Here(at_most=2))
    before = StudyFolder(tmp_path / "runs" / "toy").config
    searched(request_of(tmp_path, "tensorboard"), Here(), resume=True)
    after = StudyFolder(tmp_path / "runs" / "toy").config
    assert after.tracking == ("tensorboard",)
    assert before.fixed() == after.fixed()
    assert "tracking" not in before.keyed()


def test_a_tracker_that_is_not_installed_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(told.PACKAGES, "mlflow", "no_such_package")
    with pytest.raises(UsageError, match="mlflow is not installed"):
        searched(request_of(tmp_path, "mlflow"), Here())
    assert not (tmp_path / "runs").exists()


def test_a_tracker_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(request_of(tmp_path, "mlfow")), "--runs", str(tmp_path / "runs")]) == 2
    assert "tracking" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(["--to", "tensorbord"], "invalid choice", id="no such tracker"),
        pytest.param([], "--to", id="none named"),
    ],
)
def test_track_says_whom_it_can_tell(
    args: list[str], said: str, searched_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["track", str(searched_study), *args])
    assert said in capsys.readouterr().err


def test_a_study_that_is_worked_on_is_left_to_whoever_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(request_of(tmp_path), Here())
    with StudyFolder(tmp_path / "runs" / "toy").claimed():
        assert main(["track", str(tmp_path / "runs" / "toy"), "--to", "tensorboard"]) == 2
    assert "is being searched right now" in capsys.readouterr().err

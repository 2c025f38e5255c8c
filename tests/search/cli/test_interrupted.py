"""Ctrl-C and SIGTERM of commands that no study can be gone on with: one sentence on what is left, and 130."""

import signal
from pathlib import Path
from typing import Any

import pytest
from commands import end, start
from tiny_detector import tiny_spec
from trials import report_of
from whole_images import write_slides

from search.cli.main import main


@pytest.mark.parametrize(
    ("command", "works", "left"),
    [
        pytest.param(
            ["predict", "STUDY", "IMAGES", "--out", "out"],
            "search.pipeline.images.predicting.predict_images",
            "interrupted; no predictions were written",
            id="predict",
        ),
        pytest.param(
            ["report", "STUDY"],
            "search.pipeline.looking.gathering.gather",
            "interrupted; no page was written",
            id="report",
        ),
        pytest.param(
            ["export", "STUDY"],
            "search.cli.after.export.export_run",
            "interrupted; no bundle was written",
            id="export",
        ),
        pytest.param(
            ["fuse", "STUDY"], "search.pipeline.fusing.fuse", "interrupted; no ranking was kept", id="fuse"
        ),
        pytest.param(
            ["tile", "IMAGES", "--out", "out"],
            "search.pipeline.images.tiling.load_whole",
            "interrupted; nothing was cut yet",
            id="tile, before it cuts",
        ),
        pytest.param(
            ["dashboard", "STUDY"], "search.cli.after.report.Dashboard", "interrupted", id="dashboard"
        ),
        pytest.param(["status", "STUDY"], "search.cli.search.study_status", "interrupted", id="status"),
        pytest.param(
            ["confirm", "STUDY", "--fresh"],
            "search.pipeline.confirming.confirm",
            "interrupted; where it stands: rarecall status STUDY",
            id="confirm, before it can say so itself",
        ),
    ],
)
def test_one_sentence_says_what_is_left(
    command: list[str],
    works: str,
    left: str,
    searched_study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(works, interrupted)
    monkeypatch.chdir(tmp_path)
    places = {"STUDY": str(searched_study), "IMAGES": str(tmp_path)}
    assert main([places.get(word, word) for word in command]) == 130
    assert capsys.readouterr().err == f"\n{left.replace('STUDY', str(searched_study))}\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_prediction_that_is_stopped_leaves_nothing(
    number: signal.Signals, tiles: Path, tmp_path: Path
) -> None:
    report_of(tiny_spec(tiles, {}), tmp_path / "run")
    write_slides(tmp_path / "slides", n=400)
    weights = str(tmp_path / "run" / "result" / "weights.pt")
    command = start(
        "predict", weights, "slides", "--size", "32", "--overlap", "16", "--out", "out", at=tmp_path
    )
    try:
        while command.process.poll() is None and not [*tmp_path.glob(".out.*.partial/pictures/*")]:
            pass
        command.send(number)
        assert command.ended(60) == 130
    finally:
        end(command)
    assert command.text.splitlines()[-1] == "interrupted; no predictions were written"
    assert "Traceback" not in command.text
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]

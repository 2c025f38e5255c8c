"""`rarecall predict` refuses what it cannot do, with one message, and writes nothing."""

import os
from pathlib import Path

import pytest
import torch
from refusals import refused
from whole_images import write_slides


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    write_slides(tmp_path / "slides", 2)
    return tmp_path / "slides"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that torch wrote, and that holds no detector."""
    torch.save({"model": None}, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        pytest.param(["nothing", "slides"], "no weights in", id="there are no weights"),
        pytest.param(["weights.pt", "nothing"], "no such image or folder", id="there is no image"),
        pytest.param(["slides", "slides"], "no weights in", id="a folder of something else"),
        pytest.param(["weights.pt", "slides"], "cannot be loaded", id="no detector's weights"),
        pytest.param(["slides/s0.png", "slides"], "cannot be loaded", id="a picture as weights"),
        pytest.param(["weights.pt", "slides", "--trial", "3"], "is no study", id="a trial of no study"),
    ],
)
def test_refused(
    argv: list[str],
    says: str,
    slides: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path.parent / "cache"))
    monkeypatch.chdir(tmp_path)
    refused(["predict", *argv, "--out", "out"], tmp_path, capsys, says)


def test_a_folder_that_holds_something_is_not_written_to(
    slides: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["predict", str(weights), str(slides), "--out", str(slides)], tmp_path, capsys, "not empty")


def test_names_that_can_be_written_nowhere_are_told_before_anything_is_predicted(
    slides: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = slides / f"{'a' * 249}.png"
    (slides / "s0.png").rename(long)
    asked = ["predict", str(weights), str(slides), "--out", str(tmp_path / "out")]
    refused(asked, tmp_path, capsys, "would have too long a name")
    refused([*asked, "--no-pictures"], tmp_path, capsys, "cannot be loaded")
    long.rename(os.fsdecode(bytes(slides) + b"/caf\xe9.png"))
    refused([*asked, "--no-pictures"], tmp_path, capsys, "an image's name is not UTF-8: b'caf\\xe9.png'")

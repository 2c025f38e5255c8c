"""What a page says of the data: counts of what the person has, and notes that can do without names."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from detection_files import write_yolo
from in_process import config
from rich.console import Console
from tiled_data import draw_tiled

from search.pipeline.looking.gathering import gather
from search.record.folder import StudyFolder
from trainables.data.boxes.data_set import describe_detection

STUDY: dict[str, Any] = {
    "task": "detection",
    "train": {"model": "yolo_tiny.yaml", "steps": 20, "eval_every": 5},
    "minority": ["cluster"],
    "space": {"sampler_power": [0.0, 1.0]},
}
BOTH = "0 .5 .5 .2 .2\n1 .2 .2 .1 .1\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


def shown(data: Path, tmp_path: Path, *, anonymous: bool = False) -> dict[str, Any]:
    """What a page says of the data of a study that nothing was run of."""
    folder = StudyFolder(tmp_path / "study")
    if not folder.study_yaml.is_file():
        folder.create(
            config(**STUDY | {"data": str(data)}), describe_detection(data).fingerprint, ["cluster"]
        )
    console = Console(file=io.StringIO())
    study = folder.open()
    return dict(gather(folder, study, console, with_pictures=False, anonymous=anonymous)["data"])


def test_notes_stay_and_lose_only_the_names_of_images(tmp_path: Path) -> None:
    names = [f"secret{i}_1" for i in range(200)]
    labels = {
        "train": dict.fromkeys(names, BOTH),
        "val": {"secret0_2": BOTH, "other, e.g. secret; what_1": BOTH},
    }
    data = write_yolo(tmp_path / "set", labels, source_pattern=r"(.+)_\d")
    images = tmp_path / "set" / "images"
    (images / "train" / "secret7_1.png").write_bytes(b"no picture")
    shutil.copy(images / "train" / "secret8_1.png", images / "val" / "other, e.g. secret; what_1.png")
    open_to_all = shown(data, tmp_path)["notes"]
    told = shown(data, tmp_path, anonymous=True)["notes"]
    assert len(open_to_all) == len(told) == 5
    assert sum("secret" in note for note in open_to_all) == 4
    assert "secret" not in json.dumps(told)
    assert told[1:] == [
        "warning: sources with images in more than one split: 1; what is measured on a source that was "
        "trained on, or tuned on, flatters",
        "warning: identical images in more than one split: 1; what is measured on an image that was "
        "trained on, or tuned on, flatters",
        "1 unreadable images left out",
        "1 images repeat another one's content",
    ]


def test_of_tiles_the_whole_images_are_counted_and_their_objects(tmp_path: Path) -> None:
    found = shown(draw_tiled(tmp_path), tmp_path)
    assert found["heads"] == ["split", "tiles", "whole images", "sources", "cluster", "cell"]
    for _, tiles, wholes, sources, clusters, cells in found["rows"]:
        assert tiles == 12 * wholes
        assert (sources, clusters, cells) == (wholes, 2 * wholes, 12 * wholes)

"""What each task does before its runs."""

from pathlib import Path

import pytest
from drawn_images import write_folder

from trainables.contract.tasks import Task
from trainables.contract.trial import DataSpec, TrainSpec
from trainables.data.mapped import LIMIT
from trainables.worker.by_task import BY_TASK


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ready(task: Task, source: Path) -> list[str]:
    data = DataSpec(source=str(source), minority=("cluster",))
    train = TrainSpec.model_validate({"model": "any", "imgsz": 64, "batch": 4, "steps": 4, "eval_every": 2})
    return list(BY_TASK[task].make_ready(data, train, ("train", "val")))


def test_images_are_decoded_before_the_first_run(tiles: Path, tmp_path: Path, cache: Path) -> None:
    pictures = write_folder(tmp_path / "pictures", {"train/a": 3, "train/b": 2, "val/a": 2, "val/b": 2})
    assert ready("detection", tiles) == ready("classification", pictures) == ready("toy", tiles) == []
    assert len(list(cache.glob("pixels/*/pixels.u8"))) == 2  # one for each split
    assert len(list(cache.glob("images/*/pixels.npy"))) == 1


def test_it_is_said_where_a_detectors_images_have_no_room(
    tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "1e-8")
    said = ready("detection", tiles)
    assert [line.split(" take ")[0] for line in said] == [
        "decoded, the images of train",
        "decoded, the images of val",
    ]

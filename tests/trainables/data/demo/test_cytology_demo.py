from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.boxes.data_set import load_detection
from trainables.data.demo import cytology

SMALL = {"train": 3, "val": 2, "test": 2}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo with a few slides, drawn; its cache folder."""
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path))
    monkeypatch.setattr(cytology, "SLIDES", SMALL)
    return tmp_path


def test_a_slide_is_drawn_the_same_each_time() -> None:
    one, other, third = (cytology.draw_slide(np.random.default_rng(seed)) for seed in (5, 5, 6))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(one[0], third[0])


def test_boxes_hold_what_is_stained() -> None:
    pixels, classes, boxes = cytology.draw_slide(np.random.default_rng(0))
    assert set(classes.tolist()) <= {0, 1}
    inside = [
        pixels[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1].mean()
        for x0, y0, x1, y1 in boxes
        if min(x0, y0) >= 0 and max(x1, y1) < cytology.SIDE
    ]
    assert np.mean(inside) < pixels.mean() - 15


def test_tiles_labels_and_sources(small: Path) -> None:
    data = load_detection(cytology.materialise())
    assert data.class_names == ("cell", "cluster")
    for split, slides in SMALL.items():
        images = data.splits[split]
        assert len(images) == slides * 16
        assert len({image.source for image in images}) == slides
    with Image.open(data.splits["val"][0].path) as tile:
        assert tile.size == (cytology.TILE, cytology.TILE)


def test_it_is_drawn_once_and_nothing_else_is_left_behind(small: Path) -> None:
    first = cytology.materialise()
    stamp = first.stat().st_mtime_ns
    assert cytology.materialise().stat().st_mtime_ns == stamp
    assert [path.name for path in small.iterdir()] == [f"cytology-v{cytology.VERSION}"]


def test_of_two_that_draw_at_once_one_wins(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = cytology._draw_all

    def overtaken(folder: Path) -> None:
        monkeypatch.setattr(cytology, "_draw_all", draw)
        cytology.materialise()  # the other process, which finishes first
        draw(folder)

    monkeypatch.setattr(cytology, "_draw_all", overtaken)
    assert cytology.materialise().is_file()
    assert [path.name for path in small.iterdir()] == [f"cytology-v{cytology.VERSION}"]


@pytest.mark.slow
def test_the_demo_is_as_imbalanced_as_it_says() -> None:
    summary = cytology.describe()
    for split in summary.splits.values():
        assert split.objects["cell"] >= 100 * split.objects["cluster"]
    assert summary.splits["train"].sources == 30
    assert summary.splits["val"].objects["cluster"] >= 60
    assert summary.splits["test"].objects["cluster"] >= 150
    assert summary.splits["test"].sources >= 30

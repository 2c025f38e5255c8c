"""COCO instance files as data sets, against pycocotools; cut into splits; their fingerprint."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from detection_files import CATEGORIES, SLIDES, TRAIN, VAL, Boxes, coco, rewrite, write_coco, write_splits
from pycocotools.coco import COCO

from trainables.data.boxes.data_set import describe_detection, load_detection
from trainables.data.boxes.listed import BoxImage


def test_boxes_are_fractions_and_classes_follow_the_order_of_the_ids(tmp_path: Path) -> None:
    data = load_detection(write_splits(tmp_path))
    assert data.class_names == ("cell", "cluster")
    a, b, c = data.splits["train"]
    assert [image.path.name for image in (a, b, c)] == ["a.png", "b.png", "c.png"]
    assert [image.source for image in (a, c)] == ["train/a.png", "train/c.png"]
    assert a.path.is_absolute()
    assert a.classes.tolist() == [1, 0]
    np.testing.assert_allclose(a.boxes, [[25 / 40, 15 / 20, 10 / 40, 10 / 20], [0.2, 0.2, 0.2, 0.2]])
    assert (c.classes.shape, c.boxes.shape) == ((0,), (0, 4))
    summary = describe_detection(tmp_path / "data.yaml")
    assert summary.splits["train"].objects == {"cell": 2, "cluster": 1}
    assert (summary.mended, summary.notes()) == ({}, ["val has no object of cell"])


def random_coco(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    images: dict[str, Boxes] = {}
    for i in range(12):
        corners = rng.uniform(0, [30, 15], (int(rng.integers(0, 5)), 2)).round(2)
        images[f"{i}.png"] = [
            (int(rng.choice(list(CATEGORIES))), [x, y, *rng.uniform(1, 5, 2).round(2)])
            for x, y in corners.tolist()
        ]
    return coco(images)


def corners(image: BoxImage) -> np.ndarray:
    """Class, x, y, width, height in pixels; (n, 5), sorted."""
    height, width = image.size
    boxes = image.boxes * [width, height, width, height]
    rows = np.column_stack([image.classes, boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_reads_the_same_boxes(tmp_path: Path, seed: int) -> None:
    path = write_coco(tmp_path, "instances.json", random_coco(seed))
    data = load_detection(path)
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(path))
    class_of = {category: i for i, category in enumerate(sorted(oracle.getCatIds()))}
    ours = {image.path.name: image for images in data.splits.values() for image in images}
    assert len(ours) == len(oracle.getImgIds()) == 12
    for entry in oracle.loadImgs(oracle.getImgIds()):
        found = oracle.loadAnns(oracle.getAnnIds(imgIds=entry["id"]))
        rows = np.array([[class_of[one["category_id"]], *one["bbox"]] for one in found]).reshape(-1, 5)
        np.testing.assert_allclose(corners(ours[entry["file_name"]]), rows[np.lexsort(rows.T)], atol=2e-5)


def test_what_is_no_object_is_left_out_and_what_reaches_over_the_edge_is_clipped(tmp_path: Path) -> None:
    path = write_splits(tmp_path)
    boxes = [
        {"bbox": [0, 0, 40, 20], "iscrowd": 1},
        {"bbox": [4, 4, 0, 5]},
        {"bbox": [4, 4, 5, 0.0]},
        {"bbox": [1, 1, 2, 2]},
        {"bbox": [1, 1, 2, 2]},
        {"bbox": [-10, 10, 20, 40]},
        {"bbox": [39, 19, 1.5, 1]},  # half a pixel is rounding
    ]
    annotations = [{"id": i, "image_id": 0, "category_id": 7} | box for i, box in enumerate(boxes)]
    rewrite(tmp_path / "val" / "val.json", lambda stored: stored | {"annotations": annotations})
    (image,) = load_detection(path).splits["val"]
    assert sorted(map(tuple, corners(image)[:, 1:].round(4).tolist())) == [
        (0, 10, 10, 10),
        (1, 1, 2, 2),
        (39, 19, 1, 1),
    ]
    summary = describe_detection(path)
    assert summary.mended == {
        "crowd regions left out": 1,
        "boxes without an area left out": 2,
        "repeated annotations left out": 1,
        "boxes clipped to their image": 1,
    }
    assert "2 boxes without an area left out" in summary.notes()


def test_images_may_lie_in_folders_of_their_own_and_in_several_files(tmp_path: Path) -> None:
    for folder, name, stored in (
        ("pictures", "one.json", TRAIN),
        ("pictures", "two.json", {"e.png": []}),
        ("pictures/of_val", "val.json", VAL),
    ):
        write_coco(tmp_path / folder, name, coco(stored)).rename(tmp_path / name)
    root = tmp_path / "yaml"
    root.mkdir()
    described = {
        "path": "..",
        "train": ["one.json", "two.json"],
        "val": "val.json",
        "images": {"train": "pictures", "val": "pictures/of_val"},
    }
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    splits = load_detection(root / "data.yaml").splits
    assert [image.path.name for image in splits["train"]] == ["a.png", "b.png", "c.png", "e.png"]
    assert [image.path.name for image in splits["val"]] == ["d.png"]


def test_splits_may_number_the_same_categories_differently(tmp_path: Path) -> None:
    path = write_splits(tmp_path)
    other = {1: "cluster", 2: "cell"}
    write_coco(tmp_path / "val", "val.json", coco({"d.png": [(1, [10, 5, 20, 10])]}, other))
    (image,) = load_detection(path).splits["val"]
    assert image.classes.tolist() == [1]


def slide_field(stored: Any) -> None:
    for entry in stored["images"]:
        entry["source"] = entry["file_name"][:3]


def group_field(stored: Any) -> None:
    for entry in stored["images"]:
        entry["group"] = int(entry["file_name"][1:3])


@pytest.mark.parametrize("change", [slide_field, group_field])
def test_a_file_without_splits_is_cut_by_the_source_of_its_entries(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    path = write_coco(tmp_path, "instances.json", coco(SLIDES))
    rewrite(path, change)
    summary = describe_detection(path)
    assert summary.one_piece
    assert summary.shared_sources == {}
    counted = {split: (found.sources, found.images) for split, found in summary.splits.items()}
    assert counted == {"train": (14, 28), "val": (3, 6), "test": (3, 6)}
    assert {split: found.objects["cluster"] for split, found in summary.splits.items()} == {
        "train": 7,
        "val": 2,
        "test": 1,
    }


def test_a_file_without_splits_may_have_a_pattern_for_its_sources(tmp_path: Path) -> None:
    write_coco(tmp_path / "pictures", "instances.json", coco(SLIDES)).rename(tmp_path / "instances.json")
    described = {"all": "instances.json", "images": "pictures", "source_pattern": r"(.+)_x\d+_y\d+"}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(described))
    summary = describe_detection(tmp_path / "data.yaml")
    assert [found.sources for found in summary.splits.values()] == [14, 3, 3]


def test_the_order_of_a_file_changes_nothing(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "instances.json", coco(SLIDES))
    before = describe_detection(path)
    rewrite(path, lambda stored: stored | {"images": stored["images"][::-1]})
    assert describe_detection(path) == before


def test_the_fingerprint_follows_annotations_and_sources(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "instances.json", coco(SLIDES))
    prints = [describe_detection(path).fingerprint]
    rewrite(path, lambda stored: stored["annotations"][0].update(bbox=[4, 2, 8, 5]))
    prints.append(describe_detection(path).fingerprint)
    rewrite(path, slide_field)
    prints.append(describe_detection(path).fingerprint)

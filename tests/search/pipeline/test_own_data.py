"""A study on files of the person's: what is kept of their splits, and what may not change."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from detection_files import CATEGORIES, SLIDES, coco, plain, write_coco, write_yolo
from drawn_images import write_folder
from rich.console import Console

from search.pipeline.opening import Request, continued, make, read_request
from spaces.errors import UsageError
from trainables.data.boxes.data_set import load_detection

TRAIN = {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 2, "eval_every": 1}
DETECTION = {"name": "own", "task": "detection", "minority": ["cluster"], "train": TRAIN}
CLASSIFICATION = {
    "name": "own",
    "task": "classification",
    "minority": ["b"],
    "train": TRAIN | {"model": "small_cnn"},
}


def asked(root: Path, request: dict[str, Any], data: Path, **more: Any) -> tuple[Request, str]:
    """The request, and what was said of it."""
    (root / "study.yaml").write_text(yaml.safe_dump(request | {"data": str(data)} | more))
    console = Console(file=io.StringIO(), width=300)
    found = read_request(root / "study.yaml", root / "runs", console)
    assert isinstance(console.file, io.StringIO)
    return found, console.file.getvalue()


def kept(root: Path) -> list[dict[str, str]]:
    with (root / "runs" / "own" / "splits.csv").open(newline="") as stored:
        return list(csv.DictReader(stored))


def test_splits_that_were_drawn_are_written_into_the_study(tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data", "all.json", coco(SLIDES))
    (tmp_path / "data" / "manifest.csv").write_text(
        "image,source\n" + "".join(f"{name},{name[:3]}\n" for name in SLIDES)
    )
    make(asked(tmp_path, DETECTION, data)[0])
    assert kept(tmp_path) == [
        {"image": image.name, "split": split, "source": image.source}
        for split, images in load_detection(data).splits.items()
        for image in images
    ]
    assert {row["image"] for row in kept(tmp_path)} == set(SLIDES)
    assert {row["source"] for row in kept(tmp_path)} == {name[:3] for name in SLIDES}


def test_a_classifiers_too_and_those_that_half_of_val_was_set_aside_for(tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "whole", {"a": 20, "b": 10})
    make(asked(tmp_path, CLASSIFICATION, whole)[0])
    assert len(kept(tmp_path)) == 30
    (tmp_path / "runs" / "own" / "study.yaml").unlink()
    half = write_folder(tmp_path / "half", {"train/a": 6, "train/b": 3, "val/a": 4, "val/b": 4})
    make(asked(tmp_path, CLASSIFICATION, half)[0])
    splits = [row["split"] for row in kept(tmp_path)]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (9, 4, 4)


def test_splits_that_the_data_has_need_no_list(tmp_path: Path) -> None:
    counts = {f"{split}/{name}": 3 for split in ("train", "val", "test") for name in ("a", "b")}
    request, _ = asked(tmp_path, CLASSIFICATION, write_folder(tmp_path / "data", counts))
    make(request)
    assert request.folder.study_yaml.is_file()
    assert not request.folder.splits_csv.exists()
    request.folder.discard()
    assert not request.folder.study_yaml.exists()


def test_auto_passes_over_a_category_without_objects(tmp_path: Path) -> None:
    categories = {0: "supercategory", **CATEGORIES}
    boxes = {name: [(7, [4 + i, 2, 8, 4]) for i in range(11)] + found[1:] for name, found in SLIDES.items()}
    data = write_coco(tmp_path / "data", "all.json", coco(boxes, categories))
    request, _ = asked(tmp_path, DETECTION | {"minority": "auto"}, data)
    assert request.data.minority == ("cluster",)
    with pytest.raises(UsageError, match="every class with an object is named"):
        asked(tmp_path, DETECTION | {"minority": ["cell", "cluster"]}, data)


def test_pixel_max_belongs_to_the_study_and_cannot_change_on_the_way(tmp_path: Path) -> None:
    data = write_yolo(
        tmp_path / "data",
        {
            split: {f"{split}{i}": "0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1" for i in range(6)}
            for split in ("train", "val")
        },
    )
    first, said = asked(tmp_path, DETECTION, data, pixel_max=4095)
    assert first.data.pixel_max == 4095
    assert "pixel_max 4095 changes nothing: no image has 16 bits" in said
    make(first)
    continued(asked(tmp_path, DETECTION, data, pixel_max=4095)[0], tmp_path / "study.yaml")
    other, _ = asked(tmp_path, DETECTION, data, pixel_max=1023)
    with pytest.raises(UsageError, match="its fingerprint differs"):
        continued(other, tmp_path / "study.yaml")
    for wrong in (0, 65536, "4095x", 1.5):
        with pytest.raises(UsageError, match="pixel_max"):
            asked(tmp_path, DETECTION, data, pixel_max=wrong)


def labelled(root: Path) -> Path:
    return write_yolo(
        root,
        {
            split: {f"{split}{i}": "0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1" for i in range(6)}
            for split in ("train", "val")
        },
    )


def test_other_content_under_the_same_name_and_of_the_same_size_is_other_data(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data")
    make(asked(tmp_path, DETECTION, data)[0])
    changed = tmp_path / "data" / "images" / "train" / "train0.png"
    before = changed.read_bytes()
    changed.touch()
    continued(asked(tmp_path, DETECTION, data)[0], tmp_path / "study.yaml")
    plain((20, 10), "another").save(changed)
    assert len(changed.read_bytes()) == len(before)
    with pytest.raises(UsageError, match=r"has changed since .* was made: its fingerprint differs"):
        continued(asked(tmp_path, DETECTION, data)[0], tmp_path / "study.yaml")


def test_a_study_whose_fingerprint_an_earlier_version_wrote_goes_on(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data")
    first, _ = asked(tmp_path, DETECTION, data)
    make(first)
    place = tmp_path / "runs" / "own" / "provenance.json"
    stored = json.loads(place.read_text())
    assert stored["data_fingerprint"] == first.summary.fingerprint != first.summary.listed_as
    place.write_text(json.dumps(stored | {"data_fingerprint": first.summary.listed_as}))
    continued(asked(tmp_path, DETECTION, data)[0], tmp_path / "study.yaml")

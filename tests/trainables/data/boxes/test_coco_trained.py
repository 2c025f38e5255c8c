"""A detector trained on the same data as COCO files and in YOLO's layout."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from detection_files import CATEGORIES, Boxes, coco
from PIL import Image
from tiny_detector import tiny_spec
from trials import report_of


def as_yolo(file: Path, split: str, root: Path) -> None:
    """Write a COCO file's images and boxes in YOLO's layout."""
    (root / "labels" / split).mkdir(parents=True)
    shutil.copytree(file.parent, root / "images" / split)
    stored = json.loads(file.read_text())
    index = {category: i for i, category in enumerate(sorted(CATEGORIES))}
    for entry in stored["images"]:
        lines = []
        for one in stored["annotations"]:
            if one["image_id"] == entry["id"]:
                x, y, width, height = one["bbox"]
                box = (x + width / 2) / 64, (y + height / 2) / 64, width / 64, height / 64
                lines.append(" ".join(map(str, (index[one["category_id"]], *box))))
        (root / "labels" / split / f"{Path(entry['file_name']).stem}.txt").write_text("\n".join(lines))


@pytest.mark.slow
def test_a_detector_learns_the_same_from_coco_and_from_yolo(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images: dict[str, Boxes] = {}
        (tmp_path / split).mkdir()
        for i in range(12):
            pixels = rng.integers(100, 140, (64, 64, 3)).astype(np.uint8)
            boxes = [(7, [int(v) for v in rng.integers(0, 50, 2)] + [10, 10])]
            boxes += [(90, [int(v) for v in rng.integers(0, 30, 2)] + [28, 28])] * (i % 3 == 0)
            for category, (x, y, width, height) in boxes:
                pixels[y : y + height, x : x + width] = 20 if category == 7 else 240
            Image.fromarray(pixels).save(tmp_path / split / f"{split}{i}.png")
            images[f"{split}{i}.png"] = boxes
        stored = coco(images)
        for entry in stored["images"]:
            entry |= {"width": 64, "height": 64}
        (tmp_path / split / "coco.json").write_text(json.dumps(stored))
        as_yolo(tmp_path / split / "coco.json", split, tmp_path / "yolo")
    coco_yaml, yolo_yaml = tmp_path / "data.yaml", tmp_path / "yolo" / "data.yaml"
    coco_yaml.write_text(yaml.safe_dump({"train": "train/coco.json", "val": "val/coco.json"}))
    yolo_yaml.write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": list(CATEGORIES.values())})
    )
    coco_report, yolo_report = (
        report_of(tiny_spec(data, {}, split="test", steps=4), tmp_path / f"{name}_run")
        for name, data in {"coco": coco_yaml, "yolo": yolo_yaml}.items()
    )
    assert coco_report.metrics == yolo_report.metrics
    assert coco_report.applied == yolo_report.applied
    assert coco_report.curve == yolo_report.curve

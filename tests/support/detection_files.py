"""Detection data sets as files, for tests: YOLO's layout, and COCO instance files."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

CATEGORIES = {7: "cell", 90: "cluster"}  # ids are sparse
Boxes = list[tuple[int, list[float]]]  # category, x, y, width, height
TRAIN = {
    "a.png": [(7, [4, 2, 8, 4]), (90, [20, 10, 10, 10])],
    "b.png": [(7, [0, 0, 4, 2])],
    "c.png": [],
}
VAL: dict[str, Boxes] = {"d.png": [(90, [10, 5, 20, 10])]}
# Two tiles of each of 20 slides; the first tile of slides 0 to 9 has a cluster too.
SLIDES = {
    f"s{slide:02}_x{tile}_y0.png": [(7, [4, 2, 8, 4])] + [(90, [20, 10, 10, 10])] * (slide < 10 and tile == 0)
    for slide in range(20)
    for tile in range(2)
}


def plain(size: tuple[int, int], name: str) -> Image.Image:
    """A picture of one colour, another one for each name; `size` is (width, height)."""
    return Image.new("RGB", size, tuple(zlib.crc32(name.encode()).to_bytes(4)[:3]))


def write_yolo(
    root: Path, labels: dict[str, dict[str, str]], names: object = ("cell", "cluster"), **more: object
) -> Path:
    """A data set of 20 x 10 images: split -> image name -> label text; returns its data.yaml."""
    for split, images in labels.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for name, text in images.items():
            plain((20, 10), f"{split}/{name}").save(root / "images" / split / f"{name}.png")
            (root / "labels" / split / f"{name}.txt").write_text(text)
    described = {split: f"images/{split}" for split in labels} | {
        "names": list(names) if isinstance(names, tuple) else names
    }
    (root / "data.yaml").write_text(yaml.safe_dump(described | more))
    return root / "data.yaml"


def coco(images: dict[str, Boxes], categories: dict[int, str] = CATEGORIES) -> dict[str, Any]:
    """File name -> boxes, as an instances file; ids start at 0, images and annotations last to first."""
    files = list(images)
    annotations = [
        {"image_id": 10 * i, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
        for i, file in enumerate(files)
        for category, bbox in images[file]
    ]
    return {
        "images": [
            {"id": 10 * i, "file_name": file, "width": 40, "height": 20} for i, file in enumerate(files)
        ][::-1],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations)][::-1],
        "categories": [{"id": i, "name": name} for i, name in reversed(categories.items())],
    }


def write_coco(folder: Path, name: str, stored: Any) -> Path:
    """A file with its images, 40 x 20 pixels, beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in stored["images"]:
        plain((40, 20), f"{folder.name}/{entry['file_name']}").save(folder / entry["file_name"])
    (folder / name).write_text(json.dumps(stored))
    return folder / name


def write_splits(root: Path, **more: object) -> Path:
    """A data.yaml of two COCO files in folders of their own."""
    write_coco(root / "train", "train.json", coco(TRAIN))
    write_coco(root / "val", "val.json", coco(VAL))
    described = {"train": "train/train.json", "val": "val/val.json"}
    (root / "data.yaml").write_text(yaml.safe_dump(described | more))
    return root / "data.yaml"


def rewrite(file: Path, change: Callable[[Any], Any]) -> None:
    """Change what is stored in a json; `change` works in place, or returns what to store instead."""
    stored = json.loads(file.read_text())
    changed = change(stored)
    file.write_text(json.dumps(stored if changed is None else changed))

"""Whole images with boxes, for tests that cut them: noise, so that no two tiles are the same."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

SIZE = (200, 150)  # width, height
Boxes = list[tuple[int, list[int]]]  # class id; x, y, width, height


def noise(seed: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """(height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def boxes(seed: int, n: int = 12, size: tuple[int, int] = SIZE, largest: int = 30) -> Boxes:
    """Objects anywhere in an image, on its edges too; the first is of class 1, all others of class 0."""
    rng = np.random.default_rng(seed)
    found: Boxes = []
    for i in range(n):
        width, height = (int(side) for side in rng.integers(4, largest + 1, 2))
        x = int(np.clip(rng.integers(-20, size[0]), 0, size[0] - width))
        y = int(np.clip(rng.integers(-20, size[1]), 0, size[1] - height))
        found.append((int(i == 0), [x, y, width, height]))
    return found


def yolo_text(listed: Boxes, size: tuple[int, int] = SIZE) -> str:
    """Of a label file."""
    lines = [
        f"{c} {(x + w / 2) / size[0]:.9f} {(y + h / 2) / size[1]:.9f} {w / size[0]:.9f} {h / size[1]:.9f}\n"
        for c, (x, y, w, h) in listed
    ]
    return "".join(lines)


def write_slides(folder: Path, n: int = 8, *, suffix: str = ".png") -> dict[str, Boxes]:
    """`folder/s0.png`, … with their labels beside them and a classes.txt; name -> boxes."""
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("cell\ncluster\n")
    listed = {f"s{i}{suffix}": boxes(i) for i in range(n)}
    for i, (name, held) in enumerate(listed.items()):
        Image.fromarray(noise(i)).save(folder / name)
        (folder / name).with_suffix(".txt").write_text(yolo_text(held))
    return listed


def write_json(file: Path, listed: dict[str, Boxes], size: tuple[int, int] = SIZE) -> Path:
    """The boxes of `write_slides` as COCO instances; ids of classes begin at 1."""
    annotations = [(i, class_id, box) for i, held in enumerate(listed.values()) for class_id, box in held]
    stored = {
        "images": [
            {"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in enumerate(listed)
        ],
        "annotations": [
            {"id": j, "image_id": i, "category_id": class_id + 1, "bbox": box, "area": box[2] * box[3]}
            for j, (i, class_id, box) in enumerate(annotations, start=1)
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "cluster"}],
    }
    file.write_text(json.dumps(stored))
    return file


def write_whole_splits(root: Path, counts: dict[str, int]) -> Path:
    """A data.yaml of whole images in YOLO's layout; split -> how many."""
    seed = 0
    for split, n in counts.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for _ in range(n):
            Image.fromarray(noise(seed)).save(root / f"images/{split}/s{seed}.png")
            (root / f"labels/{split}/s{seed}.txt").write_text(yolo_text(boxes(seed)))
            seed += 1
    described = {split: f"images/{split}" for split in counts} | {"names": ["cell", "cluster"]}
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "data.yaml"

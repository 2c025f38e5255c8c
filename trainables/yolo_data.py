"""Read a data set in YOLO's layout: `data.yaml`, images, and one text file of boxes per image.

A split is a folder, a list file (`.txt`, one image per line), or a list of those. The labels of
`…/images/a.jpg` are in `…/labels/a.txt`; an image without that file, or with an empty one, is background.
Boxes are `class x y w h`, centre and size as fractions of the image; a polygon (`class x1 y1 x2 y2 …`) stands
for its bounding box.

The source image of a tile comes from `manifest.csv` beside `data.yaml` (columns `image`, `source`; `image` is
a path relative to it, or a bare file name), else every image is its own source. No torch, no Ultralytics:
pixels are not read.
"""

import csv
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from spaces.errors import UsageError
from trainables.dataset import DataSummary, SplitSummary

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SPLITS = ("train", "val", "test")
ROUNDING = (
    0.01  # how far a coordinate may lie outside the image before it is an error, as a fraction of its side
)
EXIF_ORIENTATION, EXIF_TRANSPOSED = 274, frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class YoloImage:
    """One image and its true objects.

    Attributes:
        path: Absolute path of the image file.
        source: The slide or photograph that it was cut from.
        classes: (n,) class ids.
        boxes: (n, 4) centre x, centre y, width, height; fractions of the image.
    """

    path: Path
    source: str
    classes: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]


@dataclass(frozen=True)
class YoloData:
    """A whole data set; `splits` has `train`, `val` and, where there is one, `test`."""

    class_names: tuple[str, ...]
    splits: dict[str, tuple[YoloImage, ...]]
    fingerprint: str

    def most_objects(self) -> int:
        """Objects in the fullest image of all splits."""
        return max(len(image.classes) for images in self.splits.values() for image in images)


@lru_cache(maxsize=1 << 16)
def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as a decoder shows the image, i.e. after the EXIF rotation."""
    with Image.open(path) as image:
        turned = image.getexif().get(EXIF_ORIENTATION) in EXIF_TRANSPOSED
        return (image.width, image.height) if turned else (image.height, image.width)


def read_yolo(path: Path) -> DataSummary:
    """Count what the data set of a `data.yaml` holds.

    Raises:
        UsageError: A key, a folder or a label is missing or wrong.
    """
    data = load_yolo(path)
    return DataSummary(
        class_names=data.class_names,
        splits={split: _summary(images, data.class_names) for split, images in data.splits.items()},
        fingerprint=data.fingerprint,
    )


def load_yolo(path: Path) -> YoloData:
    """Read all labels of a `data.yaml`, with the source of each image.

    Raises:
        UsageError: A key, a folder or a label is missing or wrong.
    """
    if not path.is_file():
        raise UsageError(f"data: no such file: {path}")
    try:
        described = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: no valid yaml: {error}") from error
    if not isinstance(described, dict):
        raise UsageError(f"{path}: a mapping with train, val and names, got {type(described).__name__}")
    names = _class_names(path, described)
    root = path.parent / str(described.get("path") or "")
    sources = _read_manifest(path.parent / "manifest.csv")
    digest = hashlib.sha256(repr(names).encode())
    splits = {}
    for split in SPLITS:
        if described.get(split) is None:
            if split != "test":
                raise UsageError(
                    f"{path}: key '{split}' is missing", f"{split}: a folder of images, or a list file"
                )
            continue
        files = _files(path, split, root, described[split])
        splits[split] = tuple(_image(file, path.parent, len(names), sources, digest) for file in files)
    return YoloData(class_names=names, splits=splits, fingerprint=digest.hexdigest())


def _summary(images: tuple[YoloImage, ...], names: tuple[str, ...]) -> SplitSummary:
    counts = np.bincount(np.concatenate([image.classes for image in images]), minlength=len(names))
    return SplitSummary(
        images=len(images),
        objects=dict(zip(names, counts.tolist(), strict=True)),
        classes_per_image=tuple(frozenset(image.classes.tolist()) for image in images),
        sources=len({image.source for image in images}),
    )


def _class_names(path: Path, described: dict[str, Any]) -> tuple[str, ...]:
    names = described.get("names")
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise UsageError(f"{path}: names: ids must run from 0 without a gap, got {sorted(names)}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UsageError(f"{path}: key 'names' is missing or empty", "names: [cell, cluster]")
    if len(set(map(str, names))) < len(names):
        raise UsageError(f"{path}: names: each class needs its own name, got {names}")
    if described.get("nc") not in (None, len(names)):
        raise UsageError(f"{path}: nc is {described['nc']}, but names has {len(names)} entries")
    return tuple(str(name) for name in names)


def _files(path: Path, split: str, root: Path, entries: Any) -> list[Path]:
    """The image files of one split, sorted."""
    files: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        place = (root / str(entry)).resolve()
        if place.is_dir():
            files += [file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES]
        elif place.is_file() and place.suffix == ".txt":
            files += _listed(place, root)
        else:
            raise UsageError(
                f"{path}: {split}: no such folder or list file: {place}",
                "paths are relative to `path:`, or to the file",
            )
    if not files:
        raise UsageError(
            f"{path}: {split}: no image in {entries}", f"image files end in {', '.join(sorted(SUFFIXES))}"
        )
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"{path}: {split}: {len(missing)} listed images do not exist, e.g. {missing[0]}")
    return sorted(files)


def _listed(list_file: Path, root: Path) -> list[Path]:
    """The images that a list file names: `./` is its own folder, other relative paths start at `root`."""
    lines = [line.strip() for line in list_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return [((list_file.parent if line.startswith("./") else root) / line).resolve() for line in lines]


def _read_manifest(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="") as stored:
        reader = csv.DictReader(stored)
        if not {"image", "source"} <= set(reader.fieldnames or ()):
            raise UsageError(f"{path}: columns image and source are needed, got {reader.fieldnames}")
        return {row["image"]: row["source"] for row in reader}


def _image(
    file: Path, base: Path, n_classes: int, sources: dict[str, str], digest: "hashlib._Hash"
) -> YoloImage:
    name = (
        file.relative_to(base.resolve()).as_posix()
        if file.is_relative_to(base.resolve())
        else file.as_posix()
    )
    label_file = _label_file(file)
    text = label_file.read_text(encoding="utf-8-sig") if label_file.is_file() else ""
    digest.update(f"{name}\n{file.stat().st_size}\n{text}\n".encode())
    classes, boxes = _parse(text, label_file, n_classes)
    source = sources.get(name) or sources.get(file.name) or file.stem
    return YoloImage(path=file, source=source, classes=classes, boxes=boxes)


def _label_file(file: Path) -> Path:
    """`a/images/b/c.jpg` -> `a/labels/b/c.txt`; the last folder called `images` counts."""
    parts = list(file.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, f"{file.stem}.txt")


def _parse(text: str, file: Path, n_classes: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    rows = {}  # a dict keeps the order, and drops a line that is there twice: two objects in one place
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            rows[line.strip()] = _parse_line(line, f"{file}, line {number}", n_classes)
    classes = np.array([row[0] for row in rows.values()], dtype=np.int64)
    boxes = np.array([row[1] for row in rows.values()], dtype=np.float32).reshape(-1, 4)
    return classes, boxes


def _parse_line(line: str, where: str, n_classes: int) -> tuple[int, tuple[float, ...]]:
    try:
        label, *numbers = [float(field) for field in line.split()]
    except ValueError as error:
        raise UsageError(f"{where}: numbers expected, got '{line.strip()}'") from error
    if label != int(label) or not 0 <= label < n_classes:
        raise UsageError(f"{where}: class {label:g} is none of 0..{n_classes - 1}")
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        x, y = numbers[0::2], numbers[1::2]
        numbers = [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]
    if len(numbers) != 4:
        raise UsageError(f"{where}: 'class x y w h' expected, got {len(numbers) + 1} numbers")
    if not all(-ROUNDING <= number <= 1 + ROUNDING for number in numbers) or min(numbers[2:]) <= 0:
        raise UsageError(f"{where}: coordinates are fractions in [0, 1], sizes above 0, got '{line.strip()}'")
    return int(label), tuple(numbers)

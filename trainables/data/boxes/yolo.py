"""Images with their boxes in YOLO's convention, and YOLO's own files: one text file of boxes per image.

The labels of `…/images/a.jpg` are in `…/labels/a.txt`; an image without that file, or with an empty one, is
background. Boxes are `class x y w h`, centre and size as fractions of the image; a polygon
(`class x1 y1 x2 y2 …`) stands for its bounding box. No torch, no Ultralytics: pixels are not read.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spaces.errors import UsageError
from trainables.data.source_names import SourceNames

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
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
    """A whole data set, whichever files it came in.

    Attributes:
        class_names: In class-id order.
        splits: `train`, `val` and, where there is one, `test`; each in the order of the images' paths.
        fingerprint: Hash of names, sizes, sources, classes and boxes, split by split.
        one_piece: Whether the data set came undivided, so that all its splits were cut here.
        test_from_val: Whether `test` was cut from `val` here.
        mended: What was left out of the annotations or changed in them -> how often.
    """

    class_names: tuple[str, ...]
    splits: dict[str, tuple[YoloImage, ...]]
    fingerprint: str
    one_piece: bool
    test_from_val: bool
    mended: dict[str, int]

    def most_objects(self) -> int:
        """Objects in the fullest image of all splits."""
        return max(len(image.classes) for images in self.splits.values() for image in images)


@lru_cache(maxsize=1 << 16)
def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as a decoder shows the image, i.e. after the EXIF rotation.

    Raises:
        UsageError: It is no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION) in EXIF_TRANSPOSED
            return (image.width, image.height) if turned else (image.height, image.width)
    except OSError as error:
        raise UsageError(f"{path}: no image that can be read: {error}") from error


def yolo_images(files: list[Path], n_classes: int, sources: SourceNames) -> list[YoloImage]:
    """Read the labels of images, given by absolute paths.

    Raises:
        UsageError: A label or a source is wrong.
    """
    return [_image(file, n_classes, sources) for file in files]


def image_files(path: Path, split: str, root: Path, entries: list[Any]) -> list[Path]:
    """The images of a split.

    Args:
        path: Of the data.yaml, for messages.
        split: Its name there.
        root: What its paths are relative to.
        entries: Folders, and list files (`.txt`, one image per line).

    Raises:
        UsageError: An entry or an image is not there.
    """
    files: list[Path] = []
    for entry in entries:
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
            f"{path}: {split}: no image in {', '.join(map(str, entries))}",
            f"image files end in {', '.join(sorted(SUFFIXES))}",
        )
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"{path}: {split}: {len(missing)} listed images do not exist, e.g. {missing[0]}")
    return files


def _listed(list_file: Path, root: Path) -> list[Path]:
    """The images that a list file names: `./` is its own folder, other relative paths start at `root`."""
    lines = [line.strip() for line in list_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return [((list_file.parent if line.startswith("./") else root) / line).resolve() for line in lines]


def _image(file: Path, n_classes: int, sources: SourceNames) -> YoloImage:
    label_file = _label_file(file)
    text = label_file.read_text(encoding="utf-8-sig", errors="replace") if label_file.is_file() else ""
    classes, boxes = _parse(text, label_file, n_classes)
    return YoloImage(path=file, source=sources.source(file), classes=classes, boxes=boxes)


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
    if label not in range(n_classes):
        raise UsageError(f"{where}: class {label:g} is none of 0..{n_classes - 1}")
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        x, y = numbers[0::2], numbers[1::2]
        numbers = [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]
    if len(numbers) != 4:
        raise UsageError(f"{where}: 'class x y w h' expected, got {len(numbers) + 1} numbers")
    if not all(-ROUNDING <= number <= 1 + ROUNDING for number in numbers) or min(numbers[2:]) <= 0:
        raise UsageError(f"{where}: coordinates are fractions in [0, 1], sizes above 0, got '{line.strip()}'")
    return int(label), tuple(numbers)

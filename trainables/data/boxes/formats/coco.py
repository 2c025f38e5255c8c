"""Read COCO instance files: `images`, `categories`, and `annotations` with `[x, y, width, height]` in pixels.

Ids may be sparse and start anywhere; categories in the order of their ids are the classes. What an object
detector cannot learn from is left out, and counted: crowd regions, boxes without an area, an annotation that
is there twice. A box that reaches over the edge is clipped to its image; that is counted too if it is by
more than a pixel. What contradicts itself is an error: an unknown image or category, a box outside its image,
an image of another size than the file says. Of an image that cannot be read the boxes say nothing.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import UsageError
from trainables.data.boxes.decoding import DECODED
from trainables.data.boxes.listed import BoxImage
from trainables.data.files import path_in
from trainables.data.probing import Eye, Look, look_at
from trainables.data.source_names import COLUMNS, SourceNames

PARTS = ("images", "annotations", "categories")
CROWD, EMPTY, REPEATED, CLIPPED = (
    "crowd regions left out",
    "boxes without an area left out",
    "repeated annotations left out",
    "boxes clipped to their image",
)

Corner = tuple[float, float, float, float]  # x, y, width, height; pixels
Size = tuple[int, int] | None  # height, width; pixels; None of an image that cannot be read
Labels = list[tuple[int, tuple[float, ...]]]  # category, and box as in `BoxImage`


@dataclass(frozen=True)
class CocoFile:
    """One file, its images and annotations still as they are in it.

    Attributes:
        path: Of the file.
        categories: Id -> name, in the order of the ids.
        images: Id -> entry.
        annotations: All entries.
    """

    path: Path
    categories: dict[int, str]
    images: dict[int | str, dict[str, Any]]
    annotations: list[dict[str, Any]]


def read_coco(path: Path) -> CocoFile:
    """Read a file, down to its images and categories.

    Raises:
        UsageError: It is no COCO instances file, or an id or a name is missing or there twice.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UsageError(f"{path}: no valid json: {error}") from error
    except RecursionError:
        raise UsageError(f"{path}: no valid json: it is nested too deeply") from None
    if not isinstance(stored, dict) or not all(_is_entries(stored.get(part)) for part in PARTS):
        got = ", ".join(stored) if isinstance(stored, dict) else type(stored).__name__
        raise UsageError(
            f"{path}: no COCO instances file: lists of {', '.join(PARTS)} are needed, got {got or 'nothing'}"
        )
    return CocoFile(
        path, _categories(path, stored["categories"]), _images(path, stored["images"]), stored["annotations"]
    )


def _is_entries(part: Any) -> bool:
    return isinstance(part, list) and all(isinstance(entry, dict) for entry in part)


def _categories(path: Path, entries: list[dict[str, Any]]) -> dict[int, str]:
    given = [(entry.get("id"), entry.get("name")) for entry in entries]
    named = {i: name for i, name in given if isinstance(i, int) and isinstance(name, str)}
    if not named or len(set(named.values())) < len(entries):
        raise UsageError(
            f"{path}: categories: each needs a whole number as its id and a name of its own, got {given}"
        )
    return {i: named[i] for i in sorted(named)}


def _images(path: Path, entries: list[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    images: dict[int | str, dict[str, Any]] = {}
    for i, entry in enumerate(entries):
        image_id = entry.get("id")
        if not isinstance(image_id, int | str) or not isinstance(entry.get("file_name"), str):
            raise UsageError(f"{path}: images, number {i}: id or file_name is missing, got {entry}")
        if images.setdefault(image_id, entry) is not entry:
            raise UsageError(f"{path}: images: id {image_id!r} is there twice")
    if not images:
        raise UsageError(f"{path}: images: the list is empty")
    return images


def coco_images(
    file: CocoFile, folder: Path, class_names: Sequence[str], sources: SourceNames, eye: Eye = DECODED
) -> tuple[list[BoxImage], Counter[str]]:
    """The images of a file with their boxes, and what was mended, counted.

    Args:
        file: As read.
        folder: What file names are relative to.
        class_names: In class-id order.
        sources: The data set's rules.
        eye: What looks at the images.

    Raises:
        UsageError: An image is not there or has another size; an annotation or a source is wrong.
    """
    paths = {
        image_id: Path(os.path.abspath(path_in(folder, entry["file_name"], f"{file.path}: file_name")))
        for image_id, entry in file.images.items()
    }
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise UsageError(
            f"{file.path}: {len(missing)} of {len(paths)} images do not exist, e.g. {missing[0]}",
            "file names are relative to `images:` of a data.yaml, else to the json",
        )
    looks = look_at(list(paths.values()), eye)
    labels, mended = _labels(
        file, {image_id: _size(file, image_id, path, looks[path]) for image_id, path in paths.items()}
    )
    class_of = {category: class_names.index(name) for category, name in file.categories.items()}
    images = [
        BoxImage(
            path=path,
            name=sources.name(path),
            source=sources.source(path, _stated_source(file.images[image_id])),
            classes=np.array([class_of[category] for category, _ in labels[image_id]], dtype=np.int64),
            boxes=np.array([box for _, box in labels[image_id]], dtype=np.float32).reshape(-1, 4),
            look=looks[path],
        )
        for image_id, path in paths.items()
    ]
    return images, mended


def _stated_source(entry: dict[str, Any]) -> str:
    stated = (entry.get(column) for column in COLUMNS)
    return next((str(value) for value in stated if value is not None), "")


def _size(file: CocoFile, image_id: int | str, path: Path, look: Look) -> Size:
    """Of the image itself; what the file says must not contradict it, or its boxes would not fit."""
    if look.problem:
        return None
    size = look.height, look.width
    entry = file.images[image_id]
    said = entry.get("height"), entry.get("width")
    if None not in said and said != size:
        raise UsageError(
            f"{file.path}: image id {image_id}: {path} has {size[1]} x {size[0]} pixels, "
            f"the file says {said[1]} x {said[0]}",
            "an image counts as it is shown, after its EXIF rotation",
        )
    return size


def _labels(file: CocoFile, sizes: dict[int | str, Size]) -> tuple[dict[int | str, Labels], Counter[str]]:
    """Image id -> its objects; and what was mended, counted."""
    labels: dict[int | str, Labels] = {image_id: [] for image_id in sizes}
    mended = Counter[str]()
    seen = set()
    for i, annotation in enumerate(file.annotations):
        where = f"{file.path}: annotation id {annotation.get('id', f'missing (number {i})')}"
        image_id = _reference(annotation, "image_id", labels, where)
        category = _reference(annotation, "category_id", file.categories, where)
        corner = _bbox(annotation, where)
        if annotation.get("iscrowd"):
            mended[CROWD] += 1
        elif 0 in corner[2:]:
            mended[EMPTY] += 1
        elif (image_id, category, corner) in seen:
            mended[REPEATED] += 1
        else:
            seen.add((image_id, category, corner))
            box, cut = _clipped(corner, sizes[image_id], where)
            mended[CLIPPED] += cut > 1
            labels[image_id].append((category, box))
    return labels, +mended  # without what was not needed


def _reference(annotation: dict[str, Any], key: str, known: Mapping[Any, Any], where: str) -> Any:
    found = annotation.get(key)
    if not isinstance(found, int | str) or found not in known:
        raise UsageError(f"{where}: no such {key}: {found!r}")
    return found


def _bbox(annotation: dict[str, Any], where: str) -> Corner:
    bbox = annotation.get("bbox")
    numbers = bbox if isinstance(bbox, list) else []
    finite = all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
    if not finite or len(numbers) != 4 or min(numbers[2:]) < 0:
        raise UsageError(f"{where}: bbox: [x, y, width, height] in pixels expected, got {bbox}")
    x, y, width, height = numbers
    return x, y, width, height


def _clipped(corner: Corner, size: Size, where: str) -> tuple[tuple[float, ...], float]:
    """A box as in `BoxImage`, and by how many pixels it reached over the edge."""
    if size is None:
        return (0.0, 0.0, 0.0, 0.0), 0.0
    x, y, width, height = corner
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, size[1]), min(y + height, size[0])
    if right <= left or bottom <= top:
        raise UsageError(
            f"{where}: bbox {list(corner)} lies outside its image, {size[1]} x {size[0]}",
            "a bbox is [x, y, width, height] in pixels",
        )
    box = (left + right) / 2 / size[1], (top + bottom) / 2 / size[0]
    sides = (right - left) / size[1], (bottom - top) / size[0]
    return box + sides, max(left - x, top - y, x + width - right, y + height - bottom)

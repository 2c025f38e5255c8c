"""Read YOLO's files: one text file of boxes per image.

The labels of `…/images/a.jpg` are in `…/labels/a.txt`; an image without that file, or with an empty one, is
background. Boxes are `class x y w h`, centre and size as fractions of the image; a polygon
(`class x1 y1 x2 y2 …`) stands for its bounding box. No torch, no Ultralytics.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.data.boxes.decoding import DECODED
from trainables.data.boxes.listed import BoxImage
from trainables.data.files import SUFFIXES, path_in
from trainables.data.probing import Eye, Look, look_at, unread
from trainables.data.source_names import SourceNames

ROUNDING = (
    0.01  # how far a coordinate may lie outside the image before it is an error, as a fraction of its side
)


def label_beside(file: Path) -> Path:
    """`a/images/b/c.jpg` -> `a/labels/b/c.txt`; the last folder called `images` counts."""
    parts = list(file.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, f"{file.stem}.txt")


def yolo_images(
    files: list[Path],
    n_classes: int,
    sources: SourceNames,
    *,
    eye: Eye = DECODED,
    label_of: Callable[[Path], Path] = label_beside,
) -> list[BoxImage]:
    """Read the labels of images.

    Args:
        files: Absolute paths of the images.
        n_classes: That there are.
        sources: The data set's rules.
        eye: What looks at the images.
        label_of: Image file -> where its labels are, if it has any.

    Raises:
        UsageError: A label or a source is wrong.
    """
    looks = look_at(files, eye)
    return [_image(file, label_of(file), n_classes, sources, looks[file]) for file in files]


def image_files(path: Path, split: str, root: Path, entries: list[Any]) -> tuple[list[Path], Counter[str]]:
    """The images of a split; and what is said of the pictures there that are not read, with their number.

    Args:
        path: Of the data.yaml, for messages.
        split: Its name there.
        root: What its paths are relative to.
        entries: Folders, and list files (`.txt`, one image per line).

    Raises:
        UsageError: An entry or an image is not there.
    """
    files: list[Path] = []
    others = Counter[str]()
    for entry in entries:
        place = _place(root, str(entry), f"{path}: {split}")
        if place.is_dir():
            found = list(place.rglob("*"))
            files += [file for file in found if file.suffix.lower() in SUFFIXES]
            others += unread(found)
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
    return files, others


def _place(root: Path, entry: str, where: str) -> Path:
    """Where an entry is; Roboflow writes `../train/images` for the folder `train/images` beside its file."""
    place = path_in(root, entry, where).resolve()
    beside = (root / entry.removeprefix("../")).resolve()
    return beside if not place.exists() and beside.exists() else place


def _listed(list_file: Path, root: Path) -> list[Path]:
    """The images that a list file names: `./` is its own folder, other relative paths start at `root`."""
    try:
        text = list_file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{list_file}: it is not UTF-8 at byte {error.start}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [
        path_in(list_file.parent if line.startswith("./") else root, line, str(list_file)).resolve()
        for line in lines
    ]


def _image(file: Path, label_file: Path, n_classes: int, sources: SourceNames, look: Look) -> BoxImage:
    classes, boxes = _parse(_text(label_file), label_file, n_classes)
    return BoxImage(
        path=file,
        name=sources.name(file),
        source=sources.source(file),
        classes=classes,
        boxes=boxes,
        look=look,
    )


def _text(label_file: Path) -> str:
    """Of a label file; of none, nothing."""
    if label_file.is_file():
        return label_file.read_text(encoding="utf-8-sig", errors="replace")
    if label_file.exists():  # a folder, or a pipe that would be waited for
        raise UsageError(f"{label_file}: not a file")
    return ""


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

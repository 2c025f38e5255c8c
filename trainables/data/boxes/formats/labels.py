"""The boxes in YOLO's label files, `class x y w h` a line; a polygon stands for its bounding box.

What was read is kept in `labels/` of the cache folder, and a file is read again only when its size or its
time of change is another: the text of eight million boxes takes a minute.
"""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.contract.node import cache_folder
from trainables.data.probing import locked, writing_to

VERSION = 1  # of what is kept
ROUNDING = (
    0.01  # how far a coordinate may lie outside the image before it is an error, as a fraction of its side
)
NONE = (-1, -1)  # in place of the state of a file that is not there

Ints = npt.NDArray[np.int64]


class Labels(NamedTuple):
    """Of one image: class ids (n,), and boxes (n, 4), centre and sides as fractions of the image."""

    classes: Ints
    boxes: npt.NDArray[np.float32]


State = tuple[int, int]  # of a file: size in bytes, time of change in ns
Kept = dict[str, tuple[State, Labels]]  # by the files' paths


def read_labels(files: Sequence[Path | str], n_classes: int) -> list[Labels]:
    """The labels of images.

    Args:
        files: Absolute paths; of a file that is not there, there are none.
        n_classes: That there are.

    Raises:
        UsageError: One is wrong, or cannot be opened.
        RunError: The cache folder cannot be written.
    """
    paths = [str(file) for file in files]
    if not paths:
        return []
    of_set = hashlib.sha256(repr((VERSION, n_classes, os.path.commonpath(paths))).encode()).hexdigest()[:32]
    place = cache_folder() / "labels" / f"{of_set}.npz"
    with writing_to(place.parent):
        place.parent.mkdir(exist_ok=True)
    states = {path: _state(path) for path in paths}
    with locked(place.with_suffix(".lock")):
        kept = _load(place)
        known = {path: kept[path] for path in states if path in kept and kept[path][0] == states[path]}
        new = {
            path: (state, parse(_text(Path(path)), path, n_classes))
            for path, state in states.items()
            if path not in known
        }
        if new:
            with writing_to(place.parent):
                _save(place, kept | new)
        known |= new
    return [known[path][1] for path in paths]


def _state(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NONE
    except OSError as error:
        raise UsageError(f"data: {error}") from error
    return found.st_size, found.st_mtime_ns


def _text(label_file: Path) -> str:
    """Of a label file; of none, nothing."""
    if label_file.is_file():
        return label_file.read_text(encoding="utf-8-sig", errors="replace")
    if label_file.exists():  # a folder, or a pipe that would be waited for
        raise UsageError(f"{label_file}: not a file")
    return ""


def _load(place: Path) -> Kept:
    """What is kept; nothing of a file that is damaged: all is read again."""
    try:
        with place.open("rb") as file, np.load(file) as stored:
            paths = stored["files"].tobytes().decode("utf-8", "surrogateescape").split("\0")
            states, counts, boxes = stored["states"].tolist(), stored["counts"], stored["boxes"]
            classes = stored["classes"].astype(np.int64)
    except (FileNotFoundError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return {}
    ends = np.cumsum(counts).tolist()
    kept = {}
    for path, (size, changed), end, count in zip(paths, states, ends, counts.tolist(), strict=True):
        rows = slice(end - count, end)
        kept[path] = ((size, changed), Labels(classes[rows], boxes[rows]))
    return kept


def _save(place: Path, kept: Kept) -> None:
    labels = [of for _, of in kept.values()]
    partial = place.with_suffix(".tmp")  # whoever writes has the lock
    with partial.open("wb") as stored:
        np.savez(
            stored,
            files=np.frombuffer("\0".join(kept).encode("utf-8", "surrogateescape"), dtype=np.uint8),
            states=np.array([state for state, _ in kept.values()], dtype=np.int64),  # (n_files, 2)
            counts=np.array([len(of.classes) for of in labels], dtype=np.int64),
            classes=np.concatenate([of.classes for of in labels]).astype(np.int32),
            boxes=np.concatenate([of.boxes for of in labels]),
        )
    os.replace(partial, place)


def parse(text: str, where: str, n_classes: int) -> Labels:
    """What a label file says.

    Args:
        text: Of the file.
        where: Its name, for messages.
        n_classes: That there are.

    Raises:
        UsageError: A line says something else.
    """
    lines = [line.strip() for line in text.splitlines()]
    # A line that is there twice is two objects in one place; a dict keeps the order.
    rows = [line.split() for line in dict.fromkeys(lines) if line]
    found = _five_numbers(rows, n_classes)
    if found is None:
        found = _by_line(lines, where, n_classes)
    return Labels(found[:, 0].astype(np.int64), found[:, 1:].astype(np.float32))


def _five_numbers(rows: list[list[str]], n_classes: int) -> npt.NDArray[np.float64] | None:
    """(n, 5) of rows that hold just that, and nothing wrong; else None."""
    if any(len(row) != 5 for row in rows):
        return None
    try:
        found = np.array([float(field) for row in rows for field in row], dtype=np.float64).reshape(-1, 5)
    except ValueError:
        return None
    label, numbers = found[:, 0], found[:, 1:]
    named = (label >= 0) & (label < n_classes) & (label == np.floor(label))
    inside = ((numbers >= -ROUNDING) & (numbers <= 1 + ROUNDING)).all()
    return found if named.all() and inside and (numbers[:, 2:] > 0).all() else None


def _by_line(lines: list[str], where: str, n_classes: int) -> npt.NDArray[np.float64]:
    """(n, 5) of lines, which may be polygons; what is wrong is said with its line."""
    rows: dict[str, tuple[float, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if line:
            rows[line] = _parse_line(line, f"{where}, line {number}", n_classes)
    return np.array(list(rows.values()), dtype=np.float64).reshape(-1, 5)


def _parse_line(line: str, where: str, n_classes: int) -> tuple[float, ...]:
    try:
        label, *numbers = [float(field) for field in line.split()]
    except ValueError as error:
        raise UsageError(f"{where}: numbers expected, got '{line}'") from error
    if label not in range(n_classes):
        raise UsageError(f"{where}: class {label:g} is none of 0..{n_classes - 1}")
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        x, y = numbers[0::2], numbers[1::2]
        numbers = [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]
    if len(numbers) != 4:
        raise UsageError(f"{where}: 'class x y w h' expected, got {len(numbers) + 1} numbers")
    if not all(-ROUNDING <= number <= 1 + ROUNDING for number in numbers) or min(numbers[2:]) <= 0:
        raise UsageError(f"{where}: coordinates are fractions in [0, 1], sizes above 0, got '{line}'")
    return (label, *numbers)

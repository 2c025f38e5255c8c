"""Read YOLO's files: one text file of boxes per image.

The labels of `…/images/a.jpg` are in `…/labels/a.txt`; an image without that file, or with an empty one, is
background. No torch, no Ultralytics.
"""

import os
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from spaces.errors import UsageError
from trainables.data.boxes.decoding import DECODED
from trainables.data.boxes.formats.labels import read_labels
from trainables.data.boxes.listed import BoxImage
from trainables.data.files import SUFFIXES, path_in
from trainables.data.probing import Eye, look_at, unread
from trainables.data.source_names import SourceNames

LabelOf = Callable[[Path], Path | str]  # image file -> where its labels are, if it has any


def label_beside(file: Path) -> str:
    """`a/images/b/c.jpg` -> `a/labels/b/c.txt`; the last folder called `images` counts."""
    folder, name = os.path.split(file)
    return f"{_labels_folder(folder)}{os.sep}{os.path.splitext(name)[0]}.txt"


@lru_cache(maxsize=1024)  # of folders: there are many files in each
def _labels_folder(folder: str) -> str:
    parts = folder.split(os.sep)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return os.sep.join(parts)


def yolo_images(
    files: list[Path],
    n_classes: int,
    sources: SourceNames,
    *,
    eye: Eye = DECODED,
    label_of: LabelOf = label_beside,
) -> list[BoxImage]:
    """Read the labels of images.

    Args:
        files: Absolute paths of the images.
        n_classes: That there are.
        sources: The data set's rules.
        eye: What looks at the images.
        label_of: Where an image's labels are.

    Raises:
        UsageError: A label or a source is wrong.
    """
    looks = look_at(files, eye)
    labels = read_labels([label_of(file) for file in files], n_classes)
    return [
        BoxImage(file, sources.name(file), sources.source(file), *of, look=looks[file])
        for file, of in zip(files, labels, strict=True)
    ]


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
        place = place_of_entry(root, str(entry), f"{path}: {split}")
        if place.is_dir():
            found = [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
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
    missing = [file for file in files if not os.path.isfile(file)]  # a pipe would be waited for
    if missing:
        raise UsageError(f"{path}: {split}: {len(missing)} listed images do not exist, e.g. {missing[0]}")
    return files, others


def place_of_entry(root: Path, entry: str, where: str) -> Path:
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

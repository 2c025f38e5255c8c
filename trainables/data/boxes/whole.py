"""Whole images that are to be cut into tiles: a data set like any other, but its images are large.

They are what a `data.yaml` or a COCO json lists, or the images of a folder:
- with `annotations`, a COCO json whose file names are relative to the folder;
- else a folder with a `data.yaml` that names splits is that data set;
- else its labels are YOLO's text files, where `yolo` looks for them, beside the images or in a folder
  `labels` beside or above them; its classes are the `names` of its `data.yaml`, or the
  lines of its `classes.txt`.

Only headers are looked at here, since cutting decodes each image anyway. Palettes and transparency are
converted and rotations applied, as for every detector. What would need a choice of ours is refused by name.
"""

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
from PIL import Image, ImageFile, __version__

from spaces.errors import UsageError
from trainables.data.boxes.data_set import files_read, read_described
from trainables.data.boxes.decoding import DECODED
from trainables.data.boxes.formats.described import class_names_in, description
from trainables.data.boxes.formats.yolo import LabelOf, label_beside
from trainables.data.boxes.listed import BoxData
from trainables.data.files import ALL, SPLITS, SUFFIXES, check_names
from trainables.data.probing import Eye, Look
from trainables.data.source_names import SourceNames

SLIDES = frozenset({".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".vms", ".vmu"})  # whole-slide formats
NAMES = "classes.txt"
ORIENTATION, UPRIGHT = 274, frozenset({None, 0, 1})  # EXIF
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})  # Pillow's modes of more than 8 bits
GREY = frozenset({"1", "L", "LA", "La"})


# What Pillow raises for a header that it cannot make out.
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error),
    ModuleNotFoundError,  # where Ultralytics is loaded, `Image.open` wants one more library for such a file
)


def load_whole(images: Path, annotations: Path | None = None, group_by: str | None = None) -> BoxData:
    """Read the boxes of whole images, and which split each of them is in.

    Args:
        images: A folder, a `data.yaml` or a COCO json.
        annotations: A COCO json, for a folder.
        group_by: A CSV (`image`, and `source` or `group`) or a pattern like `source_pattern`: what must be in
            one split. None for what lies beside the data, else each image by itself.

    Raises:
        UsageError: As `load_detection`; or an image has a kind that is refused, no image an object, a label
            file no image.
    """
    path, described, label_of = _described(images, annotations)
    if group_by is None:
        sources = SourceNames.read(_base(images, path), described.get("source_pattern"))
    else:
        sources = SourceNames.grouped(_base(images, path), group_by)
    data = read_described(path, described, sources, eye=HEADERS, label_of=label_of)
    check_names(data.class_names)
    listed = [image for images in data.splits.values() for image in images]
    if not any(len(image.classes) for image in listed):
        raise UsageError(
            f"{images}: none of {len(listed)} images has an object",
            "labels are looked for beside the images and in labels/; a COCO json is given by --annotations",
        )
    if unprintable := [image.path for image in listed if not _utf8(image.name)]:
        raise UsageError(f"{len(unprintable)} images have a name that is not UTF-8, e.g. {unprintable[0]!r}")
    return data


def whole_files_read(images: Path, annotations: Path | None = None) -> list[Path]:
    """All files that whole images are read from, as of `files_read`; arguments as of `load_whole`.

    Raises:
        UsageError: As `files_read`, or there is no data set.
    """
    path, described, label_of = _described(images, annotations)
    return files_read(path, described, base=_base(images, path).parent, label_of=label_of)


def _utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _base(images: Path, path: Path) -> Path:
    """What lies in the folder that names are relative to."""
    return images / NAMES if images.is_dir() else path


def _described(images: Path, annotations: Path | None) -> tuple[Path, dict[str, Any], LabelOf]:
    """The file that says it, what it says, and where the labels of an image are."""
    if not images.is_dir():
        if images.suffix.lower() not in {".yaml", ".yml", ".json"}:
            raise UsageError(
                f"{images}: no folder of images, data.yaml or COCO json"
                if images.exists()
                else f"no such file or folder: {images}"
            )
        if annotations is not None:
            raise UsageError(f"--annotations is for a folder of images, got {images}")
        return images, description(images), label_beside
    folder = images.resolve()
    _refuse_slides(folder)
    if annotations is not None:
        if annotations.suffix.lower() != ".json" or not annotations.is_file():
            raise UsageError(f"--annotations: no such COCO json: {annotations}")
        file = annotations.resolve()
        return file, {ALL: str(file), "images": str(folder)}, label_beside
    file = folder / "data.yaml"
    if file.is_file():
        described = description(file)
        if any(described.get(split) is not None for split in (*SPLITS, ALL)):
            return file, described, label_beside
    return _folder_of_labels(folder)


def _refuse_slides(folder: Path) -> None:
    slides = [file for file in folder.rglob("*") if file.suffix.lower() in SLIDES]
    if slides:
        raise _slide(slides[0], len(slides))


def _slide(file: Path, count: int = 1) -> UsageError:
    others = f" (one of {count})" if count > 1 else ""
    return UsageError(
        f"{file}{others}: whole-slide files are not read", "export the level you need as a TIFF of one page"
    )


def _folder_of_labels(folder: Path) -> tuple[Path, dict[str, Any], LabelOf]:
    files = [file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES]
    if not files:
        raise UsageError(f"{folder}: no image", f"image files end in {', '.join(sorted(SUFFIXES))}")

    def label_of(file: Path) -> Path:
        places = _label_places(file, folder)
        return next((place for place in places if place.exists()), places[0])

    _refuse_strays(files, folder)
    path, names = _names(folder)
    return path, {ALL: str(folder), "names": names}, label_of


def _label_places(file: Path, folder: Path) -> list[Path]:
    """Where the labels of an image in a folder may be, the surest place first."""
    name = f"{file.stem}.txt"
    above = folder / "labels" / file.parent.relative_to(folder) / name
    return [Path(label_beside(file)), file.parent / name, file.parent / "labels" / name, above]


def _names(folder: Path) -> tuple[Path, list[str]]:
    """The classes, and the file that says them."""
    file = folder / "data.yaml"
    if file.is_file():
        return file, list(class_names_in(file, description(file)))
    above = [folder.parent] if folder.name == "images" else []
    for place in [folder, folder / "labels", *above]:
        file = place / NAMES
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            # One class per line, counted from 0; a gap would shift all that follow, so only the end is cut.
            found = "\n".join(line.strip() for line in lines).rstrip("\n").split("\n")
            return file, list(class_names_in(file, {"names": found}))
    raise UsageError(
        f"{folder}: nothing says what its classes are called",
        f"a {NAMES} with a name per line, or a data.yaml with `names`; a COCO json goes to --annotations",
    )


def _refuse_strays(files: list[Path], folder: Path) -> None:
    """Refuse labels without an image: one of the two was renamed or is missing."""
    known = {place for file in files for place in _label_places(file, folder)}
    places = {place.parent for place in known if place.parent.is_relative_to(folder)}
    found = [file for place in places if place.is_dir() for file in place.glob("*.txt")]
    strays = sorted(file for file in found if file not in known and _is_label(file))
    if strays:
        raise UsageError(
            f"{strays[0]}: labels of no image; {len(strays)} of {len(found)} label files have none",
            "a label has the name of its image; remove what is not wanted",
        )


def _is_label(file: Path) -> bool:
    """Whether a text file begins as YOLO's labels do."""
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as stored:
        words = stored.readline(1000).split()
    try:
        return len([float(word) for word in words]) >= 5
    except ValueError:
        return False


def _see(path: Path) -> Look:
    """What the header says; what Pillow does not know, or is turned, is decoded, to be sure.

    Raises:
        UsageError: It is of a kind that is refused, or cannot be opened.
    """
    if path.suffix.lower() in SLIDES:
        raise _slide(path)
    try:
        with _header(path) as opened:
            _refuse(path, opened)
            size, grey = opened.size, opened.mode in GREY
            # A PNG's own `getexif` decodes all of it, in search of what may follow the pixels.
            known = Image.Image.getexif(opened).get(ORIENTATION) in UPRIGHT
    except BROKEN:  # for Pillow; OpenCV is asked instead
        known = False
    if known:
        return Look(size[1], size[0], grey=grey)
    look = DECODED.see(path)
    if look.deepest is not None:
        raise _deep(path)
    return look


HEADERS = Eye(_see, f"headers of whole images, Pillow {__version__}, OpenCV {cv2.__version__}")


def _refuse(path: Path, opened: ImageFile.ImageFile) -> None:
    if opened.mode in DEEP or ";16" in str(opened.tile):
        raise _deep(path)
    if opened.mode == "CMYK":
        raise UsageError(
            f"{path}: its colours are CMYK, which have no one meaning on a screen", "convert it to RGB"
        )
    pages = getattr(opened, "n_frames", 1)
    if pages > 1 and opened.format != "MPO":  # a photograph with its preview
        raise UsageError(f"{path}: it has {pages} pages or frames", "give each page a file of its own")


def _deep(path: Path) -> UsageError:
    return UsageError(
        f"{path}: its values have 16 bits or more, tiles have 8", "scale it to 8 bits so that white is white"
    )


_LIMIT = threading.Lock()


@contextmanager
def _header(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An opened image of any size: nothing is decoded, so there is nothing that Pillow's limit is for."""
    with path.open("rb") as stored:
        with _LIMIT:
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                opened = Image.open(stored)
            finally:
                Image.MAX_IMAGE_PIXELS = before
        with opened:
            yield opened

"""A detector's data set, from a `data.yaml` or a COCO json; every reader of splits gets them from here.

A `data.yaml` says `train`, `val` and, where there is one, `test`:
- in YOLO's layout a folder, a list file (`.txt`), or a list of those, with the classes in `names`;
- or COCO instance files (`.json`), the classes being their categories; file names are relative to the folder
  `images:` (one for all, or one per split), else to the json.
Paths are relative to `path:`, which is relative to the data.yaml. `all` instead of the splits, or a COCO json
itself as the data, is a set in one piece: 70, 15 and 15 % of its sources become train, val and test. Without
`test`, half of val's sources become it. `splitting` says how, `source_names` what a source is.
"""

import gc
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from spaces.errors import UsageError
from trainables.data.boxes.decoding import DECODED
from trainables.data.boxes.formats.coco import CocoFile, coco_images, read_coco
from trainables.data.boxes.formats.described import class_names_in, description, entries_in, root_of
from trainables.data.boxes.formats.yolo import (
    LabelOf,
    image_files,
    label_beside,
    place_of_entry,
    yolo_images,
)
from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.data.boxes.tiles import MANIFEST, OBJECTS, REQUEST, TRUTH, with_tiles
from trainables.data.files import path_in
from trainables.data.probing import (
    Eye,
    Listed,
    check_unreadable,
    content_fingerprint,
    depth_notes,
    left_out,
    repeated,
    scaled_fingerprint,
)
from trainables.data.source_names import SourceNames
from trainables.data.splitting import OneSource, divide, shared_sources
from trainables.data.summary import DataSummary, SplitSummary

Splits = dict[str, list[BoxImage]]
ORIENTATION, TURNED = 274, frozenset({5, 6, 7, 8})  # EXIF: height and width change places


def describe_detection(path: Path, pixel_max: int | None = None) -> DataSummary:
    """Count what a data set holds; arguments as of `load_detection`.

    Raises:
        UsageError: As `load_detection`.
    """
    return summary_of(load_detection(path, pixel_max))


def summary_of(data: BoxData) -> DataSummary:
    """Count what a data set holds, and which of its files are alike."""
    more_than_once, leaks = _repeated(data.splits)
    return DataSummary(
        class_names=data.class_names,
        splits={split: _summary(images, data.class_names) for split, images in data.splits.items()},
        fingerprint=content_fingerprint(
            data.fingerprint, (image.look for images in data.splits.values() for image in images)
        ),
        listed_as=data.fingerprint,
        one_piece=data.one_piece,
        test_from_val=data.test_from_val,
        shared_sources=shared_sources(
            {split: [image.source for image in images] for split, images in data.splits.items()}
        ),
        mended=data.mended | more_than_once,
        warnings=(*data.warnings, *leaks),
        listing={
            split: tuple((image.name, image.source) for image in images)
            for split, images in data.splits.items()
        },
        whole_images=data.whole_images(),
        whole_objects=data.whole_objects(),
        unit=data.unit,
        absent=data.absent("train"),
    )


@lru_cache(maxsize=1)
def detection_once(path: Path, pixel_max: int | None = None) -> BoxData:
    """`load_detection`, read once for all trials of a worker: they share one study's data.

    Of 100,000 images it makes a million objects that all stay; Python's collector would look at them again
    and again, then and ever after.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return load_detection(path, pixel_max)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def load_detection(path: Path, pixel_max: int | None = None) -> BoxData:
    """Read all boxes of a data set, with the source of each image, split by split.

    The same files give the same splits, on every machine. Splits and fingerprint depend on what is listed: an
    image that cannot be read is missing from its split.

    Args:
        path: A `data.yaml`, or a COCO json.
        pixel_max: The value of 16-bit images that is white; None if they lose their low byte.

    Raises:
        UsageError: A key, a file, an annotation or a source is missing or wrong, or too many images cannot be
            read.
    """
    described = description(path)
    sources = SourceNames.read(path, described.get("source_pattern"))
    return with_tiles(read_described(path, described, sources, pixel_max), path)


def read_described(
    path: Path,
    described: dict[str, Any],
    sources: SourceNames,
    pixel_max: int | None = None,
    *,
    eye: Eye = DECODED,
    label_of: LabelOf = label_beside,
) -> BoxData:
    """Read what a data.yaml says, or somebody in its place.

    Args:
        path: Of the file that says it; what it names is relative to its folder.
        described: Its keys.
        sources: The data set's rules.
        pixel_max: As of `load_detection`.
        eye: What looks at the images.
        label_of: As of `yolo_images`.

    Raises:
        UsageError: As `load_detection`.
    """
    entries = entries_in(path, described)
    if any(str(entry).endswith(".json") for listed in entries.values() for entry in listed):
        names, splits, mended = _read_coco_splits(path, described, entries, sources, eye)
    else:
        names, splits, mended = _read_yolo_splits(
            path,
            described,
            entries,
            lambda files, n_classes: yolo_images(files, n_classes, sources, eye=eye, label_of=label_of),
        )
    _check_listed_once(path, splits)
    splits = {
        split: sorted(images, key=lambda image: image.path.parts)
        for split, images in _named(splits, sources.base, pixel_max).items()
    }
    try:
        divided = divide(splits, lambda image: image.classes.tolist())
    except OneSource as error:
        raise UsageError(
            f"{path}: all images come from one {sources.unit}, {error}, so they cannot be split by "
            f"{sources.unit}"
        ) from None
    readable, problems = _readable(divided.splits)
    looks = [image.look for images in readable.values() for image in images]
    return BoxData(
        class_names=names,
        splits=readable,
        fingerprint=scaled_fingerprint(_fingerprint(names, divided.splits, sources), pixel_max),
        one_piece=divided.one_piece,
        test_from_val=divided.test_from_val,
        mended=dict(mended) | left_out(problems),
        warnings=depth_notes(looks, pixel_max),
        unit=sources.unit,
    )


def files_read(
    path: Path, described: dict[str, Any], *, base: Path | None = None, label_of: LabelOf = label_beside
) -> list[Path]:
    """All files that a data set is read from: those that list it, images, labels, and what lies beside.

    Args:
        path: As of `read_described`.
        described: Likewise.
        base: Folder with the manifest; None for that of `path`.
        label_of: As of `yolo_images`.

    Raises:
        UsageError: One that is named is not there or, if others are named in it, cannot be read.
    """
    root, folder = root_of(path, described), described.get("images")
    beside = path.parent if base is None else base
    found = [path, *(beside / name for name in (MANIFEST, OBJECTS, TRUTH, REQUEST))]
    for split, entries in entries_in(path, described).items():
        if str(entries[0]).endswith(".json"):
            for entry in entries:
                file = _coco_file(path, split, root, entry)
                place = file.path.parent if folder is None else _images_folder(path, split, root, folder)
                found += [file.path, *(place / image["file_name"] for image in file.images.values())]
        else:
            images, _ = image_files(path, split, root, entries)
            found += [place_of_entry(root, str(entry), f"{path}: {split}") for entry in entries]
            found += [*images, *(Path(label_of(image)) for image in images)]
    return [file for file in found if file.is_file()]


def _named(splits: Splits, base: Path, pixel_max: int | None) -> Splits:
    """Images named relative to the data file's folder, or if some are not below it, to what they share."""
    folders = {os.path.dirname(image.path) for images in splits.values() for image in images}
    inside = all(Path(folder).is_relative_to(base) for folder in folders)
    root = base if inside else Path(os.path.commonpath(folders))
    below = {folder: PurePath(folder).relative_to(root).as_posix() for folder in folders}

    def named(image: BoxImage) -> BoxImage:
        folder, file = os.path.split(image.path)
        name = file if below[folder] == "." else f"{below[folder]}/{file}"
        return replace(image, name=name, pixel_max=pixel_max)

    return {split: [named(image) for image in images] for split, images in splits.items()}


def _readable(splits: Splits) -> tuple[dict[str, tuple[BoxImage, ...]], dict[str, str]]:
    """The splits without the images that cannot be read, and why these cannot be."""
    listed = [image for images in splits.values() for image in images]
    problems = {image.name: image.look.problem for image in listed if image.look.problem}
    check_unreadable(problems, len(listed))
    return {
        split: tuple(image for image in images if not image.look.problem) for split, images in splits.items()
    }, problems


def _repeated(splits: dict[str, tuple[BoxImage, ...]]) -> tuple[dict[str, int], tuple[str, ...]]:
    listed = [(split, image) for split, images in splits.items() for image in images]
    return repeated(
        [Listed(split, image.name, image.path, telling=len(image.classes) > 0) for split, image in listed],
        {image.path: image.look for _, image in listed},
    )


def _read_yolo_splits(
    path: Path,
    described: dict[str, Any],
    entries: dict[str, list[Any]],
    read: Callable[[list[Path], int], list[BoxImage]],
) -> tuple[tuple[str, ...], Splits, Counter[str]]:
    names, root = class_names_in(path, described), root_of(path, described)
    splits: Splits = {}
    mended = Counter[str]()
    for split, listed in entries.items():
        files, others = image_files(path, split, root, listed)
        splits[split] = read(files, len(names))
        mended += others
    return names, splits, mended


def _read_coco_splits(
    path: Path, described: dict[str, Any], entries: dict[str, list[Any]], sources: SourceNames, eye: Eye
) -> tuple[tuple[str, ...], Splits, Counter[str]]:
    root, folder = root_of(path, described), described.get("images")
    files = {split: [_coco_file(path, split, root, entry) for entry in entries[split]] for split in entries}
    names = _category_names(path, described, [file for listed in files.values() for file in listed])
    splits: Splits = {split: [] for split in files}
    mended = Counter[str]()
    for split, listed in files.items():
        for file in listed:
            beside = file.path.parent
            place = beside if folder is None else _images_folder(path, split, root, folder)
            images, counted = coco_images(file, place, names, sources, eye)
            splits[split] += images
            mended += counted
    return names, splits, mended


def _coco_file(path: Path, split: str, root: Path, entry: Any) -> CocoFile:
    place = path_in(root, str(entry), f"{path}: {split}").resolve()
    if not place.is_file() or place.suffix != ".json":
        raise UsageError(
            f"{path}: {split}: no such COCO json: {place}",
            "paths are relative to `path:`, or to the file; all splits come in one format",
        )
    return read_coco(place)


def _category_names(path: Path, described: dict[str, Any], files: list[CocoFile]) -> tuple[str, ...]:
    """Of the first file; all others, and `names` if it is there, must agree."""
    first = files[0]
    names = tuple(first.categories.values())
    for file in files[1:]:
        if set(file.categories.values()) != set(names):
            raise UsageError(
                f"{file.path}: categories {', '.join(file.categories.values())}, but {first.path} has "
                f"{', '.join(names)}",
                "all splits need the same categories",
            )
    if described.get("names") is not None and class_names_in(path, described) != names:
        raise UsageError(
            f"{path}: names: {described['names']}, but {first.path} has categories {', '.join(names)}",
            "leave `names` out: the categories, in the order of their ids, are the classes",
        )
    return names


def _images_folder(path: Path, split: str, root: Path, said: Any) -> Path:
    """The folder that `images:` says."""
    folder = said.get(split) if isinstance(said, dict) else said
    place = None if folder is None else path_in(root, str(folder), f"{path}: images")
    if place is None or not place.is_dir():
        raise UsageError(
            f"{path}: images: no such folder for {split}: {folder}", "one folder, or one for each split"
        )
    return place


def _check_listed_once(path: Path, splits: Splits) -> None:
    places = defaultdict(list)
    real = lru_cache(os.path.realpath)  # of folders: there are many files in each
    for split, images in splits.items():
        for image in images:
            folder, name = os.path.split(image.path)
            linked = os.path.islink(image.path)
            place = os.path.realpath(image.path) if linked else os.path.join(real(folder), name)
            places[place].append(split)
    twice = [(file, listed) for file, listed in places.items() if len(listed) > 1]
    if twice:
        file, listed = twice[0]
        raise UsageError(
            f"{path}: {len(twice)} images are listed more than once, e.g. {file} in {' and '.join(listed)}",
            "an image belongs to one split; without a `test`, half of val's sources become it",
        )


def _fingerprint(names: tuple[str, ...], splits: Splits, sources: SourceNames) -> str:
    digest = hashlib.sha256(repr(names).encode())
    for split, images in splits.items():
        for image in images:
            size, objects = os.stat(image.path).st_size, len(image.classes)
            digest.update(repr((split, sources.name(image.path), size, image.source, objects)).encode())
            digest.update(image.classes.tobytes() + image.boxes.tobytes())
            if _was_mistaken(image):  # runs of before do not compare with runs of now
                digest.update(repr(image.size).encode())
    return digest.hexdigest()


def _was_mistaken(image: BoxImage) -> bool:
    """Whether 0.1.0 took the height of this TIFF for its width, and put all boxes in wrong places."""
    if image.path.suffix.lower() not in {".tif", ".tiff"} or image.look.height == image.look.width:
        return False
    try:
        with Image.open(image.path) as opened:
            return opened.getexif().get(ORIENTATION) in TURNED
    except (OSError, SyntaxError, ModuleNotFoundError):  # OpenCV alone reads it, and 0.1.0 did not take it
        return False


def _summary(images: tuple[BoxImage, ...], names: tuple[str, ...]) -> SplitSummary:
    held = [np.zeros(0, dtype=np.int64), *(image.classes for image in images)]
    counts = np.bincount(np.concatenate(held), minlength=len(names))
    return SplitSummary(
        images=len(images),
        objects=dict(zip(names, counts.tolist(), strict=True)),
        classes_per_image=tuple(frozenset(image.classes.tolist()) for image in images),
        sources=len({image.source for image in images}),
    )

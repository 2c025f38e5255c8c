"""A classifier's data set, from class folders or a CSV; every reader of splits gets them from here.

Classes are the labels in alphabetical order. A set in one piece is cut in 70, 15 and 15 % of its groups, a
missing test split is half of val's groups, as for a detector (`splitting`). A group is what images were cut
or photographed from; no group is in two splits. No image is decoded here: splits and fingerprint depend on
what is listed, and an image that turns out to be unreadable is then missing from its split.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from spaces.errors import UsageError
from trainables.data.files import ALL, SPLITS
from trainables.data.images.csv_list import read_image_csv
from trainables.data.images.decoding import Probed, probe
from trainables.data.images.folder import GROUPS, other_pictures, read_image_folder
from trainables.data.images.listed import ImageFile
from trainables.data.probing import (
    DARK,
    Listed,
    check_unreadable,
    content_fingerprint,
    depth_notes,
    left_out,
    repeated,
    scaled_fingerprint,
)
from trainables.data.splitting import Division, OneSource, divide, shared_sources
from trainables.data.summary import DataSummary, SplitSummary

Splits = dict[str, list[ImageFile]]


@dataclass(frozen=True)
class ClassificationData:
    """A whole data set, whichever files it came in.

    Attributes:
        source: The folder or CSV.
        class_names: In class-id order.
        splits: `train`, `val` and, where there is one, `test`; each in the order of the images' names.
        fingerprint: Hash of class names, and of every image's name, size in bytes, label and group, split by
            split. Pixels are not read for it.
        stamp: Hash of the same and of the times at which the files were changed.
        one_piece: Whether the data set came undivided, so that all its splits were cut here.
        test_from_val: Whether `test` was cut from `val` here.
    """

    source: Path
    class_names: tuple[str, ...]
    splits: dict[str, tuple[ImageFile, ...]]
    fingerprint: str
    stamp: str
    one_piece: bool
    test_from_val: bool

    def files(self) -> list[ImageFile]:
        """All images, split after split."""
        return [image for images in self.splits.values() for image in images]

    def without(self, names: Collection[str]) -> "ClassificationData":
        """The same data, its splits less some images.

        Raises:
            UsageError: A class has no training image left.
        """
        splits = {
            split: tuple(image for image in images if image.name not in names)
            for split, images in self.splits.items()
        }
        _check_trained(self.source, self.class_names, splits)
        return replace(self, splits=splits)


def describe_classification(path: Path, pixel_max: int | None = None) -> DataSummary:
    """Count what a data set holds; of most images only the header and the end are looked at.

    Args:
        path: As of `load_classification`.
        pixel_max: The value of 16-bit images that is white; None for 65535.

    Raises:
        UsageError: As `load_classification`, too many images are unreadable, or they have 16-bit colours and
            `pixel_max` is given.
    """
    listed = load_classification(path)
    probed = probe(listed.files())
    problems = probed.problems
    check_unreadable(problems, len(listed.files()))
    data = listed.without(problems)
    more_than_once, leaks = repeated(
        [Listed(split, image.name, image.path) for split, images in data.splits.items() for image in images],
        probed.looks,
    )
    counted = {}
    for split, images in data.splits.items():
        labels = [data.class_names.index(image.label) for image in images]
        objects = np.bincount(labels, minlength=len(data.class_names)).tolist()
        counted[split] = SplitSummary(
            images=len(labels),
            objects=dict(zip(data.class_names, objects, strict=True)),
            classes_per_image=tuple(frozenset({label}) for label in labels),
            sources=len({image.source for image in images}),
        )
    listed_as = scaled_fingerprint(data.fingerprint, pixel_max)
    grouped = any(image.source != image.name for image in data.files())
    return DataSummary(
        class_names=data.class_names,
        unit="group" if grouped else "source",
        splits=counted,
        fingerprint=content_fingerprint(listed_as, (probed.looks[image.path] for image in data.files())),
        listed_as=listed_as,
        one_piece=data.one_piece,
        test_from_val=data.test_from_val,
        mended=left_out(problems) | dict(other_pictures(path) if path.is_dir() else {}) | more_than_once,
        warnings=(*_depth_notes(data, probed, pixel_max), *leaks),
        listing={
            split: tuple((image.name, image.source) for image in images)
            for split, images in data.splits.items()
        },
    )


def _depth_notes(data: ClassificationData, probed: Probed, pixel_max: int | None) -> tuple[str, ...]:
    """As `probing.depth_notes`; of 16-bit colours the low bytes are lost, whatever is asked."""
    looks = {image.name: probed.looks[image.path] for image in data.files()}
    coloured = [name for name, look in looks.items() if look.deepest is not None and not look.grey]
    if coloured and pixel_max is not None:
        raise UsageError(
            f"pixel_max: for grey images, and {len(coloured)} of {len(looks)} have 16-bit colours, of which "
            f"only the high byte is read, e.g. {coloured[0]}",
            "convert them to 8 bits, so that their range is used",
        )
    if not coloured:
        return depth_notes(looks.values(), pixel_max)
    highest = max(looks[name].deepest or 0 for name in coloured)
    said = depth_notes([look for look in looks.values() if look.grey is not False], pixel_max)
    if highest >= DARK:
        return said
    return (
        *said,
        f"warning: {len(coloured)} of {len(looks)} images have 16-bit colours, and no value in them is above "
        f"{highest} of 65535: they are seen as (almost) black; convert them to 8 bits",
    )


@lru_cache(maxsize=1)
def load_once(path: Path) -> ClassificationData:
    """`load_classification`, read once for all trials of a worker: they share one study's data."""
    return load_classification(path)


def load_classification(path: Path) -> ClassificationData:
    """List all images of a data set, split by split.

    The same files give the same splits, on every machine.

    Args:
        path: A folder, or a CSV.

    Raises:
        UsageError: The files are not as `folder` or `csv_list` says, there is one class only, a class
            of val or test is not in train, or a group is in two splits.
    """
    images = read_image_folder(path) if path.is_dir() else read_image_csv(path)
    listed: Splits = defaultdict(list)
    for image in sorted(images, key=lambda image: image.name):
        listed[image.split].append(image)
    if ALL not in listed:
        _check_given(path, listed)
    divided = _divided(path, listed)
    splits = {split: tuple(divided.splits[split]) for split in SPLITS if split in divided.splits}
    names = tuple(sorted({image.label for image in images}))
    if len(names) < 2:
        raise UsageError(f"data: {path}: one class only, {names[0]}", "a classifier needs at least two")
    _check_trained(path, names, splits)
    fingerprint, stamp = _fingerprints(names, splits)
    return ClassificationData(
        source=path,
        class_names=names,
        splits=splits,
        fingerprint=fingerprint,
        stamp=stamp,
        one_piece=divided.one_piece,
        test_from_val=divided.test_from_val,
    )


def image_files_read(path: Path) -> list[Path]:
    """All files that a data set is read from: its images, and what lists or groups them; as of its readers.

    Raises:
        UsageError: The files are not as `folder` or `csv_list` says.
    """
    if not path.is_dir():
        return [path, *(image.path for image in read_image_csv(path))]
    groups = path / GROUPS
    return [*(image.path for image in read_image_folder(path)), *([groups] if groups.is_file() else [])]


def _check_given(path: Path, splits: Splits) -> None:
    """Splits that the data set comes with have images, and no group in two of them."""
    for split in ("train", "val"):
        if not splits.get(split):
            raise UsageError(f"data: {path}: no image in {split}")
    shared = shared_sources({split: [image.source for image in images] for split, images in splits.items()})
    if shared:
        group, where = next(iter(shared.items()))
        raise UsageError(
            f"data: {path}: {len(shared)} groups have images in more than one split, e.g. {group} in "
            f"{' and '.join(where)}",
            "what is measured on a group that was trained on flatters; without splits, they are cut by group",
        )


def _divided(path: Path, splits: Splits) -> Division[ImageFile]:
    ids = {
        label: i
        for i, label in enumerate(sorted({image.label for images in splits.values() for image in images}))
    }
    try:
        return divide(splits, lambda image: [ids[image.label]])
    except OneSource as error:
        raise UsageError(
            f"data: {path}: all images belong to one group, {error}, so they cannot be split"
        ) from None


def _check_trained(path: Path, names: tuple[str, ...], splits: Mapping[str, tuple[ImageFile, ...]]) -> None:
    trained = {image.label for image in splits["train"]}
    untrained = [name for name in names if name not in trained]
    if untrained:
        counts = {
            split: sum(image.label == untrained[0] for image in images) for split, images in splits.items()
        }
        told = ", ".join(f"{split} {count}" for split, count in counts.items())
        raise UsageError(
            f"data: {path}: class {untrained[0]} has no image in train (images: {told})",
            f"classes of train: {', '.join(sorted(trained))}",
        )


def _fingerprints(names: tuple[str, ...], splits: Mapping[str, tuple[ImageFile, ...]]) -> tuple[str, str]:
    """`fingerprint` and `stamp`."""
    listing, times = hashlib.sha256(repr(names).encode()), hashlib.sha256()
    for split, images in splits.items():
        for image in images:
            state = image.path.stat()
            listing.update(repr((split, image.name, state.st_size, image.label, image.source)).encode())
            times.update(repr(state.st_mtime_ns).encode())
    times.update(listing.digest())
    return listing.hexdigest(), times.hexdigest()

"""A detector's images, decoded, at the size of the training: mapped from the node's file, or made anew.

A training image is `fitted`: its longer side is `imgsz`, as Ultralytics loads it. An image that is measured
is `square`: padded, as its `predict` sees it. Each split lies in a file of its own that is made once per node
(`data.mapped`). Where that does not fit on the disk, or is not allowed to, images are decoded when they are
asked for; the pixels are the same. Names of one file (hard links) share one place.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from spaces.errors import RunError, UsageError
from trainables.contract.node import cache_folder, decoding_threads
from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.data.files import first_of_file
from trainables.data.mapped import made_once, make_room, reserve, room, save
from trainables.data.probing import TOLD_EVERY, changed_ns, told

VERSION = 2  # of how images are stored
PIXELS, PLACES = "pixels.u8", "places.npy"
GREY = 114  # of what is padded, as in Ultralytics
HELD_BYTES = 2**30  # of images that are none of the data set's, kept by one trial

Form = Literal["fitted", "square"]
Pixels = npt.NDArray[np.uint8]


def fitted_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of a training image of `size`: its longer side is `side`."""
    ratio = side / max(size)
    if ratio == 1:
        return size
    height, width = (min(math.ceil(length * ratio), side) for length in size)
    return height, width


def fitted(pixels: Pixels, side: int) -> Pixels:
    """(height, width, 3), the longer side as long as `side`, as Ultralytics loads an image."""
    return _resized(pixels, fitted_size((pixels.shape[0], pixels.shape[1]), side))


def square(pixels: Pixels, side: int) -> Pixels:
    """(side, side, 3): resized and padded as Ultralytics' `LetterBox` does."""
    return _padded(_resized(pixels, _unpadded((pixels.shape[0], pixels.shape[1]), side)), side)


def _unpadded(size: tuple[int, int], side: int) -> tuple[int, int]:
    ratio = min(side / size[0], side / size[1])
    return max(round(size[0] * ratio), 1), max(round(size[1] * ratio), 1)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _padded(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if height == width == side:
        return pixels
    below, beside = (side - height) / 2, (side - width) / 2
    whole = np.full((side, side, 3), GREY, dtype=np.uint8)
    top, left = round(below - 0.1), round(beside - 0.1)
    whole[top : top + height, left : left + width] = pixels
    return whole


class Tiles:
    """The images of a split at one size.

    Attributes:
        mapped: Whether they lie in the node's file; else each is decoded when it is asked for.

    Args:
        images: All of the split's.
        form: How they are wanted.
        side: `imgsz`, pixels.

    Raises:
        UsageError: An image cannot be decoded any more, or the cache's limit is none.
        RunError: The cache folder cannot be written.
    """

    def __init__(self, images: Sequence[BoxImage], form: Form, side: int) -> None:
        self.form, self.side = form, side
        self._place: dict[Path, int] = {}
        self._held: dict[Path, Pixels] = {}
        self._file = _stored(images, form, side)
        self.mapped = self._file is not None
        if self._file is not None:
            places = np.load(self._file.with_name(PLACES)).tolist()
            self._place = {image.path: place for image, place in zip(images, places, strict=True)}
        self._open()

    def _open(self) -> None:
        self._bytes = None if self._file is None else np.memmap(self._file, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict[str, Any]:
        """Without the pixels: another process maps the file itself."""
        return {**self.__dict__, "_bytes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def hold(self, images: Sequence[BoxImage]) -> None:
        """Keep images that are none of the split's in memory, up to `HELD_BYTES`."""
        size = 0
        for image in images:
            size += _n_bytes(image, self.form, self.side)
            if size > HELD_BYTES:
                return
            self._held[image.path] = self._made(image)

    def __call__(self, image: BoxImage) -> Pixels:
        """(height, width, 3) BGR; not to be written to.

        Raises:
            UsageError: It cannot be decoded.
        """
        place = self._place.get(image.path)
        if place is None:
            held = self._held.get(image.path)
            return self._made(image) if held is None else held
        assert self._bytes is not None
        shape = (*_size(image, self.form, self.side), 3)
        return self._bytes[place : place + math.prod(shape)].reshape(shape)

    def squared(self, image: BoxImage) -> Pixels:
        """(side, side, 3) BGR of an image in either form."""
        if self.form == "square":
            return self(image)
        if _unpadded(image.size, self.side) == fitted_size(image.size, self.side):
            return _padded(self(image), self.side)
        return square(image.pixels(), self.side)  # its sides are rounded in another way

    def _made(self, image: BoxImage) -> Pixels:
        return _made(image, self.form, self.side)


def tiles_of(data: BoxData, split: str, side: int) -> Tiles:
    """The images of one split; those of `train` serve for measuring, too. Arguments as of `Tiles`."""
    return Tiles(data.splits[split], "fitted" if split == "train" else "square", side)


def make_ready(data: BoxData, splits: Sequence[str], side: int) -> list[str]:
    """Fill this node's files, for trials to find them there; arguments and errors as of `Tiles`.

    Returns:
        Which splits have no room, in sentences.
    """
    told = []
    for split in splits:
        tiles = tiles_of(data, split, side)
        if not tiles.mapped:
            size = needed(data.splits[split], tiles.form, side)
            told.append(
                f"decoded, the images of {split} take {size / 2**30:.1f} GiB, and the cache has room for "
                f"{room() / 2**30:.1f} GiB: each is decoded whenever it is drawn, which takes longer"
            )
    return told


def needed(images: Sequence[BoxImage], form: Form, side: int) -> int:
    """Bytes that the file of a split takes."""
    first = first_of_file([image.path for image in images])
    return sum(_n_bytes(images[i], form, side) for i in sorted(set(first)))


def _made(image: BoxImage, form: Form, side: int) -> Pixels:
    made = (fitted if form == "fitted" else square)(image.pixels(), side)
    if made.shape[:2] != _size(image, form, side):
        raise UsageError(f"{image.path}: it has changed while it was used")
    return made


def _size(image: BoxImage, form: Form, side: int) -> tuple[int, int]:
    return fitted_size(image.size, side) if form == "fitted" else (side, side)


def _n_bytes(image: BoxImage, form: Form, side: int) -> int:
    return 3 * math.prod(_size(image, form, side))


def _stored(images: Sequence[BoxImage], form: Form, side: int) -> Path | None:
    """The node's file of them, filled now unless it is there; None if there is no room for it."""
    if not images:
        return None
    folder = cache_folder() / "pixels" / _key(images, form, side)
    if not folder.is_dir() and (size := needed(images, form, side)) > make_room(size):
        return None
    try:
        made_once(folder, lambda partial: _fill(partial, images, form, side))
    except _NoRoom:
        return None
    return folder / PIXELS


class _NoRoom(Exception):
    """Others have taken it."""


def _key(images: Sequence[BoxImage], form: Form, side: int) -> str:
    digest = hashlib.sha256(repr((VERSION, cv2.__version__, form, side, images[0].pixel_max)).encode())
    for image in images:
        # A look's digest is of a part of the content.
        digest.update(repr((image.look.digest, changed_ns(image.path), image.size)).encode())
    return digest.hexdigest()[:32]


def _fill(partial: Path, images: Sequence[BoxImage], form: Form, side: int) -> None:
    first = first_of_file([image.path for image in images])
    different = sorted(set(first))
    sizes = [_n_bytes(images[i], form, side) for i in different]
    starts = np.concatenate([[0], np.cumsum(sizes)])  # (n_different + 1,)
    place_of = dict(zip(different, starts.tolist(), strict=False))
    total = int(starts[-1])
    if total > room():
        raise _NoRoom
    try:
        reserve(partial / PIXELS, total)
    except OSError as error:
        raise _NoRoom from error
    save(partial / PLACES, np.array([place_of[i] for i in first], dtype=np.int64))
    with (partial / PIXELS).open("r+b") as out:

        def put(i: int) -> None:
            pixels = np.ascontiguousarray(_made(images[i], form, side))
            if os.pwrite(out.fileno(), pixels.data, place_of[i]) != pixels.nbytes:
                raise RunError(f"{partial}: cannot be written", "make room")

        with ThreadPoolExecutor(decoding_threads()) as pool:
            for done, _ in enumerate(pool.map(put, different), start=1):
                if done % TOLD_EVERY == 0:
                    told(done, len(different))
        os.fsync(out.fileno())  # before the folder gets its name

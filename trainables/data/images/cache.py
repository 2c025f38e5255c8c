"""Decoded images of a data set, once per node: a file of bytes that all its trials map read-only.

It lies in `images/` of the cache folder, as `data.mapped` says. The first trial that needs it makes it, the
others wait.
"""

import errno
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.contract.node import cache_folder, decoding_threads
from trainables.data.images.data_set import ClassificationData
from trainables.data.images.decoding import Unreadable, decode, probe
from trainables.data.images.listed import ImageFile
from trainables.data.mapped import LIMIT, made_once, make_room, reserve, room, save
from trainables.data.probing import TOLD_EVERY, check_unreadable, told

VERSION = 2  # of how images are decoded and stored
PIXELS, READABLE = "pixels.npy", "readable.npy"


@dataclass(frozen=True)
class StoredPixels:
    """A data set's images, decoded.

    Attributes:
        pixels: (n, side, side) grey or (n, side, side, 3) RGB, mapped read-only; readable images only.
        readable: (n_files,) which of the data set's files they are, in the order of `data.files()`.
    """

    pixels: npt.NDArray[np.uint8]
    readable: npt.NDArray[np.bool_]


def stored_pixels(data: ClassificationData, side: int, pixel_max: int | None = None) -> StoredPixels:
    """The images of `data` at `side` x `side`, decoded now unless this node has them.

    Args:
        data: The data set.
        side: Pixels.
        pixel_max: As of `decoding.decode`.

    Raises:
        UsageError: Too many images are unreadable, or there is no room for them.
    """
    key = hashlib.sha256(repr((VERSION, str(data.source), data.stamp, side, pixel_max)).encode()).hexdigest()[
        :32
    ]
    folder = cache_folder() / "images" / key
    made_once(folder, lambda partial: _make(partial, data.files(), side, pixel_max))
    readable = np.load(folder / READABLE)
    pixels = np.load(folder / PIXELS, mmap_mode="r")[: readable.sum()]
    return StoredPixels(pixels.view(np.ndarray), readable)


def _make(partial: Path, files: list[ImageFile], side: int, pixel_max: int | None) -> None:
    channels = 1 if probe(files).grey else 3
    shape = (len(files), side, side) if channels == 1 else (len(files), side, side, 3)
    pixels = _reserved(partial / PIXELS, shape)
    problems = _decode_all(files, pixels, channels, pixel_max)
    check_unreadable(problems, len(files))
    readable = np.array([image.name not in problems for image in files])
    for new, old in enumerate(np.flatnonzero(readable)):
        if new != old:
            pixels[new] = pixels[old]
    pixels.flush()  # to the disk, before the folder gets its name
    save(partial / READABLE, readable)


def _reserved(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """A new array file with its room on the disk, which otherwise may run out in the middle of a write."""
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    try:
        if pixels.nbytes > make_room(pixels.nbytes):
            raise OSError(errno.ENOSPC, f"there is {room() / 2**30:.1f} GiB, within {LIMIT} where it is set")
        reserve(path, path.stat().st_size)
    except OSError as error:
        raise UsageError(
            f"no room for {pixels.nbytes / 2**30:.1f} GiB of decoded images in {path.parent}: {error}",
            "set RARECALL_CACHE to a folder on a larger disk",
        ) from error
    return pixels


def _decode_all(
    files: list[ImageFile], pixels: npt.NDArray[np.uint8], channels: int, pixel_max: int | None
) -> dict[str, str]:
    """Fill `pixels`; returns which images are unreadable, and why."""
    problems = {}

    def fill(i: int) -> None:
        try:
            pixels[i] = decode(files[i].path, pixels.shape[1], channels, pixel_max)
        except Unreadable as error:
            problems[files[i].name] = str(error)

    with ThreadPoolExecutor(decoding_threads()) as pool:
        for done, _ in enumerate(pool.map(fill, range(len(files))), start=1):  # raises what `fill` raised
            if done % TOLD_EVERY == 0:
                told(done, len(files))
    return problems

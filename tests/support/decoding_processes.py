"""Processes that decode a data set's images, for tests: what `spawn` starts is imported by name."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np

from trainables.data.images import cache as image_cache
from trainables.data.images.cache import stored_pixels
from trainables.data.images.data_set import ClassificationData
from trainables.data.images.decoding import decode

SIDE = 12


def decoded(data: ClassificationData, channels: int = 3) -> np.ndarray:
    return np.stack([decode(image.path, SIDE, channels) for image in data.files()])


def count_and_store(
    data: ClassificationData, log: Path, start: "multiprocessing.synchronize.Barrier"
) -> None:
    """In a process of its own: note every image that it decodes."""

    def counted(path: Path, side: int, channels: int, pixel_max: int | None) -> np.ndarray:
        with log.open("a") as lines:
            lines.write(f"{os.getpid()} {path}\n")
        return decode(path, side, channels, pixel_max)

    image_cache.decode = counted  # type: ignore[assignment]
    start.wait()
    np.testing.assert_array_equal(stored_pixels(data, SIDE).pixels, decoded(data))


def store_and_die(data: ClassificationData) -> None:
    """In a process of its own: be killed in the middle of decoding."""

    def deadly(path: Path, side: int, channels: int, pixel_max: int | None) -> np.ndarray:
        if path.name == "004.jpg":
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(path, side, channels, pixel_max)

    image_cache.decode = deadly  # type: ignore[assignment]
    stored_pixels(data, SIDE)

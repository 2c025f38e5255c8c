"""The pictures of a classification data set at one size, split by split. No torch."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainables.data.images.cache import stored_pixels
from trainables.data.images.data_set import load_once
from trainables.data.images.listed import LabelledImages


@dataclass(frozen=True)
class ImageData:
    """A data set as a trial sees it.

    Attributes:
        splits: Split -> its images, all grey or all RGB.
        class_names: In class-id order.
        unreadable: Images left out, as they cannot be decoded.
    """

    splits: dict[str, LabelledImages]
    class_names: tuple[str, ...]
    unreadable: int

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.splits["train"].images.ndim == 3 else 3


def load_files(path: Path, side: int, pixel_max: int | None = None) -> ImageData:
    """The images of a folder or a CSV, resized to `side` x `side`; `pixel_max` as of `decoding.decode`.

    Raises:
        UsageError: As `data_set.load_classification` and `cache.stored_pixels`.
    """
    listed = load_once(path)
    stored = stored_pixels(listed, side, pixel_max)
    files = listed.files()
    data = listed.without({files[i].name for i in np.flatnonzero(~stored.readable)})
    class_ids = {name: i for i, name in enumerate(data.class_names)}
    splits, first = {}, 0
    for split, images in data.splits.items():
        splits[split] = LabelledImages(
            images=stored.pixels[first : first + len(images)],
            labels=np.array([class_ids[image.label] for image in images], dtype=np.int64),
            ids=np.array([image.name for image in images], dtype=np.str_),
            sources=np.array([image.source for image in images], dtype=np.str_),
            weight=np.ones(len(images)),
        )
        first += len(images)
    return ImageData(splits, data.class_names, unreadable=len(files) - len(data.files()))


def resized(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """(n, h, w) to (n, side, side)."""
    height, width = images.shape[1:]
    if height == width == side:
        return images
    # Area averaging keeps thin strokes when shrinking; it is no interpolation, so not for enlarging.
    how = cv2.INTER_AREA if side < max(height, width) else cv2.INTER_LINEAR
    return np.stack([cv2.resize(image, (side, side), interpolation=how) for image in images])

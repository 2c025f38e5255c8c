"""An image of a detector's data set with its boxes, and all of them, whichever files they came in.

No torch, no Ultralytics: pixels are not read.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from spaces.errors import UsageError

EXIF_ORIENTATION, EXIF_TRANSPOSED = 274, frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class BoxImage:
    """One image and its true objects.

    Attributes:
        path: Absolute path of the image file.
        source: The slide or photograph that it was cut from.
        classes: (n,) class ids.
        boxes: (n, 4) centre x, centre y, width, height; fractions of the image.
    """

    path: Path
    source: str
    classes: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]


@dataclass(frozen=True)
class BoxData:
    """A whole data set.

    Attributes:
        class_names: In class-id order.
        splits: `train`, `val` and, where there is one, `test`; each in the order of the images' paths.
        fingerprint: Hash of names, sizes, sources, classes and boxes, split by split.
        one_piece: Whether the data set came undivided, so that all its splits were cut here.
        test_from_val: Whether `test` was cut from `val` here.
        mended: What was left out of the annotations or changed in them -> how often.
    """

    class_names: tuple[str, ...]
    splits: dict[str, tuple[BoxImage, ...]]
    fingerprint: str
    one_piece: bool
    test_from_val: bool
    mended: dict[str, int]

    def most_objects(self) -> int:
        """Objects in the fullest image of all splits."""
        return max(len(image.classes) for images in self.splits.values() for image in images)


@lru_cache(maxsize=1 << 16)
def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as a decoder shows the image, i.e. after the EXIF rotation.

    Raises:
        UsageError: It is no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION) in EXIF_TRANSPOSED
            return (image.width, image.height) if turned else (image.height, image.width)
    except OSError as error:
        raise UsageError(f"{path}: no image that can be read: {error}") from error

"""An image of a detector's data set with its boxes, and all of them, whichever files they came in.

No torch, no Ultralytics.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.data.boxes.decoding import read_pixels
from trainables.data.probing import Look


@dataclass(frozen=True)
class BoxImage:
    """One image and its true objects.

    Attributes:
        path: Absolute path of the image file.
        name: Path relative to the data set, with `/`; in predictions and messages.
        source: The slide or photograph that it was cut from.
        classes: (n,) class ids.
        boxes: (n, 4) centre x, centre y, width, height; fractions of the image.
        look: What a look at the file said.
        pixel_max: The 16-bit value that is white; None if they lose their low byte.
    """

    path: Path
    name: str
    source: str
    classes: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    look: Look
    pixel_max: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels as `pixels` has them, i.e. after the EXIF rotation."""
        return self.look.height, self.look.width

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(height, width, 3) BGR.

        Raises:
            UsageError: The file holds no image that can be read.
        """
        pixels = read_pixels(self.path, self.pixel_max)
        if pixels is None:
            raise UsageError(f"{self.path}: no image that can be read")
        return pixels


@dataclass(frozen=True)
class BoxData:
    """A whole data set.

    Attributes:
        class_names: In class-id order.
        splits: `train`, `val` and, where there is one, `test`; each in the order of the images' paths.
        fingerprint: Hash of names, sizes, sources, classes and boxes, split by split.
        one_piece: Whether the data set came undivided, so that all its splits were cut here.
        test_from_val: Whether `test` was cut from `val` here.
        mended: What was left out or changed in images and annotations -> how often.
        warnings: Sentences on what the images are.
    """

    class_names: tuple[str, ...]
    splits: dict[str, tuple[BoxImage, ...]]
    fingerprint: str
    one_piece: bool
    test_from_val: bool
    mended: dict[str, int]
    warnings: tuple[str, ...] = ()

    def most_objects(self) -> int:
        """Objects in the fullest image of all splits."""
        return max(len(image.classes) for images in self.splits.values() for image in images)

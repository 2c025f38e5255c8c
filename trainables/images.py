"""The pictures of a classification data set, read into memory. NumPy and OpenCV, no torch."""

import cv2
import numpy as np
import numpy.typing as npt

from trainables.demo import digits
from trainables.demo.digits import LabelledImages


def load_images(source: str, side: int) -> tuple[dict[str, LabelledImages], tuple[str, ...]]:
    """Splits and class names of `source`, images resized to `side`."""
    assert source == "demo:digits", source  # `sources.describe` has refused all others
    splits = {
        name: LabelledImages(resized(data.images, side), data.labels, data.ids, data.weight)
        for name, data in digits.load().items()
    }
    return splits, digits.CLASS_NAMES


def resized(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """(n, h, w) to (n, side, side)."""
    height, width = images.shape[1:]
    if height == width == side:
        return images
    # Area averaging keeps thin strokes when shrinking; it is no interpolation, so not for enlarging.
    how = cv2.INTER_AREA if side < max(height, width) else cv2.INTER_LINEAR
    return np.stack([cv2.resize(image, (side, side), interpolation=how) for image in images])

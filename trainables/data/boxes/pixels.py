"""An image file as bytes of blue, green and red, as Ultralytics reads it. OpenCV and NumPy alone.

The EXIF rotation is applied and transparency dropped; of a TIFF with several pages the first counts. 16-bit
values lose their low byte, unless `pixel_max` says which of them is white; then they are not what a plain
`predict` would see.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

TIFF = (".tif", ".tiff")


def read_pixels(path: Path, pixel_max: int | None = None) -> npt.NDArray[np.uint8] | None:
    """(height, width, 3) BGR, or None if the file holds no image that can be read.

    Args:
        path: Of the file.
        pixel_max: The 16-bit value that is white; None keeps the high byte.

    Raises:
        OSError: The file cannot be opened.
    """
    pixels = decoded(path)
    return None if pixels is None else _eight_bit(pixels, pixel_max)


def decoded(path: Path) -> npt.NDArray[Any] | None:
    """(height, width, 3) BGR, uint8 or uint16; None and `OSError` as of `read_pixels`."""
    content = np.fromfile(path, np.uint8)
    if not content.size:
        return None
    try:
        pixels = _first_page(content) if path.name.lower().endswith(TIFF) else None
        if pixels is None:
            pixels = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # e.g. more pixels than it takes
        return None
    return pixels if pixels is not None and pixels.dtype in (np.uint8, np.uint16) else None


def _first_page(content: npt.NDArray[np.uint8]) -> npt.NDArray[Any] | None:
    """The first page of a colour TIFF, which keeps more bands than three only so."""
    found, pages = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)
    page: npt.NDArray[Any] | None = pages[0][..., :3] if found and pages[0].ndim == 3 else None
    return page


def _eight_bit(pixels: npt.NDArray[Any], pixel_max: int | None) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixel_max is None:
        return (pixels >> 8).astype(np.uint8)
    scaled = np.minimum(pixels, pixel_max) * (255 / pixel_max)
    return np.asarray(np.rint(scaled), dtype=np.uint8)

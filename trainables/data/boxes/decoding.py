"""A detector's images: BGR arrays of bytes, as Ultralytics reads them, so that its `predict` sees the same.

`pixels` reads a file; what cannot be read is said here. Of a TIFF that is too large to be decoded at once,
`bands` gives a few rows at a time, with the same pixels, where `tifffile` is installed.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.data.boxes import pixels
from trainables.data.probing import Eye, Look

LARGE = 2**28  # bytes of pixels; what has more is not decoded at once where there is a choice
GREY, COLOUR, YCBCR = 1, 2, 6  # a TIFF's photometric interpretations that need no choice of ours

# What cannot be read is told by name and number; OpenCV would print lines of its source for each such file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_pixels(path: Path, pixel_max: int | None = None) -> npt.NDArray[np.uint8] | None:
    """(height, width, 3) BGR, or None if the file holds no image that can be read.

    Args:
        path: Of the file.
        pixel_max: The 16-bit value that is white; None keeps the high byte.

    Raises:
        UsageError: The file cannot be opened.
    """
    with _opened():
        return pixels.read_pixels(path, pixel_max)


def _see(path: Path) -> Look:
    """Decode an image to see what it is.

    Raises:
        UsageError: The file cannot be opened.
    """
    with _opened():
        seen = pixels.decoded(path)
    if seen is None:
        return Look(problem="it is cut off, damaged, or no image that OpenCV decodes to 8 or 16 bits")
    height, width = seen.shape[:2]
    deepest = int(seen.max()) if seen.dtype == np.uint16 else None
    return Look(height, width, deepest=deepest)


DECODED = Eye(_see, f"boxes, OpenCV {cv2.__version__}")


class Unreadable(Exception):
    """The file holds no image that can be decoded, or another one than its header says."""


def bands(
    path: Path, size: tuple[int, int], rows: Sequence[tuple[int, int]], pixel_max: int | None = None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Some rows of an image after the other, (bottom - top, width, 3) BGR.

    Args:
        path: Of the file.
        size: Its (height, width), as its header says.
        rows: [top, bottom) of each band, from above to below.
        pixel_max: As of `read_pixels`.

    Raises:
        Unreadable: It cannot be decoded.
        UsageError: The file cannot be opened.
    """
    if 3 * size[0] * size[1] > LARGE and path.name.lower().endswith(pixels.TIFF):
        with _page_in_parts(path) as page:
            if page is not None:
                yield from _bands_of(page, size, rows)
                return
    whole = read_pixels(path, pixel_max)
    if whole is None:
        raise Unreadable("it is cut off, damaged, or no image that OpenCV decodes")
    if whole.shape[:2] != size:
        height, width = whole.shape[:2]
        raise Unreadable(f"it has {width} x {height} pixels, its header says {size[1]} x {size[0]}")
    for top, bottom in rows:
        yield whole[top:bottom]


@contextmanager
def _page_in_parts(path: Path) -> Iterator[Any]:
    """The page of a TIFF if it is stored in strips or tiles that can be read alone, else None."""
    try:
        import tifffile  # noqa: PLC0415  (the extra `tiff`)
    except ModuleNotFoundError:
        yield None
        return
    with ExitStack() as opened:
        try:
            page = opened.enter_context(tifffile.TiffFile(path)).pages[0]
            page.decode  # noqa: B018  (made when first asked for; it fails where imagecodecs is lacking)
        except ValueError:  # tifffile's error, too
            page = None
        yield page if page is not None and _is_plain(page) else None


def _is_plain(page: Any) -> bool:
    """Whether its parts are pixels as OpenCV has them, which would multiply with transparency."""
    bytes_together = page.dtype == np.uint8 and page.planarconfig == 1 and page.samplesperpixel in (1, 3)
    return bytes_together and page.photometric in (GREY, COLOUR, YCBCR) and len(page.dataoffsets) > 1


def _bands_of(
    page: Any, size: tuple[int, int], rows: Sequence[tuple[int, int]]
) -> Iterator[npt.NDArray[np.uint8]]:
    width = size[1]
    if page.shape[:2] != size:
        raise Unreadable(f"its first page has {page.shape[1]} x {page.shape[0]} pixels")
    high, wide = page.chunks[:2]
    across = -(-width // wide)
    for top, bottom in rows:
        band = np.empty((bottom - top, width, page.samplesperpixel), np.uint8)
        for down in range(top // high, -(-bottom // high)):
            for right in range(across):
                part = _part(page, down * across + right)
                first, x = max(top, down * high), right * wide
                last = min(bottom, down * high + part.shape[0])
                shown = part[first - down * high : last - down * high, : width - x]
                band[first - top : last - top, x : x + shown.shape[1]] = shown
        yield _as_bgr(band)


def _part(page: Any, index: int) -> npt.NDArray[np.uint8]:
    """(height, width, samples) of one strip or tile; at the edge it may be larger than what is left."""
    stored = page.parent.filehandle
    stored.seek(page.dataoffsets[index])
    try:
        part = page.decode(stored.read(page.databytecounts[index]), index, jpegtables=page.jpegtables)[0]
    except Exception as error:  # whatever its codec raises
        raise Unreadable(f"part {index} of {len(page.dataoffsets)}: {error}") from error
    if part is None:  # left out as empty
        raise Unreadable(f"part {index} of {len(page.dataoffsets)} is missing")
    return np.asarray(part[0])


def _as_bgr(band: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if band.shape[2] == 1:
        return np.repeat(band, 3, axis=2)
    return np.ascontiguousarray(band[..., ::-1])


@contextmanager
def _opened() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"data: {error}") from error

"""Image files to square arrays of bytes, and which of them cannot be read.

The EXIF rotation is applied, transparency dropped, a palette looked up. 16-bit values are divided by 257, so
that 65535 becomes 255, whatever range an image uses. Resizing is Pillow's antialiased bilinear one, to a
square without regard to the aspect ratio.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from spaces.errors import UsageError
from trainables.data.images.listed import ImageFile

DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
GREY_MODES = DEEP_MODES | {"1", "L", "LA", "La"}
MOST_UNREADABLE = 0.01  # share of the images that may be left out
PROBE_THREADS = 8  # they mostly wait for the disk
LAST_MARKER = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
TAIL = 1024  # bytes at the end of a file in which its last marker is looked for
# What Pillow raises for a file that is not what it should be.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Unreadable(Exception):
    """The file holds no image that can be decoded."""


@dataclass(frozen=True)
class Probed:
    """What the headers of a data set's images say.

    Attributes:
        problems: Name of an image that cannot be read -> why.
        grey: Whether no other image has colour.
    """

    problems: dict[str, str]
    grey: bool


def probe(files: Sequence[ImageFile]) -> Probed:
    """Look at the header and the end of each image; one whose end says nothing is decoded, to be sure."""
    problems, grey = {}, True
    with ThreadPoolExecutor(PROBE_THREADS) as pool:
        for image, (mode, why) in zip(files, pool.map(_mode, files), strict=True):
            if why is not None:
                problems[image.name] = why
            grey &= mode is None or mode in GREY_MODES
    return Probed(problems, grey)


def _mode(image: ImageFile) -> tuple[str | None, str | None]:
    """Pillow's mode of an image, or why it has none."""
    try:
        with _reading(), Image.open(image.path) as opened:
            mode, marker = opened.mode, LAST_MARKER.get(str(opened.format))
        if marker is None or marker not in _tail(image.path):
            decode(image.path, 8, 3)
    except Unreadable as error:
        return None, str(error)
    return mode, None


def _tail(path: Path) -> bytes:
    with path.open("rb") as stored:
        stored.seek(max(0, path.stat().st_size - TAIL))
        return stored.read()


def check_unreadable(problems: Mapping[str, str], n_images: int) -> None:
    """Let a few unreadable images be left out.

    Raises:
        UsageError: They are more than `MOST_UNREADABLE` of all.
    """
    if len(problems) > MOST_UNREADABLE * n_images:
        name, why = next(iter(problems.items()))
        raise UsageError(
            f"data: {len(problems)} of {n_images} images cannot be read, e.g. {name}: {why}",
            f"up to {MOST_UNREADABLE:.0%} are left out; repair or remove them",
        )


def decode(path: Path, side: int, channels: int) -> npt.NDArray[np.uint8]:
    """An image as (side, side) grey for one channel, (side, side, 3) RGB for three.

    Raises:
        Unreadable: It cannot be decoded.
    """
    with _reading(), Image.open(path) as stored:
        image = _eight_bit(ImageOps.exif_transpose(stored))
        if "transparency" in image.info:
            image = image.convert("RGBA")
        plain = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(plain.resize((side, side), Image.Resampling.BILINEAR))


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode not in DEEP_MODES:
        return image
    return Image.fromarray(np.rint(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8))


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        # Where Ultralytics is loaded, its `Image.open` wants one more library for what Pillow cannot read.
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UsageError(f"data: {error}") from error  # of the system: nothing is known of the image
        raise Unreadable(f"{type(error).__name__}: {error}") from error

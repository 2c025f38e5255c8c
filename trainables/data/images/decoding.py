"""Image files to square arrays of bytes, and which of them cannot be read.

The EXIF rotation is applied, transparency dropped, a palette looked up. 16-bit values are divided by 257, so
that 65535 becomes 255, unless `pixel_max` says which value is white. Of 16-bit colours Pillow keeps the high
byte. Resizing is Pillow's antialiased bilinear one, to a
square without regard to the aspect ratio.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, __version__

from spaces.errors import UsageError
from trainables.data.images.listed import ImageFile as ListedFile
from trainables.data.probing import Eye, Look, look_at

DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
GREY_MODES = DEEP_MODES | {"1", "L", "LA", "La"}
DEEPEST = 65535
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
        looks: File -> what a look at it said.
        problems: Name of an image that cannot be read -> why.
        grey: Whether no other image has colour.
    """

    looks: dict[Path, Look]
    problems: dict[str, str]
    grey: bool


def probe(files: Sequence[ListedFile]) -> Probed:
    """Look at the header and the end of each image; one whose end says nothing is decoded, to be sure."""
    looks = look_at([image.path for image in files], HEADERS, threads=PROBE_THREADS)
    problems = {image.name: looks[image.path].problem for image in files if looks[image.path].problem}
    return Probed(looks, problems, all(look.grey is not False for look in looks.values()))


def _see(path: Path) -> Look:
    try:
        with _opened(path) as opened:
            mode, marker = opened.mode, LAST_MARKER.get(str(opened.format))
            deep_colour = mode not in DEEP_MODES and ";16" in str(opened.tile)
        if marker is None or marker not in _tail(path):
            decode(path, 8, 3)
        return Look(grey=mode in GREY_MODES, deepest=_deepest(path, mode, deep_colour))
    except Unreadable as error:
        return Look(problem=str(error))


HEADERS = Eye(_see, f"images, Pillow {__version__}")


def _deepest(path: Path, mode: str, deep_colour: bool) -> int | None:
    """The largest value of a 16-bit image, None of any other."""
    if mode in DEEP_MODES:
        with _opened(path) as stored:
            return int(np.clip(np.asarray(stored), 0, DEEPEST).max())
    if not deep_colour:
        return None
    # Pillow has dropped the low bytes.
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return None if pixels is None or pixels.dtype != np.uint16 else int(pixels.max())


def _tail(path: Path) -> bytes:
    with path.open("rb") as stored:
        stored.seek(max(0, path.stat().st_size - TAIL))
        return stored.read()


def decode(path: Path, side: int, channels: int, pixel_max: int | None = None) -> npt.NDArray[np.uint8]:
    """An image as (side, side) grey for one channel, (side, side, 3) RGB for three.

    Args:
        path: Of the file.
        side: Of the square, pixels.
        channels: 1 or 3.
        pixel_max: The value of a grey 16-bit image that is white; None for 65535.

    Raises:
        Unreadable: It cannot be decoded.
    """
    with _opened(path) as stored:
        image = _eight_bit(ImageOps.exif_transpose(stored), DEEPEST if pixel_max is None else pixel_max)
        if "transparency" in image.info:
            image = image.convert("RGBA")
        plain = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(plain.resize((side, side), Image.Resampling.BILINEAR))


def _eight_bit(image: Image.Image, pixel_max: int) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode not in DEEP_MODES:
        return image
    levels = np.clip(np.asarray(image), 0, pixel_max) * (255 / pixel_max)
    return Image.fromarray(np.rint(levels).astype(np.uint8))


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    # As a stream: given a name, Pillow 13 maps an uncompressed TIFF that is to be turned by 90 degrees with
    # height and width exchanged, and its rows become stripes.
    with _reading(), path.open("rb") as stored, Image.open(stored) as image:
        yield image


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

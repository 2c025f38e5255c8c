"""Where tiles lie on a whole image, and what each of them shows of every object.

Pure NumPy: no files, no images. Pixels everywhere, from the upper left corner; a window is `x, y, width,
height` in whole pixels. Windows are `size - overlap` apart; the last one of a row or a column is pulled back
to the edge, so none reaches over it, and an image that is smaller than a tile has one window, itself. So an
object no larger than the overlap lies wholly within at least one window.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# An object of which a tile shows less (of its area) is not labelled there: what is left is seldom enough to
# tell the class by, and a box around it teaches the cut's shape. It is no background either, so an evaluation
# of tiles ignores what is found on it. Another tile shows it whole, if it is no larger than the overlap.
VISIBLE = 0.4

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """How images are cut.

    Attributes:
        size: Of a tile's sides, pixels.
        overlap: Of neighbours, pixels.
        jpeg: Whether tiles are JPEG, with loss; else PNG.
    """

    size: int
    overlap: int
    jpeg: bool = False

    @property
    def suffix(self) -> str:
        """Of the tiles' files."""
        return ".jpg" if self.jpeg else ".png"


@dataclass(frozen=True)
class Pieces:
    """What the windows of an image show of its objects: (n,) each, by window, then by object.

    Attributes:
        window: Index of the window.
        object: Index of the object.
        visible: Share of the object's area that lies within the window, in (0, 1]; exactly 1 if it is whole.
        boxes: (n, 4) x, y, width, height of that part, from the window's upper left corner.
    """

    window: Ints
    object: Ints
    visible: Floats
    boxes: Floats

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the window's tile has a label for it."""
        return self.visible >= VISIBLE


def offsets(side: int, size: int, overlap: int) -> Ints:
    """Where the windows begin along one side of an image.

    Args:
        side: Of the image, at least 1.
        size: Of a window, at least 1.
        overlap: Of neighbours, in [0, size); the last two share more, where the last is pulled back.

    Example:
        >>> offsets(1500, size=640, overlap=64).tolist()
        [0, 576, 860]
    """
    assert side >= 1
    assert 0 <= overlap < size
    if side <= size:
        return np.zeros(1, dtype=np.int64)
    regular = np.arange(0, side - size, size - overlap, dtype=np.int64)
    return np.append(regular, side - size)


def windows(width: int, height: int, *, size: int, overlap: int) -> Ints:
    """(n, 4) all windows of an image, row by row; arguments as of `offsets`."""
    across, down = offsets(width, size, overlap), offsets(height, size, overlap)
    y, x = np.meshgrid(down, across, indexing="ij")
    sides = np.full((x.size, 2), (min(size, width), min(size, height)), dtype=np.int64)
    return np.column_stack([x.ravel(), y.ravel(), sides])


def corners(boxes: npt.NDArray[np.floating], width: int, height: int) -> Floats:
    """(n, 4) left, top, right, bottom in pixels, within the image.

    Args:
        boxes: (n, 4) centre x, centre y, width, height; fractions of the image.
        width: Of the image.
        height: Of the image.
    """
    scaled = boxes.astype(np.float64) * (width, height, width, height)
    half = scaled[:, 2:] / 2
    # Boxes come as float32 fractions: to a thousandth of a pixel they are what was written into the file.
    found = np.hstack([scaled[:, :2] - half, scaled[:, :2] + half]).round(3)
    return np.clip(found, 0, (width, height, width, height))


def cut(objects: Floats, found: Ints) -> Pieces:
    """What each window shows of each object.

    Args:
        objects: (n, 4) left, top, right, bottom.
        found: (m, 4) as `windows` returns them.
    """
    none = np.zeros(0, dtype=np.int64)
    parts = [Pieces(none, none, none.astype(np.float64), np.zeros((0, 4)))]
    for y in np.unique(found[:, 1]):  # row by row: all windows against all objects would be too many pairs
        row = np.flatnonzero(found[:, 1] == y)
        bottom = y + found[row[0], 3]
        near = np.flatnonzero((objects[:, 1] < bottom) & (objects[:, 3] > y))
        parts.append(_row(objects, near, found, row))
    return Pieces(
        np.concatenate([part.window for part in parts]),
        np.concatenate([part.object for part in parts]),
        np.concatenate([part.visible for part in parts]),
        np.concatenate([part.boxes for part in parts]),
    )


def _row(objects: Floats, near: Ints, found: Ints, row: Ints) -> Pieces:
    """Of the windows `row` and the objects `near` alone, which are indices."""
    start, end = found[row, :2], found[row, :2] + found[row, 2:]
    boxes = objects[near]
    low = np.maximum(boxes[None, :, :2], start[:, None])  # (windows, objects, 2)
    high = np.minimum(boxes[None, :, 2:], end[:, None])
    i, j = np.nonzero((high > low).all(axis=2))
    sides = high[i, j] - low[i, j]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return Pieces(row[i], near[j], sides.prod(axis=1) / area[j], np.hstack([low[i, j] - start[i], sides]))

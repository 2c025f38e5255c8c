"""Paste minority objects of other training images into a tile. Pure NumPy: no files, no training.

An object goes with its surroundings, which fade out around it, and with the objects that lie in its box (the
cells of a cluster are labelled too). Its light is matched to the tile that it goes to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.strategy.augmentation import VISIBLE, Boxes, Pixels, box_areas, turn

MOST_PASTED = 2  # objects in one tile
PLACES = 30  # that are tried for each object
OVERLAP = 0.1  # share of an object's box that a paste may cover
FADE = 0.2  # width of the soft edge, as a share of half the object's side
ROUNDNESS = 4  # exponent of the superellipse that is pasted: an ellipse (2) would cut off slanting objects
LARGEST_MATCH = 1.5  # factor by which the light of a channel is matched at most

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """A picture and its objects.

    Attributes:
        image: (height, width, 3), in any order of the colours.
        boxes: (n, 4) xyxy in pixels.
        classes: (n,) class ids.
    """

    image: Pixels
    boxes: Boxes
    classes: Ints


def cut_out(tile: Tile, row: int) -> Tile:
    """Object `row` with the surroundings that fade out, and the objects that lie in its box; itself is first.

    Boxes are relative to the piece. The other objects' end where the piece is half faded.
    """
    main = tile.boxes[row]
    fade = FADE / 2 * np.tile(main[2:] - main[:2], 2) * [-1, -1, 1, 1]  # (4,), outwards
    opaque = main + fade / 2
    inside = np.clip(tile.boxes, np.tile(opaque[:2], 2), np.tile(opaque[2:], 2))  # (n, 4)
    share = box_areas(inside) / np.maximum(box_areas(tile.boxes), 1e-9)
    others = np.flatnonzero((share >= VISIBLE) & (np.arange(len(share)) != row))
    left, top = np.floor(np.maximum((main + fade)[:2], 0)).astype(int)
    right, bottom = np.ceil((main + fade)[2:]).astype(int)
    return Tile(
        image=tile.image[top:bottom, left:right],
        boxes=np.stack([main, *inside[others]]) - np.array([left, top, left, top]),
        classes=tile.classes[[row, *others]],
    )


def match_light(piece: Tile, *, given: Tile, taken: Tile) -> Tile:
    """The piece of `given` in the light of `taken`: each channel scaled by the ratio of the tiles' medians.

    A factor of the light is a sum of densities: as much stain more or less all over.
    """
    ratio = _median(taken.image) / np.maximum(_median(given.image), 1)
    factor = np.clip(ratio, 1 / LARGEST_MATCH, LARGEST_MATCH)
    image = np.clip(np.rint(piece.image * factor), 0, 255).astype(np.uint8)
    return Tile(image, piece.boxes, piece.classes)


def find_place(piece: Tile, tile: Tile, rng: np.random.Generator) -> tuple[int, int] | None:
    """Where (x, y) of the tile the piece's corner goes, so that it covers at most OVERLAP of each box there.

    Returns:
        None if none of the PLACES that were drawn will do.
    """
    height, width = tile.image.shape[:2]
    x1, y1, x2, y2 = piece.boxes[0]
    lowest, highest = np.ceil([-x1, -y1]).astype(int), np.floor([width - x2, height - y2]).astype(int)
    if (highest < lowest).any():
        return None
    corners = rng.integers(lowest, highest + 1, (PLACES, 2))
    pasted = piece.boxes[0] + np.tile(corners, 2)  # (PLACES, 4)
    low = np.maximum(pasted[:, None, :2], tile.boxes[:, :2])  # (PLACES, n, 2)
    high = np.minimum(pasted[:, None, 2:], tile.boxes[:, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    smaller = np.minimum(box_areas(pasted)[:, None], box_areas(tile.boxes))
    free = np.flatnonzero(np.all(common <= OVERLAP * smaller, axis=1))
    if len(free) == 0:
        return None
    x, y = corners[free[0]]
    return int(x), int(y)


def paste(piece: Tile, tile: Tile, place: tuple[int, int]) -> Tile:
    """The tile with the piece's corner at (x, y), and its objects added; `tile` stays as it is."""
    x, y = place
    height, width = tile.image.shape[:2]
    down, across = piece.image.shape[:2]
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + down), min(width, x + across)
    new = piece.image[top - y : bottom - y, left - x : right - x]
    opacity = _opacity(piece)[top - y : bottom - y, left - x : right - x, None]
    image = tile.image.copy()
    old = image[top:bottom, left:right]
    image[top:bottom, left:right] = np.rint(opacity * new + (1 - opacity) * old).astype(np.uint8)
    return Tile(
        image,
        np.concatenate([tile.boxes, piece.boxes + np.array([x, y, x, y])]),
        np.concatenate([tile.classes, piece.classes]),
    )


def paste_objects(
    tile: Tile, donors: Sequence[tuple[Tile, int]], rng: np.random.Generator
) -> tuple[Tile, int]:
    """The tile with each donor's object, mirrored and turned at random, that finds a place.

    Args:
        tile: Stays as it is.
        donors: Tiles, and which of their objects.
        rng: What all is drawn from.

    Returns:
        The new tile, and how many objects were pasted, not counting those that lie in them.
    """
    pasted = 0
    for given, row in donors:
        piece = cut_out(given, row)
        image, boxes = turn(piece.image, piece.boxes, int(rng.integers(8)))
        place = find_place(Tile(image, boxes, piece.classes), tile, rng)
        if place is not None:
            matched = match_light(Tile(image, boxes, piece.classes), given=given, taken=tile)
            tile, pasted = paste(matched, tile, place), pasted + 1
    return tile, pasted


def _opacity(piece: Tile) -> Floats:
    """1 on the superellipse in the first box, 0 beyond FADE around it; (height, width)."""
    height, width = piece.image.shape[:2]
    x1, y1, x2, y2 = piece.boxes[0]
    across = np.abs(np.arange(width) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)  # 1 at the box's sides
    down = np.abs(np.arange(height) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    radius = (across**ROUNDNESS + down[:, None] ** ROUNDNESS) ** (1 / ROUNDNESS)
    return np.asarray(np.clip((1 + FADE - radius) / FADE, 0, 1))


def _median(image: Pixels) -> Floats:
    """Of each channel, from every fourth row and column; (3,). Counting takes a tenth of a sort's time."""
    some = image[::4, ::4].reshape(-1, image.shape[2])
    middles = [(len(some) - 1) // 2, len(some) // 2]
    counted = [np.bincount(channel, minlength=256).cumsum() for channel in some.T]
    return np.array([np.searchsorted(below, middles, side="right").mean() for below in counted])

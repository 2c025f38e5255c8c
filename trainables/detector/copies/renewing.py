"""Copies of whole images that are made anew at each draw: nothing of them is stored.

What a tile of such a copy shows is put together from the training tiles of its image, which hold every pixel
of it. So a draw costs a few tiles, however large the image is, and its pixels are those that a stored copy
with the same change would have (but for tiles in JPEG).
"""

import math
from collections import defaultdict
from collections.abc import Collection

import numpy as np

from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.detector.copies.making import Pixels, region, sampling_step, show
from trainables.detector.copies.planning import Copy, copy_of
from trainables.strategy.copy_paste import Tile

TRIES = 8  # changes that are drawn until one leaves a minority object labelled
GREY = 114  # where no tile was readable


class Renewing:
    """Draws tiles of fresh copies.

    Args:
        data: The data set, of tiles.
        minority: Class ids of the minority.
        strength: Of the augmentation of whole images, in [0, 1].
    """

    def __init__(self, data: BoxData, minority: Collection[int], strength: float) -> None:
        self._data, self._minority, self._strength = data, list(minority), strength
        self._tiles: dict[str, list[BoxImage]] = defaultdict(list)
        for image in data.splits["train"]:
            if image.tile is not None:
                self._tiles[image.tile.source].append(image)
        self._small: dict[str, Pixels] = {}

    def draw(self, source: str, rng: np.random.Generator) -> Tile | None:
        """One tile, RGB, with a minority object, of a copy of a whole image that is changed anew.

        None if no change of some left a minority object labelled.

        Args:
            source: The whole image's name.
            rng: What all is drawn from.
        """
        grid = self._data.grid
        assert grid is not None
        for _ in range(TRIES):
            copy = copy_of(self._data.wholes[source], 0, grid, self._minority, self._strength, rng)
            if len(copy.windows):
                return self._tile(copy, int(rng.integers(len(copy.windows))))
        return None

    def _tile(self, copy: Copy, row: int) -> Tile:
        x, y, width, height = copy.windows[row].tolist()
        name, size = copy.source.name, (copy.source.height, copy.source.width)
        left, top, right, bottom = region(copy.change, (x, y, width, height), size)
        part = self._stitched(name, (left, top, right, bottom))
        mean = 0.0 if copy.change is None else copy.change.mean_of(self._thumbnail(name, size))
        bgr = show(part, (left, top), copy.change, (x, y, width, height), mean)
        centre, half = np.split(copy.boxes[row] * [1, 1, 0.5, 0.5], 2, axis=1)
        boxes = np.hstack([centre - half, centre + half]) * [width, height, width, height]
        return Tile(np.ascontiguousarray(bgr[..., ::-1]), boxes, copy.classes[row])

    def _thumbnail(self, source: str, size: tuple[int, int]) -> Pixels:
        """(h, w, 3) RGB: every so many pixels of a whole image, by which its light is known."""
        if source not in self._small:
            step = sampling_step(size)
            small = self._stitched(source, (0, 0, size[1], size[0]), step)
            self._small[source] = np.ascontiguousarray(small[..., ::-1])
        return self._small[source]

    def _stitched(self, source: str, box: tuple[int, int, int, int], step: int = 1) -> Pixels:
        """A part of a whole image, BGR, of its tiles; every `step`-th pixel of it, from the first on."""
        left, top, right, bottom = box
        rows, columns = math.ceil((bottom - top) / step), math.ceil((right - left) / step)
        whole = np.full((rows, columns, 3), GREY, dtype=np.uint8)
        for image in self._tiles[source]:
            tile = image.tile
            assert tile is not None
            # First and last row and column of the part that the tile shows.
            low = [max(0, math.ceil((at - start) / step)) for at, start in ((tile.y, top), (tile.x, left))]
            ends = ((tile.y + tile.height, bottom, top), (tile.x + tile.width, right, left))
            high = [math.ceil((min(end, last) - start) / step) for end, last, start in ends]
            if low[0] < high[0] and low[1] < high[1]:
                pixels = image.pixels()
                first = top + low[0] * step - tile.y, left + low[1] * step - tile.x
                shown = pixels[first[0] :: step, first[1] :: step]
                whole[low[0] : high[0], low[1] : high[1]] = shown[: high[0] - low[0], : high[1] - low[1]]
        return whole

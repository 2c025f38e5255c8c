"""Copies of whole training images, augmented as a whole and cut: what their tiles show. Boxes, no pixels.

A copy is cut by the data set's own grid, so objects lie elsewhere on its tiles than on the original's, with
what really surrounds them. Of its tiles only those join the training tiles that are labelled with a minority
object: so `pretile_copies` moves the exposure as `retention` does, and both together say what it is. All of
an image's tiles would repeat its majority as often, and leave the exposure almost where it was.
"""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spaces.augmentation import Augmentation
from spaces.errors import UsageError
from trainables.data.boxes.listed import BoxData, Source
from trainables.data.boxes.tiling import Grid, Ints, cut, windows
from trainables.strategy.augmentation import Boxes, Change, clip_boxes, draw_change

STREAM = 7  # of a trial's random numbers


@dataclass(frozen=True)
class Copy:
    """One copy of one whole image: its tiles that hold a minority object.

    Attributes:
        source: The whole image.
        number: From 1.
        change: What is done to it; None for a duplicate.
        windows: (n, 4) x, y, width, height of the tiles.
        classes: For each tile the class ids of its objects, (m,).
        boxes: For each tile (m, 4) centre x, centre y, width, height; fractions of the tile.
    """

    source: Source
    number: int
    change: Change | None
    windows: Ints
    classes: tuple[Ints, ...]
    boxes: tuple[npt.NDArray[np.float32], ...]

    @property
    def name(self) -> str:
        """Of the copy, as that of a whole image."""
        return f"{self.source.name}#{self.number}"


def plan_copies(
    data: BoxData, minority: Collection[int], augmentation: Augmentation, *, seed: int
) -> list[Copy]:
    """The copies that a strategy asks for, of training images alone; the same arguments give the same.

    Args:
        data: The data set.
        minority: Class ids of the minority.
        augmentation: Of the strategy.
        seed: Of the trial. Another one has other copies: how seeds differ then tells of their luck, too.

    Raises:
        UsageError: The data are no tiles of whole images that are known.
    """
    if augmentation.pretile_copies == 0:
        return []
    if data.grid is None:
        raise UsageError("pretile_copies: the data are no tiles of whole images", "`rarecall tile` cuts them")
    names = {image.tile.source for image in data.splits["train"] if image.tile is not None}
    sources = [data.wholes[name] for name in sorted(names)]
    rare = list(minority)
    strength = augmentation.augment_minority
    return [
        copy_of(source, number, data.grid, rare, strength, _generator(seed, source, number))
        for source in sources
        if np.isin(source.classes, rare).any()
        for number in range(1, augmentation.pretile_copies + 1)
    ]


def _generator(seed: int, source: Source, number: int) -> np.random.Generator:
    return np.random.default_rng((seed, STREAM, zlib.crc32(source.name.encode()), number))


def copied_classes(
    data: BoxData, minority: Collection[int], augmentation: Augmentation, *, seed: int
) -> list[frozenset[int]]:
    """Class ids in each tile that the copies add to the training tiles; arguments as of `plan_copies`."""
    copies = plan_copies(data, minority, augmentation, seed=seed)
    return [frozenset(classes.tolist()) for copy in copies for classes in copy.classes]


def copy_of(
    source: Source,
    number: int,
    grid: Grid,
    minority: Sequence[int],
    strength: float,
    rng: np.random.Generator,
) -> Copy:
    """A copy of a whole image.

    Args:
        source: The image.
        number: Of the copy.
        grid: By which it is cut.
        minority: Class ids of the minority.
        strength: Of its augmentation, in [0, 1]; 0 for a duplicate.
        rng: What its change is drawn from.
    """
    size, classes, change = (source.height, source.width), source.classes, None
    boxes: Boxes = clip_boxes(source.boxes, size)
    if strength > 0:
        rare = np.isin(classes, minority)
        # Hardly a window spares all the minority objects of a whole image; one is lost as at any border.
        change = draw_change(size, boxes, strength=strength, rng=rng, rare=rare, spare_all=False)
        boxes, row, _ = change.see(boxes)
        classes, size = classes[row], change.size_after
    found = windows(size[1], size[0], size=grid.size, overlap=grid.overlap)
    pieces = cut(boxes.astype(np.float64), found)
    kept = pieces.kept
    window, labels = pieces.window[kept], classes[pieces.object[kept]]
    inner = pieces.boxes[kept] / np.tile(found[window, 2:], 2)
    inner[:, :2] += inner[:, 2:] / 2  # (m, 4), centres now
    chosen = np.unique(window[np.isin(labels, minority)])
    return Copy(
        source,
        number,
        change,
        found[chosen],
        tuple(labels[window == tile] for tile in chosen),
        tuple(inner[window == tile].astype(np.float32) for tile in chosen),
    )

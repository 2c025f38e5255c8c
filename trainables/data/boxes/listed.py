"""An image of a detector's data set with its boxes, and all of them, whichever files they came in.

Where the images are tiles: each knows its place in a whole image, and the data set the whole images.

No torch, no Ultralytics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.data.boxes.decoding import read_pixels
from trainables.data.boxes.tiling import Floats, Grid, Ints, Pieces, cut
from trainables.data.probing import Look


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes:
        name: Path relative to the data set.
        source: Name of the whole image.
        split: That it is in.
        x: Its left edge in the whole image, pixels; the others likewise.
        y: Its upper edge.
        width: Of the tile.
        height: Of the tile.
        augmented_from: Name of the image that the whole one is a changed copy of; empty if it is none.
    """

    name: str
    source: str
    split: str
    x: int
    y: int
    width: int
    height: int
    augmented_from: str = ""


@dataclass(frozen=True)
class Source:
    """A whole image that tiles were cut from, with its true objects.

    Attributes:
        name: Path relative to where the images are.
        split: That it is in.
        group: What was kept in one split: itself, or its group.
        width: Pixels.
        height: Pixels.
        classes: (n,) class ids.
        boxes: (n, 4) left, top, right, bottom; pixels.
        tiles: Its tiles.
    """

    name: str
    split: str
    group: str
    width: int
    height: int
    classes: Ints
    boxes: Floats
    tiles: tuple[Tile, ...]

    def pieces(self) -> Pieces:
        """What its tiles show of its objects; what is not `kept` has no label, and is to be ignored."""
        places = [(tile.x, tile.y, tile.width, tile.height) for tile in self.tiles]
        return cut(self.boxes, np.array(places, dtype=np.int64))


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
        tile: Its place in a whole image, if it was cut from one by `rarecall tile`.
        hidden_classes: (h,) class ids of objects of which a tile shows too little for a label: what is found
            on them is ignored. Empty of an image that is no tile.
        hidden_boxes: (h, 4) left, top, right, bottom of what it shows of them; its pixels.
    """

    path: Path
    name: str
    source: str
    classes: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    look: Look
    pixel_max: int | None = None
    tile: Tile | None = None
    hidden_classes: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    hidden_boxes: Floats = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def is_copy(self) -> bool:
        """Whether it is a tile of a changed copy of a whole image."""
        return self.tile is not None and self.tile.augmented_from != ""

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
        wholes: Name -> whole image that the images' tiles were cut from; empty if they are no tiles.
        grid: How these were cut; None if they are no tiles.
        images_in: Folder that the whole images' names are relative to; None if they are no tiles.
        unit: What is kept in one split, as in `DataSummary`.
    """

    class_names: tuple[str, ...]
    splits: dict[str, tuple[BoxImage, ...]]
    fingerprint: str
    one_piece: bool
    test_from_val: bool
    mended: dict[str, int]
    warnings: tuple[str, ...] = ()
    wholes: Mapping[str, Source] = field(default_factory=dict)
    grid: Grid | None = None
    images_in: Path | None = None
    unit: str = "source"

    def absent(self, split: str) -> dict[str, frozenset[int]]:
        """File of each whole image of a split's tiles that is gone -> the classes in it."""
        if self.images_in is None:
            return {}
        names = {image.tile.source for image in self.splits[split] if image.tile is not None}
        files = {self.images_in / name: self.wholes[name].classes for name in sorted(names)}
        return {
            str(file): frozenset(classes.tolist()) for file, classes in files.items() if not file.is_file()
        }

    def whole_images(self) -> dict[str, int]:
        """Split -> number of whole images that its tiles were cut from; empty if they are no tiles."""
        places = {split: [image.tile for image in images] for split, images in self.splits.items()}
        return {
            split: len({tile.source for tile in tiles if tile is not None})
            for split, tiles in (places.items() if self.wholes else ())
        }

    def whole_objects(self) -> dict[str, dict[str, int]]:
        """Split -> class name -> number of objects in its whole images; empty if there are none."""
        shown = {image.tile.source for images in self.splits.values() for image in images if image.tile}
        counts = {split: np.zeros(len(self.class_names), dtype=np.int64) for split in self.whole_images()}
        for name in shown:
            whole = self.wholes[name]
            np.add.at(counts[whole.split], whole.classes, 1)
        return {split: dict(zip(self.class_names, of.tolist(), strict=True)) for split, of in counts.items()}

    def most_objects(self) -> int:
        """Objects in the fullest image of all splits, those included that it shows too little of."""
        return max(
            len(image.classes) + len(image.hidden_classes)
            for images in self.splits.values()
            for image in images
        )

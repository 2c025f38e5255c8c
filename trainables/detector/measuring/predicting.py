"""A trained detector on images of any size: cut as its training images were, and merged as it was judged.

What evaluation measures as `deployed/…`, on tiles, and `merged/deployed/…`, on whole images, is what is found
here: the same pixels, padding, suppression and merging, and one label per box.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spaces.errors import UsageError
from trainables.contract.predictions import MINORITY_WEIGHTS
from trainables.contract.trial import Merging
from trainables.data.boxes.decoding import bands
from trainables.data.boxes.tiling import Floats, Grid, Ints, windows
from trainables.detector.arguments import stored_weights
from trainables.detector.measuring.evaluator import Rows, boxes_in, by_score, for_inference, uncovered
from trainables.detector.settled import LetterBox
from trainables.evaluation.merging import Placed, merge


@dataclass(frozen=True)
class Found:
    """What is found on an image, by falling score.

    Attributes:
        label: (n,) class ids.
        score: (n,) in [0, 1].
        box: (n, 4) left, top, right, bottom; pixels.
    """

    label: Ints
    score: Floats
    box: Floats


@dataclass(frozen=True)
class Use:
    """How a detector is used; what its weights say, unless a person says otherwise.

    Attributes:
        conf: Boxes score more.
        iou: Of non-maximum suppression within a tile.
        max_det: Boxes per tile.
        imgsz: Side of the network's square, pixels.
        grid: How images are cut; None for images as they are.
        merging: How what is found on tiles is merged.
        pixel_max: The 16-bit value that is white; None for high bytes.
    """

    conf: float
    iou: float
    max_det: int
    imgsz: int
    grid: Grid | None
    merging: Merging
    pixel_max: int | None = None


class _Model:
    """A network, and the classes to take from it; None for all."""

    def __init__(self, module: Any, use: Mapping[str, Any]) -> None:
        self.module, self.classes = module, use.get("classes")


class Detector:
    """Weights that a study's run has left, or that `rarecall export` has copied.

    Args:
        weights: Path of `weights.pt`; where it is one of two models, the other lies beside it.
        device: To compute on.
        batch: Tiles at once.

    Raises:
        UsageError: The file holds no detector of ours, or cannot be loaded.
    """

    def __init__(self, weights: Path, *, device: torch.device, batch: int = 16) -> None:
        stored = _own(weights)
        beside = weights.with_name(MINORITY_WEIGHTS)
        two = [stored, _own(beside)] if "classes" in stored["predict"] and beside.is_file() else [stored]
        self._suppress, self._minority = stored.get("suppress", 0.0), two[-1]["predict"].get("classes", [])
        self._models = [_Model(for_inference(one["model"].float()).to(device), one["predict"]) for one in two]
        self._device, self._batch = device, batch
        self.class_names = tuple(stored["model"].names.values())
        tiles, use = stored.get("tiles"), stored["predict"]
        self.use = Use(
            conf=use["conf"],
            iou=use["iou"],
            max_det=use["max_det"],
            imgsz=use["imgsz"],
            grid=None if tiles is None else Grid(tiles["size"], tiles["overlap"]),
            merging="core" if tiles is None else tiles["merging"],
            pixel_max=stored.get("pixel_max"),
        )

    def find(self, image: Path, size: tuple[int, int], use: Use) -> Found:
        """What is on an image.

        Args:
            image: Its file.
            size: (height, width), as a look at it said.
            use: How.

        Raises:
            Unreadable: It cannot be decoded.
            UsageError: It cannot be opened.
        """
        height, width = size
        grid = Grid(max(height, width), 0) if use.grid is None else use.grid
        found = windows(width, height, size=grid.size, overlap=grid.overlap)
        rows = by_score(np.concatenate([np.zeros((0, 7)), *self._of_tiles(image, size, found, use)]))
        if self._suppress:
            rows = uncovered(rows, self._minority, self._suppress)
        tile, label = rows[:, 0].astype(np.int64), rows[:, 6].astype(np.int64)
        corner = found[tile, :2]
        placed = Placed(
            image=np.zeros_like(tile),
            tile=tile,
            label=label,
            score=rows[:, 5].astype(np.float32),
            box=rows[:, 1:5].astype(np.float32).astype(np.float64) + np.hstack([corner, corner]),
        )
        # An image that is not cut is judged as suppression within it leaves it.
        way = "none" if use.grid is None else use.merging
        whole = merge(placed, found, np.zeros(len(found), dtype=np.int64), way)
        return Found(whole.label, whole.score.astype(np.float64), whole.box.astype(np.float64))

    def _of_tiles(self, image: Path, size: tuple[int, int], found: Ints, use: Use) -> Iterator[Rows]:
        """(p, 7) of each tile: its index, x1, y1, x2, y2 in its pixels, score, class."""
        squared = LetterBox((use.imgsz, use.imgsz))
        for batch in _batches(enumerate(_tiles(image, size, found, use.pixel_max)), self._batch):
            stacked = np.stack([squared(image=pixels) for _, pixels in batch])
            squares = torch.from_numpy(stacked).permute(0, 3, 1, 2).flip(1).to(self._device)
            for model in self._models:
                for rows in boxes_in(
                    model.module,
                    squares,
                    [i for i, _ in batch],
                    [pixels.shape[:2] for _, pixels in batch],
                    conf=use.conf,
                    iou=use.iou,
                    max_det=use.max_det,
                    multi_label=False,
                ):
                    yield rows if model.classes is None else rows[np.isin(rows[:, 6], model.classes)]


def _own(weights: Path) -> dict[str, Any]:
    stored = stored_weights(weights)
    if not isinstance(stored.get("predict"), dict):
        raise UsageError(
            f"{weights}: nothing says how these weights are used",
            "weights that `rarecall search` or `export` has written",
        )
    return stored


def _tiles(
    image: Path, size: tuple[int, int], found: Ints, pixel_max: int | None
) -> Iterator[npt.NDArray[np.uint8]]:
    """(height, width, 3) BGR of each window, in their order: row by row."""
    tops = np.unique(found[:, 1])
    rows = [(int(top), int(top + found[0, 3])) for top in tops]
    lefts = [(int(x), int(x + width)) for x, _, width, _ in found[found[:, 1] == tops[0]]]
    for band in bands(image, size, rows, pixel_max):
        for left, right in lefts:
            yield band[:, left:right]


def _batches(
    tiles: Iterator[tuple[int, npt.NDArray[np.uint8]]], size: int
) -> Iterator[list[tuple[int, npt.NDArray[np.uint8]]]]:
    while batch := list(islice(tiles, size)):
        yield batch

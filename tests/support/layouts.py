"""Whole images with objects, cut at random, and what a model that finds everything finds on the tiles."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.data.boxes.tiling import cut, windows
from trainables.evaluation.merging import Merged, Placed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """One whole image: its tiles, its objects, and all pieces of these that a tile has a label for."""

    windows: Ints
    label: Ints
    objects: Floats
    placed: Placed


def drawn_layout(rng: np.random.Generator, *, larger: bool = False) -> Layout:
    """Objects no larger than the overlap, or up to three times as large, many of them on borders and corners.

    Those of a class overlap each other by an IoU below .5.
    """
    size = int(rng.integers(32, 257))
    overlap = int(rng.integers(8, max(9, size * 3 // 4)))
    width, height = (int(side) for side in rng.integers(size // 2, size * 5, 2))
    found = windows(width, height, size=size, overlap=overlap)
    objects, label = _objects(rng, found, width, height, overlap * (3 if larger else 1))
    return Layout(found, label, objects, perfect(rng, found, label, objects))


def perfect(rng: np.random.Generator, found: Ints, label: Ints, objects: Floats) -> Placed:
    """Every piece that a tile has a label for, as float32 of the tile; scores are near 1, in no order."""
    pieces = cut(objects, found)
    kept = pieces.kept
    tile, corner, sides = pieces.window[kept], pieces.boxes[kept, :2], pieces.boxes[kept, 2:]
    box = np.hstack([corner, corner + sides]).astype(np.float32)
    return Placed(
        image=np.zeros(len(tile), dtype=np.int64),
        tile=tile,
        label=label[pieces.object[kept]],
        score=rng.uniform(0.9, 1, len(tile)).astype(np.float32),
        box=box.astype(np.float64) + np.tile(found[tile, :2], 2),
    )


def lost_and_doubled(layout: Layout, merged: Merged, least: float = 0.99) -> tuple[int, int]:
    """Objects that no box shows at that IoU, and boxes more than one for an object, or for none."""
    iou = iou_matrix(merged.box, layout.objects)
    iou[merged.label[:, None] != layout.label] = 0
    shown = (iou >= least).any(axis=0)
    return int((~shown).sum()), len(merged.box) - int(shown.sum())


def _objects(
    rng: np.random.Generator, found: Ints, width: int, height: int, largest: int
) -> tuple[Floats, Ints]:
    n = int(rng.integers(1, 80))
    sides = rng.uniform(4, largest, (n, 2))
    sides[rng.random((n, 2)) < 0.1] = largest
    sides = np.minimum(sides, (width, height))
    low = rng.uniform(0, 1, (n, 2)) * ((width, height) - sides)
    # On cuts: an edge or the centre of an object is where a tile begins or ends, or between two of these.
    ends = np.vstack([found[:, :2], found[:, :2] + found[:, 2:]])
    lines = [np.unique(ends[:, axis]) for axis in (0, 1)]
    for axis in (0, 1):
        middles = (lines[axis][1:] + lines[axis][:-1]) / 2
        line = rng.choice(np.concatenate([lines[axis], middles]), n)
        at = line - sides[:, axis] * rng.choice([0, 0.5, 1], n)
        low[:, axis] = np.where(rng.random(n) < 0.4, at, low[:, axis])
    low = np.clip(low, 0, (width, height) - sides)
    tenths = 10 ** int(rng.choice([0, 1, 3]))
    boxes = np.floor(np.hstack([low, low + sides]) * tenths) / tenths  # rounded, half of them would grow
    boxes = np.clip(boxes, 0, (width, height, width, height))
    label = rng.integers(0, 2, n)
    chosen: list[int] = []
    for i in range(n):
        same = [j for j in chosen if label[j] == label[i]]
        if (iou_matrix(boxes[[i]], boxes[same]) < 0.5).all():
            chosen.append(i)
    return boxes[chosen], label[chosen]


def iou_matrix(boxes: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> Floats:
    """(n, m) of each box (n, 4) with each other (m, 4), written down as it is defined."""
    one, two = boxes[:, None].astype(np.float64), others[None].astype(np.float64)
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = (one[..., 2:] - one[..., :2]).prod(axis=-1) + (two[..., 2:] - two[..., :2]).prod(axis=-1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-7))

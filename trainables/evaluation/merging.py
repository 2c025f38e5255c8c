"""What was found on tiles as found on the whole images that they were cut from. Pure NumPy.

An object near a cut is found by several tiles, by some of them in part. All ways of merging look at one
whole image and class at a time:

    core    a box counts where its tile owns its centre, that is, where no tile that holds the centre has its
            own centre nearer to it; then NMS. `LEEWAY` says what else counts
    joined  as core, but pieces of one object that a cut ended in two tiles are joined before the NMS
    nms     non-maximum suppression over what all tiles found
    ios     the same, where the overlap is the shared area over the smaller box's
    wbf     weighted boxes fusion (Solovyev et al. 2021) over what all tiles found, as by one model: a fused
            box has the mean score of its boxes, so what one tile alone found keeps its score
    none    all that was found

Why core neither loses nor doubles an object no larger than the overlap: along one axis let a tile end at a,
and the next one begin at b < a, so that they part at m = (a + b) / 2. An object of side w <= a - b whose
centre is not beyond m ends at m + w / 2 <= a or before: the first tile shows it whole. And of an object that
ends at r <= a the second tile shows a piece from b to r, whose centre (b + r) / 2 <= m it does not own.

Two boxes are of one object if their overlap is above the limit. Pixels are those of the whole image, boxes
xyxy; windows are x, y, width, height.
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from trainables.contract.merging import Merging
from trainables.evaluation.overlaps import (
    Floats,
    Ints,
    Measure,
    between,
    over_smaller,
    over_union,
    some_images,
    within,
)
from trainables.evaluation.weighted_boxes import fuse

WAYS: tuple[Merging, ...] = get_args(Merging)

# Two tiles' boxes of one object differ, and so do their centres: where each of the two would leave the object
# to the other, it would be lost. So a box also counts if its centre, moved towards its tile's by this share
# of its sides, is owned, and it is not mostly covered by what counts already.
LEEWAY = 0.25
STEP = 64  # centres are rounded to a 64th of a pixel, so that both tiles see the same tie
TOUCH = 3.0  # px; a box whose edge is as near to a cut was ended by it
SLACK = 0.1  # of a piece's sides; by so much more may its other edges differ from its union's

Bools = npt.NDArray[np.bool_]
AnyFloats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Placed:
    """Boxes that were found on tiles: (P,) each.

    Attributes:
        image: Index of the whole image.
        tile: Index into the windows.
        label: Class ids.
        score: Confidences.
        box: (P, 4) xyxy pixels of the whole image.
    """

    image: Ints
    tile: Ints
    label: Ints
    score: AnyFloats
    box: AnyFloats


@dataclass(frozen=True)
class Merged:
    """Boxes of whole images, by descending score: (M,) each.

    Attributes:
        image: Index of the whole image.
        label: Class ids.
        score: Confidences, float32.
        box: (M, 4) xyxy pixels of the whole image, float32.
        origin: Index of the box that it comes from; of several that were made one, of the highest score.
    """

    image: Ints
    label: Ints
    score: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]
    origin: Ints


def merge(
    placed: Placed, windows: Ints, window_image: Ints, way: Merging = "core", *, iou: float = 0.5
) -> Merged:
    """Merge what tiles found.

    Args:
        placed: What was found.
        windows: (W, 4) x, y, width, height of all tiles in their whole images.
        window_image: (W,) index of the whole image of each.
        way: One of `WAYS`.
        iou: Overlap above which two boxes of a class are of one object.

    Raises:
        ValueError: There is no such way.
    """
    if way not in WAYS:
        raise ValueError(f"no such way of merging {way!r}, it is one of {', '.join(WAYS)}")
    grid = _Grid.of(windows, window_image)
    parts = [_merge(_Found.of(placed, some), grid, way, iou) for some in some_images(placed.image)]
    origin = np.concatenate([np.zeros(0, dtype=np.int64), *(part.origin for part in parts)])
    score = np.concatenate([np.zeros(0), *(part.score for part in parts)]).astype(np.float32)
    box = np.concatenate([np.zeros((0, 4)), *(part.box for part in parts)]).astype(np.float32)
    order = np.lexsort((origin, -score))
    origin = origin[order]
    return Merged(placed.image[origin], placed.label[origin], score[order], box[order], origin)


@dataclass(frozen=True)
class _Found:
    """Boxes of some whole images, by descending score: (n,) each.

    Attributes:
        origin: Index of what it comes from.
        group: The same for boxes of a whole image and class.
        tile: Index into the windows.
        score: Confidences.
        box: (n, 4).
    """

    origin: Ints
    group: Ints
    tile: Ints
    score: Floats
    box: Floats

    @classmethod
    def of(cls, placed: Placed, some: Ints) -> "_Found":
        """Those of the indices `some`."""
        origin = some[np.lexsort((some, -placed.score[some]))]
        label = placed.label[origin]
        group = placed.image[origin] * (label.max(initial=0) + 1) + label
        box, score = placed.box[origin].astype(np.float64), placed.score[origin].astype(np.float64)
        return cls(origin, group, placed.tile[origin], score, box)

    def __getitem__(self, some: Ints | Bools) -> "_Found":
        return _Found(self.origin[some], self.group[some], self.tile[some], self.score[some], self.box[some])

    def plus(self, other: "_Found") -> "_Found":
        """Both, not by score."""
        return _Found(
            np.concatenate([self.origin, other.origin]),
            np.concatenate([self.group, other.group]),
            np.concatenate([self.tile, other.tile]),
            np.concatenate([self.score, other.score]),
            np.concatenate([self.box, other.box]),
        )


def _merge(found: _Found, grid: "_Grid", way: Merging, iou: float) -> _Found:
    match way:
        case "core" | "joined":
            return _core(found, grid, iou, join=way == "joined")
        case "nms":
            return found[_survives(found, iou, over_union)]
        case "ios":
            return found[_survives(found, iou, over_smaller)]
        case "wbf":
            return _fused(found, iou)
        case "none":
            return found


def _survives(found: _Found, limit: float, measure: Measure = over_union) -> Bools:
    """(n,) non-maximum suppression: what overlaps no survivor of a higher score by more than `limit`."""
    high, low, value = within(found.group, found.box, limit, measure)
    high, low = high[value > limit], low[value > limit]
    alive = [True] * len(found.box)
    order = np.argsort(high, kind="stable")  # so each is decided when its turn comes
    for i, j in zip(high[order].tolist(), low[order].tolist(), strict=True):
        if alive[i]:
            alive[j] = False
    return np.array(alive, dtype=bool)


def _core(found: _Found, grid: "_Grid", iou: float, *, join: bool) -> _Found:
    """What tiles own, and what is within the leeway of it and not covered by it."""
    centre = (found.box[:, :2] + found.box[:, 2:]) / 2
    owned = grid.own(found.tile, centre)
    left = found[~owned]
    kept = _joined(found[owned], grid, iou) if join else found[owned]
    kept = kept[_survives(kept, iou)]
    near = left[grid.own(left.tile, grid.drawn_in(left))]
    covered, _, value = between(near.group, near.box, kept.group, kept.box, iou, over_smaller)
    free = np.ones(len(near.box), dtype=bool)
    free[covered[value > iou]] = False
    near = near[free]
    return kept.plus(near[_survives(near, iou)])


@dataclass(frozen=True)
class _Grid:
    """Where tiles lie.

    Attributes:
        low: (W, 2) upper left corners; pixels.
        high: (W, 2) lower right ones.
        place: (W,) rank by row, then by column: of two tiles as near to a point, the first owns it.
        inner_low: (W, 2) corners of the part that no other tile holds a point of.
        inner_high: (W, 2) likewise.
        start: (W + 1,) where each tile's neighbours begin in `neighbour`.
        neighbour: Tiles that overlap it.
        cut: (W, 4) whether the left, upper, right and lower edge lie within the whole image.
    """

    low: Floats
    high: Floats
    place: Ints
    inner_low: Floats
    inner_high: Floats
    start: Ints
    neighbour: Ints
    cut: Bools

    @classmethod
    def of(cls, windows: Ints, image: Ints) -> "_Grid":
        low = windows[:, :2].astype(np.float64)
        high = low + windows[:, 2:]
        one, other, _ = within(image, np.hstack([low, high]), 0.0)
        tile, neighbour = np.concatenate([one, other]), np.concatenate([other, one])
        order = np.argsort(tile, kind="stable")
        before, after = low[neighbour] < low[tile], low[neighbour] > low[tile]
        inner_low, inner_high = low.copy(), high.copy()
        np.maximum.at(inner_low, tile, np.where(before, high[neighbour], -np.inf))
        np.minimum.at(inner_high, tile, np.where(after, low[neighbour], np.inf))
        place = np.empty(len(windows), dtype=np.int64)
        place[np.lexsort((low[:, 0], low[:, 1], image))] = np.arange(len(windows))
        start = np.searchsorted(tile[order], np.arange(len(windows) + 1))
        extent = np.full((int(image.max(initial=-1)) + 1, 4), -np.inf)
        np.maximum.at(extent, image, np.hstack([-low, high]))
        cut = np.hstack([-low, high]) < extent[image]
        return cls(low, high, place, inner_low, inner_high, start, neighbour[order], cut)

    def own(self, tile: Ints, point: Floats) -> Bools:
        """(n,) whether each tile (n,) owns a point (n, 2) of its own."""
        point = (point * STEP).round() / STEP
        inner = (self.inner_low[tile] < point) & (point < self.inner_high[tile])
        owned: Bools = inner[:, 0] & inner[:, 1]
        shared = np.flatnonzero(~owned)
        owned[shared] = self._own(tile[shared], point[shared])
        return owned

    def _own(self, tile: Ints, point: Floats) -> Bools:
        """The same of any points, against all tiles that hold one."""
        counts = self.start[tile + 1] - self.start[tile]
        of = np.repeat(np.arange(len(tile)), counts)
        nth = np.arange(len(of)) - np.repeat(counts.cumsum() - counts, counts)
        rival, mine, where = self.neighbour[self.start[tile[of]] + nth], tile[of], point[of]
        holds = ((self.low[rival] <= where) & (where <= self.high[rival])).all(axis=1)
        far, rivals = self._distance(mine, where), self._distance(rival, where)
        nearer = (rivals < far) | ((rivals == far) & (self.place[rival] < self.place[mine]))
        owned = np.ones(len(tile), dtype=bool)
        owned[of[holds & nearer]] = False
        return owned

    def _distance(self, tile: Ints, point: Floats) -> Floats:
        """(n,) square of the distance from each tile's centre; exact, as all coordinates have few digits."""
        return np.asarray((((self.low[tile] + self.high[tile]) / 2 - point) ** 2).sum(axis=1))

    def drawn_in(self, found: _Found) -> Floats:
        """(n, 2) centres, moved towards their tiles' by the leeway, at most up to these."""
        centre = (found.box[:, :2] + found.box[:, 2:]) / 2
        way = (self.low[found.tile] + self.high[found.tile]) / 2 - centre
        leeway = LEEWAY * (found.box[:, 2:] - found.box[:, :2])
        return centre + np.clip(way, -leeway, leeway)

    def touched(self, found: _Found) -> Bools:
        """(n, 4) whether a cut ended a box on the left, above, on the right, below."""
        edges = np.hstack([self.low[found.tile], self.high[found.tile]])
        return self.cut[found.tile] & (np.abs(found.box - edges) <= TOUCH)


def _joined(found: _Found, grid: _Grid, least: float) -> _Found:
    """Pieces of one object that was cut in several tiles, as their union with the highest of their scores.

    The pairs that agree best take their turns. A union has one piece of a tile, and goes beyond a piece only
    where a cut ended that.
    """
    first = list(range(len(found.box)))  # of each box: the first of its union
    members: dict[int, list[int]] = {}
    union = found.box.copy()
    touched = grid.touched(found)
    leeway = np.tile(TOUCH + SLACK * (found.box[:, 2:] - found.box[:, :2]), 2)
    for i, j in _continued(found, grid, least):
        one, other = sorted((first[i], first[j]))
        all_ = members.get(one, [one]) + members.get(other, [other])
        if one == other or len(set(found.tile[all_].tolist())) < len(all_):
            continue
        box = np.hstack(
            [np.minimum(union[one, :2], union[other, :2]), np.maximum(union[one, 2:], union[other, 2:])]
        )
        if not (touched[all_] | (np.abs(box - found.box[all_]) <= leeway[all_])).all():
            continue
        union[one] = box
        members[one] = all_
        for k in all_:
            first[k] = one
    mine = np.flatnonzero(np.array(first, dtype=np.int64) == np.arange(len(first)))
    return _Found(found.origin[mine], found.group[mine], found.tile[mine], found.score[mine], union[mine])


def _continued(found: _Found, grid: _Grid, least: float) -> list[tuple[int, int]]:
    """Pairs of boxes, each ended by a cut, that agree on what both their tiles show; the surest first."""
    touched = grid.touched(found)
    ended = np.flatnonzero(touched.any(axis=1))
    # Beyond the cut, so that pieces meet where tiles do not overlap.
    outwards = np.array([-TOUCH, -TOUCH, TOUCH, TOUCH])
    edges = np.hstack([grid.low[found.tile], grid.high[found.tile]]) + outwards
    reach = np.where(touched, edges, found.box)
    one, other, _ = within(found.group[ended], reach[ended], 0.0)
    one, other = ended[one], ended[other]
    along = grid.low[found.tile[other]] - grid.low[found.tile[one]]  # (pairs, 2) from tile to tile
    facing = (along > 0) & touched[one, 2:] & touched[other, :2]
    facing |= (along < 0) & touched[one, :2] & touched[other, 2:]
    one, other = one[facing.any(axis=1)], other[facing.any(axis=1)]
    low = np.maximum(edges[one, :2], edges[other, :2])
    high = np.minimum(edges[one, 2:], edges[other, 2:])
    shown = np.hstack([low, low]), np.hstack([high, high])
    agreed = _iou(np.clip(reach[one], *shown), np.clip(reach[other], *shown))
    one, other, agreed = one[agreed > least], other[agreed > least], agreed[agreed > least]
    order = np.argsort(-agreed * np.minimum(found.score[one], found.score[other]), kind="stable")
    return list(zip(one[order].tolist(), other[order].tolist(), strict=True))


def _iou(one: Floats, other: Floats) -> Floats:
    """(n,) of each of (n, 4) with its counterpart."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (one[:, 2:] - one[:, :2]).prod(axis=1), (other[:, 2:] - other[:, :2]).prod(axis=1)
    return over_union(shared, *areas)


def _fused(found: _Found, limit: float) -> _Found:
    """Weighted boxes fusion."""
    first, score, box = fuse(found.group, found.score, found.box, limit)
    return _Found(found.origin[first], found.group[first], found.tile[first], score, box)

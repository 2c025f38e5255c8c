"""Which boxes overlap, and how much: as pairs, so that memory does not grow with the square of the boxes.

Boxes are xyxy. Only boxes of the same group, such as an image and class, are set side by side. They are laid
into horizontal bands, and swept from left to right within each; a pair that shares several bands is met in
the band where its shared part begins. Pure NumPy.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Pairs = tuple[Ints, Ints, Floats]  # (n,) first box, (n,) second box, (n,) how much they overlap
Measure = Callable[[Floats, Floats, Floats], Floats]

PAIRS_AT_ONCE, BOXES_AT_ONCE = 2**20, 2**18


def some_images(image: Ints) -> Iterator[Ints]:
    """Indices of the boxes of some images at a time, so that what is made of them on the way stays small.

    Args:
        image: (n,) that each box is on.
    """
    order = np.argsort(image, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(image[order])) + 1, len(order))  # of each image
    first = 0
    while first < len(order):
        fit = np.searchsorted(ends, first + BOXES_AT_ONCE, side="right") - 1
        last = int(ends[max(fit, np.searchsorted(ends, first, side="right"))])  # at least one image
        yield order[first:last]
        first = last


def over_union(shared: Floats, one: Floats, other: Floats) -> Floats:
    """IoU: (n,) each of the shared part's area, of the one box's and of the other's."""
    return shared / np.maximum(one + other - shared, 1e-7)


def over_smaller(shared: Floats, one: Floats, other: Floats) -> Floats:
    """Intersection over the smaller box: 1 if one lies within the other; arguments as of `over_union`."""
    return shared / np.maximum(np.minimum(one, other), 1e-7)


def within(group: Ints, box: AnyFloats, least: float, measure: Measure = over_union) -> Pairs:
    """All pairs of boxes that overlap by at least `least`, each once, the first before the second.

    Args:
        group: (n,) of each box.
        box: (n, 4).
        least: Overlap; pairs that share no area are left out in any case.
        measure: `over_union` or `over_smaller`.
    """
    boxes = box.astype(np.float64)
    laid = _lay(group, boxes, _frame(group, boxes))
    after = np.arange(1, len(laid.box) + 1)
    one, other, value = _measured(_sweep(laid, laid, after), boxes, boxes, least, measure)
    return np.minimum(one, other), np.maximum(one, other), value


def between(
    group: Ints,
    box: AnyFloats,
    other_group: Ints,
    other_box: AnyFloats,
    least: float,
    measure: Measure = over_union,
) -> Pairs:
    """All pairs of a box and one of the others that overlap by at least `least`; arguments as of `within`."""
    boxes, others = box.astype(np.float64), other_box.astype(np.float64)
    frame = _frame(np.concatenate([group, other_group]), np.concatenate([boxes, others]))
    laid, laid_others = _lay(group, boxes, frame), _lay(other_group, others, frame)
    # Whichever of the two begins further left meets the other.
    met = _sweep(laid, laid_others, np.searchsorted(laid_others.start, laid.start, side="left"))
    one, other, value = _measured(met, boxes, others, least, measure)
    met = _sweep(laid_others, laid, np.searchsorted(laid.start, laid_others.start, side="right"))
    other_too, one_too, value_too = _measured(met, others, boxes, least, measure)
    return (
        np.concatenate([one, one_too]),
        np.concatenate([other, other_too]),
        np.concatenate([value, value_too]),
    )


@dataclass(frozen=True)
class _Frame:
    """What all boxes are laid into.

    Attributes:
        groups: (g,) all there are, ascending.
        left: Of all boxes.
        top: Likewise.
        width: From one band's beginning to the next one's, where all bands lie in one row.
        bands: Of each group.
        height: Of a band.
    """

    groups: Ints
    left: float
    top: float
    width: float
    bands: int
    height: float


@dataclass(frozen=True)
class _Laid:
    """Boxes in bands, by where they begin: (m,) each.

    Attributes:
        box: Index of the box, once for each band that it reaches into.
        band: Which.
        first_band: Of that box.
        start: Where it begins, in the row of all bands of all groups.
        end: Where it ends.
    """

    box: Ints
    band: Ints
    first_band: Ints
    start: Floats
    end: Floats


def _frame(group: Ints, boxes: Floats) -> _Frame:
    if len(boxes) == 0:
        return _Frame(group, 0.0, 0.0, 1.0, 1, 1.0)
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    # As high as a box is on average: so boxes are in two bands on average, and few of a band are far apart.
    height = max(float(np.clip(boxes[:, 3] - boxes[:, 1], 0, None).mean()), (bottom - top) / 2**16, 1e-6)
    bands = int(max(bottom - top, 0) / height) + 1
    return _Frame(np.unique(group), left, top, 2 * max(right - left, 1e-6), bands, height)


def _lay(group: Ints, boxes: Floats, frame: _Frame) -> _Laid:
    real = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))  # others share no area with any
    x, y = boxes[real, ::2] - frame.left, boxes[real, 1::2] - frame.top  # (r, 2)
    reach = np.minimum((y / frame.height).astype(np.int64), frame.bands - 1)  # (r, 2) first and last band
    counts = reach[:, 1] - reach[:, 0] + 1
    of = np.repeat(np.arange(len(real)), counts)  # (m,)
    band = reach[of, 0] + np.arange(len(of)) - np.repeat(counts.cumsum() - counts, counts)
    row = np.searchsorted(frame.groups, group[real])[of] * frame.bands + band
    start = row * frame.width + x[of, 0]
    order = np.argsort(start, kind="stable")
    of = of[order]
    return _Laid(real[of], band[order], reach[of, 0], start[order], row[order] * frame.width + x[of, 1])


def _sweep(laid: _Laid, others: _Laid, low: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Index of a box, and of one of the others that begins within it, in a band.

    Args:
        laid: Boxes.
        others: Which they are to meet.
        low: (m,) the first of the others that each may meet.
    """
    high = np.maximum(np.searchsorted(others.start, laid.end, side="left"), low)
    ends = (high - low).cumsum()
    first = 0
    while first < len(low):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")), first + 1)
        counts = (high - low)[first:last]
        one = np.repeat(np.arange(first, last), counts)
        other = np.arange(len(one)) + np.repeat(low[first:last] - (counts.cumsum() - counts), counts)
        once = np.maximum(laid.first_band[one], others.first_band[other]) == laid.band[one]
        yield laid.box[one[once]], others.box[other[once]]
        first = last


def _measured(
    met: Iterator[tuple[Ints, Ints]], boxes: Floats, others: Floats, least: float, measure: Measure
) -> Pairs:
    # Column by column: several times as fast as rows of four.
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    lefts, tops, rights, bottoms = np.ascontiguousarray(others.T)
    areas, other_areas = (right - left) * (bottom - top), (rights - lefts) * (bottoms - tops)
    none = np.zeros(0, dtype=np.int64)
    found: list[Pairs] = [(none, none, none.astype(np.float64))]
    for one, other in met:
        width = np.minimum(right[one], rights[other]) - np.maximum(left[one], lefts[other])
        height = np.minimum(bottom[one], bottoms[other]) - np.maximum(top[one], tops[other])
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        value = measure(shared, areas[one], other_areas[other])
        enough = (shared > 0) & (value >= least)
        found.append((one[enough], other[enough], value[enough]))
    ones, others_met, values = zip(*found, strict=True)
    return np.concatenate(ones), np.concatenate(others_met), np.concatenate(values)


class Placed:
    """Some boxes of a split, by image and left edge, so that what lies in others is soon found.

    Args:
        image: (P,) of all boxes.
        box: (P, 4).
        which: (n,) indices of those that are sought.
    """

    def __init__(self, image: Ints, box: AnyFloats, which: Ints) -> None:
        self._n, chosen = len(image), box[which].astype(np.float64)
        self._low = float(chosen[:, 0].min(initial=0.0))
        self._widest = float((chosen[:, 2] - chosen[:, 0]).max(initial=0.0))
        # From one image to the next, where all lie in one row: others may begin or end beyond these.
        self._span = 4 * (float(np.abs(chosen).max(initial=1.0)) + self._widest)
        place = self._place(image[which], chosen[:, 0])
        order = np.argsort(place, kind="stable")
        self._which, self._at, self._box = which[order], place[order], chosen[order]
        self._area = (self._box[:, 2:] - self._box[:, :2]).prod(axis=1)

    def _place(self, image: Ints, left: Floats) -> Floats:
        return np.asarray(image * self._span + (left - self._low))

    def inside(self, image: Ints, box: AnyFloats, share: float) -> Bools:
        """(P,) which of all predictions are boxes of these that lie in one of some others.

        Args:
            image: (q,) of the others.
            box: (q, 4).
            share: Of a box's area that must lie within.
        """
        others = box.astype(np.float64)
        first = np.searchsorted(self._at, self._place(image, others[:, 0] - self._widest))
        last = np.searchsorted(self._at, self._place(image, others[:, 2]))
        counts = last - first
        over = np.repeat(np.arange(len(others)), counts)
        mine = np.arange(len(over)) + np.repeat(first - (counts.cumsum() - counts), counts)
        low = np.maximum(self._box[mine, :2], others[over, :2])
        high = np.minimum(self._box[mine, 2:], others[over, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        found = np.zeros(self._n, dtype=bool)
        found[self._which[mine[(shared > 0) & (shared >= share * self._area[mine])]]] = True
        return found


def covered(
    image: Ints,
    label: Ints,
    score: AnyFloats,
    box: AnyFloats,
    minority: Collection[int],
    *,
    least: float,
    share: float,
) -> Bools:
    """(P,) which boxes of the majority lie in a box of the minority that is surely there.

    A cluster is made of cells: whoever wants the one and not the others leaves these out.

    Args:
        image: (P,) of each box.
        label: (P,) class ids.
        score: (P,) in [0, 1].
        box: (P, 4) corners.
        minority: Class ids.
        least: Score of a box of the minority that covers.
        share: Of a box's area that must lie within it, in (0, 1].
    """
    rare = np.isin(label, list(minority))
    sure = rare & (score >= least)
    return Placed(image, box, np.flatnonzero(~rare)).inside(image[sure], box[sure], share)

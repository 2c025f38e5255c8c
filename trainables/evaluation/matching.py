"""Which predicted boxes are true positives. Pure NumPy; flat in memory: one image at a time."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

IOUS = np.linspace(0.5, 0.95, 10)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def match(
    pred_image: Ints,
    pred_class: Ints,
    pred_score: npt.NDArray[np.floating],
    pred_box: npt.NDArray[np.floating],
    true_image: Ints,
    true_class: Ints,
    true_box: npt.NDArray[np.floating],
) -> Bools:
    """Which predictions are true positives, at each IoU of `IOUS`.

    Within an image and class, predictions take their turn by descending score; each takes the free true
    object that it overlaps most, if by at least the threshold.

    Args:
        pred_image: (P,) image index of each prediction; `true_image` (T,) likewise.
        pred_class: (P,) class ids; `true_class` (T,) likewise.
        pred_score: (P,) confidences.
        pred_box: (P, 4) xyxy; `true_box` (T, 4) likewise.
        true_image: See above.
        true_class: See above.
        true_box: See above.

    Returns:
        (P, 10).
    """
    matched = np.zeros((len(pred_image), len(IOUS)), dtype=bool)
    by_image = np.lexsort((-pred_score, pred_image))  # stable: equal scores keep their order
    of_image = np.argsort(true_image, kind="stable")
    starts = np.searchsorted(pred_image[by_image], [true_image[of_image], true_image[of_image] + 1])
    firsts = np.flatnonzero(np.diff(true_image[of_image], prepend=-1))  # the first object of each image
    for first, last in pairwise([*firsts, len(of_image)]):
        mine = by_image[starts[0, first] : starts[1, first]]  # (p,)
        truth = of_image[first:last]  # (t,)
        iou = _iou(pred_box[mine], true_box[truth])  # (p, t)
        iou[pred_class[mine][:, None] != true_class[truth]] = 0
        _take_turns(iou, mine, matched)
    return matched


def on_hidden(
    pred_image: Ints,
    pred_class: Ints,
    pred_box: npt.NDArray[np.floating],
    hidden_image: Ints,
    hidden_class: Ints,
    hidden_box: npt.NDArray[np.floating],
) -> Bools:
    """Which predictions lie on an object that is there but has no label.

    At least half of such a prediction's area lies within what the image shows of an object of its class. So
    COCO treats crowds at IoU .5; a box with an IoU of .5 or more with that part is always one.

    Args:
        pred_image: (P,) image index of each prediction; `hidden_image` (H,) likewise.
        pred_class: (P,) class ids; `hidden_class` (H,) likewise.
        pred_box: (P, 4) xyxy; `hidden_box` (H, 4) likewise.
        hidden_image: See above.
        hidden_class: See above.
        hidden_box: See above.

    Returns:
        (P,).
    """
    found = np.zeros(len(pred_image), dtype=bool)
    by_image, images = np.argsort(pred_image, kind="stable"), np.unique(hidden_image)
    starts = np.searchsorted(pred_image[by_image], [images, images + 1])
    for image, first, last in zip(images, *starts, strict=True):
        mine, there = by_image[first:last], hidden_image == image
        own = pred_box[mine].astype(np.float64)
        within = _shared(own, hidden_box[there].astype(np.float64))  # (p, h)
        within[pred_class[mine][:, None] != hidden_class[there]] = 0
        area = (own[:, 2:] - own[:, :2]).prod(axis=-1)
        found[mine] = (within.max(axis=1) >= area / 2) & (area > 0)
    return found


def _take_turns(iou: Floats, mine: Ints, matched: Bools) -> None:
    """Let one image's predictions, (p,) `mine` by descending score, take objects; fills rows of `matched`.

    An object is free at each threshold by itself: a bit each.
    """
    row, column = np.nonzero(iou >= IOUS[0])
    if len(row) == 0:
        return
    close = iou[row, column]
    order = np.lexsort((-close, row))  # a prediction's objects, the one that it overlaps most first
    reach = (
        1 << np.searchsorted(IOUS, close, side="right")
    ) - 1  # (pairs,) thresholds that the overlap meets
    free = [(1 << len(IOUS)) - 1] * iou.shape[1]
    taken: dict[int, int] = {}
    for i, j, bits in zip(row[order].tolist(), column[order].tolist(), reach[order].tolist(), strict=True):
        won = bits & free[j] & ~taken.get(i, 0)
        if won:
            taken[i] = taken.get(i, 0) | won
            free[j] &= ~won
    bits_won = np.array(list(taken.values()), dtype=np.int64)
    matched[mine[list(taken)]] = bits_won[:, None] >> np.arange(len(IOUS)) & 1


def _iou(boxes: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> Floats:
    """IoU of each box (p, 4) with each other (t, 4); (p, t)."""
    one, two = boxes.astype(np.float64), others.astype(np.float64)
    shared = _shared(one, two)
    areas = (one[:, 2:] - one[:, :2]).prod(axis=-1)[:, None] + (two[:, 2:] - two[:, :2]).prod(axis=-1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-7))


def _shared(boxes: Floats, others: Floats) -> Floats:
    """Area that each box (p, 4) has in common with each other (t, 4); (p, t)."""
    one, two = boxes[:, None], others[None]
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    return np.asarray(np.clip(sides, 0, None).prod(axis=-1))

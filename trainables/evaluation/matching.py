"""Which predicted boxes are true positives. Pure NumPy; flat in memory: only pairs that overlap are made."""

import numpy as np
import numpy.typing as npt

from trainables.evaluation.overlaps import between, some_images

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
    classes = max(pred_class.max(initial=0), true_class.max(initial=0)) + 1
    groups = pred_image * classes + pred_class, true_image * classes + true_class
    turn = np.empty(len(pred_image), dtype=np.int64)
    turn[np.argsort(-pred_score, kind="stable")] = np.arange(len(turn))  # equal scores keep their order
    for some in some_images(np.concatenate([pred_image, true_image])):
        mine, truth = some[some < len(turn)], some[some >= len(turn)] - len(turn)  # (p,), (t,)
        pred, true, iou = between(
            groups[0][mine], pred_box[mine], groups[1][truth], true_box[truth], float(IOUS[0])
        )
        pred, true = mine[pred], truth[true]
        order = np.lexsort((true, -iou, turn[pred]))  # a prediction's objects, the one it overlaps most first
        _take_turns(pred[order], true[order], iou[order], matched)
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


def _take_turns(pred: Ints, true: Ints, iou: Floats, matched: Bools) -> None:
    """Let predictions take objects, of the pairs (n,) in order; fills rows of `matched`.

    An object is free at each threshold by itself: a bit each.
    """
    # (n,) thresholds that the overlap meets
    reach = (1 << np.searchsorted(IOUS, iou, side="right")) - 1
    free = dict.fromkeys(true.tolist(), (1 << len(IOUS)) - 1)
    taken: dict[int, int] = {}
    for i, j, bits in zip(pred.tolist(), true.tolist(), reach.tolist(), strict=True):
        won = bits & free[j] & ~taken.get(i, 0)
        if won:
            taken[i] = taken.get(i, 0) | won
            free[j] &= ~won
    bits_won = np.array(list(taken.values()), dtype=np.int64)
    matched[np.array(list(taken), dtype=np.int64)] = bits_won[:, None] >> np.arange(len(IOUS)) & 1


def _shared(boxes: Floats, others: Floats) -> Floats:
    """Area that each box (p, 4) has in common with each other (t, 4); (p, t)."""
    one, two = boxes[:, None], others[None]
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    return np.asarray(np.clip(sides, 0, None).prod(axis=-1))

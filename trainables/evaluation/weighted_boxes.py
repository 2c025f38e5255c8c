"""Weighted boxes fusion (Solovyev et al. 2021) of what one model found several times. Pure NumPy."""

import numpy as np

from trainables.evaluation.overlaps import AnyFloats, Floats, Ints, within


def fuse(group: Ints, score: Floats, box: AnyFloats, limit: float) -> tuple[Ints, Floats, Floats]:
    """Fuse boxes of the same group that overlap.

    By descending score, each box joins the fused box that it overlaps most, if by more than `limit`, else it
    begins one of its own. A fused box is the mean of its boxes, weighted by score, and moves with each of
    them; its score is their mean.

    Args:
        group: (n,) of each box.
        score: (n,) descending.
        box: (n, 4) xyxy.
        limit: IoU.

    Returns:
        (m,) the first box of each fused one, (m,) scores, (m, 4) boxes.
    """
    earlier, later, _ = within(group, box, 0.0)
    # A mean of boxes overlaps by so much only what one of these overlaps at all.
    order = np.lexsort((earlier, later))
    starts = np.searchsorted(later[order], np.arange(len(box) + 1)).tolist()
    met = earlier[order].tolist()
    now = box.astype(np.float64).tolist()  # of a fused box: what it is now, at the place of its first one
    first = list(range(len(now)))  # of each box: the first of the fused box that it joined
    members: dict[int, list[int]] = {}
    for i in range(len(now)):
        if starts[i] == starts[i + 1]:
            continue
        best, most = -1, limit
        for k in sorted({first[j] for j in met[starts[i] : starts[i + 1]]}):
            overlap = _iou(now[i], now[k])
            if overlap > most:
                best, most = k, overlap
        if best >= 0:
            first[i] = best
            members.setdefault(best, [best]).append(i)
            mine = members[best]
            now[best] = np.average(box[mine], axis=0, weights=score[mine]).tolist()
    alone = np.flatnonzero(np.array(first, dtype=np.int64) == np.arange(len(now)))
    fused_score = score.copy()
    for k, mine in members.items():
        fused_score[k] = score[mine].mean()
    return alone, fused_score[alone], np.array(now, dtype=np.float64).reshape(-1, 4)[alone]


def _iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (areas - shared)

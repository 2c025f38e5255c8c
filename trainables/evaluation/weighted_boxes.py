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
    earlier, later, overlap = within(group, box, 0.0)
    # A mean of boxes overlaps by so much only what one of these overlaps at all.
    order = np.lexsort((earlier, later))
    starts = np.searchsorted(later[order], np.arange(len(box) + 1)).tolist()
    met, overlaps = earlier[order].tolist(), overlap[order].tolist()
    boxes, scores = box.astype(np.float64).tolist(), score.tolist()
    first = list(range(len(boxes)))  # of each box: the first one of the fused box that it is in
    fused: dict[int, _Mean] = {}  # by its first one; of more than one box
    for i in range(len(boxes)):
        best, most = -1, limit
        for j, value in zip(met[starts[i] : starts[i + 1]], overlaps[starts[i] : starts[i + 1]], strict=True):
            k = first[j]
            if k in fused:
                value = _iou(boxes[i], fused[k].box)
            if value > most:
                best, most = k, value
        if best >= 0:
            first[i] = best
            if best not in fused:
                fused[best] = _Mean(boxes[best], scores[best])
            fused[best].add(boxes[i], scores[i])
    now, now_score = box.astype(np.float64), score.copy()
    for k, mean in fused.items():
        now[k], now_score[k] = mean.box, mean.score
    alone = np.flatnonzero(np.array(first, dtype=np.int64) == np.arange(len(first)))
    return alone, now_score[alone], now[alone]


class _Mean:
    """Of boxes, weighted by score."""

    def __init__(self, box: list[float], score: float) -> None:
        self.box = box
        self._sum = [score * side for side in box]
        self._weight, self._count = score, 1

    def add(self, box: list[float], score: float) -> None:
        self._weight += score
        self._count += 1
        self._sum = [sum_ + score * side for sum_, side in zip(self._sum, box, strict=True)]
        if self._weight > 0:
            self.box = [sum_ / self._weight for sum_ in self._sum]

    @property
    def score(self) -> float:
        return self._weight / self._count


def _iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (areas - shared)

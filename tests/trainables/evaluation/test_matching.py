import numpy as np
import pytest
from layouts import iou_matrix

from trainables.evaluation import overlaps
from trainables.evaluation.matching import IOUS, match


@pytest.mark.parametrize("seed", range(60))
def test_matches_are_those_of_the_definition_written_down(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many ties of scores and of overlaps, and images that have only predictions, or only objects."""
    monkeypatch.setattr(overlaps, "BOXES_AT_ONCE", [2**18, 50, 1][seed % 3])
    rng = np.random.default_rng(seed)
    objects, n, decimals = int(rng.integers(1, 80)), int(rng.integers(0, 200)), int(rng.integers(0, 3))
    low = rng.uniform(0, 60, (objects, 2))
    true_box = np.hstack([low, low + rng.uniform(1, 30, (objects, 2))]).round(decimals)
    true_image, true_class = rng.integers(0, 5, objects), rng.integers(0, 3, objects)
    of = rng.integers(0, objects, n)
    box = true_box[of] + rng.normal(0, 2, (n, 4)).round(decimals)
    image = np.where(rng.random(n) < 0.9, true_image[of], rng.integers(0, 7, n))
    label = np.where(rng.random(n) < 0.9, true_class[of], rng.integers(0, 4, n))
    score = rng.random(n).round(decimals)
    found = match(image, label, score, box, true_image, true_class, true_box)
    iou = iou_matrix(box, true_box)
    iou[(image[:, None] != true_image) | (label[:, None] != true_class)] = 0
    for column, least in enumerate(IOUS):
        free = np.ones(objects, dtype=bool)
        for i in np.argsort(-score, kind="stable"):
            left = np.where(free, iou[i], 0)
            assert found[i, column] == (left.max() >= least)
            if left.max() >= least:
                free[left.argmax()] = False

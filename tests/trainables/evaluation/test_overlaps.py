import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from trainables.evaluation import overlaps
from trainables.evaluation.overlaps import Floats, Ints, between, over_smaller, some_images, within


def _boxes(rng: np.random.Generator, n: int) -> tuple[Ints, Floats]:
    """Group and box; small and large ones, empty ones, and ones that begin or end where others do."""
    low = rng.uniform(-50, 100, (n, 2))
    sides = rng.uniform(0, 30, (n, 2)) * rng.choice([1, 1, 1, 0, 6], (n, 1))
    return rng.integers(-1, 3, n), np.hstack([low, low + sides]).round(int(rng.integers(0, 3)))


def _dense(group: Ints, box: Floats, other_group: Ints, other_box: Floats, least: float) -> Floats:
    iou = box_iou(torch.tensor(box), torch.tensor(other_box)).nan_to_num().numpy()
    iou[(group[:, None] != other_group) | (iou < least)] = 0
    return iou


def _laid_out(pairs: overlaps.Pairs, n: int, m: int) -> Floats:
    one, other, value = pairs
    assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(one)  # each pair once
    found = np.zeros((n, m))
    found[one, other] = value
    return found


@pytest.mark.parametrize("seed", range(60))
def test_pairs_are_those_of_the_whole_matrix(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "PAIRS_AT_ONCE", [2**20, 13, 1][seed % 3])
    rng = np.random.default_rng(seed)
    group, box = _boxes(rng, int(rng.integers(0, 90)))
    other_group, other_box = _boxes(rng, int(rng.integers(0, 90)))
    least = [0.0, 0.3, 0.5][seed % 3]
    shape = len(box), len(other_box)
    np.testing.assert_allclose(
        _laid_out(between(group, box, other_group, other_box, least), *shape),
        _dense(group, box, other_group, other_box, least),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        _laid_out(within(group, box, least), len(box), len(box)),
        np.triu(_dense(group, box, group, box, least), 1),
        rtol=1e-12,
    )


def test_a_box_within_another_covers_all_of_the_smaller() -> None:
    group, box = np.zeros(2, dtype=np.int64), np.array([[0.0, 0, 10, 10], [2, 2, 4, 4]])
    assert within(group, box, 0.0)[2].tolist() == [0.04]
    assert within(group, box, 0.0, over_smaller)[2].tolist() == [1.0]


def test_boxes_that_touch_share_nothing() -> None:
    group, box = np.zeros(2, dtype=np.int64), np.array([[0.0, 0, 10, 10], [10, 0, 20, 10]])
    assert [len(column) for column in within(group, box, 0.0)] == [0, 0, 0]


@pytest.mark.parametrize("at_once", [1, 5, 8, 1000])
def test_some_images_are_whole_ones_and_each_is_there_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlaps, "BOXES_AT_ONCE", at_once)
    image = np.random.default_rng(0).integers(0, 12, 40)
    parts = list(some_images(image))
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    seen = [set(image[part].tolist()) for part in parts]
    assert sum(map(len, seen)) == len(set(image.tolist()))
    assert all(len(part) <= at_once or len(images) == 1 for part, images in zip(parts, seen, strict=True))
    assert list(some_images(image[:0])) == []

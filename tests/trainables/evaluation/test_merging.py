from dataclasses import replace

import numpy as np
import pytest
import torch
from ensemble_boxes import weighted_boxes_fusion
from layouts import drawn_layout
from sahi.postprocess.backends import set_postprocess_backend
from sahi.postprocess.combine import batched_nms as sahi_batched_nms
from torchvision.ops import batched_nms

from trainables.contract.trial import Merging
from trainables.evaluation import overlaps
from trainables.evaluation.merging import WAYS, Ints, Merged, Placed, merge

# Two tiles of 100 px that share 20: the first owns what is left of x = 90, and that itself.
TWO = np.array([[0, 0, 100, 100], [80, 0, 100, 100]])


def _placed(*rows: tuple[int, float, tuple[float, float, float, float]], label: int = 0) -> Placed:
    """Tile, score, box each, on one whole image."""
    tile, score, box = zip(*rows, strict=True)
    return Placed(
        image=np.zeros(len(rows), dtype=np.int64),
        tile=np.array(tile),
        label=np.full(len(rows), label),
        score=np.array(score, dtype=np.float32),
        box=np.array(box, dtype=np.float32),
    )


def _merged(placed: Placed, way: Merging, windows: Ints = TWO) -> Merged:
    return merge(placed, windows, np.zeros(len(windows), dtype=np.int64), way)


WHOLE, PIECE = (70, 40, 90, 60), (80, 40, 90, 60)  # half of it is visible on the second tile


@pytest.mark.parametrize(
    ("way", "rows", "kept"),
    [
        pytest.param("core", [(0, 0.8, WHOLE), (1, 0.9, PIECE)], [0], id="a piece counts not, however sure"),
        pytest.param(
            "ios", [(0, 0.8, WHOLE), (1, 0.9, PIECE)], [1], id="by the smaller the surer one counts"
        ),
        pytest.param("nms", [(0, 0.8, WHOLE), (1, 0.9, PIECE)], [1, 0], id="half is not above half, so both"),
        pytest.param("none", [(0, 0.8, WHOLE), (1, 0.9, WHOLE)], [1, 0], id="nothing is merged by none"),
        pytest.param(
            "core", [(0, 0.8, (85, 0, 95, 10)), (1, 0.9, (85, 0, 95, 10))], [0], id="a tie is the left one's"
        ),
        pytest.param(
            "core",
            [(0, 0.8, (86, 0, 96, 10)), (1, 0.9, (84, 0, 94, 10))],
            [1],
            id="what each leaves to the other by a pixel is not lost",
        ),
        pytest.param(
            "core",
            [(0, 0.8, (85, 0, 94, 10)), (1, 0.9, (86, 0, 95, 10))],
            [1],
            id="what both own by half a pixel is found once",
        ),
        pytest.param(
            "core",
            [(0, 0.8, (85, 40, 95.0001, 50)), (1, 0.9, (85, 40, 94.9999, 50)), (0, 0.7, (60, 30, 98, 60))],
            [0, 2],
            id="a tie is one to a hundredth of a pixel, so what lies within another is not lost",
        ),
        pytest.param(
            "core", [(1, 0.9, WHOLE)], [], id="what only a tile found that does not own it is dropped"
        ),
        pytest.param(
            "core", [(0, 0.9, (0, 0, 9, 9)), (0, 0.8, (1, 0, 9, 9))], [0], id="a tile's own doubles are one"
        ),
    ],
)
def test_what_counts_is(
    way: Merging, rows: list[tuple[int, float, tuple[float, float, float, float]]], kept: list[int]
) -> None:
    assert _merged(_placed(*rows), way).origin.tolist() == kept


@pytest.mark.parametrize("way", WAYS)
def test_boxes_of_other_classes_and_images_are_other_objects(way: Merging) -> None:
    one = _placed((0, 0.9, WHOLE), (0, 0.8, WHOLE), (0, 0.7, WHOLE))
    placed = replace(one, label=np.array([0, 1, 0]), image=np.array([0, 0, 1]), tile=np.array([0, 0, 2]))
    found = merge(placed, np.vstack([TWO, TWO]), np.array([0, 0, 1, 1]), way)
    assert found.origin.tolist() == [0, 1, 2]
    assert (found.image.tolist(), found.label.tolist()) == ([0, 0, 1], [0, 1, 0])


@pytest.mark.parametrize(
    "windows",
    [
        pytest.param(TWO, id="tiles that overlap"),
        pytest.param(np.array([[0, 0, 100, 100], [100, 0, 100, 100]]), id="tiles that only touch"),
    ],
)
def test_pieces_of_what_no_tile_shows_whole_are_joined(windows: Ints) -> None:
    begin = float(windows[1, 0])
    placed = _placed((0, 0.8, (50, 40, 100, 60)), (1, 0.9, (begin, 41, 130, 60)), (1, 0.7, (150, 0, 160, 9)))
    found = _merged(placed, "joined", windows)
    assert found.origin.tolist() == [1, 2]
    assert found.box.tolist() == [[50, 40, 130, 60], [150, 0, 160, 9]]
    assert found.score.tolist() == pytest.approx([0.9, 0.7])
    assert _merged(placed, "core", windows).origin.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((80, 70, 130, 90), id="at another height"),
        pytest.param((84, 40, 130, 60), id="that no cut ended"),
        pytest.param((80, 40, 130, 75), id="that is much higher"),
    ],
)
def test_a_piece_is_not_joined_to_one(other: tuple[float, float, float, float]) -> None:
    placed = _placed((0, 0.8, (50, 40, 100, 60)), (1, 0.9, other))
    assert _merged(placed, "joined").box.tolist() == [list(other), [50, 40, 100, 60]]


def test_a_piece_is_joined_to_one_of_a_tile_and_rather_to_a_sure_one() -> None:
    sure, unsure, piece = (80, 41, 130, 60), (80, 40, 130, 61), (50, 40, 100, 60)
    found = _merged(_placed((1, 0.8, sure), (1, 0.1, unsure), (0, 0.9, piece)), "joined")
    assert found.box[0].tolist() == [50, 40, 130, 60]
    assert found.origin[0] == 2


def test_an_object_on_a_corner_is_joined_of_four_pieces() -> None:
    windows = np.array([[0, 0, 100, 100], [80, 0, 100, 100], [0, 80, 100, 100], [80, 80, 100, 100]])
    boxes = [(40, 50, 100, 100), (80, 50, 140, 100), (40, 80, 100, 130), (80, 80, 140, 130)]
    placed = _placed(*((tile, 0.9 - tile / 10, box) for tile, box in enumerate(boxes)))
    found = _merged(placed, "joined", windows)
    assert found.box.tolist() == [[40, 50, 140, 130]]
    assert found.origin.tolist() == [0]


def test_a_fused_box_is_the_mean_by_score_and_what_one_tile_found_keeps_its_score() -> None:
    found = _merged(_placed((0, 0.9, (84, 0, 94, 10)), (1, 0.3, (88, 0, 98, 10)), (0, 0.5, WHOLE)), "wbf")
    assert found.origin.tolist() == [0, 2, 1]  # not fused: they overlap by 6 of 14
    found = _merged(_placed((0, 0.9, (84, 0, 94, 10)), (1, 0.3, (86, 0, 96, 10)), (0, 0.5, WHOLE)), "wbf")
    assert found.origin.tolist() == [0, 2]
    assert found.score.tolist() == pytest.approx([0.6, 0.5])
    np.testing.assert_allclose(found.box[0], [84.5, 0, 94.5, 10])


def test_there_is_no_other_way() -> None:
    with pytest.raises(ValueError, match="no such way of merging 'soft', it is one of core"):
        _merged(_placed((0, 0.9, WHOLE)), "soft")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_found_is_nothing_merged(way: Merging) -> None:
    found = _merged(replace(_placed((0, 0.9, WHOLE)), **_none()), way)
    assert [column.shape for column in vars(found).values()] == [(0,), (0,), (0,), (0, 4), (0,)]


def _none() -> dict[str, np.ndarray]:
    none = np.zeros(0, dtype=np.int64)
    return {"image": none, "tile": none, "label": none, "score": none.astype(float), "box": np.zeros((0, 4))}


def _drawn(seed: int) -> Placed:
    """Boxes in heaps on two whole images and three classes; no two scores are the same."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    heap = rng.uniform(0, 150, (max(n // 5, 1), 2))
    low = heap[rng.integers(0, len(heap), n)] + rng.normal(0, 3, (n, 2))
    return Placed(
        image=rng.integers(0, 2, n),
        tile=np.zeros(n, dtype=np.int64),
        label=rng.integers(0, 3, n),
        score=rng.permutation(n) / n + 0.5 / n,
        box=np.clip(np.hstack([low, low + rng.uniform(5, 40, (n, 2))]), 0, 200),
    )


# A tile for each image, that shows all of it.
ALL = np.array([[0, 0, 200, 200]] * 2)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_nms_keeps_what_torchvision_keeps(seed: int, iou: float) -> None:
    placed = _drawn(seed)
    group = torch.tensor(placed.image * 3 + placed.label)
    kept = batched_nms(torch.tensor(placed.box), torch.tensor(placed.score), group, iou)
    assert merge(placed, ALL, np.arange(2), "nms", iou=iou).origin.tolist() == kept.tolist()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_ios_keeps_what_sahi_keeps(seed: int, iou: float) -> None:
    set_postprocess_backend("numpy")
    placed = _drawn(seed)
    group = placed.image * 3 + placed.label
    rows = np.column_stack([placed.box, placed.score, group])
    kept = sahi_batched_nms(rows, match_metric="IOS", match_threshold=iou)
    assert merge(placed, ALL, np.arange(2), "ios", iou=iou).origin.tolist() == kept


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("iou", [0.3, 0.55, 0.7])
def test_wbf_fuses_as_ensemble_boxes_fuses_what_one_model_found(seed: int, iou: float) -> None:
    placed = _drawn(seed)
    group = placed.image * 3 + placed.label
    found = merge(placed, ALL, np.arange(2), "wbf", iou=iou)
    boxes, scores, labels = weighted_boxes_fusion(
        [placed.box / 200], [placed.score], [group], iou_thr=iou, skip_box_thr=0, conf_type="avg"
    )
    mine = np.column_stack([found.image * 3 + found.label, found.score, found.box / 200])
    theirs = np.column_stack([labels, scores, boxes])
    assert len(mine) == len(theirs)
    order, their_order = (np.lexsort(rows.round(4).T[::-1]) for rows in (mine, theirs))
    np.testing.assert_allclose(mine[order], theirs[their_order], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_neither_the_order_of_boxes_nor_how_many_images_are_merged_at_once_matters(
    way: Merging, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts = [drawn_layout(np.random.default_rng(seed), larger=True) for seed in range(6)]
    image = np.repeat(np.arange(6), [len(layout.windows) for layout in layouts])
    firsts = np.searchsorted(image, np.arange(6))
    n = sum(len(layout.placed.tile) for layout in layouts)
    placed = Placed(
        np.repeat(np.arange(6), [len(layout.placed.tile) for layout in layouts]),
        np.concatenate([layout.placed.tile + at for layout, at in zip(layouts, firsts, strict=True)]),
        np.concatenate([layout.placed.label for layout in layouts]),
        np.random.default_rng(1).random(n),
        np.concatenate([layout.placed.box for layout in layouts]),
    )
    windows = np.concatenate([layout.windows for layout in layouts])
    found = merge(placed, windows, image, way)
    monkeypatch.setattr(overlaps, "BOXES_AT_ONCE", 1)
    order = np.random.default_rng(0).permutation(len(placed.tile))
    shuffled = Placed(**{name: column[order] for name, column in vars(placed).items()})
    again = merge(shuffled, windows, image, way)
    np.testing.assert_array_equal(order[again.origin], found.origin)
    np.testing.assert_array_equal(again.box, found.box)
    for i, layout in enumerate(layouts):
        mine = placed.image == i
        one = replace(layout.placed, score=placed.score[mine])
        alone = _merged(one, way, layout.windows)
        np.testing.assert_array_equal(alone.box, found.box[found.image == i])

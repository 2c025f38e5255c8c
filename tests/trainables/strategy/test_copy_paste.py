import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.strategy.copy_paste import (
    LARGEST_MATCH,
    OVERLAP,
    Tile,
    cut_out,
    find_place,
    match_light,
    paste,
    paste_objects,
)

CELL, CLUSTER = 0, 1


def tile_with(*objects: tuple[int, int, int, int, int], light: int = 200, side: int = 64) -> Tile:
    """An even tile with filled boxes: (class, x1, y1, x2, y2), clusters at 40 and cells at 90."""
    image = np.full((side, side, 3), light, dtype=np.uint8)
    for class_id, x1, y1, x2, y2 in sorted(objects, reverse=True):
        image[y1:y2, x1:x2] = 40 if class_id == CLUSTER else 90
    boxes = np.array([found[1:] for found in objects], dtype=np.float64).reshape(-1, 4)
    return Tile(image, boxes, np.array([found[0] for found in objects], dtype=np.int64))


DONOR = tile_with((CLUSTER, 20, 24, 40, 40))


def test_an_object_is_pasted_with_its_box_and_its_pixels_and_nothing_else_changes() -> None:
    pasted = paste(cut_out(DONOR, 0), tile_with((CELL, 2, 2, 8, 8)), (30, 40))
    # The piece's corner is that of the surroundings, a tenth of the object's sides outside of its box.
    assert pasted.boxes.tolist() == [[2, 2, 8, 8], [32, 42, 52, 58]]
    assert pasted.classes.tolist() == [CELL, CLUSTER]
    assert (pasted.image[44:56, 34:50] == 40).all()
    outside = np.ones((64, 64), dtype=bool)
    outside[40:60, 30:54] = False
    np.testing.assert_array_equal(pasted.image[outside], tile_with((CELL, 2, 2, 8, 8)).image[outside])


def test_the_edge_of_a_paste_is_soft() -> None:
    donor = tile_with((CLUSTER, 20, 24, 40, 40), light=100)
    across = paste(cut_out(donor, 0), tile_with(), (30, 40)).image[50, :, 0].astype(int)
    surroundings = across[52:55]  # from the object's edge on
    assert across[51] == 40
    assert 100 < surroundings[0] < surroundings[1] <= surroundings[2] == 200


def test_objects_in_the_box_come_along_and_others_stay_behind() -> None:
    donor = tile_with(
        (CELL, 2, 2, 8, 8), (CLUSTER, 20, 24, 40, 40), (CELL, 22, 26, 28, 32), (CELL, 38, 30, 48, 40)
    )
    piece = cut_out(donor, 1)
    assert piece.classes.tolist() == [CLUSTER, CELL]
    np.testing.assert_allclose(piece.boxes, [[2, 2, 22, 18], [4, 4, 10, 10]])


def test_surroundings_end_at_the_border_of_the_donor() -> None:
    piece = cut_out(tile_with((CLUSTER, 0, 44, 20, 64)), 0)
    assert piece.image.shape[:2] == (22, 22)
    assert piece.boxes.tolist() == [[0, 2, 20, 22]]


@pytest.mark.parametrize(
    ("given_light", "taken_light", "pasted_light"),
    [
        pytest.param(200, 200, 200, id="the same light"),
        pytest.param(200, 160, 160, id="a darker tile"),
        pytest.param(160, 200, 200, id="a lighter tile"),
        pytest.param(200, 20, round(200 / LARGEST_MATCH), id="too dark to match"),
    ],
)
def test_a_piece_takes_the_light_of_its_tile(given_light: int, taken_light: int, pasted_light: int) -> None:
    donor = tile_with((CLUSTER, 20, 24, 40, 40), light=given_light)
    piece = match_light(cut_out(donor, 0), given=donor, taken=tile_with(light=taken_light))
    assert piece.image[0, 0].tolist() == [pasted_light] * 3
    assert piece.image[10, 10, 0] == pytest.approx(40 * pasted_light / given_light, abs=1)


@pytest.mark.parametrize(
    "tile",
    [
        pytest.param(tile_with((CELL, 0, 0, 64, 64)), id="covered by an object"),
        pytest.param(
            tile_with(*[(CELL, x, y, x + 7, y + 7) for x in range(0, 64, 8) for y in range(0, 64, 8)]),
            id="dense",
        ),
        pytest.param(tile_with(side=15), id="smaller than the object"),
    ],
)
def test_without_room_nothing_is_pasted(tile: Tile) -> None:
    pasted, count = paste_objects(tile, [(DONOR, 0)], np.random.default_rng(0))
    assert count == 0
    assert pasted is tile


def test_an_object_as_large_as_the_tile_has_one_place() -> None:
    whole = tile_with((CLUSTER, 0, 0, 64, 64))
    assert find_place(cut_out(whole, 0), tile_with(), np.random.default_rng(0)) == (0, 0)


@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(1, 3))
def test_a_paste_covers_little_of_what_was_there_and_lies_inside(seed: int, cells: int, wanted: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 54, (cells, 2))
    tile = tile_with(*[(CELL, x, y, x + 10, y + 10) for x, y in corners.tolist()])
    before = tile.image.copy()
    donors = [(tile_with((CELL, 25, 25, 29, 29), (CLUSTER, 20, 24, 40, 40)), 1)] * wanted
    pasted, count = paste_objects(tile, donors, rng)
    np.testing.assert_array_equal(tile.image, before)
    np.testing.assert_array_equal(pasted.boxes[:cells], tile.boxes)
    assert len(pasted.boxes) == len(pasted.classes) == cells + 2 * count
    assert (pasted.classes == CLUSTER).sum() == count <= wanted
    assert pasted.boxes.min(initial=0) >= 0
    assert pasted.boxes.max(initial=0) <= 64
    clusters = pasted.boxes[pasted.classes == CLUSTER]
    for i, cluster in enumerate(clusters):
        others = np.concatenate([tile.boxes, clusters[:i]])
        width = np.minimum(others[:, 2], cluster[2]) - np.maximum(others[:, 0], cluster[0])
        height = np.minimum(others[:, 3], cluster[3]) - np.maximum(others[:, 1], cluster[1])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        assert (common <= OVERLAP * np.where(np.arange(len(others)) < cells, 100, 320)).all()

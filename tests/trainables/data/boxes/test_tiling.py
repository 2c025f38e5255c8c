"""Where tiles lie, and what they show: by hand, and over random layouts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.boxes.tiling import VISIBLE, corners, cut, offsets, windows


@pytest.mark.parametrize(
    ("side", "size", "overlap", "expected"),
    [
        pytest.param(1500, 640, 64, [0, 576, 860], id="the last is pulled back to the edge"),
        pytest.param(1216, 640, 64, [0, 576], id="it fits without"),
        pytest.param(1217, 640, 64, [0, 576, 577], id="one pixel more needs one more"),
        pytest.param(640, 640, 64, [0], id="as large as a tile"),
        pytest.param(300, 640, 64, [0], id="smaller than a tile"),
        pytest.param(1, 640, 639, [0], id="a pixel"),
        pytest.param(10, 4, 0, [0, 4, 6], id="without overlap"),
        pytest.param(6, 4, 3, [0, 1, 2], id="nearly all is overlap"),
    ],
)
def test_offsets(side: int, size: int, overlap: int, expected: list[int]) -> None:
    assert offsets(side, size, overlap).tolist() == expected


def test_windows_are_smaller_only_where_the_image_is() -> None:
    assert windows(100, 30, size=64, overlap=8).tolist() == [[0, 0, 64, 30], [36, 0, 64, 30]]


def test_pieces_by_hand() -> None:
    """100 x 40, tiles of 60 with an overlap of 20, that is at 0 and 40."""
    objects = np.array(
        [
            [10, 10, 20, 20],  # whole in the first
            [45, 0, 55, 10],  # whole in both
            [30, 0, 70, 10],  # cut by both: three quarters in each
            [56, 30, 86, 40],  # 4 of 30 pixels in the first, whole in the second
            [60, 0, 70, 40],  # touches the first
        ],
        dtype=float,
    )
    pieces = cut(objects, windows(100, 40, size=60, overlap=20))
    found = list(zip(pieces.window.tolist(), pieces.object.tolist(), pieces.visible.tolist(), strict=True))
    whole = [(0, 0, 1.0), (0, 1, 1.0), (0, 2, 0.75), (0, 3, pytest.approx(4 / 30))]
    assert found == [*whole, (1, 1, 1.0), (1, 2, 0.75), (1, 3, 1.0), (1, 4, 1.0)]
    assert pieces.boxes[2].tolist() == [30, 0, 30, 10]
    assert pieces.boxes[5].tolist() == [0, 0, 30, 10]
    assert pieces.kept.tolist() == [True, True, True, False, True, True, True, True]


def test_at_the_limit_an_object_is_labelled() -> None:
    pieces = cut(np.array([[56.0, 0, 66, 10]]), windows(100, 40, size=60, overlap=20)[:1])
    assert pieces.visible.tolist() == [VISIBLE]
    assert pieces.kept.all()


def test_an_image_without_objects_has_no_pieces() -> None:
    pieces = cut(np.zeros((0, 4)), windows(100, 40, size=60, overlap=20))
    assert len(pieces.window) == 0
    assert pieces.boxes.shape == (0, 4)


def test_boxes_are_what_the_file_said_and_end_at_the_edge() -> None:
    # 12 + 30 of 4096 pixels as float32 fractions, and one that reaches over the right edge
    said = np.array(
        [[(12 + 15) / 4096, (7 + 5) / 4096, 30 / 4096, 10 / 4096], [1, 0.5, 0.2, 0.1]], np.float32
    )
    placed = corners(said, 4096, 4096)
    assert placed[0].tolist() == [12, 7, 42, 17]
    assert placed[1, 2] == 4096


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int, int, list[tuple[float, float, float, float]]]:
    """Image, tile, overlap, and boxes of any size and place, many of them on borders."""
    size = draw(st.integers(2, 80))
    overlap = draw(st.integers(0, size - 1))
    width, height = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    quarter = st.integers(0, 4 * 200).map(lambda value: value / 4)
    boxes = []
    for _ in range(draw(st.integers(1, 8))):
        left, top = min(draw(quarter), width - 0.25), min(draw(quarter), height - 0.25)
        right = min(left + draw(quarter) + 0.25, width)
        bottom = min(top + draw(quarter) + 0.25, height)
        boxes.append((left, top, right, bottom))
    return width, height, size, overlap, boxes


@given(layouts())
def test_whatever_the_layout(
    layout: tuple[int, int, int, int, list[tuple[float, float, float, float]]],
) -> None:
    width, height, size, overlap, listed = layout
    objects = np.array(listed)
    found = windows(width, height, size=size, overlap=overlap)
    covered = np.zeros((height, width), dtype=bool)
    for x, y, wide, high in found.tolist():
        assert (wide, high) == (min(size, width), min(size, height))
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
        covered[y : y + high, x : x + wide] = True
    assert covered.all()
    assert len({tuple(window) for window in found.tolist()}) == len(found)

    pieces = cut(objects, found)
    whole = set(pieces.object[pieces.visible == 1].tolist())
    sides = (objects[:, 2:] - objects[:, :2]).max(axis=1)
    assert set(np.flatnonzero(sides <= overlap).tolist()) <= whole
    assert len(set(zip(pieces.window.tolist(), pieces.object.tolist(), strict=True))) == len(pieces.window)
    # An oracle without NumPy: every pair by itself.
    expected = 0
    for x, y, wide, high in found.tolist():
        for left, top, right, bottom in listed:
            across = min(right, x + wide) - max(left, x)
            down = min(bottom, y + high) - max(top, y)
            expected += across > 0 and down > 0
    assert len(pieces.window) == expected
    assert (pieces.visible > 0).all()
    assert (pieces.visible <= 1).all()
    ends = pieces.boxes[:, :2] + pieces.boxes[:, 2:]
    assert (pieces.boxes >= 0).all()
    assert (ends <= found[pieces.window, 2:]).all()

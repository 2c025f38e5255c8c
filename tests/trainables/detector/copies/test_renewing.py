"""Tiles of copies that are made anew at each draw: they are those that a stored copy would have."""

from pathlib import Path

import numpy as np
import pytest
from tiled_data import draw_tiled

from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.decoding import bands
from trainables.data.boxes.listed import BoxData
from trainables.detector.copies import renewing
from trainables.detector.copies.making import mean_light, tile_of
from trainables.detector.copies.planning import copy_of
from trainables.detector.copies.renewing import Renewing

RARE = [1]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BoxData:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return load_detection(draw_tiled(tmp_path))


def some_source(data: BoxData) -> str:
    return next(image.tile.source for image in data.splits["train"] if image.tile is not None)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("small", [False, True], ids=["light of all pixels", "light of some"])
def test_pixels_are_those_of_a_stored_copy(
    strength: float, small: bool, data: BoxData, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr("trainables.detector.copies.making.SAMPLED", 500)
    name, grid = some_source(data), data.grid
    assert grid is not None
    assert data.images_in is not None
    source, draws = data.wholes[name], Renewing(data, RARE, strength)
    (image,) = bands(data.images_in / name, (source.height, source.width), [(0, source.height)])
    shown = set()
    for seed in range(30):
        drawn = draws.draw(name, np.random.default_rng(seed))
        assert drawn is not None
        rng = np.random.default_rng(seed)
        copy = copy_of(source, 0, grid, RARE, strength, rng)
        row = int(rng.integers(len(copy.windows)))
        mean = 0.0 if copy.change is None else mean_light(image, copy.change)
        wanted = tile_of(image, copy.change, tuple(copy.windows[row].tolist()), mean)
        np.testing.assert_array_equal(drawn.image, wanted[..., ::-1])
        np.testing.assert_array_equal(drawn.classes, copy.classes[row])
        centres = (drawn.boxes[:, :2] + drawn.boxes[:, 2:]) / 2 / grid.size
        np.testing.assert_allclose(centres, copy.boxes[row][:, :2], atol=1e-6)
        assert 1 in drawn.classes
        shown.add(drawn.image.tobytes())
    assert (len(shown) == 30) == (strength > 0)


def test_a_change_that_leaves_no_minority_is_drawn_again_and_some_time_given_up(
    data: BoxData, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, asked = some_source(data), []
    draws = Renewing(data, RARE, 0.5)

    def lost(*arguments, **named):
        asked.append(1)
        copy = copy_of(*arguments, **named)
        return copy if len(asked) % 3 == 0 else copy_of(arguments[0], 0, arguments[2], [7], 0.5, arguments[5])

    monkeypatch.setattr(renewing, "copy_of", lost)
    assert draws.draw(name, np.random.default_rng(0)) is not None
    assert len(asked) == 3
    monkeypatch.setattr(renewing, "TRIES", 2)
    assert draws.draw(name, np.random.default_rng(0)) is None


def test_a_part_that_no_tile_shows_is_grey(data: BoxData) -> None:
    name = some_source(data)
    draws = Renewing(data, RARE, 0.5)
    gone = draws._tiles[name].pop(0)
    assert gone.tile is not None
    assert (gone.tile.x, gone.tile.y) == (0, 0)
    shown = draws._stitched(name, (0, 0, 64, 64))
    assert (shown[:32, :32] == renewing.GREY).all()
    assert not (shown[33:] == renewing.GREY).all(axis=2).any()

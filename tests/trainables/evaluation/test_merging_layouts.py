"""What a perfect model finds on the tiles of drawn layouts, merged: nothing is lost, nothing doubled."""

import numpy as np
import pytest
from layouts import drawn_layout, lost_and_doubled

from trainables.contract.trial import Merging
from trainables.evaluation.merging import merge


def _lost_and_doubled(seeds: range, way: Merging, *, larger: bool) -> tuple[int, int, int]:
    """Of all layouts; and the number of objects."""
    counts = np.zeros(3, dtype=np.int64)
    for seed in seeds:
        layout = drawn_layout(np.random.default_rng(seed), larger=larger)
        merged = merge(layout.placed, layout.windows, np.zeros(len(layout.windows), dtype=np.int64), way)
        counts += (*lost_and_doubled(layout, merged), len(layout.objects))
    lost, doubled, objects = counts.tolist()
    return lost, doubled, objects


def test_core_loses_and_doubles_no_object_that_is_no_larger_than_the_overlap() -> None:
    lost, doubled, objects = _lost_and_doubled(range(1000), "core", larger=False)
    assert objects > 30_000
    assert (lost, doubled) == (0, 0)


def test_the_layouts_are_such_that_other_ways_lose_and_double() -> None:
    lost, doubled, objects = _lost_and_doubled(range(60), "nms", larger=False)
    assert lost > 0.1 * objects
    assert doubled > 0.2 * objects


def test_larger_objects_are_lost_and_doubled_less_often_where_pieces_are_joined() -> None:
    lost, doubled, objects = _lost_and_doubled(range(60), "core", larger=True)
    lost_when_joined, doubled_when_joined, _ = _lost_and_doubled(range(60), "joined", larger=True)
    assert lost > 0.4 * objects
    assert lost_when_joined < 0.35 * lost
    assert doubled_when_joined < 0.2 * doubled


def test_joining_pieces_harms_few_objects_that_are_no_larger_than_the_overlap() -> None:
    lost, doubled, objects = _lost_and_doubled(range(200), "joined", larger=False)
    assert lost + doubled < 0.001 * objects


@pytest.mark.parametrize("way", ["core", "joined"])
def test_where_one_tile_is_the_image_nothing_is_merged(way: Merging) -> None:
    rng = np.random.default_rng(0)
    layouts = [layout for _ in range(300) if len((layout := drawn_layout(rng)).windows) == 1]
    assert layouts
    for layout in layouts:
        merged = merge(layout.placed, layout.windows, np.zeros(1, dtype=np.int64), way)
        assert len(merged.box) == len(layout.objects)

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare
from tiny_detector import set_up, tiny_spec
from ultralytics.data.augment import Mosaic

from trainables.data.boxes.data_set import detection_once
from trainables.detector.feeding.dataset import DrawOrder, TrainingTiles
from trainables.strategy.sampling import Draws


def training_loader(tiles: Path, root: Path, knobs: dict[str, float]) -> Any:
    return set_up(tiny_spec(tiles, knobs, steps=1000, eval_every=5), root).train_loader


# 20 tiles with cells, 5 of which hold a cluster: how much more often one of these is drawn than another tile.
@pytest.mark.parametrize(
    ("knobs", "others", "ratio"),
    [
        pytest.param({"sampler_power": 0.5}, 15, 2.0, id="the root of one quarter"),
        pytest.param({"repeat_threshold": 0.81}, 15, 1.8, id="the root of .81 over one quarter"),
        pytest.param({"sampler_power": 0.5, "repeat_threshold": 0.81}, 15, 3.6, id="their product"),
        # 5 tiles at 2 / 20 leave 10 / 20 for 15 tiles.
        pytest.param({"sampler_power": 1.0, "max_repeat": 2.0}, 15, 3.0, id="the cap"),
        # 5 of 11 tiles hold a cluster now; power 1 would give 2.2 without it.
        pytest.param({"retention": 0.4, "repeat_threshold": 1.0}, 6, 2.2**0.5, id="after undersampling"),
    ],
)
def test_tiles_and_mosaics_partners_are_drawn_as_often_as_the_formula_says(
    knobs: dict[str, float], others: int, ratio: float, tiles: Path, tmp_path: Path
) -> None:
    loader = training_loader(tiles, tmp_path, knobs)
    dataset: TrainingTiles = loader.dataset
    assert (dataset.rare.sum(), (~dataset.rare).sum()) == (5, others)
    share = np.where(dataset.rare, ratio, 1.0) / (5 * ratio + others)
    order = DrawOrder(loader.sampler.draws)
    drawn = np.bincount([code % len(dataset) for _ in range(200) for code in order], minlength=len(dataset))
    assert drawn.sum() == 200 * 20
    assert chisquare(drawn, drawn.sum() * share).pvalue > 1e-3
    (mosaic,) = (step for step in dataset.transforms.transforms[0].transforms if isinstance(step, Mosaic))
    random.seed(0)
    partners = np.concatenate([mosaic.get_indexes() for _ in range(2000)])
    counted = np.bincount(partners, minlength=len(dataset))
    assert chisquare(counted, len(partners) * share).pvalue > 1e-3


def test_undersampling_keeps_exact_counts_and_every_minority_tile(tiles: Path, tmp_path: Path) -> None:
    rare = {image.path for image in detection_once(tiles).splits["train"] if 1 in image.classes.tolist()}
    # Of 15: .3 is 4.5, .5 is 7.5, both to even.
    for retention, left in ((0.0, 0), (0.3, 4), (0.5, 8), (1.0, 15)):
        dataset = training_loader(tiles, tmp_path, {"retention": retention, "repeat_threshold": 1.0}).dataset
        assert len(dataset) == 5 + left
        assert rare <= {image.path for image in dataset.images}


def test_draw_order_follows_the_draws_and_numbers_them_through() -> None:
    draws = Draws(n=7, per_epoch=10, weights=None, seed=3)
    order = DrawOrder(draws)
    codes = np.array([*order, *order])
    positions, images = np.divmod(codes, 7)
    assert positions.tolist() == list(range(20))
    assert images.tolist() == [*draws.epoch(0), *draws.epoch(1)]
    assert [*DrawOrder(draws, start=1)] == codes[10:].tolist()


@pytest.mark.parametrize("weights", [None, np.full(7, 1 / 7)], ids=["shuffled", "weighted"])
@pytest.mark.parametrize("world", [1, 2, 5])
def test_processes_that_train_together_share_the_draws_of_each_step(
    world: int, weights: np.ndarray | None
) -> None:
    draws = Draws(n=7, per_epoch=30, weights=weights, seed=3)
    batch = 10
    alone = DrawOrder(draws)
    ranks = [DrawOrder(draws, rank=rank, world=world) for rank in range(world)]
    assert [len(order) for order in ranks] == [30 // world] * world
    for _ in range(3):
        whole = list(alone)
        shares = [list(order) for order in ranks]
        assert sorted(code for share in shares for code in share) == sorted(whole)
        assert len({code for share in shares for code in share}) == 30  # a code holds its position in the run
        for first in range(0, 30, batch):
            one_step = [code for share in shares for code in share[first // world : (first + batch) // world]]
            assert sorted(one_step) == sorted(whole[first : first + batch])

"""Samples are made with one warp, and with colours on the host or on the device, from the same draws."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_detector import EVERYTHING, set_up, tiny_spec

from trainables.detector.feeding.dataset import TrainingTiles
from trainables.detector.feeding.steps import Colours, OneWarp
from trainables.detector.settled import RandomHSV, RandomPerspective
from trainables.detector.strategy_run import StrategyRun
from trainables.strategy.augmentation import Change, draw_change
from trainables.strategy.colours import recoloured

SIZE = (96, 128)


def smooth(size: tuple[int, int]) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(60, 200, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))


def change_of(seed: int, size: tuple[int, int] = SIZE) -> Change:
    boxes, rare = np.array([[20.0, 30, 60, 70]]), np.array([True])
    return draw_change(size, boxes, strength=1.0, rng=np.random.default_rng(seed), rare=rare)


@pytest.mark.parametrize("seed", range(12))
def test_one_warp_shows_what_two_do(seed: int) -> None:
    change, image = change_of(seed), smooth(SIZE)
    plain = RandomPerspective(degrees=5, scale=0.5, translate=0.1, size=(160, 160))
    step = OneWarp(**vars(plain))
    two = _turned(change, image)
    matrix, scale = plain._compute_affine_matrix(two, (160, 160))
    params = {"M": matrix, "scale": scale, "orig_shape": two.shape[:2], "size": (160, 160)}
    wanted = plain.apply_image({"img": two}, params)["img"].astype(int)
    found = step.apply_image({"img": image, "change": change}, params)["img"].astype(int)
    inside = _inside(two, matrix)
    assert inside.mean() > 0.1
    assert np.abs(wanted - found)[inside].max() <= 12
    assert np.abs(wanted - found)[inside].mean() < 1.5
    outside = ~cv2.dilate((~_beyond(two, matrix)).astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert (found[outside] == 114).all()


def _turned(change: Change, image: np.ndarray) -> np.ndarray:
    from trainables.strategy.augmentation import turn_image, warp  # noqa: PLC0415

    return turn_image(warp(image, change.matrix, change.size), change.symmetry)


def _beyond(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    full = np.full(image.shape[:2], 255, np.uint8)
    return cv2.warpAffine(full, matrix[:2], (160, 160), borderValue=0) == 0


def _inside(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    full = np.full(image.shape[:2], 255, np.uint8)
    seen = cv2.warpAffine(full, matrix[:2], (160, 160), borderValue=0)
    return cv2.erode((seen == 255).astype(np.uint8), np.ones((5, 5))).astype(bool)


def test_the_map_of_a_change_takes_boxes_where_it_sees_them() -> None:
    for seed in range(16):
        change = change_of(seed)
        box = np.array([[50.0, 40, 54, 44]])
        seen, row, _ = change.see(box)
        assert row.tolist() == [0]
        centre = change.whole_map() @ [52, 42, 1]
        np.testing.assert_allclose(centre[:2], (seen[0, :2] + seen[0, 2:]) / 2, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_hues_on_the_device_are_those_of_ultralytics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image[:8] = image[:8, :, :1]  # grey
    image[8:16, :, 0] = image[8:16, :, 1]
    hsv = RandomHSV(0.1, 0.7, 0.4)
    np.random.seed(seed)  # noqa: NPY002
    labels = Colours(hsv, lambda: True).apply_image({"img": image.copy()})
    np.random.seed(seed)  # noqa: NPY002
    wanted = hsv.apply_image({"img": image.copy()})["img"]
    pixels = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))[None]
    found = recoloured(pixels, labels["colours"][None])[0].permute(1, 2, 0).numpy()[..., ::-1]
    assert np.abs(found.astype(int) - wanted).max() <= 1
    np.testing.assert_array_equal(labels["img"], image)


def samples(tiles: Path, root: Path, knobs: dict[str, float], *, later: bool) -> list[dict[str, Any]]:
    run = set_up(tiny_spec(tiles, knobs), root)
    dataset: TrainingTiles = run.train_loader.dataset
    dataset.colours_later = later
    return [dataset[draw] for draw in run.train_loader.sampler]


@pytest.mark.parametrize("knobs", [{}, {"augment_minority": 1.0, "augment_rest": 0.5}, EVERYTHING])
def test_a_sample_is_the_same_wherever_its_colours_are_changed(
    knobs: dict[str, float], tiles: Path, tmp_path: Path
) -> None:
    here = samples(tiles, tmp_path / "here", knobs, later=False)
    there = samples(tiles, tmp_path / "there", knobs, later=True)
    differing = 0
    for one, other in zip(here, there, strict=True):
        colours = other.pop("colours")
        assert one.keys() == other.keys()
        done = recoloured(other["img"][None], colours[None])[0]
        # The host rounds stain and light to whole levels before it turns the hue, as the device does; where
        # they fall on two sides of a half, saturation and hue may make more of that single level.
        gap = (done.int() - one["img"].int()).abs()
        differing += int((gap > 1).sum())
        assert gap.max() <= 12
        np.testing.assert_array_equal(one["bboxes"], other["bboxes"])
        np.testing.assert_array_equal(one["cls"], other["cls"])
        assert one["counts"] == other["counts"]
    assert differing <= 1e-3 * sum(one["img"].numel() for one in here)


def test_what_the_window_hides_stays_hidden() -> None:
    change = change_of(3)
    image = np.full((*SIZE, 3), 250, np.uint8)
    step = OneWarp(scale=(0.4, 0.4), translate=0.0, size=(160, 160))
    labels = {"img": image, "change": change}
    shown = step.apply_image(labels, step.get_params(labels))["img"]
    down, across = change.size_after
    covered = (shown[..., 0] > 118).sum()
    assert covered == pytest.approx(0.4**2 * down * across, rel=0.07)  # the edge counts as outside


def batches(run: StrategyRun, workers: int) -> list[dict[str, Any]]:
    """Of two epochs, as the network gets them."""
    run.args.workers = workers
    run.train_loader = run.get_dataloader("train", run.batch_size, mode="train")
    return [run.preprocess_batch(dict(batch)) for _ in range(2) for batch in run.train_loader]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("knobs", [{}, EVERYTHING])
def test_batches_are_the_same_from_any_number_of_loaders(
    workers: int, knobs: dict[str, float], tiles: Path, tmp_path: Path
) -> None:
    alone = batches(set_up(tiny_spec(tiles, knobs), tmp_path / "alone"), 0)
    found = batches(set_up(tiny_spec(tiles, knobs), tmp_path / "found"), workers)
    assert len(alone) == len(found) == 4
    for one, other in zip(alone, found, strict=True):
        assert one["im_file"] == other["im_file"]
        assert one["counts"] == other["counts"]
        for name in ("img", "cls", "bboxes", "batch_idx"):
            assert torch.equal(one[name], other[name])


def test_a_loaders_first_batch_draws_nothing_from_what_dropout_draws_from(
    tiles: Path, tmp_path: Path
) -> None:
    run = set_up(tiny_spec(tiles, {}), tmp_path)
    before = torch.get_rng_state()
    next(iter(run.train_loader))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_loaders_pickle_no_data_whatever_python_starts_processes_with(
    tiles: Path, tmp_path: Path, forkserver: None
) -> None:
    run = set_up(tiny_spec(tiles, {"augment_minority": 1.0}), tmp_path)
    assert len(batches(run, 1)) > 0

"""Colours that are changed on the device are those of the host, within one of 255."""

import numpy as np
import pytest
import torch

from trainables.strategy.augmentation import Change, draw_change
from trainables.strategy.colours import packed, recoloured

SIDE = 96
EVERY = np.stack(np.meshgrid(*[np.linspace(0, 255, 21).round()] * 3, indexing="ij"), axis=-1)  # of the cube


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """(4, SIDE, SIDE, 3) RGB: noise, all colours, greys, and a stained slide's."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3))
    cube = EVERY.reshape(-1, 3)[rng.permutation(21**3)[: SIDE * SIDE]].reshape(SIDE, SIDE, 3)
    grey = np.repeat(rng.integers(0, 256, (SIDE, SIDE, 1)), 3, axis=2)
    slide = np.clip(rng.normal([225, 180, 215], [20, 40, 20], (SIDE, SIDE, 3)), 0, 255)
    return np.stack([noise, cube, grey, slide]).astype(np.uint8)


def changes(strength: float, count: int) -> list[Change]:
    none = np.zeros((0, 4))
    return [
        draw_change(
            (SIDE, SIDE),
            none,
            strength=strength,
            rng=np.random.default_rng(i),
            rare=np.zeros(0, dtype=bool),
        )
        for i in range(count)
    ]


def on_device(images: np.ndarray, colours: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return recoloured(pixels, colours).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_stain_and_light_are_the_hosts(images: np.ndarray, strength: float) -> None:
    for first in range(0, 40, 4):
        drawn = changes(strength, first + 4)[first:]
        found = on_device(images, np.stack([packed(change, np.zeros(3)) for change in drawn]))
        wanted = np.stack([change.recoloured(image) for change, image in zip(drawn, images, strict=True)])
        assert np.abs(found.astype(int) - wanted).max() <= 1
        assert (found != images).mean() > 0.5


def test_they_are_as_exact_within_autocast(images: np.ndarray) -> None:
    rows = np.stack([packed(change, np.full(3, 0.1)) for change in changes(1.0, 4)])
    wanted = on_device(images, rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = on_device(images, rows)
    np.testing.assert_array_equal(found, wanted)


def test_only_the_images_that_change_do(images: np.ndarray) -> None:
    (change,) = changes(1.0, 1)
    rows = [packed(None, np.zeros(3)), packed(change, np.zeros(3)), *[packed(None, np.zeros(3))] * 2]
    before = images.copy()
    found = on_device(images, np.stack(rows))
    np.testing.assert_array_equal(found[[0, 2, 3]], images[[0, 2, 3]])
    assert (found[1] != images[1]).any()
    np.testing.assert_array_equal(images, before)


def test_nothing_asked_for_copies_nothing(images: np.ndarray) -> None:
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    assert recoloured(pixels, np.stack([packed(None, np.zeros(3))] * 4)) is pixels

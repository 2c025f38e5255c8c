import random
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainables.strategy.augmentation import (
    ROTATE_TILE_DEGREES,
    WHOLE,
    box_areas,
    clip_boxes,
    contrast_kept,
    draw_change,
    draw_window,
    image_pipeline,
    image_strength,
    seed_pipeline,
    transform_image,
    turn,
    turned_boxes,
)

# isort: split
import albumentations as A
from albumentations.augmentations.geometric.functional import bboxes_affine_ellipse


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def transformed(strength: float, *key: int, n: int = 5) -> list[np.ndarray]:
    pipeline = image_pipeline(strength)
    seed_pipeline(pipeline, *key)
    return [transform_image(pipeline, picture(8, 8)) for _ in range(n)]


def change(strength: float) -> float:
    """Mean absolute change of a pixel."""
    after = np.stack(transformed(strength, 0, n=50)).astype(float)
    return float(np.abs(after - picture(8, 8)).mean())


def test_strength_zero_is_no_pipeline() -> None:
    assert image_pipeline(0) is None
    assert image_strength(None) == 0
    np.testing.assert_array_equal(transform_image(None, picture(8, 8)), picture(8, 8))


@pytest.mark.parametrize("strength", [0.01, 0.5, 1.0])
def test_the_strength_is_read_back_from_the_transforms(strength: float) -> None:
    assert image_strength(image_pipeline(strength)) == pytest.approx(strength)


def test_a_stronger_pipeline_changes_more() -> None:
    assert 0 < change(0.1) < change(0.5) < change(1.0)


@pytest.mark.parametrize("shape", [(8, 8), (16, 16), (32, 32, 3)])
def test_shape_and_dtype_stay(shape: tuple[int, ...]) -> None:
    after = transform_image(image_pipeline(0.7), picture(*shape))
    assert after.shape == shape
    assert after.dtype == np.uint8


def test_each_image_gets_its_own_transform() -> None:
    assert len({image.tobytes() for image in transformed(0.5, 1)}) == 5


def test_the_key_decides_the_transforms() -> None:
    np.testing.assert_array_equal(transformed(0.5, 1, 2), transformed(0.5, 1, 2))
    assert not np.array_equal(transformed(0.5, 1, 2), transformed(0.5, 1, 3))
    assert not np.array_equal(transformed(0.5, 1, 2), transformed(0.5, 2, 2))


def test_the_contrast_of_small_structures_falls_by_what_halves_it_and_not_by_a_symmetry() -> None:
    images = np.stack([picture(64, 64), picture(64, 64)[::-1], np.full((64, 64), 9, np.uint8)])
    pale = A.Compose([A.RandomBrightnessContrast((0, 0), (-0.5, -0.5), p=1.0)])
    assert contrast_kept(pale, images) == pytest.approx(0.5, abs=0.02)
    assert contrast_kept(A.Compose([A.VerticalFlip(p=1.0)]), images) == pytest.approx(1.0, abs=1e-5)
    blurred = contrast_kept(A.Compose([A.GaussianBlur(sigma_limit=(3, 3), p=1.0)]), images)
    assert blurred is not None
    assert blurred < 0.3
    assert contrast_kept(None, images) is None
    assert contrast_kept(pale, images[2:]) is None  # a flat image


def test_global_random_states_are_neither_read_nor_written() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state is the subject
    first = transformed(0.5, 7)
    untouched = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert untouched == (random.random(), np.random.random())  # noqa: NPY002
    np.testing.assert_array_equal(first, transformed(0.5, 7))


def tile_of_discs(seed: int = 0, side: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A light tile with six dark discs that do not touch, and their tight boxes."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), (235, 215, 225), dtype=np.uint8)
    boxes = []
    for x, y in [(24, 24), (64, 20), (104, 28), (22, 90), (64, 70), (100, 100)]:
        radius = int(rng.integers(6, 14))
        cv2.circle(image, (x, y), radius, (110, 60, 130), thickness=-1)
        boxes.append([x - radius, y - radius, x + radius + 1, y + radius + 1])
    return image, np.array(boxes, dtype=np.float32)


class AugmentedTile(NamedTuple):
    image: np.ndarray
    boxes: np.ndarray
    row: np.ndarray
    lost: int


def augment_tile(
    image: np.ndarray, boxes: np.ndarray, *, strength: float, rare: np.ndarray, seed: int = 0
) -> AugmentedTile:
    size, rng = (image.shape[0], image.shape[1]), np.random.default_rng(seed)
    inside = clip_boxes(boxes, size)
    change = draw_change(size, inside, strength=strength, rng=rng, rare=rare)
    return AugmentedTile(change.applied(image), *change.see(inside))


def augmented(strength: float, seed: int, rare: int | None = None) -> AugmentedTile:
    image, boxes = tile_of_discs()
    return augment_tile(image, boxes, strength=strength, rare=np.arange(len(boxes)) == rare, seed=seed)


def blobs(image: np.ndarray) -> np.ndarray:
    """Tight boxes of what is darker than half between the darkest and the lightest, (n, 4) xyxy."""
    grey = image.mean(axis=2)
    dark = (grey < (grey.min() + grey.max()) / 2).astype(np.uint8)
    stats = cv2.connectedComponentsWithStats(dark)[2][1:]  # without the background
    return np.concatenate([stats[:, :2], stats[:, :2] + stats[:, 2:4]], axis=1)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_stay_tight_on_round_objects(seed: int, strength: float) -> None:
    done = augmented(strength, seed)
    found = blobs(done.image)
    for box in done.boxes:
        np.testing.assert_allclose(found[np.abs(found - box).sum(axis=1).argmin()], box, atol=1.5)


def test_the_median_box_of_a_round_object_is_not_inflated() -> None:
    boxes = np.array([[10.0, 20.0, 30.0, 40.0]])
    angle = np.radians(np.linspace(-10, 10, 41))
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(41)
    turns = np.stack([cos, -sin, zero, sin, cos, zero], axis=1).reshape(-1, 2, 3)
    areas = box_areas(turned_boxes(turns, boxes))[:, 0]
    assert np.median(areas / 400) == pytest.approx(1)
    corners = 400 * (cos + abs(sin)) ** 2  # what turning the corners gives
    assert np.median(corners / 400) > 1.15


@given(st.floats(-180, 180), st.floats(0.5, 2), arrays(float, (3, 2), elements=st.floats(1, 60)))
def test_turned_boxes_are_those_of_albumentations(degrees: float, scale: float, sides: np.ndarray) -> None:
    boxes = np.concatenate([20 + sides / 3, 20 + sides / 3 + sides], axis=1)
    matrix = np.vstack([cv2.getRotationMatrix2D((50, 40), degrees, scale), [0, 0, 1]])
    expected = bboxes_affine_ellipse(boxes, matrix)  # from 360 points on the ellipse
    np.testing.assert_allclose(turned_boxes(matrix[None, :2], boxes)[0], expected, atol=0.02)


def test_the_eight_symmetries_move_boxes_with_their_pixels() -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[2:7, 4:20] = 255
    seen = set()
    for symmetry in range(8):
        moved, boxes = turn(image, np.array([[4, 2, 20, 7]]), symmetry)
        rows, columns = np.nonzero(moved[..., 0])
        assert boxes.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        assert moved.shape == ((20, 30, 3) if symmetry % 2 == 0 else (30, 20, 3))
        seen.add(moved.tobytes() + bytes(moved.shape))
    assert len(seen) == 8


@given(st.floats(0.01, 1), st.integers(0, 999), st.sampled_from([(128, 128), (90, 160), (64, 40)]))
def test_a_window_lies_inside_its_tile(strength: float, seed: int, shape: tuple[int, int]) -> None:
    rng, none = np.random.default_rng(seed), np.zeros((0, 4))
    matrix = draw_window(shape, none, strength=strength, rng=rng, rare=np.zeros(0, dtype=bool))
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    back = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    assert (back >= -1e-6).all()
    assert (back <= [width + 1e-6, height + 1e-6]).all()
    zoom = np.sqrt(np.linalg.det(matrix[:, :2]))
    assert 1 <= zoom <= 2
    assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= ROTATE_TILE_DEGREES * strength + 1e-6


@pytest.mark.parametrize("rare", [0, 2, 5])
def test_a_minority_object_is_never_cut_off(rare: int) -> None:
    whole = box_areas(tile_of_discs()[1])[rare]
    for seed in range(40):
        done = augmented(1.0, seed, rare=rare)
        assert rare in done.row
        assert box_areas(done.boxes[done.row == rare])[0] >= WHOLE * whole


def test_an_object_cut_to_a_sliver_loses_its_label_and_is_counted() -> None:
    counted = 0
    for seed in range(60):
        done = augmented(1.0, seed)
        assert len(done.row) + done.lost <= 6
        assert box_areas(done.boxes).min() > 0
        counted += done.lost
    assert counted <= 0.05 * 60 * 6


def test_a_box_that_lies_outside_is_counted_as_lost() -> None:
    image, _ = tile_of_discs()
    boxes = np.array([[128.5, 10, 140, 20], [60, 60, 70, 70]])
    done = augment_tile(image, boxes, strength=0.5, rare=np.array([False, True]))
    assert (done.row.tolist(), done.lost) == ([1], 1)


def test_a_tile_without_objects_stays_one() -> None:
    nothing = np.zeros((0, 4)), np.zeros(0, dtype=bool)
    done = augment_tile(tile_of_discs()[0], nothing[0], strength=1.0, rare=nothing[1])
    assert (done.boxes.shape, done.row.shape, done.lost) == ((0, 4), (0,), 0)


def test_a_stronger_augmentation_changes_a_tile_more() -> None:
    image = tile_of_discs()[0].astype(float)
    change = [
        np.mean([np.abs(augmented(strength, seed).image - image).mean() for seed in range(30)])
        for strength in (0.1, 0.5, 1.0)
    ]
    assert 0 < change[0] < change[1] < change[2]


def test_the_generator_decides_the_tile_and_no_global_state_does() -> None:
    image, boxes = tile_of_discs()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = augmented(0.7, 3)
    untouched = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert untouched == (random.random(), np.random.random())  # noqa: NPY002
    again, other = augmented(0.7, 3), augmented(0.7, 4)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)
    np.testing.assert_array_equal(tile_of_discs()[0], image)
    np.testing.assert_array_equal(tile_of_discs()[1], boxes)

import random

import numpy as np
import pytest

from trainables.augmentation import image_pipeline, image_strength, seed_pipeline, transform_image


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


def test_global_random_states_are_neither_read_nor_written() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state is the subject
    first = transformed(0.5, 7)
    untouched = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert untouched == (random.random(), np.random.random())  # noqa: NPY002
    np.testing.assert_array_equal(first, transformed(0.5, 7))

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainables.strategy.stain import HED, jittered_light

PICTURES = arrays(np.uint8, (5, 7, 3), elements=st.integers(0, 255))
UNIT = HED / np.linalg.norm(HED, axis=1, keepdims=True)  # (3 stains, rgb)


def jitter_stains(picture: np.ndarray, *, scale: npt.ArrayLike, shift: npt.ArrayLike) -> np.ndarray:
    """The jittered light as pixels."""
    light = jittered_light(picture, scale=scale, shift=shift)
    return np.clip(np.rint(256 * light - 0.5), 0, 255).astype(np.uint8)


def densities_of(picture: np.ndarray) -> np.ndarray:
    """How much haematoxylin, eosin and DAB there is in each pixel, (height, width, 3), by the same law."""
    return np.asarray(-np.log((picture + 0.5) / 256) @ np.linalg.inv(UNIT))


def pixels_of(densities: np.ndarray) -> np.ndarray:
    """The picture with these stains, before it is rounded."""
    return np.asarray(np.clip(256 * np.exp(-densities @ UNIT) - 0.5, 0, 255))


def slide(*densities: float) -> np.ndarray:
    """Two by two pixels behind so much haematoxylin, eosin and DAB, by Beer and Lambert's law."""
    light = np.minimum(256 * np.exp(-np.array(densities) @ UNIT), 255)
    return np.full((2, 2, 3), light, dtype=np.uint8)


@given(PICTURES)
def test_a_jitter_by_nothing_is_the_same_picture(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(jitter_stains(picture, scale=np.ones(3), shift=np.zeros(3)), picture)


@given(PICTURES, arrays(float, (3,), elements=st.floats(0.75, 1.25)))
def test_a_jitter_scales_the_densities(picture: np.ndarray, scale: np.ndarray) -> None:
    got = jitter_stains(picture, scale=scale, shift=np.zeros(3))
    np.testing.assert_allclose(got, pixels_of(densities_of(picture) * scale), atol=1)


@pytest.mark.parametrize("stain", [0, 1, 2], ids=["haematoxylin", "eosin", "DAB"])
def test_stains_are_told_apart(stain: int) -> None:
    scale, wanted = np.ones(3), np.full(3, 0.2)
    scale[stain], wanted[stain] = 2, 0.4
    doubled = jitter_stains(slide(0.2, 0.2, 0.2), scale=scale, shift=np.zeros(3))
    np.testing.assert_allclose(densities_of(doubled)[0, 0], wanted, atol=0.03)


def test_scaling_one_stain_leaves_the_others() -> None:
    doubled = jitter_stains(slide(0.3, 0.2, 0), scale=[1, 2, 1], shift=[0, 0, 0])
    np.testing.assert_allclose(doubled.astype(int), slide(0.3, 0.4, 0).astype(int), atol=3)


def test_a_shift_stains_the_whole_slide() -> None:
    shifted = jitter_stains(slide(0, 0.2, 0), scale=[1, 1, 1], shift=[0.3, 0, 0])
    np.testing.assert_allclose(shifted.astype(int), slide(0.3, 0.2, 0).astype(int), atol=2)


def test_the_picture_given_stays_as_it_is() -> None:
    picture = slide(0.3, 0.2, 0)
    jitter_stains(picture, scale=[2, 2, 2], shift=[0, 0, 0])
    np.testing.assert_array_equal(picture, slide(0.3, 0.2, 0))

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from spaces.errors import UsageError
from trainables.sampling import (
    Draws,
    draw_weights,
    expected_exposure,
    holds_minority,
    matched_power,
    retain,
)

COMMON, RARE, OTHER = 0, 1, 2
ANY = st.lists(st.frozensets(st.integers(0, 3), max_size=3), min_size=1, max_size=60)


def images(*sets: set[int]) -> list[frozenset[int]]:
    return [frozenset(found) for found in sets]


def test_an_image_holds_the_minority_if_any_of_its_objects_does() -> None:
    classes = images({COMMON}, {COMMON, RARE}, {RARE}, set())
    assert holds_minority(classes, {RARE}).tolist() == [False, True, True, False]


@given(ANY, st.floats(0, 1), st.integers(0, 2**31))
def test_retention_is_exact_and_keeps_every_minority_image(
    classes: list[frozenset[int]], retention: float, seed: int
) -> None:
    kept = retain(classes, {RARE}, retention=retention, seed=seed)
    rare = holds_minority(classes, {RARE})
    assert set(np.flatnonzero(rare)) <= set(kept)
    assert (~rare[kept]).sum() == round(retention * (~rare).sum())
    assert (np.diff(kept) > 0).all()


def test_majority_classes_are_thinned_alike() -> None:
    classes = images(*[{COMMON}] * 80, *[{OTHER}] * 20, {RARE})
    kept = retain(classes, {RARE}, retention=0.4, seed=5)
    assert (kept < 80).sum() == 32
    assert ((kept >= 80) & (kept < 100)).sum() == 8


def test_another_seed_keeps_other_images() -> None:
    classes = images(*[{COMMON}] * 100)
    first, again, other = (retain(classes, {RARE}, retention=0.5, seed=s).tolist() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("power", "ratio"),
    [
        pytest.param(
            1.0, 3.0, id="power 1: a class with a third of the images is drawn three times as often"
        ),
        pytest.param(0.5, 3**0.5, id="power one half: the root of that"),
    ],
)
def test_weights_of_four_images_by_hand(power: float, ratio: float) -> None:
    weights = draw_weights(images({COMMON}, {COMMON}, {COMMON}, {RARE}), power=power, max_repeat=30)
    assert weights is not None
    np.testing.assert_allclose(weights, np.array([1, 1, 1, ratio]) / (3 + ratio))


def test_an_image_weighs_as_its_rarest_class_and_an_empty_one_as_the_commonest() -> None:
    weights = draw_weights(images({COMMON}, {COMMON, RARE}, set(), {COMMON}), power=1, max_repeat=30)
    assert weights is not None
    np.testing.assert_allclose(weights / weights[0], [1, 3, 1, 1])


def test_power_zero_draws_without_replacement() -> None:
    assert draw_weights(images({COMMON}, {RARE}), power=0, max_repeat=30) is None


def test_the_cap_is_relative_to_uniform_drawing() -> None:
    classes = images(*[{COMMON}] * 99, {RARE})
    weights = draw_weights(classes, power=1, max_repeat=10)
    assert weights is not None
    assert weights[-1] == pytest.approx(10 / 100)
    np.testing.assert_allclose(weights[:-1], 0.9 / 99)


@given(ANY, st.floats(0.01, 1), st.floats(1, 50))
def test_weights_are_probabilities_below_the_cap(
    classes: list[frozenset[int]], power: float, max_repeat: float
) -> None:
    weights = draw_weights(classes, power=power, max_repeat=max_repeat)
    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    assert weights.min() > 0
    assert weights.max() <= max_repeat / len(classes) * (1 + 1e-9)


def test_images_are_drawn_as_often_as_the_formula_says() -> None:
    classes = images(*[{COMMON}] * 40, *[{OTHER}] * 15, *[{RARE}] * 5)
    weights = draw_weights(classes, power=0.7, max_repeat=30)
    assert weights is not None
    draws = Draws(n=60, per_epoch=2000, weights=weights, seed=3)
    drawn = np.bincount(np.concatenate([draws.epoch(e) for e in range(10)]), minlength=60)
    share = np.array([40 / 60] * 40 + [15 / 60] * 15 + [5 / 60] * 5) ** -0.7
    assert chisquare(drawn, 20_000 * share / share.sum()).pvalue > 0.001


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 1000))
def test_without_weights_every_pass_sees_each_image_once(n: int, per_epoch: int, seed: int) -> None:
    draws = Draws(n=n, per_epoch=per_epoch, weights=None, seed=seed)
    stream = np.concatenate([draws.epoch(e) for e in range(6)])
    assert len(stream) == 6 * per_epoch
    for first in range(0, len(stream) - n + 1, n):
        assert sorted(stream[first : first + n]) == list(range(n))


@pytest.mark.parametrize("weights", [None, np.full(30, 1 / 30)], ids=["uniform", "weighted"])
def test_an_epoch_depends_on_seed_and_number_alone(weights: np.ndarray | None) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return Draws(n=30, per_epoch=20, weights=weights, seed=seed).epoch(epoch).tolist()

    assert order(1, 4) == order(1, 4)
    assert order(1, 4) != order(2, 4)
    assert order(1, 4) != order(1, 5)


MIXED = images(
    *[{COMMON}] * 500, *[{COMMON, OTHER}] * 250, *[set()] * 150, *[{RARE}] * 30, *[{COMMON, RARE}] * 20
)


@pytest.mark.parametrize(
    ("retention", "power", "exposure"),
    [
        pytest.param(1.0, 0.0, 10 / 100, id="every image alike: the share of rare images"),
        pytest.param(0.5, 0.0, 10 / 55, id="half of the others left"),
        pytest.param(0.0, 0.0, 1.0, id="only rare images left"),
        pytest.param(1.0, 1.0, 1 / 2, id="two balanced classes"),
        pytest.param(1.0, 0.5, 3 / (9 * 1 + 3), id="the root: rare images weigh three times as much"),
        pytest.param(0.5, 1.0, 1 / 2, id="balanced, however many are left"),
    ],
)
def test_exposure_of_ninety_common_and_ten_rare_images_by_hand(
    retention: float, power: float, exposure: float
) -> None:
    classes = images(*[{COMMON}] * 90, *[{RARE}] * 10)
    expected = expected_exposure(classes, {RARE}, retention=retention, power=power, max_repeat=30)
    assert expected == pytest.approx(exposure)


def test_the_cap_bounds_the_exposure() -> None:
    classes = images(*[{COMMON}] * 99, {RARE})
    assert expected_exposure(classes, {RARE}, retention=1, power=1, max_repeat=10) == pytest.approx(0.1)


@pytest.mark.parametrize("retention", [1.0, 0.4])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_long_stream_of_draws_has_the_expected_exposure_whatever_the_seed(
    retention: float, power: float
) -> None:
    seed, n = 7, 40_000
    kept = [MIXED[i] for i in retain(MIXED, {RARE}, retention=retention, seed=seed)]
    weights = draw_weights(kept, power=power, max_repeat=30)
    drawn = Draws(n=len(kept), per_epoch=n, weights=weights, seed=seed).epoch(0)
    expected = expected_exposure(MIXED, {RARE}, retention=retention, power=power, max_repeat=30)
    assert holds_minority(kept, {RARE})[drawn].mean() == pytest.approx(
        expected, abs=4 * (expected * (1 - expected) / n) ** 0.5
    )


@given(ANY, st.floats(0.2, 1))
def test_the_matched_sampler_exposes_as_undersampling_does(
    classes: list[frozenset[int]], retention: float
) -> None:
    classes = [*classes, frozenset({RARE}), *[frozenset({COMMON})] * 80]  # so that power 1 is enough
    power = matched_power(classes, {RARE}, retention=retention, max_repeat=30)
    under, weighted = (
        expected_exposure(classes, {RARE}, retention=kept, power=p, max_repeat=30)
        for kept, p in ((retention, 0.0), (1.0, power))
    )
    assert 0 <= power <= 1
    assert weighted == pytest.approx(under, abs=1e-5)


def test_nothing_undersampled_is_matched_by_no_weights() -> None:
    assert matched_power(MIXED, {RARE}, retention=1.0, max_repeat=30) == 0


@pytest.mark.parametrize(
    ("retention", "max_repeat"),
    [
        pytest.param(0.0, 30, id="a sampler never leaves all others out"),
        pytest.param(0.3, 1.5, id="the cap is in the way"),
    ],
)
def test_an_exposure_out_of_reach_is_an_error(retention: float, max_repeat: float) -> None:
    with pytest.raises(UsageError, match=f"retention {retention:g} gives an exposure of .* at most"):
        matched_power(MIXED, {RARE}, retention=retention, max_repeat=max_repeat)

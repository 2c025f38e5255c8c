import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from spaces.errors import UsageError
from spaces.strategy import Strategy
from trainables.strategy.sampling import (
    Draws,
    draw_weights,
    expected_exposure,
    holds_minority,
    matched_power,
    minority_share,
    retain,
    sampled_counts,
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


@pytest.mark.parametrize(
    ("threshold", "repeats"),
    [
        pytest.param(0.64, [1, 1, 1, 1, 1.6, 1.6], id="a quarter is below .64, the others above"),
        pytest.param(1.0, [1.1547, 1.1547, 1.1547, 1, 2, 2], id="below 1 all are, an empty image never"),
    ],
)
def test_repeat_factors_by_hand(threshold: float, repeats: list[float]) -> None:
    # Of eight images six hold the common class and two the rare one; one is empty.
    classes = images({COMMON}, {COMMON}, {COMMON}, set(), {RARE}, {COMMON, RARE}, {COMMON}, {COMMON})
    weights = draw_weights(classes, power=0, repeat_threshold=threshold, max_repeat=30)
    assert weights is not None
    np.testing.assert_allclose((weights / weights[3])[:6], repeats, rtol=1e-4)


def test_power_and_repeat_factor_multiply_before_the_cap() -> None:
    classes = images(*[{COMMON}] * 15, {RARE})
    # The rare class is in 1/16 of the images: power 1/2 gives 4, the repeat factor of threshold 1/4 is 2.
    weights = draw_weights(classes, power=0.5, repeat_threshold=0.25, max_repeat=30)
    assert weights is not None
    assert weights[-1] / weights[0] == pytest.approx(4 * 2 * (15 / 16) ** 0.5)
    capped = draw_weights(classes, power=0.5, repeat_threshold=0.25, max_repeat=3)
    assert capped is not None
    np.testing.assert_allclose(capped, [13 / 16 / 15] * 15 + [3 / 16])


@given(ANY)
def test_with_threshold_one_and_objects_everywhere_it_is_power_one_half(
    classes: list[frozenset[int]],
) -> None:
    classes = [found | {COMMON} for found in classes]
    repeated, root = (
        draw_weights(classes, power=power, repeat_threshold=threshold, max_repeat=30)
        for power, threshold in ((0, 1), (0.5, 0))
    )
    assert root is not None
    np.testing.assert_allclose(np.full(len(root), 1 / len(root)) if repeated is None else repeated, root)


def test_off_draws_without_replacement() -> None:
    assert draw_weights(images({COMMON}, {RARE}), power=0, max_repeat=30) is None


def test_a_threshold_that_no_class_is_below_is_off() -> None:
    # Weights that are all alike would see only 63 % of the images in a pass.
    classes = images({COMMON}, {COMMON}, {RARE}, set())
    assert draw_weights(classes, power=0, repeat_threshold=0.25, max_repeat=30) is None
    assert draw_weights(classes, power=0, repeat_threshold=0.26, max_repeat=30) is not None


def test_the_cap_is_relative_to_uniform_drawing() -> None:
    classes = images(*[{COMMON}] * 99, {RARE})
    weights = draw_weights(classes, power=1, max_repeat=10)
    assert weights is not None
    assert weights[-1] == pytest.approx(10 / 100)
    np.testing.assert_allclose(weights[:-1], 0.9 / 99)


@given(ANY, st.floats(0.01, 1), st.floats(0, 1), st.floats(1, 50))
def test_weights_are_probabilities_below_the_cap(
    classes: list[frozenset[int]], power: float, threshold: float, max_repeat: float
) -> None:
    weights = draw_weights(classes, power=power, repeat_threshold=threshold, max_repeat=max_repeat)
    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    assert weights.min() > 0
    assert weights.max() <= max_repeat / len(classes) * (1 + 1e-9)


# 60 images: common ones, with another class, rare ones, empty ones.
GROUPS = ((40, {COMMON}), (12, {COMMON, OTHER}), (5, {COMMON, RARE}), (3, set()))


@pytest.mark.parametrize("capped", [False, True], ids=["no cap in the way", "rare images at the cap"])
@pytest.mark.parametrize(
    ("recipe", "weights", "cap"),
    [
        pytest.param(
            {"power": 0.7},
            [(57 / 60) ** -0.7, (12 / 60) ** -0.7, (5 / 60) ** -0.7, (57 / 60) ** -0.7],
            2.0,
            id="a power of the frequency",
        ),
        pytest.param(
            {"power": 0, "repeat_threshold": 0.3},
            [1, (0.3 * 60 / 12) ** 0.5, (0.3 * 60 / 5) ** 0.5, 1],
            1.5,
            id="repeat factors",
        ),
        pytest.param(
            {"power": 0.5, "repeat_threshold": 0.3},
            [(60 / 57) ** 0.5, 0.3**0.5 * 60 / 12, 0.3**0.5 * 60 / 5, (60 / 57) ** 0.5],
            2.0,
            id="their product",
        ),
    ],
)
def test_over_200_epochs_images_are_drawn_as_often_as_the_formula_says(
    recipe: dict[str, float], weights: list[float], cap: float, capped: bool
) -> None:
    classes = images(*[found for size, found in GROUPS for _ in range(size)])
    drawn_with = draw_weights(classes, **recipe, max_repeat=cap if capped else 30)
    draws = Draws(n=60, per_epoch=120, weights=drawn_with, seed=3)
    drawn = np.bincount(np.concatenate([draws.epoch(e) for e in range(200)]), minlength=60)
    share = np.repeat(weights, [size for size, _ in GROUPS])  # (60,)
    share /= share.sum()
    if capped:
        rare = holds_minority(classes, {RARE})
        assert share[rare].min() > cap / 60
        share = np.where(rare, cap / 60, share * (1 - 5 * cap / 60) / share[~rare].sum())
        assert share[~rare].max() < cap / 60
    assert chisquare(drawn, 200 * 120 * share).pvalue > 1e-3


def test_after_undersampling_the_formula_counts_what_is_left() -> None:
    classes = images(*[{COMMON}] * 40, *[{RARE}] * 5)
    kept = retain(classes, {RARE}, retention=0.5, seed=1)
    left = [classes[i] for i in kept]
    assert [left.count(frozenset({c})) for c in (COMMON, RARE)] == [20, 5]
    weights = draw_weights(left, power=0, repeat_threshold=0.8, max_repeat=30)
    draws = Draws(n=25, per_epoch=100, weights=weights, seed=4)
    drawn = np.bincount(np.concatenate([draws.epoch(e) for e in range(200)]), minlength=25)
    share = np.array([1] * 20 + [2] * 5) / 30  # sqrt(.8 / .2) is 2
    assert chisquare(drawn, 20_000 * share).pvalue > 1e-3


@pytest.mark.parametrize(
    ("knobs", "repeats"),
    [
        # 90 common images and 10 rare ones: at power 1 a rare one is drawn nine times as often.
        pytest.param({"sampler_power": 1.0, "defer": 1.0}, [9, 9**0.75, 9**0.5, 9**0.25, 1], id="all of it"),
        pytest.param(
            {"sampler_power": 0.5, "defer": 0.5}, [9 ** (0.5 - e / 16) for e in range(5)], id="half"
        ),
        pytest.param(
            {"repeat_threshold": 0.4, "defer": 1.0},
            [2, 3**0.5, 2**0.5, 1, 1],
            id="repeat factors: sqrt(t / .1)",
        ),
        pytest.param({"sampler_power": 0.5}, [3] * 5, id="without `defer` nothing changes"),
    ],
)
def test_over_the_epochs_the_draws_fade_as_the_formula_says(
    knobs: dict[str, float], repeats: list[float]
) -> None:
    classes = images(*[{COMMON}] * 90, *[{RARE}] * 10)
    for epoch, repeat in enumerate(repeats):
        sampling = Strategy.from_knobs(knobs).at(epoch / 4).sampling
        weights = draw_weights(
            classes,
            power=sampling.sampler_power,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
        )
        assert (weights is None) == (repeat == 1)
        drawn = np.bincount(
            Draws(n=100, per_epoch=20_000, weights=weights, seed=6).epoch(epoch), minlength=100
        )
        share = np.array([1] * 90 + [repeat] * 10) / (90 + 10 * repeat)
        assert chisquare(drawn, 20_000 * share).pvalue > 1e-3


def test_a_pass_of_the_draws_meets_objects_of_each_class_as_counted_by_hand() -> None:
    labels = [np.array([0, 0, 0]), np.array([0, 1]), np.zeros(0, int), np.array([1, 1])]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    assert sampled_counts(labels, None, n_classes=3).tolist() == [4, 3, 0]
    np.testing.assert_allclose(sampled_counts(labels, weights, n_classes=3), [4 * 0.5, 4 * 1.0, 0])


def test_the_minoritys_share_of_the_draws_is_the_sum_of_its_weights() -> None:
    rare = np.array([False, True, False, True])
    assert minority_share(rare, np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.6)
    assert minority_share(rare, None) == 0.5


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


def test_exposure_knows_repeat_factors() -> None:
    classes = images(*[{COMMON}] * 90, *[{RARE}] * 10)
    expected = expected_exposure(classes, {RARE}, retention=1, power=0, repeat_threshold=0.4, max_repeat=30)
    assert expected == pytest.approx(2 * 10 / (90 + 2 * 10))  # sqrt(.4 / .1) is 2


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
    classes = [*classes, frozenset({RARE}), *[frozenset({COMMON})] * 80]

    def exposure(retention: float, power: float) -> float:
        return expected_exposure(classes, {RARE}, retention=retention, power=power, max_repeat=30)

    under = exposure(retention, 0)
    assume(exposure(1, 1) > under)
    power = matched_power(classes, {RARE}, retention=retention, max_repeat=30)
    assert 0 <= power <= 1
    assert exposure(1, power) == pytest.approx(under, abs=1e-5)


def test_repeat_factors_are_matched_by_a_power() -> None:
    classes = images(*[{COMMON}] * 90, *[{RARE}] * 10)
    power = matched_power(classes, {RARE}, retention=1, repeat_threshold=0.4, max_repeat=30)
    assert 9**power == pytest.approx(2, rel=1e-5)  # both weigh a rare image twice as much as a common one


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

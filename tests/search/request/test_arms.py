"""The arms that a task knows, and those that are matched in exposure."""

import pytest

from search.request.arms import ALSO, MATCHED, known_arms, matched_pairs, named_strategy, needs_whole_images
from spaces.errors import UsageError
from spaces.strategy import NAMED, Strategy
from trainables.contract.tasks import TASKS, Task
from trainables.strategy.sampling import expected_exposure

CLASSES = [*[frozenset({0})] * 960, *[frozenset({0, 1})] * 30, *[frozenset({1})] * 10]
COPIED = [*[frozenset({0, 1})] * 100, *[frozenset({1})] * 15]


def copied(strategy: Strategy) -> list[frozenset[int]]:
    return COPIED if strategy.augmentation.pretile_copies else []


@pytest.mark.parametrize("task", TASKS)
def test_default_arms_are_known_different_and_begin_with_the_reference(task: Task) -> None:
    arms = TASKS[task].arms
    assert arms[0] == "plain"
    assert set(arms) <= set(known_arms(task))
    strategies = [named_strategy(name, CLASSES, {1}, copied) for name in arms]
    assert len({strategy.model_dump_json() for strategy in strategies}) == len(arms)


def test_a_classifier_has_no_arm_without_the_majority_and_none_that_needs_boxes() -> None:
    assert set(known_arms("detection")) - set(known_arms("classification")) == {
        "filtered",
        "filtered_weighted",
        "copy_paste",
        "weighted_copy_paste",
        "mosaic",
        "dual_model",
        "dual_model_weighted",
        "augmented_frozen_3",
        "pretile_3",
        "pretile_fresh_3",
        "pretile_3_plain",
        "undersampled_40_pretile",
        "augmented_as_pretile_3",
        "augmented_frozen_as_pretile_3",
    }
    assert set(TASKS["classification"].unfit) <= set(NAMED)


@pytest.mark.parametrize("name", MATCHED)
def test_a_matched_arm_draws_from_all_images_at_the_others_exposure(name: str) -> None:
    matched, other = named_strategy(name, CLASSES, {1}, copied), NAMED[MATCHED[name]]
    also = NAMED[ALSO[name]].changed() if name in ALSO else {}
    assert matched.changed() == also | {"sampler_power": matched.sampling.sampler_power}
    exposures = [
        expected_exposure(
            [*CLASSES, *copied(strategy)],
            {1},
            retention=strategy.sampling.retention,
            power=strategy.sampling.sampler_power,
            max_repeat=strategy.sampling.max_repeat,
        )
        for strategy in (matched, other)
    ]
    assert exposures[0] == pytest.approx(exposures[1], abs=1e-5)


def test_copies_are_matched_by_what_they_add() -> None:
    fresh = named_strategy("augmented_as_pretile_3", CLASSES, {1}, copied)
    frozen = named_strategy("augmented_frozen_as_pretile_3", CLASSES, {1}, copied)
    assert fresh.sampling == frozen.sampling
    recipe = {"power": fresh.sampling.sampler_power, "max_repeat": fresh.sampling.max_repeat}
    exposure = expected_exposure(CLASSES, {1}, retention=1.0, **recipe)
    assert exposure == pytest.approx((40 + 115) / (1000 + 115), abs=1e-5)
    augmented = NAMED["pretile_3"].augmentation
    assert fresh.augmentation.augment_minority == augmented.augment_minority
    assert frozen.augmentation.augment_variants == augmented.pretile_copies
    assert frozen.augmentation.augment_minority == augmented.augment_minority


def test_arms_that_copy_whole_images_and_those_matched_to_them_need_whole_images() -> None:
    assert [name for name in known_arms("detection") if needs_whole_images(name)] == [
        "pretile_3",
        "pretile_fresh_3",
        "pretile_3_plain",
        "undersampled_40_pretile",
        "augmented_as_pretile_3",
        "augmented_frozen_as_pretile_3",
    ]


def test_copies_that_no_sampler_reaches_are_named() -> None:
    many = [*[frozenset({0})] * 40, *[frozenset({1})] * 60]
    with pytest.raises(UsageError, match=r"augmented_as_pretile_3: 115 copied images and retention 1 give"):
        named_strategy("augmented_as_pretile_3", many, {1}, copied)


def test_a_misspelt_arm_is_an_error_with_a_hint() -> None:
    with pytest.raises(
        UsageError, match="no such strategy 'weighted_as_undersampled_45'\nhint: did you mean"
    ):
        named_strategy("weighted_as_undersampled_45", CLASSES, {1})


def test_an_arm_that_the_data_do_not_allow_is_named() -> None:
    many = [*[frozenset({0})] * 40, *[frozenset({1})] * 60]
    with pytest.raises(UsageError, match=r"weighted_as_undersampled_30: retention 0\.3 gives"):
        named_strategy("weighted_as_undersampled_30", many, {1})


def test_pairs_are_those_whose_both_arms_are_there() -> None:
    assert matched_pairs(TASKS["detection"].arms) == (
        ("undersampled_40", "weighted_as_undersampled_40"),
        ("pretile_3", "augmented_as_pretile_3"),
        ("pretile_3", "augmented_frozen_as_pretile_3"),
        ("pretile_3", "pretile_fresh_3"),
        ("pretile_fresh_3", "augmented_as_pretile_3"),
        ("augmented_frozen_as_pretile_3", "augmented_as_pretile_3"),
    )
    assert matched_pairs(["plain", "weighted_as_undersampled_30", "undersampled_50"]) == ()

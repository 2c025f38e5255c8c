"""Each diagnosis by hand: a case just inside and one just outside of every limit."""

import math
from typing import Any

import pytest
from diagnosed import found, report

from search.judging.diagnostics import Diagnosis, diagnose, lines, ships_poorly
from spaces.strategy import PLAIN
from trainables.contract.trial import TrialReport


def test_a_sound_run_has_no_diagnosis() -> None:
    sound = report(0.5, ap50=0.5, train=0.6, support={"rare": 1000}, minority_images=40, majority_images=960)
    assert diagnose(PLAIN, [sound], [sound, sound], minority=("rare",), min_gain=0.05) == ()


@pytest.mark.parametrize(
    ("support", "width"),
    [
        pytest.param({"rare": 270}, 0.05006, id="one object too few for a gain of 0.05"),
        pytest.param({"rare": 271}, None, id="just enough objects"),
        pytest.param({"rare": 100}, 0.08225, id="1.645 * sqrt(.25 / 100)"),
        pytest.param({"rare": 0}, 1.0, id="no object at all"),
        pytest.param({"other": 10}, None, id="the support is not known"),
    ],
)
def test_support_too_small(support: dict[str, float], width: float | None) -> None:
    diagnoses = found("support too small", [report(support=support)])
    assert [one.number for one in diagnoses] == ([] if width is None else [pytest.approx(width, abs=1e-5)])


def test_support_too_small_is_of_all_minority_classes_together_and_against_the_gain_looked_for() -> None:
    reports = [report(support={"rare": 135, "scarce": 136})]
    assert not found("support too small", reports, minority=("rare", "scarce"))
    assert found("support too small", reports, minority=("rare", "scarce"), min_gain=0.04)
    assert found("support too small", reports, minority=("rare",))
    assert not found("support too small", reports, minority=())


def test_where_there_are_whole_images_their_objects_count_and_not_the_pieces_on_tiles() -> None:
    one = report(support={"rare": 300})
    assert not found("support too small", [one])
    whole = one.model_copy(update={"metrics": one.metrics | {"merged/support/rare": 100.0}})
    (said,) = found("support too small", [whole])
    assert said.number == pytest.approx(0.08225, abs=1e-5)


def test_support_too_small_says_how_small() -> None:
    (one,) = found("support too small", [report(support={"rare": 62})], split="test")
    assert one.sentence == (
        "the test split holds 62 minority objects: so few leave recall uncertain by up to ±0.104 "
        "(one-sided 95 %), more than the gain of 0.05 that is looked for"
    )


@pytest.mark.parametrize(
    ("knobs", "exposure", "idle"),
    [
        pytest.param({"sampler_power": 0.1}, 0.0419, True, id="a sampler that adds less than 5 %"),
        pytest.param({"sampler_power": 0.1}, 0.0421, False, id="a sampler that adds more than 5 %"),
        pytest.param({"sampler_power": 0.1}, 0.0379, False, id="a sampler that takes more than 5 % away"),
        pytest.param({"retention": 0.97}, 0.0419, True, id="hardly undersampled"),
        pytest.param({"retention": 0.9}, 0.0443, False, id="undersampled"),
        # 40 of 40 + .5 * 960 images: 7.69 %
        pytest.param({"retention": 0.5, "sampler_power": 1}, 0.0769, True, id="only the undersampling acts"),
        pytest.param({"retention": 0.5, "sampler_power": 1}, 0.0810, False, id="both act"),
        pytest.param(
            {"retention": 0, "sampler_power": 1}, 1.0, True, id="weights among minority images only"
        ),
        pytest.param({"retention": 0}, 1.0, False, id="filtered"),
        pytest.param({"repeat_threshold": 0.1}, 0.0419, True, id="repeat factors that add less than 5 %"),
        pytest.param({"repeat_threshold": 0.1}, 0.0421, False, id="repeat factors that add more than 5 %"),
        pytest.param({"focal_gamma": 2}, 0.04, False, id="no sampling asked for"),
    ],
)
def test_strategy_without_effect(knobs: dict[str, float], exposure: float, idle: bool) -> None:
    run = report(exposure=exposure, minority_images=40, majority_images=960)
    assert [one.number for one in found("strategy without effect", [run], knobs=knobs)] == [exposure] * idle


def test_strategy_without_effect_says_what_changes_nothing_over_all_seeds() -> None:
    seeds = [
        report(exposure=exposure, minority_images=40, majority_images=960) for exposure in (0.036, 0.046)
    ]
    (one,) = found("strategy without effect", seeds, knobs={"sampler_power": 0.1})
    assert one.sentence == (
        "the sampler changes nothing: 4.1% of the drawn images hold a minority object, 4.0% would without it"
    )
    (one,) = found("strategy without effect", seeds, knobs={"retention": 0.99})
    assert one.sentence.startswith("undersampling the majority changes nothing: 4.1%")
    assert not found("strategy without effect", [report()], knobs={"sampler_power": 0.1})  # an older record


@pytest.mark.parametrize(
    ("recall", "ap50", "shifted"),
    [
        pytest.param(0.45, 0.30, True, id="recall rose by exactly the gain, AP50 not at all"),
        pytest.param(0.45, 0.31, False, id="AP50 rose too"),
        pytest.param(0.449, 0.30, False, id="recall rose by less than the gain"),
        pytest.param(0.45, None, False, id="no AP50: a classifier"),
    ],
)
def test_threshold_shift_only(recall: float, ap50: float | None, shifted: bool) -> None:
    baseline = [report(0.38, ap50=0.29), report(0.42, ap50=0.31)]  # means 0.40 and 0.30
    diagnoses = found("threshold shift only", [report(recall, ap50=ap50)], baseline)
    assert len(diagnoses) == shifted
    assert not found("threshold shift only", [report(recall, ap50=ap50)], [])


def test_threshold_shift_only_gives_both_changes() -> None:
    (one,) = found("threshold shift only", [report(0.5, ap50=0.28)], [report(0.38, ap50=0.30)])
    assert one.number == pytest.approx(-0.02)
    assert one.sentence.startswith(
        "minority recall rose by 0.120 over the baseline, but average precision (AP50) changed by -0.020: "
    )


@pytest.mark.parametrize(
    ("deployed", "apart"),
    [
        pytest.param(0.52, None, id="as far as is said to be the same"),
        pytest.param(0.521, 0.021, id="more"),
        pytest.param(0.47, -0.03, id="less"),
        pytest.param(None, None, id="a record of 0.1.0, or a classifier"),
    ],
)
def test_deployed_recall_that_is_another_is_said(deployed: float | None, apart: float | None) -> None:
    diagnoses = found("deployed differs", [report(0.5, deployed=deployed)])
    assert [one.number for one in diagnoses] == ([] if apart is None else [pytest.approx(apart)])


@pytest.mark.parametrize(
    ("deployed", "said"),
    [
        pytest.param(0.25, False, id="half of it"),
        pytest.param(0.24, True, id="less than half of it"),
        pytest.param(0.0, True, id="nothing"),
        pytest.param(0.9, False, id="more"),
        pytest.param(None, False, id="a classifier"),
    ],
)
def test_weights_that_ship_poorly(deployed: float | None, said: bool) -> None:
    assert (ships_poorly(report(0.5, deployed=deployed)) is not None) == said


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        pytest.param([(100, 5)], None, id="5 of 100 boxes"),
        pytest.param([(100, 6)], 0.06, id="6 of 100 boxes"),
        pytest.param([(100, 9), (100, 1)], None, id="10 of 200 over two seeds"),
        pytest.param([(100, 9), (100, 2)], 0.055, id="11 of 200 over two seeds"),
        pytest.param([(0, 0)], None, id="nothing was augmented"),
    ],
)
def test_augmentation_too_strong_by_boxes(counts: list[tuple[int, int]], share: float | None) -> None:
    seeds = [report(boxes_augmented=entered, boxes_lost=lost) for entered, lost in counts]
    diagnoses = found("augmentation too strong", seeds)
    assert [one.number for one in diagnoses] == ([] if share is None else [share])


def test_augmentation_too_strong_says_how_many_boxes() -> None:
    (one,) = found("augmentation too strong", [report(boxes_augmented=200, boxes_lost=13)])
    assert one.sentence == "augmentation loses 6.5% of the boxes it is given (13 of 200)"


@pytest.mark.parametrize(
    ("kept", "least"),
    [
        pytest.param([{"minority": 0.60, "rest": None}], None, id="60 % is enough"),
        pytest.param([{"minority": 0.59, "rest": None}], 0.59, id="59 % is not"),
        pytest.param([{"minority": 0.9, "rest": 0.5}, {"minority": 0.55, "rest": 0.9}], 0.5, id="the worst"),
        pytest.param([{"minority": None, "rest": None}], None, id="nothing was augmented"),
    ],
)
def test_augmentation_too_strong_for_small_structures(
    kept: list[dict[str, float | None]], least: float | None
) -> None:
    diagnoses = found("augmentation too strong", [report(contrast_kept=each) for each in kept])
    assert [one.number for one in diagnoses] == ([] if least is None else [least])


@pytest.mark.parametrize(
    ("knobs", "stacked"),
    [
        pytest.param({"sampler_power": 0.5, "alpha_power": 0.3}, True, id="sampler and class weights"),
        pytest.param({"sampler_power": 0.5, "focal_gamma": 2}, False, id="focal loss knows no class"),
        pytest.param({"alpha_power": 0.3, "retention": 0.4}, False, id="undersampling is not counted"),
    ],
)
def test_reweighting_stacked(knobs: dict[str, float], stacked: bool) -> None:
    diagnoses = found("reweighting stacked", [report()], knobs=knobs)
    assert [(one.number, one.sentence) for one in diagnoses] == [
        (
            2,
            "the weighted sampler (sampler_power 0.50) and class weights (alpha_power 0.30) multiply: they "
            "can more than make up for the minority being rare",
        )
    ] * stacked


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("repeat_threshold", "alpha_power", id="repeat factors and class weights"),
        pytest.param("sampler_power", "logit_tau", id="sampler and logit adjustment"),
        pytest.param("class_balance", "logit_tau", id="two corrections of the loss"),
    ],
)
def test_every_way_of_reweighting_counts(first: str, second: str) -> None:
    (one,) = found("reweighting stacked", [report()], knobs={first: 0.5, second: 0.5})
    assert f"({first} 0.50) and" in one.sentence
    assert f"({second} 0.50) multiply" in one.sentence
    assert not found("reweighting stacked", [report()], knobs={first: 0.5})


@pytest.mark.parametrize(
    ("prior", "says"),
    [
        pytest.param({"common": 0.1, "rare": 0.9}, "'rare' 9.0 times as much as 'common'", id="turned round"),
        pytest.param({"common": 0.47, "rare": 0.53}, "'rare' 1.1 times", id="just beyond even shares"),
        pytest.param({"common": 0.48, "rare": 0.52}, None, id="even within 5 %"),
        pytest.param({"common": 0.8, "rare": 0.2}, None, id="together still less than the rarity"),
        pytest.param({"a": 0.6, "b": 0.0, "rare": 0.4}, None, id="an absent class has no share"),
        pytest.param(
            {"a": 0.1, "b": 0.3, "rare": 0.6}, "'rare' 6.0 times as much as 'a'", id="three classes"
        ),
    ],
)
def test_reweighting_is_stacked_where_the_receipt_shows_too_much(
    prior: dict[str, float], says: str | None
) -> None:
    knobs = {"sampler_power": 1.0, "alpha_power": 1.0}
    diagnoses = found("reweighting stacked", [report(effective_prior=prior)], knobs=knobs)
    assert len(diagnoses) == (says is not None)
    even = f"'rare' {prior['rare']:.0%}; even would be {1 / len(prior):.0%})"
    assert all(f"; the loss sees {says}" in one.sentence and even in one.sentence for one in diagnoses)


def falling(by: float, *, seeds: int = 2, val_support: float = 50) -> list[TrialReport]:
    """Seeds that fall by `by` - .01 and `by` + .01 from val to a test split of 100 objects."""
    return [
        report(0.4, on_val=0.4 + by + sign * 0.01, support={"rare": 100}, val_support=val_support)
        for sign in (-1, 1)
    ][:seeds]


@pytest.mark.parametrize(
    ("reports", "more", "fell"),
    [
        # Variance over seeds .0002, / 2 = .0001; + .0008 * (1 + 100 / 50) = .0025; two SE = .1
        pytest.param(falling(0.101), {}, True, id="beyond two standard errors"),
        pytest.param(falling(0.099), {}, False, id="within two standard errors"),
        # .0001 + .0008 * (1 + 100 / 800) = .001; two SE = .0632
        pytest.param(falling(0.064, val_support=800), {}, True, id="a larger val split adds less"),
        pytest.param(falling(0.062, val_support=800), {}, False, id="still within two standard errors"),
        pytest.param(falling(-0.3), {}, False, id="a rise"),
        pytest.param(falling(0.3, seeds=1), {}, False, id="one seed"),
        pytest.param(falling(0.3), {"split": "val"}, False, id="nothing was measured on test"),
        pytest.param(falling(0.3), {"split_variance": None}, False, id="the test images' own error unknown"),
        pytest.param(falling(0.3), {"minority": ()}, False, id="the supports unknown"),
    ],
)
def test_val_to_test_fall(reports: list[TrialReport], more: dict[str, Any], fell: bool) -> None:
    asked = {"split": "test", "split_variance": 0.0008} | more
    assert len(found("val-to-test fall", reports, **asked)) == fell


def test_val_to_test_fall_says_how_far_and_what_chance_explains() -> None:
    (one,) = found("val-to-test fall", falling(0.15), split="test", split_variance=0.0008)
    assert math.isclose(one.number, 0.15)
    assert one.sentence == (
        "minority recall falls by 0.150 from the val to the test split, where chance explains up to 0.100: "
        "the two splits differ, or the strategy was fitted to val"
    )


def test_lines_name_each_diagnosis() -> None:
    assert lines([Diagnosis("a name", 1.0, "a sentence"), Diagnosis("another", 2.0, "more")]) == [
        "a name: a sentence",
        "another: more",
    ]

"""What knobs do by the trials: a knob that decides shows it, one that does nothing is level or not known."""

from dataclasses import replace

import numpy as np
import pytest
from in_process import config
from told_trials import trial

from search.pipeline.looking.knob_effects import GRID, LEAST_TRIALS, knob_effects
from search.record.outcomes import StudyTrial
from spaces.strategy import PLAIN, Strategy

SPACE = {"sampler_power": [0.0, 1.0], "focal_gamma": [0.0, 2.0]}


def trials(n: int, noise: float = 0.02) -> list[StudyTrial]:
    """Recall rises with the sampler's power and does not know of the focal loss; overall falls."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        power, gamma = float(rng.random()), float(2 * rng.random())
        one = trial(i, 0.3 + 0.4 * power + rng.normal(0, noise), 0.5 - 0.2 * power + rng.normal(0, noise))
        made.append(
            replace(one, strategy=Strategy.from_knobs({"sampler_power": power, "focal_gamma": gamma}))
        )
    return made


def test_a_knob_that_decides_is_told_from_one_that_does_nothing() -> None:
    found = knob_effects(trials(40), config(space=SPACE), PLAIN.knobs())
    assert [(one["knob"], one["metric"]) for one in found] == [
        (knob, metric) for metric in ("minority_recall", "map50_95") for knob in SPACE
    ]
    effect = {(one["knob"], one["metric"]): one for one in found}
    rising = effect["sampler_power", "minority_recall"]
    assert len(rising["grid"]) == len(rising["mean"]) == GRID
    assert rising["mean"][-1] - rising["mean"][0] == pytest.approx(0.4, abs=0.06)
    assert rising["low"][-1] > rising["high"][0]
    falling = effect["sampler_power", "map50_95"]
    assert falling["mean"][0] - falling["mean"][-1] == pytest.approx(0.2, abs=0.06)
    idle = effect["focal_gamma", "minority_recall"]
    assert (idle["grid"][0], idle["grid"][-1]) == (0.0, 2.0)
    assert max(idle["low"]) <= min(idle["high"])


def test_few_trials_are_less_sure_and_too_few_say_nothing() -> None:
    def width(n: int) -> float:
        found = knob_effects(trials(n, noise=0.05), config(space=SPACE), PLAIN.knobs())[0]
        return float(np.mean(np.subtract(found["high"], found["low"])))

    assert width(60) < width(LEAST_TRIALS)
    assert knob_effects(trials(LEAST_TRIALS - 1), config(space=SPACE), PLAIN.knobs()) == []


def test_a_knob_that_all_trials_have_alike_has_no_effect_to_show() -> None:
    alike = [
        replace(one, strategy=Strategy.from_knobs({"sampler_power": one.strategy.sampling.sampler_power}))
        for one in trials(20)
    ]
    assert {one["knob"] for one in knob_effects(alike, config(space=SPACE), PLAIN.knobs())} == {
        "sampler_power"
    }


def test_a_fixed_knob_and_a_choice_of_three_are_no_stumbling_block() -> None:
    space = {"sampler_power": {"choices": [0.0, 0.5, 1.0]}, "retention": 0.5, "focal_gamma": [0.0, 2.0]}
    assert {one["knob"] for one in knob_effects(trials(20), config(space=space), PLAIN.knobs())} == {
        "sampler_power",
        "focal_gamma",
    }

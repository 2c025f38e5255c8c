"""The front as a person reads it."""

from dataclasses import replace

import pytest
from told_trials import trial

from search.judging.front import front
from search.record.study import StudyTrial
from search.show.front import caption

OBJECTIVES = ("minority_recall", "map50_95")
SHARED = "The trials share one training seed (0), whose luck is in all of them."


@pytest.mark.parametrize(
    ("trials", "shared"),
    [
        pytest.param([trial(0, 0.5, 0.5), trial(1, 0.4, 0.4)], True, id="one seed"),
        pytest.param(
            [trial(0, 0.5, 0.5), trial(1, 0.9, 0.9, violation=0.1)], True, id="one of them breaks a guard"
        ),
        pytest.param(
            [trial(0, 0.5, 0.5), replace(trial(1, 0.4, 0.4), seed=7)], False, id="a seed of its own"
        ),
        pytest.param([trial(0, 0.5, 0.5), trial(1, 0, 0, "running")], False, id="only one is measured"),
        pytest.param([], False, id="no trial"),
    ],
)
def test_the_caption_says_that_trials_share_a_seed_only_if_they_do(
    trials: list[StudyTrial], shared: bool
) -> None:
    said = caption(front(trials, OBJECTIVES, None))
    assert said.endswith(SHARED if shared else "! breaks its guard.")

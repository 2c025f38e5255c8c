"""`rarecall strategies`: what there is to be named, in words."""

import json

import pytest

from search.cli.main import main
from search.request.arms import known_arms
from spaces.strategy import NAMED, SENTENCES
from trainables.contract.tasks import TASKS, Task


def test_every_named_strategy_has_its_sentence() -> None:
    assert set(SENTENCES) == set(NAMED)
    assert len(set(SENTENCES.values())) == len(SENTENCES)
    assert all(sentence.endswith(".") and len(sentence) < 90 for sentence in SENTENCES.values())


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_the_strategies_of_a_task_are_listed_with_what_compare_runs_unasked(
    task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["strategies", "--task", task, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in listed] == list(known_arms(task))
    assert {arm["name"] for arm in listed if arm["unasked"] == [task]} == set(TASKS[task].arms)
    of = {arm["name"]: arm for arm in listed}
    assert of["undersampled_30_augmented"]["knobs"] == {"retention": 0.3, "augment_minority": 0.5}
    assert of["weighted_as_undersampled_40"]["exposure_of"] == "undersampled_40"


def test_the_strategies_are_shown_with_their_knobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["strategies"]) == 0
    shown = capsys.readouterr().out
    assert "A weighted sampler that shows the minority as often as undersampled_50: only diversity" in shown
    assert "sampler_power at the exposure of undersampled_50" in shown
    assert SENTENCES["focal_alpha"] in shown
    assert "sampler_power 1.00, focal_gamma 2.00, alpha_power 1.00" in shown
    assert main(["strategies", "--task", "detection"]) == 0
    assert "deferred" not in capsys.readouterr().out

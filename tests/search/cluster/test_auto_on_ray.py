"""`resources: auto` on a real Ray: the first run is measured, the others get what was chosen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from on_ray import search_on_ray
from toy_experiments import request_of

from search.cli.main import main
from search.cluster.launch import connected
from search.record.folder import StudyFolder
from search.request.computing.resources import Resources
from search.work import allotting
from search.work.allotting import Auto
from trainables.contract.node import Used
from trainables.contract.trial import TrialFailure, TrialReport

pytestmark = pytest.mark.slow
WAITS = {"model": "toy:sleep=2.5", "steps": 2, "eval_every": 1}  # for nothing, on no CPU


def test_a_search_says_what_it_chose_and_one_that_goes_on_has_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, where = str(tmp_path / "runs"), str(tmp_path / "runs" / "toy")
    asked = {"train": WAITS, "resources": "auto", "baseline": {"seeds": 1}}
    request = request_of(tmp_path, **asked, search={"trials": 1, "sampler": "random"})
    assert main(["search", request, "--runs", runs]) in {0, 1}
    said = capsys.readouterr().out
    assert said.count("note: resources: auto chose {cpu: 0.5}: ") == 1
    choice = StudyFolder(Path(where)).open("look").choice
    assert choice is not None
    assert choice.resources == Resources(cpu=0.5)
    assert choice.node["CPU"] >= 1
    assert main(["status", where]) == 0
    assert choice.line() in capsys.readouterr().out.replace("\n", " ")
    assert main(["status", where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resources"]["resources"] == {"cpu": 0.5, "gpu": 0.0}
    request = request_of(tmp_path, **asked, search={"trials": 2, "sampler": "random"})
    assert main(["search", request, "--runs", runs, "--resume"]) in {0, 1}
    assert "note: resources" not in capsys.readouterr().out
    study = StudyFolder(Path(where)).open("look")
    assert study.choice == choice
    assert [trial.state for trial in study.trials()] == ["complete"] * 2


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local Ray that takes itself to have a GPU; the toy needs none."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": 1}))
    with connected(None, cpus=2):
        yield


@pytest.mark.usefixtures("one_gpu")
def test_the_first_run_has_a_whole_gpu_and_the_others_the_share_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Used] = []

    def halves(used: Used) -> tuple[Resources, str]:  # what no GPU is there to tell
        asked.append(used)
        return Resources(cpu=0.5, gpu=0.5), "two fit"

    monkeypatch.setattr(allotting, "chosen", halves)
    done = search_on_ray(
        tmp_path,
        choose=lambda study: Auto(lambda: study.choice, study.keep_choice),
        space={"sampler_power": [0.0, 1.0]},
        train={"model": "toy:memory,sleep=0.2", "steps": 2, "eval_every": 1},  # it trains on a whole one only
        baseline={"seeds": 1},
        search={"trials": 1, "sampler": "random"},
        resources="auto",
    )
    assert [used.node["GPU"] for used in asked] == [1.0]
    told = [*done.study.baseline_trials(), *done.study.trials()]
    assert [trial.state for trial in told] == ["complete"] * 2
    attempts = [outcome for _, outcome in sorted(done.work.outcomes.items())]
    assert isinstance(attempts[0], TrialReport)
    failures = [outcome.reason for outcome in attempts if isinstance(outcome, TrialFailure)]
    assert failures == ["the toy was told to need more than 0.5 of a GPU"]
    assert done.study.resources == Resources(cpu=0.5, gpu=0.5)

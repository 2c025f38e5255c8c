"""`rarecall status` of confirmations and comparisons: how far they are, and what to type next."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from in_process import Bench, Here, config, failure
from rich.console import Console
from toy_experiments import TWO_ARMS, carry_out_comparison, request_of

from search.cli.main import main
from search.judging.confirmation import Asked, latest
from search.pipeline.confirming import confirm
from search.record.folder import StudyFolder
from spaces.errors import Interrupted, RunError
from trainables.contract.trial import Outcome, TrialReport, TrialSpec

TWO_LOOKS = {"strategies": ["filtered"], "finalists": 1, "seeds": 4, "baseline_seeds": 5, "more_seeds": 2}


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """A searched study of its own for a test to write to."""
    bench = Bench(
        tmp_path, config(search={"trials": 4, "sampler": "tpe"}, confirm=TWO_LOOKS, compare=TWO_ARMS)
    )
    bench.run()
    return bench.folder.path


def carry_out_confirmation(
    path: Path, at_most: int = 1000, *, resume: bool = False, fresh: bool = False
) -> None:
    confirm(
        StudyFolder(path),
        Asked(),
        cluster=Here(at_most=at_most),
        resume=resume,
        fresh=fresh,
        console=Console(file=io.StringIO()),
    )


def status_of(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """As JSON, and as a person sees it."""
    assert main(["status", str(path), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["status", str(path)]) == 0
    return plain, capsys.readouterr().out


def test_status_follows_a_confirmation_from_look_to_look(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, shown = status_of(searched, capsys)
    assert (plain["experiments"], plain["next"]) == ([], [f"rarecall confirm {searched}"])
    assert f"next: rarecall confirm {searched}" in shown
    with pytest.raises(Interrupted):
        carry_out_confirmation(searched, at_most=4)
    plain, shown = status_of(searched, capsys)
    (one,) = plain["experiments"]
    assert one == {
        "name": "confirm/1",
        "stage": "interrupted",
        "look": 1,
        "looks": 2,
        "done": 4,
        "runs": 13,  # five of the baseline, four of each of the two candidates
        "verdicts": {},
    }
    assert "confirm/1: interrupted in look 1 of 2, 4 of 13 runs" in shown
    assert f"go on with: rarecall confirm {searched} --resume" in shown
    with pytest.raises(Interrupted):
        carry_out_confirmation(searched, at_most=10, resume=True)
    begun = latest(StudyFolder(searched).open())
    assert begun is not None
    still_open = begun.looks[0].open_names
    assert still_open  # or this example would show no second look
    plain, shown = status_of(searched, capsys)
    (one,) = plain["experiments"]
    assert (one["stage"], one["look"], one["done"]) == ("interrupted", 2, 14)
    assert one["runs"] == 13 + 2 * (1 + len(still_open))
    assert [name for name, outcome in one["verdicts"].items() if outcome == "inconclusive"] == still_open
    assert "): inconclusive so far" in shown
    carry_out_confirmation(searched, resume=True)
    finished = latest(StudyFolder(searched).open())
    assert finished is not None
    plain, shown = status_of(searched, capsys)
    (one,) = plain["experiments"]
    assert (one["stage"], one["look"], one["done"]) == ("finished", 2, one["runs"])
    assert one["verdicts"] == {
        result.candidate.name: result.verdict.outcome for result in finished.looks[-1].results
    }
    assert f"    filtered (retention 0.00): {one['verdicts']['filtered']}\n" in shown
    accepted = "accepted" in one["verdicts"].values()
    assert plain["next"] == [f"rarecall {'export' if accepted else 'confirm'} {searched}"]


def test_status_says_what_becomes_of_a_confirmation_once_there_is_a_fresh_one(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        carry_out_confirmation(searched, at_most=1)
    with pytest.raises(Interrupted):
        carry_out_confirmation(searched, at_most=2, fresh=True)
    plain, shown = status_of(searched, capsys)
    stages = {one["name"]: (one["stage"], one["done"]) for one in plain["experiments"]}
    assert stages == {"confirm/1": ("left", 1), "confirm/2": ("interrupted", 2)}
    assert plain["next"] == [f"rarecall confirm {searched} --resume"]
    with StudyFolder(searched).claimed("confirmed"):
        assert main(["compare", str(searched)]) == 2
        assert "is being confirmed right now" in capsys.readouterr().err
        plain, shown = status_of(searched, capsys)
    assert (plain["being"], plain["next"]) == ("confirmed", [])
    assert "confirm/1: left in look 1 of 2, 1 of 13 runs" in shown
    assert "confirm/2: running in look 1 of 2, 2 of 13 runs" in shown
    assert "it is being confirmed now" in shown
    assert "go on with" not in shown


def test_status_follows_a_comparison_whose_arms_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, folder = request_of(tmp_path, compare=TWO_ARMS), tmp_path / "runs" / "toy"
    with pytest.raises(Interrupted):
        carry_out_comparison(request, folder.parent, Here(at_most=2))
    plain, shown = status_of(folder, capsys)
    assert "compare: interrupted, 2 of 5 runs" in shown
    assert plain["next"] == [f"rarecall compare {folder} --resume"]  # and no search: none was begun
    carry_out_comparison(request, folder.parent, Here(), resume=True)
    plain, shown = status_of(folder, capsys)
    assert "compare: finished, 5 runs" in shown
    assert plain["next"] == [f"rarecall search {folder} --resume"]
    request_of(tmp_path, compare=TWO_ARMS | {"strategies": ["focal"]})
    with pytest.raises(Interrupted):
        carry_out_comparison(request, folder.parent, Here(at_most=1))
    _, shown = status_of(folder, capsys)
    assert "compare: interrupted, 4 of 5 runs" in shown  # the reference's three were known


def test_a_run_that_crashed_is_not_counted_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, folder = request_of(tmp_path, compare=TWO_ARMS), tmp_path / "runs" / "toy"
    broken = Here(instead=lambda spec: failure(spec, "lost") if spec.strategy.changed() else None)
    with pytest.raises(RunError):
        carry_out_comparison(request, folder.parent, broken)
    assert "compare: interrupted, 3 of 5 runs" in status_of(folder, capsys)[1]


def test_without_a_feasible_trial_status_points_at_the_guards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = [{"metric": "map50_95", "floor": 0.99}]
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}, guards=strict))
    bench.run()
    assert status_of(bench.folder.path, capsys)[0]["next"] == [f"rarecall pareto {bench.folder.path} --all"]


def test_status_says_what_it_has_cost_and_what_the_rest_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(
        tmp_path,
        config(search={"trials": 5, "sampler": "tpe"}, resources={"cpu": 1, "gpu": 0.5}, confirm=TWO_LOOKS),
    )

    def half_an_hour(spec: TrialSpec) -> Outcome:
        outcome = bench.train(spec)
        assert isinstance(outcome, TrialReport)
        device = "NVIDIA H100" if spec.strategy.changed() else "cpu"
        return outcome.model_copy(update={"seconds": 1800.0, "device": device})

    assert "cost so far" not in status_of(bench.folder.path, capsys)[1]
    bench.run(half_an_hour, at_most=5)  # three seeds of the baseline and two trials
    plain, shown = status_of(bench.folder.path, capsys)
    assert "cost so far: 2.50 run hours, 5 runs, 0.50 GPU hours (NVIDIA H100)" in shown
    assert "expected rest of the search: 1.50 run hours, 3 runs" in shown
    assert plain["cost"]["gpu_hours"] == pytest.approx(0.5)
    assert plain["cost"]["rest"] == [{"what": "of the search", "runs": 3, "hours": 1.5}]
    bench.run(half_an_hour)
    plain, shown = status_of(bench.folder.path, capsys)
    assert "cost so far: 4.00 run hours, 8 runs" in shown
    (rest,) = plain["cost"]["rest"]  # five seeds of the baseline, four of a finalist and of one by name
    assert (rest["what"], rest["runs"]) == ("of a confirmation, at its first look", 13)
    with pytest.raises(Interrupted):
        carry_out_confirmation(bench.folder.path, at_most=4)
    plain, shown = status_of(bench.folder.path, capsys)
    assert [(one["what"], one["runs"]) for one in plain["cost"]["rest"]] == [("of confirm/1", 9)]
    assert plain["cost"]["runs"] == 12

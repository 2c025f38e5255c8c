"""The plan that `rarecall check` prints: how many runs, how many at once, and what they should take."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import Bench, config

from search.cli.main import main

SMALL = {"search": {"trials": 4, "sampler": "random"}, "baseline": {"seeds": 2}}


def checked(
    folder: Path, capsys: pytest.CaptureFixture[str], **changes: Any
) -> tuple[list[str], dict[str, Any]]:
    """What a person reads of the plan, and what a program does."""
    file = folder / "other.yaml"
    file.write_text(yaml.safe_dump(config(**{"name": "other"} | changes).model_dump(mode="json")))
    assert main(["check", str(file), "--runs", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert main(["check", str(file), "--runs", str(folder), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    return said[next(at for at, line in enumerate(said) if line.startswith("plan: ")) :], plan


def test_without_an_earlier_study_only_the_runs_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, plan = checked(tmp_path, capsys)
    # Three finalists of 5 seeds and 10 of the baseline, and 5 more of each at the second look.
    assert said[0].startswith(
        "plan: 3 + 14 + 25 runs (baseline, trials, confirmation, with a second look up to 45)"
    )
    assert said[1].startswith("how long a run takes is not known yet")
    assert plan["runs"] == {"baseline": 3, "trials": 14, "confirming": 25, "at_most": 45}
    assert plan["search"] == {"hours": None, "gpu_hours": None}
    assert plan["at_once"] >= 1


def test_an_earlier_study_of_the_same_kind_tells_how_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, config(**SMALL))
    bench.run()
    reports = [trial.report for trial in [*bench.study.trials(), *bench.study.baseline_trials()]]
    step_s = sorted(report.seconds / report.steps for report in reports if report is not None)
    longer = {"model": "toy", "steps": 200, "eval_every": 10}
    said, plan = checked(tmp_path, capsys, train=longer, budget={"hours": 1e-6, "confirm_share": 0.5})
    assert plan["run_s"] == pytest.approx(200 * (step_s[2] + step_s[3]) / 2)
    assert plan["search"]["hours"] == pytest.approx(17 * plan["run_s"] / 3600 / plan["at_once"])
    assert plan["known_from"].endswith("study")
    assert said[2].startswith(
        "budget: 1e-06 h, of which 50% are kept for confirming; about 0 of 14 trials fit"
    )
    assert said[3].startswith("warning: ")
    said, plan = checked(tmp_path, capsys, budget={"hours": 1000})
    assert said[2].endswith("all 14 trials fit")
    assert len(said) == 3
    said, plan = checked(tmp_path, capsys, resources={"cpu": 2, "gpu": 0})
    assert plan["run_s"] is None  # with other resources another time


def test_runs_that_had_no_gpu_say_nothing_of_its_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Bench(tmp_path, config(resources="auto", **SMALL)).run()
    said, plan = checked(tmp_path, capsys, resources="auto", budget={"gpu_hours": 9})
    assert said[2].endswith("how many trials fit is not known")
    assert said[3].startswith("warning: the run that is known had no GPU, so it says nothing of gpu_hours: ")
    assert plan["fitting"] is None
    said, plan = checked(tmp_path, capsys, resources="auto", budget={"gpu_hours": 9, "hours": 1000})
    assert said[2].endswith("all 14 trials fit")
    assert said[3].startswith("warning: the run that is known had no GPU")
    assert plan["fitting"] == 14


def test_runs_that_find_no_room_are_planned_as_if(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, plan = checked(tmp_path, capsys, resources={"cpu": 4000, "gpu": 0})
    assert "1 at once: if there were room: on this machine, " in said[0]
    assert plan["at_once"] == 1

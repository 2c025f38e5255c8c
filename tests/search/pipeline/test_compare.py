"""A comparison: carried out, added to, interrupted, shown, refused."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from in_process import Here, failure
from toy_experiments import COSTLY, compared_here, write_request

from search.cli.main import main
from search.record.folder import StudyFolder
from spaces.errors import Interrupted, UsageError
from trainables.contract.trial import Outcome, TrialSpec


def test_compare_makes_a_study_and_shows_it_again_without_running(tmp_path: Path) -> None:
    write_request(tmp_path)
    first, again = Here(), Here()
    comparison = compared_here(tmp_path, first)
    assert Counter(spec.strategy.sampling.retention for spec in first.ran) == {1.0: 3, 0.0: 2}
    assert {spec.split for spec in first.ran} == {"val"}
    assert [(arm.name, arm.seeds) for arm in comparison.arms] == [("plain", 3), (COSTLY, 2)]
    assert compared_here(tmp_path, again) == comparison
    assert again.connections == 0


def test_an_added_arm_runs_alone_and_an_earlier_comparison_stays(tmp_path: Path) -> None:
    write_request(tmp_path)
    before = compared_here(tmp_path, Here())
    write_request(tmp_path, compare={"strategies": [COSTLY, "focal"], "seeds": 2, "reference_seeds": 3})
    added = Here()
    after = compared_here(tmp_path, added)
    assert [spec.strategy.loss.focal_gamma for spec in added.ran] == [2.0, 2.0]
    assert [arm.name for arm in after.arms] == ["plain", COSTLY, "focal"]
    assert after.arms[0] == before.arms[0]
    write_request(tmp_path)
    assert compared_here(tmp_path, Here(at_most=0)) == before


def test_what_may_change_between_two_comparisons(tmp_path: Path) -> None:
    write_request(tmp_path)
    compared_here(tmp_path, Here())
    write_request(tmp_path, search={"trials": 9, "sampler": "random"}, confirm={"seeds": 7})
    compared_here(tmp_path, Here(at_most=0))
    stored = StudyFolder(tmp_path / "runs" / "toy").config
    assert (stored.search.trials, stored.confirm.seeds) == (9, 7)
    write_request(tmp_path, train={"model": "toy", "steps": 40, "eval_every": 10})
    with pytest.raises(UsageError, match=r"differs from the study in .*: train"):
        compared_here(tmp_path, Here())


def test_an_interrupted_comparison_is_resumed(tmp_path: Path) -> None:
    write_request(tmp_path)
    stopped, resumed = Here(at_most=2), Here()
    with pytest.raises(Interrupted) as stop:
        compared_here(tmp_path, stopped)
    assert stop.value.hint.startswith("rarecall compare ")
    assert stop.value.hint.endswith("runs/toy --resume")
    with pytest.raises(UsageError, match=r"compare in .* is not finished"):
        compared_here(tmp_path, Here())
    compared_here(tmp_path, resumed, resume=True)
    assert len({*stopped.ran, *resumed.ran}) == len([*stopped.ran, *resumed.ran]) == 5


def test_a_comparison_is_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_request(tmp_path)
    compared_here(tmp_path, Here())
    folder = tmp_path / "runs" / "toy"
    for name in ("compare.csv", "compare.svg"):
        (folder / name).write_text("of another comparison")
    command = ["compare", str(folder)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "compared with plain" in shown
    assert f"also in {folder}: compare.csv (every metric) and compare.svg" in shown.replace("\n", "")
    assert main([*command, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in plain["arms"]] == ["plain", COSTLY]
    assert main([*command, "--csv"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == (folder / "compare.csv").read_text().splitlines()
    assert len(list(csv.DictReader(io.StringIO(printed)))) == 2 * 3  # arms and metrics
    assert ElementTree.parse(folder / "compare.svg").getroot().tag.endswith("svg")
    assert main([*command, "--json", "--csv"]) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"compare": {"strategies": ["plain"]}}, "nothing beside the reference 'plain'", id="alone"
        ),
        pytest.param({"data": "demo:toys"}, "no such demo", id="no such data"),
    ],
)
def test_what_cannot_be_compared_makes_no_study(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_request(tmp_path, **changes)
    here = Here()
    with pytest.raises(UsageError) as error:
        compared_here(tmp_path, here)
    assert said in str(error.value)
    assert here.connections == 0
    assert not (tmp_path / "runs").exists()


def test_a_comparison_that_cannot_start_leaves_no_study_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = str(write_request(tmp_path))
    command = ["compare", request, "--runs", str(tmp_path / "runs"), "--address", "127.0.0.1:9"]
    assert main(command) == 3
    assert main(["status", str(tmp_path / "runs" / "toy")]) == 2
    capsys.readouterr()
    write_request(tmp_path, train={"model": "toy", "steps": 40, "eval_every": 10})
    assert main(command) == 3  # and not: differs from the study
    assert "no Ray cluster at" in capsys.readouterr().err


def test_a_diverged_arm_is_shown_as_such(tmp_path: Path) -> None:
    write_request(tmp_path)

    def diverges(spec: TrialSpec) -> Outcome | None:
        return failure(spec, "diverged") if spec.strategy.changed() else None

    comparison = compared_here(tmp_path, Here(instead=diverges))
    plain, costly = comparison.arms
    assert (plain.seeds, costly.seeds, costly.failed) == (3, 0, {"diverged": 2})

"""What `rarecall confirm` shows and refuses."""

import json
import shutil
from pathlib import Path

import pytest
from detection_files import write_yolo
from in_process import Bench, Here, config
from toy_experiments import COSTLY, GOOD, confirmed_here, quiet, write_request

from search.cli.main import main
from search.judging.confirmation import Asked
from search.pipeline.comparing import compare_strategies
from search.record.folder import StudyFolder
from trainables.data.sources import describe


@pytest.fixture
def study(searched_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched_study, tmp_path / "study"))


def test_a_cluster_out_of_reach_leaves_no_confirmation_behind(study: Path) -> None:
    assert main(["confirm", str(study), "--address", "127.0.0.1:9"]) == 3
    assert StudyFolder(study).open().experiments() == []


def test_a_study_on_other_data_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = json.loads((study / "provenance.json").read_text())
    (study / "provenance.json").write_text(json.dumps(stored | {"data_fingerprint": "another"}))
    for command in (["confirm"], ["search", "--resume"], ["compare"]):
        assert main([*command, str(study)]) == 2
        said = capsys.readouterr().err
        assert "data: demo:toy has changed since" in said
        assert "hint: give the new data a study of its own" in said


def test_a_study_that_another_evaluator_measured_is_shown_and_not_gone_on_with(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((study / "provenance.json").read_text())
    (study / "provenance.json").write_text(json.dumps(stored | {"evaluator": 0}))
    for command in (["confirm"], ["search", "--resume"], ["compare"]):
        assert main([*command, str(study)]) == 2
        assert "was measured by version 0 of the evaluator, this rarecall has 1" in capsys.readouterr().err
    assert main(["pareto", str(study)]) == 0


@pytest.mark.parametrize(
    ("test", "said"),
    [
        pytest.param(
            {},
            "no test split to confirm on, and val can spare none\nhint: add `test:` to the data set",
            id="no test split",
        ),
        pytest.param(
            {"test": {"d_0": "0 .5 .5 .2 .2"}},
            "the test split has no object of class 'cluster'",
            id="no rare object in it",
        ),
    ],
)
def test_data_that_cannot_confirm(
    tmp_path: Path, test: dict[str, dict[str, str]], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"train": {"a_0": "1 .5 .5 .4 .4", "b_0": "0 .5 .5 .2 .2"}, "val": {"c_0": "1 .5 .5 .2 .2"}}
    data = write_yolo(tmp_path / "data", labels | test)
    request = config(
        task="detection",
        data=str(data),
        minority=["cluster"],
        space="detection",
        train={"model": "yolo_tiny.yaml", "imgsz": 128, "steps": 1, "eval_every": 1},
    )
    fingerprint = describe(str(data), "detection").fingerprint
    StudyFolder(tmp_path / "study").create(request, fingerprint, ["cluster"])
    assert main(["confirm", str(tmp_path / "study")]) == 2
    assert said in capsys.readouterr().err


def test_a_finished_confirmation_is_shown_with_its_verdicts(
    confirmed_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(confirmed_study)]) == 0
    shown = capsys.readouterr().out
    assert "confirm/1: on the test split, after look 2 of 2" in shown
    assert f"{GOOD} (retention 0.40, augment_minority 0.50): accepted" in shown
    assert "the test split has been used by confirm/1 (" in shown
    assert main(["confirm", str(confirmed_study), "--resume"]) == 0
    assert capsys.readouterr().out == shown


def test_its_json_is_strict(confirmed_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert main(["confirm", str(confirmed_study), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert shown["experiment"] == "confirm/1"
    assert GOOD in shown["accepted"]
    assert len(shown["candidates"]) == 3
    (used,) = shown["ledger"]
    assert (used["experiment"], used["arms"]) == ("confirm/1", 4)


@pytest.mark.parametrize(
    "option",
    [["--trial", "1"], ["--strategy", GOOD], ["--seeds", "0"], ["--baseline-seeds", "7"], ["--one-look"]],
    ids=lambda option: option[0],
)
def test_options_need_fresh_once_there_is_a_confirmation(
    confirmed_study: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(confirmed_study), *option]) == 2
    said = capsys.readouterr()
    assert "has been planned for confirm/1 already" in said.err
    assert "hint: add --fresh" in said.err
    assert said.out == ""


def test_fresh_and_resume_exclude_each_other(
    confirmed_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(confirmed_study), "--fresh", "--resume"]) == 2
    assert "--fresh and --resume: one of them" in capsys.readouterr().err


def test_nothing_accepted_is_exit_code_1(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    confirmed_here(study, Asked(strategies=("plain",), one_look=True))
    assert main(["confirm", str(study)]) == 1
    assert "plain (plain): " in capsys.readouterr().out


def test_before_a_search_there_is_nothing_to_confirm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(tmp_path / "nowhere")]) == 2
    assert "no study in" in capsys.readouterr().err
    request = write_request(tmp_path, confirm={"strategies": [COSTLY]})  # alone it would be no confirmation
    compare_strategies(request, tmp_path / "runs", cluster=Here(), resume=False, console=quiet())
    assert main(["confirm", str(tmp_path / "runs" / "toy")]) == 2
    said = capsys.readouterr().err
    assert "nothing to confirm: " in said
    assert "has not been searched" in said
    assert "hint: rarecall search" in said


def test_without_a_trial_that_keeps_clear_of_its_guards_there_is_nothing_to_confirm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = [{"metric": "map50_95", "floor": 0.99}]
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}, guards=strict))
    bench.run()
    assert main(["confirm", str(bench.folder.path)]) == 2
    said = capsys.readouterr().err
    assert "no feasible trial holds its guards by one sd" in said
    assert "--all; `--trial N` confirms one all the same" in said

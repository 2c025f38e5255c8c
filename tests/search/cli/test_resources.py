"""What a run may occupy: refused where no run could use it, or no machine at hand has it."""

import json
from pathlib import Path

import pytest
from in_process import Bench, config
from toy_experiments import request_of

from search.cli.main import main

TOO_MUCH = {"cpu": 9999}


def test_check_warns_of_resources_that_only_another_machine_can_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(tmp_path, resources=TOO_MUCH)
    assert main(["check", request]) == 0
    said = capsys.readouterr().out
    assert "warning: resources.cpu: a trial asks for 9999, this machine has " in said
    assert main(["check", request, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["impossible_here"]) == 1
    assert main(["check", request_of(tmp_path, resources={"cpu": 1})]) == 0
    assert "warning: resources" not in capsys.readouterr().out
    assert main(["check", request_of(tmp_path, resources={"gpu": 2})]) == 2  # whatever the machine has
    assert "study.yaml: resources.gpu: at most 1, got 2: a run trains on one GPU" in capsys.readouterr().err


def test_a_study_that_was_stored_with_more_than_one_gpu_is_shown_and_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}, resources={"gpu": 2}))
    bench.run()
    for shown in ("status", "pareto"):
        assert main([shown, str(bench.folder.path)]) in {0, 1}
        assert "resources" not in capsys.readouterr().err
    for command in (["search", "--resume"], ["confirm", "--strategy", "weighted"], ["compare"]):
        assert main([*command, str(bench.folder.path)]) == 2
        assert "study: resources.gpu: at most 1, got 2" in capsys.readouterr().err.replace(
            "study.yaml", "study"
        )


def test_confirm_and_compare_refuse_what_this_machine_can_never_give_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}, resources=TOO_MUCH))
    bench.run()
    for command in (["confirm", "--strategy", "weighted"], ["compare"]):
        assert main([*command, str(bench.folder.path)]) == 2
        said = capsys.readouterr().err
        assert "resources.cpu: a trial asks for 9999, this machine has " in said
        assert "hint: lower it, or name a cluster with --address" in said
    study = bench.folder.open()
    assert [run for name in study.experiments() for run in study.experiment(name).runs()] == []

"""The command as a person meets it: arguments, screens, exit codes, messages."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from in_process import Bench, Here, config
from rich.console import Console
from toy_experiments import TWO_ARMS, carry_out_comparison, request_of

from search.cli.main import main
from search.judging.choosing import recommended
from search.judging.confirmation import Asked
from search.pipeline.confirming import confirm
from search.record.folder import StudyFolder
from spaces.errors import Interrupted
from trainables.contract.trial import Outcome, TrialReport, TrialSpec


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = Bench(tmp_path_factory.mktemp("cli"), config(search={"trials": 6, "sampler": "tpe"}))
    bench.run()
    for trial in bench.study.trials():
        assert trial.report is not None
        result = bench.folder.files.result(trial.report.key)
        assert result is not None
        (result / "weights.pt").write_bytes(b"weights")
    return bench.folder.path


@pytest.fixture(scope="module")
def confirmed(study: Path) -> Path:
    """The same study, with a confirmation that has finished."""
    asked = Asked(strategies=("undersampled_40_augmented",), one_look=True)
    confirm(
        StudyFolder(study),
        asked,
        cluster=Here(),
        resume=False,
        fresh=False,
        console=Console(file=io.StringIO()),
    )
    return study


def test_pareto_shows_the_baseline_and_the_front(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", str(study)]) == 0
    shown = capsys.readouterr().out
    assert "base" in shown
    assert "minority_recall" in shown
    assert "Signed: against the baseline's mean" in shown
    assert "The trials share one training seed (0), whose luck is in all of them." in shown


def test_pareto_json_has_every_group(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", str(study), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    groups = ("best", "dominated", "infeasible", "stopped", "running", "failed")
    assert set(shown) == {"baseline", "recommended", *groups}
    assert sum(len(shown[group]) for group in groups) == 6
    assert shown["baseline"]["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(0.1, "no trial kept within the guards and reached the baseline's mean", id="less"),
        pytest.param(0.0, "every feasible trial has minority_recall 0", id="nothing"),
    ],
)
def test_a_search_whose_trials_all_lie_below_the_baseline_recommends_none(
    found: float, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}))

    def worse(spec: TrialSpec) -> Outcome:
        report = bench.train(spec)
        assert isinstance(report, TrialReport)
        recall = found if spec.strategy.changed() else 0.3
        return report.model_copy(update={"metrics": report.metrics | {"minority_recall": recall}})

    bench.run(worse)
    folder = str(bench.folder.path)
    assert recommended(bench.snapshots[-1].ended, bench.study.config, bench.snapshots[-1].baseline) is None
    assert main(["pareto", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == []
    assert main(["search", folder, "--resume"]) == 1
    said = capsys.readouterr().err
    assert why in said
    assert f"rarecall pareto {folder} --all" in said
    assert main(["status", folder]) == 0
    assert why in capsys.readouterr().out
    assert main(["export", folder]) == 2
    assert "no trial is feasible and as good as the baseline" in capsys.readouterr().err


def test_pareto_csv_has_the_baseline_and_a_line_per_trial(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pareto", str(study), "--csv"]) == 0
    usual, *rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (usual["number"], usual["group"]) == ("", "baseline")
    assert float(usual["minority_recall"]) > 0
    assert len(rows) == 6
    assert {"number", "group", "retention", "minority_recall", "violation/map50_95"} <= set(rows[0])


def test_pareto_plot_draws_the_front(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", str(study), "--plot"]) == 0
    shown = capsys.readouterr().out
    assert "map50_95 (up is better)" in shown
    assert "R recommended" in shown
    assert "--- guard: map50_95 at least" in shown
    assert main(["pareto", str(study), "--plot", "--csv"]) == 2


def test_status_counts(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(study), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["complete"], shown["running"], shown["failed"], shown["baseline_seeds"]) == (6, 0, 0, 3)
    assert main(["status", str(study)]) == 0
    assert "recommended: trial" in capsys.readouterr().out


def test_export_writes_what_a_training_needs(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(study), "--trial", "1", "--out", str(tmp_path / "bundle")]) == 0
    bundle = tmp_path / "bundle"
    assert str(bundle) in capsys.readouterr().out
    written = yaml.safe_load((bundle / "config.yaml").read_text())
    assert main(["export", str(study), "--trial", "1", "--best-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == written
    assert main(["pareto", str(study), "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)
    listed = [trial for name in ("best", "dominated", "infeasible") for trial in groups[name]]
    assert written["strategy"] == next(trial["strategy"] for trial in listed if trial["number"] == 1)
    assert (written["train"]["model"], written["train"]["steps"], written["seed"]) == ("toy", 20, 0)
    assert (bundle / "weights.pt").read_bytes() == b"weights"
    assert "minority_recall" in json.loads((bundle / "metrics.json").read_text())["metrics"]


def test_export_takes_the_recommended_trial_by_default(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pareto", str(study), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["recommended"]["number"]
    assert main(["export", str(study), "--json", "--out", str(tmp_path / "bundle")]) == 0
    assert json.loads(capsys.readouterr().out)["trial"] == best


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["pareto", "nowhere"], "no study in", id="no study"),
        pytest.param(["export", "STUDY", "--trial", "99"], "--trial 99: no such trial", id="no such trial"),
        pytest.param(["export", "STUDY", "--out", "/proc/x"], "cannot write", id="no write permission"),
        pytest.param(["search", "STUDY"], "already holds a study", id="an existing study"),
        pytest.param(["check", "nowhere.yaml"], "no such study file", id="no study file"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    study: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study) if argument == "STUDY" else argument for argument in arguments]) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert "hint:" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_study_folder_that_cannot_be_written(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(study / "study.yaml"), "--runs", "/proc/runs"]) == 2
    assert "cannot write the study's folder" in capsys.readouterr().err


def test_a_changed_request_does_not_continue_an_old_study(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = yaml.safe_load((study / "study.yaml").read_text())
    request["train"]["lr"] = 0.1
    request["name"] = study.name
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(request))
    assert main(["search", str(changed), "--runs", str(study.parent), "--resume"]) == 2
    assert "differs from the study" in capsys.readouterr().err


TRAINS = {"torch", "ray", "ultralytics", "sklearn"}
SLOW_TO_LOAD = TRAINS | {"scipy", "matplotlib"}


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        pytest.param(["strategies"], SLOW_TO_LOAD, id="strategies"),
        pytest.param(["pareto", "STUDY"], SLOW_TO_LOAD, id="pareto"),
        pytest.param(["status", "STUDY"], SLOW_TO_LOAD, id="status"),
        pytest.param(["export", "STUDY"], SLOW_TO_LOAD, id="export"),
        pytest.param(["confirm", "STUDY"], TRAINS, id="confirm, finished"),
    ],
)
def test_reading_a_study_loads_nothing_that_trains(
    confirmed: Path, command: list[str], unwanted: set[str]
) -> None:
    code = "import sys; from search.cli.main import main; code = main(sys.argv[1:])"
    code += f"; loaded = {unwanted} & set(sys.modules)"
    code += "; sys.exit(code or ','.join(loaded) or 0)"
    typed = [str(confirmed) if word == "STUDY" else word for word in command]
    done = subprocess.run([sys.executable, "-c", code, *typed], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_installed_command_answers(study: Path) -> None:
    command = Path(sys.executable).with_name("rarecall")
    done = subprocess.run([command, "status", str(study)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "baseline 3/3 seeds" in done.stdout


@pytest.mark.parametrize(
    ("changes", "code", "expected"),
    [
        pytest.param(
            {"guards": [{"metric": "map50_95", "floor": 0.99}]}, 1, "no trial kept within", id="infeasible"
        ),
        pytest.param(
            {"train": {"model": "toy:raise", "steps": 1, "eval_every": 1}}, 3, "seed 0 failed", id="broken"
        ),
    ],
)
def test_a_search_that_finds_nothing_or_cannot_run(
    tmp_path: Path, changes: dict[str, object], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    request = config().model_dump(mode="json") | {"baseline": {"seeds": 1}, "search": {"trials": 1}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(request | changes))
    command = ["search", str(tmp_path / "study.yaml"), "--runs", str(tmp_path / "runs"), "--here"]
    assert main(command) == code
    said = capsys.readouterr()
    assert expected in said.err


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "expected"),
    [
        pytest.param(
            [], {"resources": {"gpu": 64}}, 2, "resources.gpu: at most 1, got 64", id="more GPUs than one"
        ),
        pytest.param([], {"resources": {"cpu": 9999}}, 2, "resources.cpu: a trial", id="more CPUs too"),
        pytest.param(["--address", "127.0.0.1:9"], {}, 3, "no Ray cluster at", id="no cluster there"),
    ],
)
def test_a_search_that_cannot_start_leaves_no_study_behind(
    tmp_path: Path,
    arguments: list[str],
    changes: dict[str, object],
    code: int,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["search", request_of(tmp_path, **changes), "--runs", str(tmp_path / "runs"), *arguments]
    assert main(command) == code
    assert expected in capsys.readouterr().err
    assert main(["status", str(tmp_path / "runs" / "toy")]) == 2
    assert main(command) == code  # and not: already holds a study


def test_a_study_that_is_being_searched_is_refused_and_said_to_be(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StudyFolder(study).claimed():
        assert main(["search", str(study), "--resume"]) == 2
        assert "is being searched right now" in capsys.readouterr().err
        assert main(["status", str(study)]) == 0
        assert "it is being searched now" in capsys.readouterr().out
    assert main(["status", str(study)]) == 0
    assert "being searched" not in capsys.readouterr().out


def test_resuming_a_finished_study_shows_it_without_starting_ray(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(study), "--resume", "--address", "127.0.0.1:9"]) == 0
    assert "on the front" in capsys.readouterr().out


def test_an_interrupted_trial_is_not_said_to_be_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, config())
    bench.run(at_most=4)
    bench.work.take()
    bench.study.flush()
    assert main(["status", str(bench.folder.path)]) == 0
    said = capsys.readouterr().out
    assert "1 interrupted" in said
    assert "running" not in said
    assert "go on with: rarecall search" in said


# Resuming what was never begun


def test_compare_has_nothing_to_resume_before_it_was_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, runs = request_of(tmp_path, compare=TWO_ARMS), tmp_path / "runs"
    command = ["compare", request, "--runs", str(runs)]
    assert main([*command, "--resume"]) == 2
    said = capsys.readouterr().err
    assert "nothing to resume: there is no study in" in said
    assert f"hint: without --resume it begins: rarecall compare {request}" in said
    assert not runs.exists()
    with pytest.raises(Interrupted):
        carry_out_comparison(request, runs, Here(at_most=1))
    request_of(tmp_path, compare=TWO_ARMS | {"strategies": ["focal"]})
    assert main([*command, "--resume"]) == 2
    said = capsys.readouterr().err
    assert "nothing to resume: no comparison of these strategies was begun in" in said
    carry_out_comparison(request, runs, Here())
    assert main([*command, "--resume"]) == 0  # as a finished search, a finished comparison is shown
    assert "compared with plain" in capsys.readouterr().out


def test_a_comparison_begun_before_there_was_a_knob_is_resumed(tmp_path: Path) -> None:
    request, runs = request_of(tmp_path, compare=TWO_ARMS), tmp_path / "runs"
    stopped, resumed = Here(at_most=2), Here()
    with pytest.raises(Interrupted):
        carry_out_comparison(request, runs, stopped)
    study = StudyFolder(runs / "toy").open()
    record = study.experiment("compare")
    plan = json.loads(record.plan)
    for strategy in plan["arms"].values():
        del strategy["loss"]["label_smoothing"]
    record.set_plan(json.dumps(plan))
    study.flush()
    carry_out_comparison(request, runs, resumed, resume=True)
    assert len({*stopped.ran, *resumed.ran}) == len(stopped.ran) + len(resumed.ran) == 5


def test_after_a_search_there_is_no_comparison_and_no_confirmation_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}))
    bench.run()
    folder = str(bench.folder.path)
    for command, what in (
        ("compare", "no comparison of these strategies"),
        ("confirm", "no confirmation"),
    ):
        assert main([command, folder, "--resume"]) == 2
        said = capsys.readouterr().err
        assert f"nothing to resume: {what} was begun in {folder}" in said
        assert f"hint: without --resume it begins: rarecall {command} {folder}" in said

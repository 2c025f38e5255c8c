"""The public face: studies as data frames, and the commands as functions."""

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from in_process import config
from toy_experiments import GOOD, SMALL

import rarecall
from search.cli.main import main


def test_a_studys_trials_are_those_that_the_command_prints(
    searched_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = rarecall.open(searched_study)
    trials, front = study.trials(), study.front()
    assert main(["pareto", str(searched_study), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(front.index) == [trial["number"] for trial in printed["best"]]
    assert list(trials.index[trials["group"] == "failed"]) == [trial["number"] for trial in printed["failed"]]
    for trial in printed["best"]:
        assert front.loc[trial["number"], "minority_recall"] == trial["metrics"]["minority_recall"]
        assert front.loc[trial["number"], "violation/map50_95"] == trial["guards"]["map50_95"]
        assert study.strategy(trial["number"]) == trial["strategy"]
    assert capsys.readouterr().out == ""


def test_the_baselines_mean_is_that_of_its_rows(searched_study: Path) -> None:
    seeds = rarecall.open(str(searched_study)).baseline()
    assert list(seeds.index) == [0, 1, 2]
    assert seeds["exposure"].eq(0.04).all()
    assert seeds["minority_recall"].std() > 0


def test_a_curve_has_every_epoch_and_ends_as_the_trial_does(searched_study: Path) -> None:
    study = rarecall.open(searched_study)
    trials = study.trials()
    number = int(study.front().index[0])
    curve = study.curve(number)
    assert list(curve.index) == [1, 2]
    assert curve["minority_recall"].iloc[-1] == trials.loc[number, "minority_recall"]
    failed = int(trials.index[trials["group"] == "failed"][0])
    with pytest.raises(rarecall.UsageError, match=f"trial {failed} has no report"):
        study.curve(failed)


def test_who_opens_a_study_with_optuna_reads_the_names_of_its_objectives(searched_study: Path) -> None:
    database = f"sqlite:///{searched_study / 'study.db'}"
    (name,) = [one for one in optuna.get_all_study_names(database) if one.endswith("/search")]
    assert optuna.load_study(study_name=name, storage=database).metric_names == [
        "minority_recall",
        "map50_95",
    ]


def test_verdicts_have_a_row_per_requirement(searched_study: Path, confirmed_study: Path) -> None:
    assert rarecall.open(searched_study).verdicts().empty
    verdicts = rarecall.open(confirmed_study).verdicts()
    good = verdicts.loc[GOOD]
    assert list(good.index) == ["minority_recall", "map50_95", "minority_ap50"]
    assert (good["outcome"] == "accepted").all()
    assert (good["lower"] >= good["margin"]).all()
    assert good["gain"].to_numpy() == pytest.approx((good["mean"] - good["baseline"]).to_numpy())


def test_there_is_no_comparison_before_one_was_made(searched_study: Path) -> None:
    frame = rarecall.open(searched_study).comparison()
    assert frame.empty
    assert frame.index.names == ["arm", "metric"]


def test_what_is_not_there_is_an_error_with_a_hint(searched_study: Path, tmp_path: Path) -> None:
    with pytest.raises(rarecall.UsageError, match="no study in"):
        rarecall.open(tmp_path)
    with pytest.raises(rarecall.UsageError, match=r"has no trial 99\nhint: trials: 1, 2"):
        rarecall.open(searched_study).strategy(99)


def test_search_confirm_and_compare_return_the_study_and_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    compared = {"strategies": [GOOD], "seeds": 2, "reference_seeds": 2}
    asked = {"search": {"trials": 3, "sampler": "random"}, "confirm": SMALL, "compare": compared}
    request = tmp_path / "toy.yaml"
    request.write_text(yaml.safe_dump(config(**asked).model_dump(mode="json")))
    study = rarecall.search(request, runs=tmp_path / "runs", here=True)
    assert (study.name, study.path) == ("toy", tmp_path / "runs" / "toy")
    assert len(study.trials()) == 3
    with pytest.raises(rarecall.RarecallError, match="already holds a study"):
        rarecall.search(request, runs=tmp_path / "runs", here=True)
    confirmed = rarecall.confirm(study.path, strategies=[GOOD], one_look=True, here=True)
    assert set(confirmed.verdicts()["outcome"]) == {"accepted"}
    with pytest.raises(rarecall.UsageError, match="has been planned for confirm/1 already"):
        rarecall.confirm(study.path, strategies=["filtered"], here=True)
    arms = rarecall.compare(study.path, here=True).comparison()
    assert isinstance(arms, pd.DataFrame)
    assert {arm for arm, _ in arms.index} == {"plain", GOOD}
    assert capfd.readouterr() == ("", "")


def test_a_cluster_and_this_process_are_not_asked_for_at_once(tmp_path: Path) -> None:
    with pytest.raises(rarecall.UsageError, match="here and address: one of them"):
        rarecall.search(tmp_path, address="auto", here=True)


def test_looking_at_a_study_loads_nothing_that_trains(searched_study: Path) -> None:
    code = "import sys, rarecall; rarecall.open(sys.argv[1]).trials(); "
    code += "sys.exit(bool({'torch', 'ray', 'sklearn', 'scipy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code, str(searched_study)], check=True)

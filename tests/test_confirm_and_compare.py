"""`rarecall confirm` and `rarecall compare`: through the use cases in this process, shown by the command."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from in_process import Bench, Here, config, failure
from on_ray import Sabotaged
from rich.console import Console
from test_yolo_data import write_data

from search.cli import main
from search.cluster.launch import RayCluster
from search.cluster.work import Launch, Work
from search.comparison import Comparison
from search.config import Resources
from search.confirmation import Asked, Confirmation, latest
from search.experiment import ExperimentWork
from search.folder import StudyFolder
from search.pipeline import compare_strategies, confirm
from spaces.errors import Interrupted, RunError, UsageError
from trainables.sources import describe
from trainables.trial import Outcome, TrialSpec

# The first of these lifts the toy's recall at no cost, the second costs more than may be lost.
GOOD, COSTLY = "undersampled_40_augmented", "filtered"
SMALL = {"strategies": [GOOD, COSTLY], "finalists": 1, "seeds": 3, "baseline_seeds": 3, "more_seeds": 2}
SEARCH = {"trials": 6, "sampler": "tpe"}
AS_PLANNED = Asked()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A searched study whose trial 2 failed."""
    bench = Bench(tmp_path_factory.mktemp("searched"), config(search=SEARCH, confirm=SMALL))
    bench.run(at_most=5)  # the baseline's seeds and trials 0 and 1
    bench.run(failure, at_most=1)
    bench.run()
    return bench.folder.path


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "study"))


@pytest.fixture(scope="module")
def confirmed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a finished confirmation; only to be read."""
    path = Path(shutil.copytree(searched, tmp_path_factory.mktemp("confirmed") / "study"))
    carry_out(path)
    return path


def carry_out(
    path: Path,
    asked: Asked = AS_PLANNED,
    here: Here | None = None,
    *,
    resume: bool = False,
    fresh: bool = False,
) -> Confirmation:
    cluster = Here() if here is None else here
    return confirm(path, asked, cluster=cluster, resume=resume, fresh=fresh, console=quiet())


def quiet() -> Console:
    return Console(file=io.StringIO())


def states(path: Path) -> dict[int, str]:
    return {trial.number: trial.state for trial in StudyFolder(path).open().trials()}


def outcomes(confirmation: Confirmation) -> dict[str, str]:
    return {result.candidate.name: result.verdict.outcome for result in confirmation.looks[-1].results}


# Confirm


def test_the_search_finalists_and_the_named_strategies_are_confirmed(study: Path) -> None:
    here = Here()
    confirmation = carry_out(study, here=here)
    first, *named = [one.name for one in confirmation.plan.candidates]
    trials = {f"trial {trial.number}": trial for trial in StudyFolder(study).open().trials()}
    assert confirmation.plan.candidates[0].strategy == trials[first].strategy
    assert trials[first].feasible
    assert named == [GOOD, COSTLY]
    assert confirmation.experiment == "confirm/1"
    assert confirmation.finished
    assert outcomes(confirmation)[GOOD] == "accepted"
    assert outcomes(confirmation)[COSTLY] == "rejected"
    look = confirmation.looks[0]
    still_open = len(look.open_names)
    assert 0 < still_open < 3  # or this example would not show a second look
    assert len(confirmation.looks) == 2
    # Three seeds of each arm, then two more of the baseline and of each candidate that was open.
    assert len(here.ran) == len(set(here.ran)) == 4 * 3 + 2 * (1 + still_open)
    assert {spec.split for spec in here.ran} == {"test"}
    assert StudyFolder(study).open().trials() == list(trials.values())


def test_once_finished_it_is_shown_and_nothing_runs(study: Path) -> None:
    first = carry_out(study)
    again = Here()
    assert carry_out(study, here=again) == first
    assert again.connections == 0


def test_fresh_makes_another_with_seeds_of_its_own(study: Path) -> None:
    one, other = Here(), Here()
    first = carry_out(study, Asked(strategies=(GOOD,), one_look=True), one)
    second = carry_out(study, Asked(strategies=(GOOD,), one_look=True), other, fresh=True)
    assert (first.experiment, second.experiment) == ("confirm/1", "confirm/2")
    assert {spec.seed for spec in one.ran}.isdisjoint(spec.seed for spec in other.ran)
    assert latest(StudyFolder(study).open()) == second


def test_an_interrupted_confirmation_goes_on_as_planned(study: Path, confirmed: Path) -> None:
    stopped, resumed = Here(at_most=5), Here()
    with pytest.raises(Interrupted) as stop:
        carry_out(study, here=stopped)
    assert stop.value.hint.endswith("--resume")
    with pytest.raises(UsageError, match=r"confirm/1 in .* is not finished"):
        carry_out(study)
    # What is asked plays no part any more: the plan stands.
    whole = carry_out(study, Asked(seeds=9), resumed, resume=True)
    undisturbed = latest(StudyFolder(confirmed).open())
    assert undisturbed is not None
    assert whole.plan == undisturbed.plan
    assert [look.results for look in whole.looks] == [look.results for look in undisturbed.looks]
    assert set(stopped.ran).isdisjoint(resumed.ran)


def test_one_interrupted_in_its_second_look_keeps_the_first(study: Path) -> None:
    stopped, resumed = Here(at_most=13), Here()  # the first look has twelve runs
    with pytest.raises(Interrupted):
        carry_out(study, here=stopped)
    begun = latest(StudyFolder(study).open())
    assert begun is not None
    assert len(begun.looks) == 1
    whole = carry_out(study, here=resumed, resume=True)
    assert whole.looks[0] == begun.looks[0]
    assert set(stopped.ran).isdisjoint(resumed.ran)


def test_one_that_cannot_be_finished_can_be_left(study: Path) -> None:
    with pytest.raises(Interrupted):
        carry_out(study, Asked(seeds=20), Here(at_most=2))
    second = carry_out(study, Asked(strategies=(GOOD,)), fresh=True)
    assert second.experiment == "confirm/2"
    assert len(second.plan.candidates) == 1


def test_a_seed_that_crashes_every_time_is_named_and_tried_again_on_resume(study: Path) -> None:
    broken = Here(instead=lambda spec: failure(spec, "lost") if spec.strategy.changed() else None)
    with pytest.raises(RunError, match=rf"{GOOD}, seed \d+ crashed 2 times \(lost\)"):
        carry_out(study, Asked(strategies=(GOOD,)), broken)
    assert outcomes(carry_out(study, resume=True)) == {GOOD: "accepted"}


@pytest.mark.parametrize(
    ("of_baseline", "expected"),
    [
        pytest.param(False, {GOOD: "invalid", COSTLY: "rejected"}, id="a candidate's own"),
        pytest.param(True, {GOOD: "invalid", COSTLY: "invalid"}, id="the baseline's makes all invalid"),
    ],
)
def test_one_diverged_seed(study: Path, of_baseline: bool, expected: dict[str, str]) -> None:
    diverged: list[TrialSpec] = []

    def once(spec: TrialSpec) -> Outcome | None:
        plain = not spec.strategy.changed()
        augmented = spec.strategy.augmentation.augment_minority > 0
        if diverged or not (plain if of_baseline else augmented):
            return None
        diverged.append(spec)
        return failure(spec, "diverged")

    confirmation = carry_out(study, Asked(strategies=(GOOD, COSTLY), one_look=True), Here(instead=once))
    found = outcomes(confirmation)
    assert found[GOOD] == expected[GOOD] == "invalid"
    assert (found[COSTLY] == "invalid") == of_baseline
    reasons = confirmation.looks[-1].results[0].verdict.reasons
    assert any("a seed gave no result (diverged)" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"strategies": ("filtred",)}, "hint: did you mean 'filtered'?", id="an unknown strategy"
        ),
        pytest.param({"trials": (99,)}, "--trial 99: no such trial", id="an unknown trial"),
        pytest.param(
            {"seeds": 1}, "confirm.seeds: should be greater than or equal to 2, got 1", id="one seed"
        ),
    ],
)
def test_what_cannot_be_confirmed_starts_nothing(study: Path, changes: dict[str, Any], said: str) -> None:
    here = Here()
    with pytest.raises(UsageError) as error:
        carry_out(study, Asked(**changes), here)
    assert said in str(error.value)
    assert here.connections == 0
    assert StudyFolder(study).open().experiments() == []


def test_a_failed_trial_cannot_be_confirmed_and_a_trial_named_twice_is_one_candidate(study: Path) -> None:
    number, failed = (
        next(number for number, state in states(study).items() if state == wanted)
        for wanted in ("complete", "failed")
    )
    with pytest.raises(UsageError, match=f"--trial {failed}: it is failed"):
        carry_out(study, Asked(trials=(failed,)))
    confirmation = carry_out(study, Asked(trials=(number, number), one_look=True))
    assert [one.name for one in confirmation.plan.candidates] == [f"trial {number}"]


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
    data = write_data(tmp_path / "data", labels | test)
    request = config(
        task="detection", data=str(data), minority=["cluster"], space="detection", train=DETECTOR
    )
    StudyFolder(tmp_path / "study").create(request, describe(str(data), "detection").fingerprint)
    assert main(["confirm", str(tmp_path / "study")]) == 2
    assert said in capsys.readouterr().err


DETECTOR = {"model": "yolo_tiny.yaml", "imgsz": 128, "steps": 1, "eval_every": 1}


# What the command shows of it


def test_a_finished_confirmation_is_shown_with_its_verdicts(
    confirmed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(confirmed)]) == 0
    shown = capsys.readouterr().out
    assert "confirm/1: on the test split, after look 2 of 2" in shown
    assert f"{GOOD} (retention 0.40, augment_minority 0.50): accepted" in shown
    assert "the test split has been used by confirm/1 (" in shown
    assert main(["confirm", str(confirmed), "--resume"]) == 0
    assert capsys.readouterr().out == shown


def test_its_json_is_strict(confirmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert main(["confirm", str(confirmed), "--json"]) == 0
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
    confirmed: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(confirmed), *option]) == 2
    said = capsys.readouterr()
    assert "has been planned for confirm/1 already" in said.err
    assert "hint: add --fresh" in said.err
    assert said.out == ""


def test_fresh_and_resume_exclude_each_other(confirmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["confirm", str(confirmed), "--fresh", "--resume"]) == 2
    assert "--fresh and --resume: one of them" in capsys.readouterr().err


def test_nothing_accepted_is_exit_code_1(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(study, Asked(strategies=("plain",), one_look=True))
    assert main(["confirm", str(study)]) == 1
    assert "plain (plain): " in capsys.readouterr().out


def test_before_a_search_there_is_nothing_to_confirm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", str(tmp_path / "nowhere")]) == 2
    assert "no study in" in capsys.readouterr().err
    request = request_of(tmp_path, confirm={"strategies": [COSTLY]})  # alone it would be no confirmation
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


# A classifier's predictions


def test_a_classifiers_confirmation_counts_the_test_splits_own_error(tmp_path: Path) -> None:
    request = config(
        name="digits",
        task="classification",
        data="demo:digits",
        minority=["1", "8", "9"],
        train={"model": "small_cnn", "imgsz": 8, "batch": 32, "steps": 12, "eval_every": 6},
        guards=[{"metric": "accuracy", "max_drop": 0.5}],
        confirm={
            "finalists": 0,
            "seeds": 2,
            "baseline_seeds": 2,
            "more_seeds": 0,
            "strategies": ["weighted"],
        },
    )
    StudyFolder(tmp_path / "study").create(request, describe("demo:digits", "classification").fingerprint)
    confirmation = carry_out(tmp_path / "study")
    (result,) = confirmation.looks[0].results
    widths = [bound.split_half_width for bound in result.verdict.bounds]
    assert [bound.requirement.metric for bound in result.verdict.bounds] == ["minority_recall", "accuracy"]
    assert all(width is not None and 0 < width < 0.5 for width in widths)


# Compare


def request_of(folder: Path, **changes: Any) -> Path:
    compared = {"strategies": [COSTLY], "seeds": 2, "reference_seeds": 3}
    request = config(**{"search": {"trials": 2, "sampler": "random"}, "compare": compared} | changes)
    (folder / "study.yaml").write_text(yaml.safe_dump(request.model_dump(mode="json")))
    return folder / "study.yaml"


def compared(folder: Path, here: Here, *, resume: bool = False) -> Comparison:
    _, comparison = compare_strategies(
        folder / "study.yaml", folder / "runs", cluster=here, resume=resume, console=quiet()
    )
    return comparison


def test_compare_makes_a_study_and_shows_it_again_without_running(tmp_path: Path) -> None:
    request_of(tmp_path)
    first, again = Here(), Here()
    comparison = compared(tmp_path, first)
    assert Counter(spec.strategy.sampling.retention for spec in first.ran) == {1.0: 3, 0.0: 2}
    assert {spec.split for spec in first.ran} == {"val"}
    assert [(arm.name, arm.seeds) for arm in comparison.arms] == [("plain", 3), (COSTLY, 2)]
    assert compared(tmp_path, again) == comparison
    assert again.connections == 0


def test_an_added_arm_runs_alone_and_an_earlier_comparison_stays(tmp_path: Path) -> None:
    request_of(tmp_path)
    before = compared(tmp_path, Here())
    request_of(tmp_path, compare={"strategies": [COSTLY, "focal"], "seeds": 2, "reference_seeds": 3})
    added = Here()
    after = compared(tmp_path, added)
    assert [spec.strategy.loss.focal_gamma for spec in added.ran] == [2.0, 2.0]
    assert [arm.name for arm in after.arms] == ["plain", COSTLY, "focal"]
    assert after.arms[0] == before.arms[0]
    request_of(tmp_path)
    assert compared(tmp_path, Here(at_most=0)) == before


def test_what_may_change_between_two_comparisons(tmp_path: Path) -> None:
    request_of(tmp_path)
    compared(tmp_path, Here())
    request_of(tmp_path, search={"trials": 9, "sampler": "random"}, confirm={"seeds": 7})
    compared(tmp_path, Here(at_most=0))
    stored = StudyFolder(tmp_path / "runs" / "toy").config()
    assert (stored.search.trials, stored.confirm.seeds) == (9, 7)
    request_of(tmp_path, train={"model": "toy", "steps": 40, "eval_every": 10})
    with pytest.raises(UsageError, match=r"differs from the study in .*: train"):
        compared(tmp_path, Here())


def test_an_interrupted_comparison_is_resumed(tmp_path: Path) -> None:
    request_of(tmp_path)
    stopped, resumed = Here(at_most=2), Here()
    with pytest.raises(Interrupted) as stop:
        compared(tmp_path, stopped)
    assert stop.value.hint.startswith("rarecall compare ")
    assert stop.value.hint.endswith("runs/toy --resume")
    with pytest.raises(UsageError, match=r"compare in .* is not finished"):
        compared(tmp_path, Here())
    compared(tmp_path, resumed, resume=True)
    assert len({*stopped.ran, *resumed.ran}) == len([*stopped.ran, *resumed.ran]) == 5


def test_a_comparison_is_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request_of(tmp_path)
    compared(tmp_path, Here())
    folder = tmp_path / "runs" / "toy"
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
    request_of(tmp_path, **changes)
    here = Here()
    with pytest.raises(UsageError) as error:
        compared(tmp_path, here)
    assert said in str(error.value)
    assert here.connections == 0
    assert not (tmp_path / "runs").exists()


def test_a_comparison_that_cannot_start_leaves_no_study_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = str(request_of(tmp_path))
    command = ["compare", request, "--runs", str(tmp_path / "runs"), "--address", "127.0.0.1:9"]
    assert main(command) == 3
    assert main(["status", str(tmp_path / "runs" / "toy")]) == 2
    capsys.readouterr()
    request_of(tmp_path, train={"model": "toy", "steps": 40, "eval_every": 10})
    assert main(command) == 3  # and not: differs from the study
    assert "no Ray cluster at" in capsys.readouterr().err


def test_a_diverged_arm_is_shown_as_such(tmp_path: Path) -> None:
    request_of(tmp_path)

    def diverges(spec: TrialSpec) -> Outcome | None:
        return failure(spec, "diverged") if spec.strategy.changed() else None

    comparison = compared(tmp_path, Here(instead=diverges))
    plain, costly = comparison.arms
    assert (plain.seeds, costly.seeds, costly.failed) == (3, 0, {"diverged": 2})


# On a real Ray


class OneWorkerKilled:
    """A local Ray on which the second run's worker is killed after an epoch."""

    def __init__(self) -> None:
        self.work: Sabotaged | None = None

    @contextmanager
    def connected(self, resources: Resources) -> Iterator[Launch]:
        def launch(work: Work, folder: Path) -> None:
            assert isinstance(work, ExperimentWork)
            self.work = Sabotaged(work, {1: "toy:kill_at=2"})
            on_ray(self.work, folder)

        with RayCluster().connected(resources) as on_ray:
            yield launch


def test_a_killed_worker_changes_no_verdict(study: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(study, tmp_path / "other"))
    asked = Asked(strategies=(GOOD,), seeds=2, baseline_seeds=2, one_look=True)
    cluster = OneWorkerKilled()
    disturbed = confirm(study, asked, cluster=cluster, resume=False, fresh=False, console=quiet())
    assert cluster.work is not None
    assert [cluster.work.report(number).restarts for number in range(4)] == [0, 1, 0, 0]
    undisturbed = carry_out(other, asked)
    assert disturbed.finished
    assert disturbed.plan == undisturbed.plan
    assert disturbed.looks[0].results == undisturbed.looks[0].results

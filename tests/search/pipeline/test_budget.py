"""A budget from the command to the verdict: what ends, what is refused, what goes on with a larger one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import Here, config
from toy_experiments import confirmed_here, quiet

from search.cli.main import main
from search.cluster import here
from search.judging.confirmation import latest
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from search.request.computing.budget import Budget
from search.work.spending import account
from spaces.errors import Interrupted, UsageError
from trainables.contract.trial import EpochMetrics, OnEpoch, Outcome, TrialFolder, TrialSpec
from trainables.worker.run import run_trial

TRIALS = 8


def study_file(folder: Path, **changes: Any) -> Path:
    small = {"search": {"trials": TRIALS, "sampler": "random"}, "baseline": {"seeds": 2}}
    request = config(**small | {"train": {"model": "toy", "steps": 40, "eval_every": 10}} | changes)
    (folder / "study.yaml").write_text(yaml.safe_dump(request.model_dump(mode="json")))
    return folder / "study.yaml"


def set_budget(path: Path, **budget: float) -> None:
    """In the study's own request, as a person does with an editor."""
    folder = StudyFolder(path)
    folder.write_request(folder.config.model_copy(update={"budget": Budget.model_validate(budget)}))


def states(path: Path) -> list[str]:
    return [trial.state for trial in StudyFolder(path).open().trials()]


class Slow(here.Here):
    """This process, where each epoch takes a quarter of an hour; counts the epochs of each run."""

    def __init__(self) -> None:
        self.passed_s, self.epochs = 0.0, dict[str, list[int]]()
        super().__init__(self._an_epoch_each, lambda: self.passed_s)

    def _an_epoch_each(self, spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
        def later(measured: EpochMetrics) -> None:
            self.passed_s += 900
            self.epochs.setdefault(spec.key, []).append(measured.epoch)
            on_epoch(measured)

        return run_trial(spec, folder, later)


def test_the_command_ends_by_the_budget_and_goes_on_with_a_larger_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["search", str(study_file(tmp_path, budget={"hours": 1e-6})), "--runs", str(tmp_path), "--here"]
    assert main(typed) == 1  # the baseline has no seed yet, so nothing is recommended
    said = capsys.readouterr().out
    assert "the search ended by its budget: " in said
    assert f"raise `budget` in {tmp_path}/toy/study.yaml, then: rarecall search {tmp_path}/toy" in said
    assert main(["status", str(tmp_path / "toy")]) == 0
    assert "of 1e-06 h used; 33% are kept for confirming" in capsys.readouterr().out
    study_file(tmp_path, budget={"hours": 9})
    assert main([*typed, "--resume"]) == 0
    assert "ended by" not in capsys.readouterr().out
    assert states(tmp_path / "toy") == ["complete"] * TRIALS
    assert main(["status", str(tmp_path / "toy"), "--json"]) == 0
    (limit,) = json.loads(capsys.readouterr().out)["budget"]
    assert (limit["name"], limit["allowed"], limit["kept"]) == ("hours", 9, 3)
    assert 0 < limit["searching"] < 9


def test_a_trial_goes_on_from_the_epoch_at_which_the_budget_has_ended_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An hour a run: two of the baseline, then trials; a third of 8.25 hours is kept.
    file, cluster = study_file(tmp_path, budget={"hours": 8.25, "confirm_share": 1 / 3}), Slow()
    search(file, tmp_path, cluster=cluster, resume=False, console=quiet())
    path = tmp_path / "toy"
    assert cluster.passed_s == 5.5 * 3600
    assert states(path) == ["complete"] * 3 + ["stopped"]
    assert main(["pareto", str(path), "--all"]) == 0
    assert "— ended by the budget" in capsys.readouterr().out
    assert main(["status", str(path)]) == 0
    said = capsys.readouterr().out
    assert "budget: 5.50 of 8.25 h used" in said
    assert f"next: rarecall confirm {path}" in said
    more = Slow()
    set_budget(path, hours=100)
    search(path, tmp_path, cluster=more, resume=True, console=quiet())
    assert states(path) == ["complete"] * TRIALS
    assert search_goes_on(path, capsys) is False
    both = [one for one in more.epochs if one in cluster.epochs]
    assert [cluster.epochs[one] + more.epochs[one] for one in both] == [[1, 2, 3, 4]]


def test_hours_of_a_gpu_end_a_search_in_this_process_where_auto_has_nothing_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "_this_machine", lambda: {"CPU": 4.0, "GPU": 1.0})
    budget = {"gpu_hours": 3, "confirm_share": 0}  # an hour a run, two of them the baseline's
    search(
        study_file(tmp_path, resources="auto", budget=budget),
        tmp_path,
        cluster=Slow(),
        resume=False,
        console=quiet(),
    )
    assert states(tmp_path / "toy") == ["complete"]
    found = account(StudyFolder(tmp_path / "toy").open())
    assert found.searching.gpu_seconds == 3 * 3600


def test_a_budget_that_is_gone_before_any_trial_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_file(tmp_path, budget={"hours": 0.3, "confirm_share": 0})
    search(file, tmp_path, cluster=Slow(), resume=False, console=quiet())
    assert main(["status", str(tmp_path / "toy")]) == 0
    again = f"rarecall search {tmp_path}/toy --resume"
    assert f"no trial has been measured; with a larger `budget`: {again}" in capsys.readouterr().out
    assert search_goes_on(tmp_path / "toy", capsys) is False
    set_budget(tmp_path / "toy", hours=100)
    assert search_goes_on(tmp_path / "toy", capsys) is True


def search_goes_on(path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    """As a script asks it."""
    assert main(["status", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["search_goes_on"]


@pytest.fixture
def searched(searched_study: Path, tmp_path: Path) -> Path:
    """A searched study of its own for a test to write to."""
    return Path(shutil.copytree(searched_study, tmp_path / "study"))


def test_a_confirmation_that_the_budget_does_not_cover_is_not_begun(searched: Path) -> None:
    set_budget(searched, hours=1e-7)
    cluster = Here()
    with pytest.raises(
        UsageError, match=r"the 16 runs of confirm/1 should take about .* h are left"
    ) as raised:
        confirmed_here(searched, here=cluster)
    assert f"then: rarecall confirm {searched} --resume" in raised.value.hint
    assert cluster.connections == 0
    assert latest(StudyFolder(searched).open()) is None
    set_budget(searched, hours=9)
    assert confirmed_here(searched).finished


class HourByHour(Here):
    """Each run takes an hour, and nobody knew."""

    def __init__(self, at_most: int = 1000) -> None:
        super().__init__(at_most=at_most)
        self.clock = lambda: 3600.0 * len(self.ran)


def test_a_look_that_was_interrupted_goes_on_whatever_its_first_runs_have_taken(searched: Path) -> None:
    set_budget(searched, hours=5)
    with pytest.raises(Interrupted):
        confirmed_here(searched, here=HourByHour(at_most=6))
    cluster = HourByHour()
    with pytest.raises(UsageError, match=r"runs of confirm/1 should take"):  # of its second look
        confirmed_here(searched, here=cluster, resume=True)
    assert len(cluster.ran) == 16 - 6


def test_a_look_is_finished_once_begun_and_the_next_one_waits_for_more(searched: Path) -> None:
    set_budget(searched, hours=10)
    cluster = HourByHour()
    with pytest.raises(UsageError, match=r"runs of confirm/1 should take about .* 0.000 of 10 h are left"):
        confirmed_here(searched, here=cluster)
    assert len(cluster.ran) == 16
    begun = latest(StudyFolder(searched).open())
    assert begun is not None
    assert len(begun.looks) == 1
    set_budget(searched, hours=1000)
    assert confirmed_here(searched, resume=True).looks[0] == begun.looks[0]

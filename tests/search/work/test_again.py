"""What a later process makes of runs that an earlier one left: finished and untold, lost, out of memory."""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import DATA, Bench, Here, as_stored, config, failure, train_here
from rich.console import Console

from search.pipeline.searching import search
from search.record.experiments import Wanted
from search.record.outcomes import StudyTrial
from search.work.experiment_queue import ExperimentQueue
from spaces.errors import RunError
from spaces.strategy import NAMED
from trainables.contract.trial import REPORT, Outcome, TrialReport, TrialSpec

SEARCH = {"search": {"trials": 4, "sampler": "random"}, "baseline": {"seeds": 1}}


def lost(spec: TrialSpec) -> Outcome:
    return failure(spec, "lost").model_copy(update={"retry": True})


def out_of_memory(spec: TrialSpec) -> Outcome:
    return failure(spec, "memory")


def states(trials: Sequence[StudyTrial]) -> list[str]:
    return [trial.state for trial in trials]


# Finished, but its process died before it was told


def finished_untold(bench: Bench) -> TrialReport:
    """A run whose result is in the study's folder, and whose process then ends."""
    job = bench.work.take()
    assert job is not None
    report = train_here(job.spec, bench.folder.files, lambda measured: None)
    assert isinstance(report, TrialReport)
    bench.reopen()
    return report


def test_a_finished_search_run_is_told_and_not_trained_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(**SEARCH))
    bench.run(at_most=2)  # the baseline and trial 0
    report = finished_untold(bench)
    bench.run()
    assert report.key not in {spec.key for spec in bench.ran}
    assert bench.study.trials()[1].report == as_stored(report)
    assert states(bench.study.trials()) == ["complete"] * 4


def test_a_finished_baseline_is_told_and_not_trained_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(**SEARCH))
    report = finished_untold(bench)
    bench.run()
    baseline = bench.study.baseline()
    assert baseline is not None
    assert baseline.reports == (as_stored(report),)
    assert len(bench.ran) == 4


def test_a_finished_run_of_an_experiment_is_told_and_not_trained_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    spec = bench.study.config.spec(NAMED["plain"], DATA, seed=7, split="test")
    report = train_here(spec, bench.folder.files, lambda measured: None)
    record = bench.study.begin("confirm/1")
    work = ExperimentQueue(
        "toy", record, bench.folder.files, [Wanted("plain", spec)], lambda shown: None, time.monotonic
    )
    cluster = Here()
    cluster.launch(work, bench.folder.files)
    assert cluster.ran == []
    assert work.outcomes_of("plain") == [report]
    assert [run.outcome for run in record.runs()] == [as_stored(report)]


@pytest.mark.parametrize("name", ["state.json", REPORT])
def test_one_whose_result_was_cut_is_trained_again_to_the_same_metrics(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path, config(**SEARCH))
    bench.run(at_most=2)
    report = finished_untold(bench)
    result = bench.folder.files.result(report.key)
    assert result is not None
    (result / name).write_text("{")
    bench.run()
    again = bench.study.trials()[1].report
    assert again is not None
    assert again.metrics == report.metrics
    assert report.key in {spec.key for spec in bench.ran}


# Lost


def test_a_lost_trial_is_run_again_by_the_next_process_and_shown_once(tmp_path: Path) -> None:
    undisturbed = Bench(tmp_path / "undisturbed", config(**SEARCH))
    undisturbed.run()
    bench = Bench(tmp_path / "disturbed", config(**SEARCH))
    bench.run(at_most=2)
    for _ in range(2):  # lost by two processes one after the other
        bench.run(lost, at_most=1)
        assert states(bench.study.trials()).count("failed") == 1
        bench.reopen()
    bench.run()
    trials = bench.study.trials()
    assert states(trials) == ["complete"] * 4
    expected = {trial.strategy: trial.report for trial in undisturbed.study.trials()}
    assert {trial.strategy for trial in trials} == expected.keys()  # nor did it change what was asked next
    for trial in trials:
        report = expected[trial.strategy]
        assert report is not None
        assert trial.report is not None
        assert trial.report.metrics == report.metrics
    bench.reopen()
    assert bench.work.complete()
    assert bench.study.trials() == trials


def test_a_trial_that_its_own_code_ended_is_not_run_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(**SEARCH))
    bench.run(at_most=1)
    bench.run(failure, at_most=4)
    bench.reopen()
    assert bench.work.complete()
    assert states(bench.study.trials()) == ["failed"] * 4


def test_one_that_died_while_it_was_told_lost_leaves_no_running_entry(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(**SEARCH))
    bench.run(at_most=1)
    job = bench.work.take()
    assert job is not None
    (running,) = bench.study.trials()
    bench.study.store(running.number, lost(job.spec))  # and then it was killed
    bench.reopen()
    bench.run()
    assert states(bench.study.trials()) == ["complete"] * 4
    assert {trial.state.name for trial in bench.study._search.trials()} == {"COMPLETE", "FAIL"}


# Out of memory


def search_from(folder: Path, cluster: Here, *, resume: bool, **changes: Any) -> list[StudyTrial]:
    request = config(**SEARCH | changes).model_dump(mode="json")
    (folder / "study.yaml").write_text(yaml.safe_dump(request))
    found = search(
        folder / "study.yaml",
        folder / "runs",
        cluster=cluster,
        resume=resume,
        console=Console(file=io.StringIO()),
    )
    return found.study.trials()


def test_a_trial_out_of_memory_is_run_again_only_with_other_resources(tmp_path: Path) -> None:
    def too_small(spec: TrialSpec) -> Outcome | None:
        return out_of_memory(spec) if spec.strategy != NAMED["plain"] else None

    assert states(search_from(tmp_path, Here(instead=too_small), resume=False)) == ["failed"] * 4
    same, other = Here(), Here()
    assert states(search_from(tmp_path, same, resume=True)) == ["failed"] * 4
    assert same.ran == []
    more = {"resources": {"cpu": 0.5, "gpu": 0}}
    assert states(search_from(tmp_path, other, resume=True, **more)) == ["complete"] * 4
    assert len(other.ran) == 4


def test_a_run_of_an_experiment_out_of_memory_waits_for_other_resources(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    spec = bench.study.config.spec(NAMED["plain"], DATA, seed=7, split="test")

    def run(cluster: Here) -> ExperimentQueue:
        work = ExperimentQueue(
            "toy",
            bench.study.begin("confirm/1"),
            bench.folder.files,
            [Wanted("plain", spec)],
            lambda shown: None,
            time.monotonic,
        )
        cluster.launch(work, bench.folder.files)
        return work

    run(Here(instead=out_of_memory))
    bench.reopen()
    same = Here()
    with pytest.raises(RunError, match=r"plain, seed 7 could not be trained \(memory\)"):
        run(same).outcomes_of("plain")
    assert same.ran == []
    bench.study.flush()
    bench.folder.write_request(config(resources={"cpu": 2}))
    bench.reopen()
    assert [type(outcome) for outcome in run(Here()).outcomes_of("plain")] == [TrialReport]


# No space


def no_space(spec: TrialSpec) -> Outcome:
    return failure(spec, "disk").model_copy(update={"reason": "no space left on here for /data"})


def test_want_of_space_ends_the_search_and_no_trial_has_failed_of_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no space left on here for /data") as raised:
        search_from(tmp_path, Here(instead=no_space), resume=False)
    assert "--resume" in raised.value.hint
    assert states(search_from(tmp_path, Here(), resume=True)) == ["complete"] * 4

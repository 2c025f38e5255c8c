"""What a tracker is told of a study: which runs, inside which, and that it is the same each time."""

from dataclasses import replace
from pathlib import Path

import pytest
from in_process import Bench, Here, config, failure
from places import ROOT
from toy_experiments import GOOD, SMALL, confirmed_here

from search.export.trackers.runs import TrackedRun, tracked, tracked_search
from search.record.folder import StudyFolder
from spaces.errors import Interrupted

FINISHED = ROOT / "tests" / "studies" / "0.1.0" / "finished"


def told(path: Path) -> dict[str, TrackedRun]:
    folder = StudyFolder(path)
    study = tracked(folder.open("look"), folder)
    assert len({run.id for run in study.runs}) == len(study.runs)
    return {run.name: run for run in study.runs}


def test_each_trial_is_one_run_and_its_seeds_lie_inside() -> None:
    runs = told(FINISHED)
    arms = [run.name for run in runs.values() if run.parent is None]
    assert arms == ["baseline", "trial 0", "trial 1", "trial 2", "focal", "plain", "weighted"]
    inside = {arm: sum(run.parent == runs[arm].id for run in runs.values()) for arm in arms}
    assert inside == {
        "baseline": 2 + 4,  # of the search and of the confirmation
        "trial 0": 3,
        "trial 1": 0,
        "trial 2": 0,
        "focal": 3,
        "plain": 2,
        "weighted": 2,
    }
    assert all(run.arm == run.name or run.parent == runs[run.arm].id for run in runs.values())


def test_a_parent_comes_before_what_lies_in_it() -> None:
    seen: set[str] = set()
    for run in told(FINISHED).values():
        assert run.parent is None or run.parent in seen
        seen.add(run.id)


def test_a_trial_has_its_strategy_curve_and_verdict() -> None:
    run = told(FINISHED)["trial 0"]
    assert (run.params["sampler_power"], run.params["split"]) == (1.0, "val")
    assert "copy_paste" not in run.params  # a classifier lacks it
    assert run.metrics["minority_recall"] == pytest.approx(0.798, abs=5e-4)
    assert run.metrics["test/minority_recall"] > 0
    assert (run.tags["verdict"], run.tags["verdict_of"], run.tags["feasible"]) == (
        "accepted",
        "confirm/1",
        "yes",
    )
    assert '"outcome": "accepted"' in run.files["confirm_1_verdict.json"]
    assert [epoch for epoch, _ in run.curve] == list(range(1, len(run.curve) + 1))
    assert run.curve[-1][1]["minority_recall"] == run.metrics["minority_recall"]


def test_the_baseline_is_the_mean_of_its_seeds() -> None:
    runs = told(FINISHED)
    seeds = [runs[f"baseline, search, seed {seed}"].metrics["macro_f1"] for seed in (0, 1)]
    assert runs["baseline"].metrics["macro_f1"] == pytest.approx(sum(seeds) / 2)


def test_what_is_not_concluded_is_not_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 4, "sampler": "tpe"}, confirm=SMALL))
    bench.run(at_most=4)
    bench.run(failure, at_most=1)
    bench.run()
    path = bench.folder.path
    searched = told(path)
    (failed,) = [run for run in searched.values() if run.state == "failed"]
    assert (failed.parent, failed.metrics, failed.tags["failure"]) == (None, {}, "error")
    with pytest.raises(Interrupted):
        confirmed_here(path, here=Here(at_most=3))
    assert told(path) == searched
    confirmed_here(path, resume=True)
    after = told(path)
    assert {name: run.id for name, run in after.items() if name in searched} == {
        name: run.id for name, run in searched.items()
    }
    assert after[GOOD].tags["verdict"] == "accepted"
    assert after["baseline"].content == searched["baseline"].content  # so it is not told again


def test_the_same_record_gives_the_same_runs_and_another_study_others(tmp_path: Path) -> None:
    one, again = told(FINISHED), told(FINISHED)
    assert [run.content for run in one.values()] == [run.content for run in again.values()]
    folder = StudyFolder(FINISHED)
    study = folder.open("look")
    folder.provenance = folder.provenance.model_copy(update={"created": "2026-11-28T00:00:00+00:00"})
    named = tracked_search(folder, study.trials(), study.baseline())
    assert not {run.id for run in named.runs} & {run.id for run in one.values()}


def test_content_changes_with_anything_in_it() -> None:
    run = told(FINISHED)["trial 0"]
    assert replace(run, tags=run.tags | {"verdict": "rejected"}).content != run.content
    assert replace(run, seconds=run.seconds + 1).content != run.content


def test_a_report_is_attached_to_the_baseline(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 1, "sampler": "random"}))
    bench.run()
    assert told(bench.folder.path)["baseline"].files == {}
    (bench.folder.path / "report.html").write_text("<p>it is better</p>")
    assert told(bench.folder.path)["baseline"].files == {"report.html": "<p>it is better</p>"}

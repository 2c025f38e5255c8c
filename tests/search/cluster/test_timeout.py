"""`search.trial_timeout_s` in this process, and what queues make of a run that took too long."""

import time
from pathlib import Path

import in_process
import pytest
from in_process import Bench, config, failure
from toy_experiments import compared_here, write_request

from search.cluster.here import Here
from search.record.experiments import COMPARISON
from search.record.folder import StudyFolder
from spaces.errors import RunError
from trainables.contract.trial import TrialFailure

HANGS = {"model": "toy:hang=2", "steps": 20, "eval_every": 10}


def test_a_run_that_hangs_here_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        config(
            train=HANGS,
            baseline={"seeds": 2},
            search={"trials": 1, "sampler": "random", "trial_timeout_s": 0.5},
        ),
    )
    started = time.monotonic()
    Here().launch(bench.work, bench.folder.files)
    assert time.monotonic() - started < 60
    bench.study.flush()
    failures = [trial.failure for trial in bench.study.baseline_trials()]
    assert [one.kind if one else None for one in failures] == ["timeout"] * len(failures)
    with pytest.raises(RunError, match=r"longer than search\.trial_timeout_s, 0\.5 s"):
        bench.work.check_baseline()


def test_a_run_within_its_time_is_left_alone(tmp_path: Path) -> None:
    limited = {"trials": 2, "sampler": "random", "trial_timeout_s": 60}
    bench = Bench(tmp_path, config(search=limited))
    Here().launch(bench.work, bench.folder.files)
    assert [trial.state for trial in bench.study.trials()] == ["complete"] * 2


def test_the_limit_is_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    plain, limited = config(), config(search={"trials": 14, "sampler": "tpe", "trial_timeout_s": 9})
    assert plain != limited
    specs = [one.spec(one.baseline_strategy, in_process.DATA, seed=0) for one in (plain, limited)]
    assert specs[0].key == specs[1].key


def test_an_experiments_run_that_took_too_long_is_run_again_only_when_resumed(tmp_path: Path) -> None:
    write_request(tmp_path)
    late = in_process.Here(instead=lambda spec: failure(spec, "timeout") if spec.seed else None)
    with pytest.raises(RunError, match=r"could not be trained \(timeout\)") as raised:
        compared_here(tmp_path, late)
    assert "trial_timeout_s" in raised.value.hint
    assert len(late.ran) == len({spec.key for spec in late.ran}) == 5
    runs = StudyFolder(tmp_path / "runs" / "toy").open().experiment(COMPARISON).runs()
    assert all(isinstance(run.outcome, TrialFailure) for run in runs)
    assert compared_here(tmp_path, in_process.Here(), resume=True).arms


def test_the_limit_may_change_when_a_study_goes_on(tmp_path: Path) -> None:
    write_request(tmp_path)
    with pytest.raises(RunError):
        compared_here(tmp_path, in_process.Here(instead=lambda spec: failure(spec, "timeout")))
    write_request(tmp_path, search={"trials": 2, "sampler": "random", "trial_timeout_s": 30})
    assert compared_here(tmp_path, in_process.Here(), resume=True).arms
    assert StudyFolder(tmp_path / "runs" / "toy").config.search.trial_timeout_s == 30

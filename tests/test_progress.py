import io
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import Bench, config
from rich.console import Console

from search.progress import clock, screen, timing
from search.worklist import Running, Snapshot


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    bench = Bench(tmp_path_factory.mktemp("progress"), config(search={"trials": 3, "sampler": "random"}))
    bench.run()
    return bench.snapshots[-1]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        pytest.param(7.4, "0:07", id="seconds"),
        pytest.param(125, "2:05", id="minutes"),
        pytest.param(3725, "1:02:05", id="an hour"),
    ],
)
def test_the_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_the_clock_runs_between_two_events(snapshot: Snapshot) -> None:
    assert timing(replace(snapshot, elapsed_s=60, eta_s=30), since_s=10) == "1:10, about 0:20 left"
    assert timing(replace(snapshot, elapsed_s=60, eta_s=30), since_s=50) == "1:50, about 0:00 left"
    assert timing(replace(snapshot, elapsed_s=60, eta_s=None)) == "1:00"


def printed(snapshots: list[Snapshot], *, terminal: bool) -> str:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=120)
    with screen(config(), console) as show:
        for one in snapshots:
            show(one)
    return written.getvalue()


def test_without_a_terminal_there_are_plain_lines_and_not_one_per_event(snapshot: Snapshot) -> None:
    early = replace(snapshot, best=None, done=1, running=(Running("trial 1", 2),))
    said = printed([early, early, early, snapshot], terminal=False)
    assert "\x1b" not in said
    assert said.count("\n") == 2
    assert "baseline 3/3, trials 3/3 (0 running, 0 failed)" in said
    assert "best feasible: trial" in said


def test_on_a_terminal_every_running_trial_has_a_bar(snapshot: Snapshot) -> None:
    busy = replace(snapshot, running=(Running("baseline seed 2", 1), Running("trial 0", 2)))
    said = printed([busy], terminal=True)
    assert "baseline seed 2" in said
    assert "2/2 epochs" in said


def test_what_is_measured_and_what_is_not_is_said(snapshot: Snapshot, tmp_path: Path) -> None:
    assert "measuring the baseline" in printed([replace(snapshot, baseline=None, best=None)], terminal=False)
    assert "no feasible trial yet" in printed([replace(snapshot, best=None)], terminal=False)

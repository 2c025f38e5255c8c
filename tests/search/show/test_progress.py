import io
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from in_process import Bench, config
from rich.console import Console

from search.show import screens
from search.show.screens import View, clock, experiment_screen, search_screen, timing
from search.work.experiment_queue import ExperimentSnapshot
from search.work.queue import Running
from search.work.search_queue import Snapshot

VIEW = View("toy", done=1, total=2, running=(), epochs=2, elapsed_s=60, eta_s=30, counts="")
CONFIRMING = ExperimentSnapshot("toy, confirm/1", 3, 1, 20, (Running("baseline seed 1", 1),), 2, 60.0, 30.0)


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


def test_the_clock_runs_between_two_events() -> None:
    assert timing(VIEW, since_s=10) == "1:10, about 0:20 left"
    assert timing(VIEW, since_s=50) == "1:50, about 0:00 left"
    assert timing(replace(VIEW, eta_s=None)) == "1:00"


def printed(snapshots: Sequence[Snapshot], *, terminal: bool) -> str:
    console = console_of(terminal=terminal)
    with search_screen(config(), console) as show:
        for one in snapshots:
            show(one)
    return written(console)


def printed_of_experiment(snapshots: Sequence[ExperimentSnapshot], *, terminal: bool) -> str:
    console = console_of(terminal=terminal)
    with experiment_screen(console) as show:
        for one in snapshots:
            show(one)
    return written(console)


def console_of(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_there_are_plain_lines_and_not_one_per_event(snapshot: Snapshot) -> None:
    early = replace(snapshot, ended=(), done=1, running=(Running("trial 1", 2),))
    said = printed([early, early, early, snapshot], terminal=False)
    assert "\x1b" not in said
    assert said.count("\n") == 2
    assert "baseline 3/3, trials 3/3 (0 running, 0 failed)" in said
    assert "recommended: trial" in said


def test_on_a_terminal_every_running_trial_has_a_bar(snapshot: Snapshot) -> None:
    busy = replace(snapshot, running=(Running("baseline seed 2", 1), Running("trial 0", 2)))
    said = printed([busy], terminal=True)
    assert "baseline seed 2" in said
    assert "2/2 epochs" in said


def test_what_is_measured_and_what_is_not_is_said(snapshot: Snapshot) -> None:
    assert "measuring the baseline" in printed([replace(snapshot, baseline=None, ended=())], terminal=False)
    assert "no feasible trial yet" in printed([replace(snapshot, ended=())], terminal=False)


def test_an_experiment_says_how_far_it_is_and_nothing_of_its_results() -> None:
    last = replace(CONFIRMING, done=20, failed=0, running=(), eta_s=0.0)
    said = printed_of_experiment([CONFIRMING, CONFIRMING, last], terminal=False)
    assert said.splitlines() == [
        "1:00, about 0:30 left; toy, confirm/1: 3/20 runs (1 running, 1 failed)",
        "1:00, about 0:00 left; toy, confirm/1: 20/20 runs (0 running)",
    ]


def test_an_experiment_on_a_terminal_has_a_bar_per_run() -> None:
    said = printed_of_experiment([CONFIRMING], terminal=True)
    assert "baseline seed 1" in said
    assert "1/2 epochs" in said


def test_a_run_that_reports_nothing_for_too_long_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY_S", 0.01)
    quiet, busy = Running("baseline seed 1", 1, silent_s=59.9), Running("filtered seed 2", 0, silent_s=3.0)
    console = console_of(terminal=False)
    with experiment_screen(console) as show:
        show(replace(CONFIRMING, running=(quiet, busy), silent_after_s=60.0))
        time.sleep(0.5)  # no event, as where all runs hang
    said = [line for line in written(console).splitlines() if "no report" in line]
    assert said == ["baseline seed 1: no report for 1:00, after 1 of 2 epochs"]


def test_on_a_terminal_it_is_named_beside_its_bar(snapshot: Snapshot) -> None:
    runs = (Running("trial 1", 2, silent_s=700.0), Running("trial 2", 2, silent_s=1.0))
    said = printed([replace(snapshot, running=runs, silent_after_s=60.0)], terminal=True)
    assert "no report for 11:40" in said
    assert said.count("no report") == said.count("no report for 11:40")


@pytest.mark.parametrize("terminal", [True, False])
def test_that_no_run_gets_a_place_is_said_until_one_does(
    terminal: bool, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(screens, "NO_PLACE_S", 3600.0)
    console = console_of(terminal=terminal)
    with search_screen(config(), console) as show:
        time.sleep(0.1)
        assert screens.NO_PLACE not in written(console)
        monkeypatch.setattr(screens, "NO_PLACE_S", 0.05)
        until = time.monotonic() + 60
        while screens.NO_PLACE not in written(console):
            assert time.monotonic() < until
            time.sleep(0.05)
        show(snapshot)
    assert terminal or written(console).count(screens.NO_PLACE) == 1


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("is_here", [True, False])
def test_it_is_not_said_where_a_run_had_one_nor_of_this_machine(
    terminal: bool, is_here: bool, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(screens, "NO_PLACE_S", 3600.0)
    console = console_of(terminal=terminal)
    with search_screen(config(), console, is_here=is_here) as show:
        if not is_here:
            show(replace(snapshot, ended=(), done=0, baseline_done=0, running=(Running("trial 1", 0),)))
        monkeypatch.setattr(screens, "NO_PLACE_S", 0.05)
        time.sleep(0.6)
    assert screens.NO_PLACE not in written(console)

"""When a run that reports nothing is worth a word, and when it hangs."""

from search.work.queue import Crew
from search.work.silence import ENOUGH, HUNG_AT_FIRST_S, HUNG_S, SILENT_S, Silence


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_is_silent_after_ten_median_epochs() -> None:
    clock = Clock()
    crew = Crew(clock)
    crew.started("a", "trial 0")
    crew.started("b", "trial 1")
    assert crew.silent_after_s is None
    for epoch, at in enumerate((50, 62, 74, 90), start=1):  # the first includes loading
        clock.now = at
        crew.epoch("a", "trial 0", epoch, 9)
    assert crew.silent_after_s == 10 * 14  # the median of 50, 12, 12, 16
    clock.now = 100
    assert [(run.label, run.silent_s) for run in crew.running] == [("trial 0", 10), ("trial 1", 100)]
    crew.started("b", "trial 1")  # its worker was lost, and it has another
    assert crew.running[1].silent_s == 0


def test_short_epochs_make_no_alarm_of_a_moment() -> None:
    clock = Clock()
    crew = Crew(clock)
    crew.started("a", "trial 0")
    clock.now = 0.1
    crew.epoch("a", "trial 0", 1, 9)
    assert crew.silent_after_s == SILENT_S


def waits(clock: Clock, *, first: float, between: float, last: float, runs: int, epochs: int = 4) -> Silence:
    """Of some runs one after another, each of which takes so long."""
    silence = Silence(clock)
    for run in range(runs):
        silence.started(f"run {run}")
        for epoch in range(1, epochs + 1):
            clock.now += first if epoch == 1 else last if epoch == epochs else between
            silence.heard(f"run {run}", epoch, epochs)
        silence.ended(f"run {run}")
    return silence


def after(clock: Clock, silence: Silence, seconds: float) -> set[str]:
    clock.now += seconds
    return silence.hung()


def test_a_run_hangs_after_ten_times_what_others_took_between_two_epochs() -> None:
    clock = Clock()
    silence = waits(clock, first=100, between=20, last=50, runs=2)
    silence.started("a")
    clock.now += 100
    silence.heard("a", 1, 4)
    assert after(clock, silence, 199) == set()
    assert after(clock, silence, 2) == {"a"}
    silence.heard("a", 2, 4)
    assert after(clock, silence, 201) == {"a"}
    silence.ended("a")
    assert silence.hung() == set()


def test_a_stall_of_a_disk_makes_no_run_hang_however_short_its_epochs_are() -> None:
    clock = Clock()
    silence = waits(clock, first=1, between=1, last=1, runs=2)
    silence.started("a")
    silence.heard("a", 1, 4)
    assert after(clock, silence, HUNG_S - 1) == set()
    assert after(clock, silence, 2) == {"a"}


def test_its_last_wait_is_held_against_last_ones_and_its_first_has_half_an_hour() -> None:
    clock = Clock()
    silence = waits(clock, first=100, between=20, last=50, runs=ENOUGH)
    silence.started("a")
    assert after(clock, silence, HUNG_AT_FIRST_S) == set()
    assert after(clock, silence, 1) == {"a"}
    silence.heard("a", 3, 4)
    assert after(clock, silence, 499) == set()
    assert after(clock, silence, 2) == {"a"}


def test_nothing_hangs_before_there_is_enough_to_hold_it_against() -> None:
    clock = Clock()
    silence = waits(clock, first=1, between=1, last=1, runs=ENOUGH - 1)
    silence.started("a")
    assert after(clock, silence, 10 * HUNG_AT_FIRST_S) == set()
    silence.heard("a", 3, 4)
    assert after(clock, silence, 10 * HUNG_S) == set()

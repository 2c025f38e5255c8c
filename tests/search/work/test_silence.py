"""When a run that reports nothing is worth a word."""

from search.work.queue import SILENT_S, Crew


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
        crew.epoch("a", "trial 0", epoch)
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
    crew.epoch("a", "trial 0", 1)
    assert crew.silent_after_s == SILENT_S

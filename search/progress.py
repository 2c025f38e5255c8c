"""What a person sees while a search runs: a live screen on a terminal, plain lines elsewhere. Prints."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.config import StudyConfig
from search.tables import change
from search.worklist import Snapshot

LINE_EVERY_S = 10.0  # plain lines are at least this far apart, except for a new best and the last one


@contextmanager
def screen(config: StudyConfig, console: Console) -> Iterator[Callable[[Snapshot], None]]:
    """Yields what to call with each new snapshot."""
    if not console.is_terminal:
        yield _Lines(config, console)
        return
    picture = _Picture(config)
    with Live(console=console, refresh_per_second=4, get_renderable=picture.draw):
        yield picture.show


class _Lines:
    """A line for each new best, and for other progress once in a while."""

    def __init__(self, config: StudyConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._last = 0.0
        self._shown: tuple[int, int] | None = None
        self._best: int | None = None

    def __call__(self, snapshot: Snapshot) -> None:
        best = None if snapshot.best is None else snapshot.best.number
        ended = (snapshot.baseline_done, snapshot.done)
        last = ended == (snapshot.baseline_seeds, snapshot.trials)
        due = time.monotonic() - self._last >= LINE_EVERY_S
        if best == self._best and (ended == self._shown or not (due or last)):
            return
        self._last, self._shown, self._best = time.monotonic(), ended, best
        line = f"{timing(snapshot)}; {counts(snapshot)}; {verdict(self._config, snapshot)}"
        self._console.print(line, soft_wrap=True, highlight=False)


class _Picture:
    """The live screen; drawn anew four times a second, so that the clock runs while nothing happens."""

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._snapshot: Snapshot | None = None
        self._at = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        self._snapshot, self._at = snapshot, time.monotonic()

    def draw(self) -> Group:
        snapshot = self._snapshot
        if snapshot is None:
            return Group()
        since = time.monotonic() - self._at
        total = snapshot.trials + snapshot.baseline_seeds
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(self._config.name, style="bold"),
            ProgressBar(total=total, completed=snapshot.done + snapshot.baseline_done, width=40),
            timing(snapshot, since),
        )
        running = Table.grid(padding=(0, 1))
        for run in snapshot.running:
            part = ProgressBar(total=snapshot.epochs, completed=run.epoch, width=20)
            running.add_row(f"  {run.label}", part, f"{run.epoch}/{snapshot.epochs} epochs")
        best = Text(verdict(self._config, snapshot), style="bold green")
        return Group(bar, Text(counts(snapshot)), running, best)


def counts(snapshot: Snapshot) -> str:
    """`baseline 3/3, trials 12/30 (2 running, 0 failed)`."""
    baseline = f"baseline {snapshot.baseline_done}/{snapshot.baseline_seeds}"
    trials = f"trials {snapshot.done}/{snapshot.trials}"
    return f"{baseline}, {trials} ({len(snapshot.running)} running, {snapshot.failed} failed)"


def timing(snapshot: Snapshot, since_s: float = 0.0) -> str:
    """Elapsed and, once something has finished, what is left, `since_s` after the snapshot."""
    left = ""
    if snapshot.eta_s is not None:
        left = f", about {clock(max(0.0, snapshot.eta_s - since_s))} left"
    return f"{clock(snapshot.elapsed_s + since_s)}{left}"


def clock(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def verdict(config: StudyConfig, snapshot: Snapshot) -> str:
    """The best feasible trial so far: what it lifts and what it costs, both against the baseline's mean."""
    if snapshot.baseline is None:
        return "measuring the baseline"
    if snapshot.best is None:
        return "no feasible trial yet"
    return f"best feasible: trial {snapshot.best.number}, {change(snapshot.best, snapshot.baseline, config)}"

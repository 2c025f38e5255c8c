"""What a person sees while work runs: a live screen on a terminal, plain lines elsewhere. Prints."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.judging.choosing import recommended
from search.request.computing.budget import used_of_search
from search.request.config import StudyConfig
from search.show.front import recommendation
from search.work.experiment_queue import ExperimentSnapshot
from search.work.queue import Running
from search.work.search_queue import Snapshot

LOOK_EVERY_S = 1.0
NO_PLACE_S = 60.0  # without a worker for any run: longer than workers take to start
NO_PLACE = "no run has a place yet: others have the cluster's CPUs and GPUs, or its nodes still start"
LINE_EVERY_S = 10.0  # plain lines are at least this far apart, except for news and the last one


@dataclass(frozen=True)
class View:
    """What a screen says of any work.

    Attributes:
        title: Of the work.
        done: Runs that have ended.
        total: Runs in all.
        running: The runs that have a worker.
        epochs: Of each run.
        elapsed_s: Seconds since the work began.
        eta_s: Seconds left, or None before anything has finished.
        counts: What has ended, in words.
        news: The best so far, in words; empty for work that says nothing before its end.
        silent_after_s: Seconds after which a run that reports nothing is named; None before any has reported.
    """

    title: str
    done: int
    total: int
    running: tuple[Running, ...]
    epochs: int
    elapsed_s: float
    eta_s: float | None
    counts: str
    news: str = ""
    silent_after_s: float | None = None

    def silence(self, run: Running, since_s: float) -> str:
        """What is said of a run that has not reported for too long, `since_s` after the view was taken."""
        silent_s = run.silent_s + since_s
        if self.silent_after_s is None or silent_s < self.silent_after_s:
            return ""
        return f"no report for {clock(silent_s)}"


@contextmanager
def search_screen(
    config: StudyConfig, console: Console, *, is_here: bool = False
) -> Iterator[Callable[[Snapshot], None]]:
    """Yields what to call with each new snapshot of a search.

    Args:
        config: Of its study.
        console: Where it is shown.
        is_here: As of `protocol.Cluster`: then images are decoded first, and nobody else has the place.
    """
    with _screen(console, may_wait=not is_here) as show:
        yield lambda snapshot: show(_view_of_search(config, snapshot))


@contextmanager
def experiment_screen(console: Console) -> Iterator[Callable[[ExperimentSnapshot], None]]:
    """Yields what to call with each new snapshot of an experiment."""
    with _screen(console) as show:
        yield lambda snapshot: show(_view_of_experiment(snapshot))


def _view_of_search(config: StudyConfig, snapshot: Snapshot) -> View:
    return View(
        title=config.name,
        done=snapshot.done + snapshot.baseline_done,
        total=snapshot.trials + snapshot.baseline_seeds,
        running=snapshot.running,
        epochs=snapshot.epochs,
        elapsed_s=snapshot.elapsed_s,
        eta_s=snapshot.eta_s,
        counts=search_counts(snapshot),
        news=verdict(config, snapshot),
        silent_after_s=snapshot.silent_after_s,
    )


def _view_of_experiment(snapshot: ExperimentSnapshot) -> View:
    """No results: looking at them before all planned seeds are in is what makes a stated error rate wrong."""
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    busy = f"{len(snapshot.running)} running{failed}"
    return View(
        title=snapshot.title,
        done=snapshot.done,
        total=snapshot.runs,
        running=snapshot.running,
        epochs=snapshot.epochs,
        elapsed_s=snapshot.elapsed_s,
        eta_s=snapshot.eta_s,
        counts=f"{snapshot.title}: {snapshot.done}/{snapshot.runs} runs ({busy})",
        silent_after_s=snapshot.silent_after_s,
    )


@contextmanager
def _screen(console: Console, *, may_wait: bool = True) -> Iterator[Callable[[View], None]]:
    began = time.monotonic() if may_wait else math.inf
    if not console.is_terminal:
        with _Lines(console, began) as lines:
            yield lines
        return
    picture = _Picture(began)
    with Live(console=console, refresh_per_second=4, get_renderable=picture.draw):
        yield picture.show


class _Lines:
    """A line for each piece of news, and for other progress once in a while.

    A run that hangs causes no event, so a thread looks for those.
    """

    def __init__(self, console: Console, began: float) -> None:
        self._console, self._began = console, began
        self._last = 0.0
        self._shown: int | None = None
        self._news: str | None = None
        self._view: tuple[float, View] | None = None
        self._named: set[tuple[str, int]] = set()  # run and epoch
        self._told_of_place = False
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, name="silent runs", daemon=True)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._looking.join()

    def _look(self) -> None:
        # A reader that has left is noticed by the work itself when it prints.
        with suppress(KeyboardInterrupt, BrokenPipeError):
            while not self._ended.wait(LOOK_EVERY_S):
                view = None if self._view is None else self._view[1]
                if not self._told_of_place and no_place(view, self._began):
                    self._told_of_place = True
                    self._console.print(NO_PLACE, soft_wrap=True, highlight=False)
                if self._view is not None:
                    self._name_silent(*self._view)

    def _name_silent(self, at: float, view: View) -> None:
        for run in view.running:
            said = view.silence(run, time.monotonic() - at)
            if said and (run.label, run.epoch) not in self._named:
                self._named.add((run.label, run.epoch))
                after = f"after {run.epoch} of {view.epochs} epochs"
                self._console.print(f"{run.label}: {said}, {after}", soft_wrap=True, highlight=False)

    def __call__(self, view: View) -> None:
        self._view = (time.monotonic(), view)
        last = view.done == view.total
        due = time.monotonic() - self._last >= LINE_EVERY_S
        if view.news == self._news and (view.done == self._shown or not (due or last)):
            return
        self._last, self._shown, self._news = time.monotonic(), view.done, view.news
        said = [timing(view), view.counts, view.news]
        self._console.print("; ".join(filter(None, said)), soft_wrap=True, highlight=False)


class _Picture:
    """The live screen; drawn anew four times a second, so that the clock runs while nothing happens."""

    def __init__(self, began: float) -> None:
        self._view: View | None = None
        self._began, self._at = began, time.monotonic()

    def show(self, view: View) -> None:
        self._view, self._at = view, time.monotonic()

    def draw(self) -> Group:
        view = self._view
        waits = [Text(NO_PLACE)] if no_place(view, self._began) else []
        if view is None:
            return Group(*waits)
        since = time.monotonic() - self._at
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(view.title, style="bold"),
            ProgressBar(total=view.total, completed=view.done, width=40),
            timing(view, since),
        )
        running = Table.grid(padding=(0, 1))
        for run in view.running:
            part = ProgressBar(total=view.epochs, completed=run.epoch, width=20)
            silence = Text(view.silence(run, since), style="bold red")
            running.add_row(f"  {run.label}", part, f"{run.epoch}/{view.epochs} epochs", silence)
        return Group(bar, Text(view.counts), *waits, running, Text(view.news, style="bold green"))


def no_place(view: View | None, began: float) -> bool:
    """Whether work that began then, by the monotonic clock, has waited for a first worker for too long."""
    begun = view is not None and (view.done or view.running)
    return not begun and time.monotonic() - began >= NO_PLACE_S


def search_counts(snapshot: Snapshot) -> str:
    """`baseline 3/3, trials 12/30 (2 running, 0 failed)`."""
    baseline = f"baseline {snapshot.baseline_done}/{snapshot.baseline_seeds}"
    trials = f"trials {snapshot.done}/{snapshot.trials}"
    used = "".join(f", {used_of_search(limit)}" for limit in snapshot.limits)
    return f"{baseline}, {trials} ({len(snapshot.running)} running, {snapshot.failed} failed){used}"


def timing(view: View, since_s: float = 0.0) -> str:
    """Elapsed and, once something has finished, what is left, `since_s` after the view was taken."""
    left = ""
    if view.eta_s is not None:
        left = f", about {clock(max(0.0, view.eta_s - since_s))} left"
    return f"{clock(view.elapsed_s + since_s)}{left}"


def clock(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def verdict(config: StudyConfig, snapshot: Snapshot) -> str:
    """The recommended trial so far: what it lifts and what it costs, both against the baseline's mean."""
    if snapshot.baseline is None:
        return "measuring the baseline"
    best = recommended(snapshot.ended, config, snapshot.baseline)
    return "no feasible trial yet" if best is None else recommendation(best, snapshot.baseline, config)

"""What runs take, by the cluster's clock, and what a study has used of its budget. No Ray.

What a process takes is written beside its runs, now and then and at its end. If it is killed, what it took
since it wrote last is not counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from search.record.experiments import CONFIRMATIONS, ExperimentRecord
from search.record.study import Study
from search.request.computing.budget import Account, Spent
from search.request.computing.resources import Resources
from search.work.protocol import Clock
from trainables.contract.trial import TrialReport

WRITE_EVERY_S = 30.0


class Kept(Protocol):
    """A record that keeps what its runs took."""

    @property
    def spent(self) -> Spent | None:
        """All that it was told last; None before."""

    def keep_spent(self, spent: Spent) -> None:
        """Keep what its runs took so far, all together."""


class Meter:
    """Counts what this process takes, and adds it to what was taken before.

    Args:
        clock: Of the cluster.
        kept: Where it is written.
        before: What was taken before.
    """

    def __init__(self, clock: Clock, kept: Kept, before: Spent) -> None:
        self._clock, self._kept, self._before = clock, kept, before
        self._began = self._written = clock()
        self._open: dict[str, tuple[float, float]] = {}  # key -> when it got its worker; its share of a GPU
        self._ended = Spent()

    def started(self, key: str, *, gpu: float) -> None:
        """A run has a worker, and there as much of a GPU."""
        self.ended(key)
        self._open[key] = (self._clock(), min(1.0, gpu))

    def ended(self, key: str) -> None:
        """A run has left its worker, if it had one, or lost it."""
        if key in self._open:
            self._ended += self._of(*self._open.pop(key))

    def _of(self, since: float, share: float) -> Spent:
        seconds = self._clock() - since
        return Spent(run_seconds=seconds, gpu_seconds=share * seconds)

    @property
    def now(self) -> Spent:
        """What this process has taken so far, with what still runs."""
        running = _total(self._of(*one) for one in self._open.values())
        return self._ended + running + Spent(seconds=self._clock() - self._began)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """However the context ends: what was taken is written."""
        try:
            yield
        finally:
            self.write(now=True)

    def write(self, *, now: bool = False) -> None:
        """Write it, unless that was done a moment ago; with `now` in any case."""
        if now or self._clock() - self._written >= WRITE_EVERY_S:
            self._written = self._clock()
            self._kept.keep_spent(self._before + self.now)


def account(study: Study) -> Account:
    """What a study has used of its budget, as its record has it."""
    records = {name: study.experiment(name) for name in study.experiments()}
    taken = {name: spent_in(record) for name, record in records.items()}
    confirming = _total(spent for name, spent in taken.items() if name.startswith(CONFIRMATIONS))
    comparing = _total(spent for name, spent in taken.items() if not name.startswith(CONFIRMATIONS))
    return Account(study.config.budget, spent_in_search(study) + comparing, confirming)


def spent_in_search(study: Study) -> Spent:
    """What the search took, its baseline with it."""
    reports = [trial.report for trial in [*study.baseline_trials(), *study.trials()]]
    return _spent_before(study, [report for report in reports if report is not None], study.resources)


def spent_in(record: ExperimentRecord) -> Spent:
    """What an experiment took."""
    reports = [run.outcome for run in record.runs() if isinstance(run.outcome, TrialReport)]
    return _spent_before(record, reports, record.resources)


def _spent_before(kept: Kept, reports: Sequence[TrialReport], resources: Resources) -> Spent:
    """What was taken so far; where an earlier version did not write it, what the finished runs say.

    They say nothing of those that failed, and of what ran at the same time.
    """
    if kept.spent is not None:
        return kept.spent
    share, found = min(1.0, resources.gpu), {report.key: report.seconds for report in reports}
    seconds = sum(found.values())
    return Spent(seconds=seconds, run_seconds=seconds, gpu_seconds=share * seconds)


def _total(taken: Iterable[Spent]) -> Spent:
    return sum(taken, Spent())

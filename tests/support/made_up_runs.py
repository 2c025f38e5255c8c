"""Workers whose runs take made-up times by a clock of their own, for tests; they train nothing."""

import heapq
from dataclasses import dataclass, field

import numpy as np
from reports import report_with

from search.request.computing.resources import Resources
from search.work.protocol import Work
from trainables.contract.trial import EpochMetrics, TrialSpec


@dataclass(order=True)
class _Run:
    """A run in the midst of an epoch."""

    epoch_ends: float
    key: str
    spec: TrialSpec = field(compare=False)
    began: float = field(compare=False)
    epoch_s: float = field(compare=False)
    epoch: int = field(compare=False, default=1)


class Workers:
    """So many runs at a time; an epoch takes a minute, more or less.

    Attributes:
        now: Seconds on their clock.
        ended: Of each run in the order of their ends: how long it had a worker, and its last epoch's time.
        started: Seconds on the clock when each run was started, and what all had taken of workers by then.
    """

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.count, self._rng = count, rng
        self.now, self.resources = 0.0, Resources()
        self.ended: list[tuple[float, float]] = []
        self.started: list[tuple[float, float]] = []
        self._busy: list[_Run] = []

    def clock(self) -> float:
        return self.now

    @property
    def run_seconds(self) -> float:
        return sum(seconds for seconds, _ in self.ended) + sum(self.now - run.began for run in self._busy)

    def work_off(self, work: Work, *, at_most: int = 10**6) -> None:
        """Until nothing is left, or after so many epochs as a process that dies."""
        for _ in range(at_most):
            while len(self._busy) < self.count and (job := work.take()) is not None:
                self.started.append((self.now, self.run_seconds))
                work.started(job.spec.key, self.resources)
                self._next_epoch(_Run(0.0, job.spec.key, job.spec, self.now, 0.0, 0))
            if not self._busy:
                assert work.exhausted()
                return
            self._an_epoch_ends(work)
        self._busy = []

    def _next_epoch(self, run: _Run) -> None:
        run.epoch_s = 60 * float(self._rng.lognormal(0, 0.5))
        run.epoch_ends, run.epoch = self.now + run.epoch_s, run.epoch + 1
        heapq.heappush(self._busy, run)

    def _an_epoch_ends(self, work: Work) -> None:
        run = self._busy[0]
        self.now = run.epoch_ends
        measured = {name: 0.5 + self._rng.normal(0, 0.01) for name in ("minority_recall", "map50_95")}
        measured |= {"minority_ap50": 0.5}
        answer = work.epoch(run.key, EpochMetrics(epoch=run.epoch, metrics=measured))
        heapq.heappop(self._busy)
        taken = self.now - run.began
        if run.epoch == run.spec.epochs:
            work.finish(run.key, report_with(measured, key=run.key, seconds=taken))
        elif answer == "stop":
            work.stopped(run.key)
        else:
            self._next_epoch(run)
            return
        self.ended.append((taken, run.epoch_s))

"""What all queues share: runs waiting, runs that have a worker, how long the rest will take.

A run that ran out of its share of a GPU's memory is run once more, with a GPU of its own. Until it has got
one no further run is handed out: they would take each share that comes free, and it would wait for ever.
"""

import statistics
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, replace

from search.record.files import RunFiles
from search.request.computing.resources import Resources
from search.request.config import SearchConfig
from search.work.protocol import Answer, Clock, Job
from search.work.silence import Silence
from search.work.spending import Meter
from spaces.errors import RunError
from trainables.contract.trial import EpochMetrics, Outcome, TrialFailure, TrialReport, TrialSpec


@dataclass(frozen=True)
class Running:
    """A run that has a worker.

    Attributes:
        label: Who it is.
        epoch: How many epochs it has finished.
        silent_s: Seconds since its last epoch, or its start.
    """

    label: str
    epoch: int = 0
    silent_s: float = 0.0


class Crew:
    """Who is running, and what a run has taken so far. Plain bookkeeping for a screen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock()
        self._running: dict[str, Running] = {}  # by the run's key
        self._silence = Silence(clock)
        self._seconds: list[float] = []
        self._most_running = 1

    def started(self, key: str, label: str) -> None:
        """A run has a worker; also after a lost one."""
        self._running.setdefault(key, Running(label))
        self._silence.started(key)
        self._most_running = max(self._most_running, len(self._running))

    def epoch(self, key: str, label: str, epoch: int, epochs: int) -> None:
        """A run has finished an epoch of so many."""
        self._running[key] = Running(label, epoch)
        self._silence.heard(key, epoch, epochs)

    def ended(self, key: str, outcome: Outcome | None = None) -> None:
        """A run has left its worker."""
        self._running.pop(key, None)
        self._silence.ended(key)
        if isinstance(outcome, TrialReport):
            self._seconds.append(outcome.seconds)

    @property
    def running(self) -> tuple[Running, ...]:
        """In the order in which they started."""
        return tuple(replace(run, silent_s=self._silence.seconds(key)) for key, run in self._running.items())

    @property
    def silent_after_s(self) -> float | None:
        """Seconds without a report after which something may be wrong; None before anything was reported."""
        return self._silence.named_after_s

    def hung(self) -> set[str]:
        """As of `Silence`."""
        return self._silence.hung()

    @property
    def elapsed_s(self) -> float:
        """Seconds since this process began with the work."""
        return self._clock() - self._started

    def eta_s(self, left: int) -> float | None:
        """Seconds that `left` runs will take, or None before anything has finished."""
        if not self._seconds:
            return None
        return left * statistics.median(self._seconds) / self._most_running


class RunQueue(ABC):
    """The part of `protocol.Work` that is the same for every queue.

    Args:
        files: Of the study's runs.
        clock: Of the cluster.
        meter: Counts what the runs take.
        limits: Of a run; None for the usual ones.

    Attributes:
        meter: As given.
        outcomes: How each run has ended that has, in the record or here; by key.
    """

    def __init__(
        self, files: RunFiles, clock: Clock, meter: Meter, limits: SearchConfig | None = None
    ) -> None:
        self._files, self._clock, self.meter = files, clock, meter
        self._limits = SearchConfig() if limits is None else limits
        self._crew = Crew(clock)
        self._waiting: deque[TrialSpec] = deque()
        self._taken: dict[str, TrialSpec] = {}
        self._whole: set[str] = set()  # keys of those that a share of a GPU is too small for
        self._held_for: str | None = None  # the one of them that is to have the next GPU
        self.outcomes: dict[str, Outcome] = {}

    def take(self) -> Job | None:
        """The next run; from its furthest checkpoint, if an earlier attempt has left one.

        One that an earlier process had finished, but did not live to write down, is not run again.
        """
        if self._held_for is not None:
            return None
        spec = self._next()
        while spec is not None and (report := self._files.report(spec.key)) is not None:
            self.finish(spec.key, report)
            spec = self._next()
        if spec is None:
            return None
        self._taken[spec.key] = spec
        whole = spec.key in self._whole
        if whole:
            self._held_for = spec.key
        resume = self._files.resumable(spec.key)
        return Job(
            spec,
            resume,
            whole_device=whole,
            timeout_s=self._limits.trial_timeout_s,
            checkpoint_s=self._limits.checkpoint_s,
        )

    def _next(self) -> TrialSpec | None:
        if not self._waiting:
            self._refill()
        return self._waiting.popleft() if self._waiting else None

    def started(self, key: str, resources: Resources) -> None:
        """A run has a worker; also after a lost one."""
        self._release(key)
        self._crew.started(key, self._label(key))
        self.meter.started(key, gpu=1.0 if key in self._whole else resources.gpu)
        self._changed()

    def lost(self, key: str) -> None:
        """A run has lost its worker: waiting for another takes nothing."""
        self.meter.ended(key)

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        """A run has finished an epoch; it goes on unless all is over."""
        self._crew.epoch(key, self._label(key), measured.epoch, self._taken[key].epochs)
        self.meter.write()
        self._changed()
        return "stop" if self.over() else "go on"

    def hung(self) -> set[str]:
        """Keys of the runs that say nothing for so long that they must hang."""
        return self._crew.hung()

    def over(self) -> bool:
        """Whether nothing more is to start, and what runs is to end at its next epoch."""
        return False

    @abstractmethod
    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended."""

    def _left(self, key: str, outcome: Outcome | None = None) -> None:
        """A run has left its worker, if it ever had one.

        Raises:
            RunError: For want of space on a disk, which says nothing of the run: nobody is told, and it goes
                on another time.
        """
        self._release(key)
        self._crew.ended(key, outcome)
        self.meter.ended(key)
        if isinstance(outcome, TrialFailure) and outcome.kind == "disk":
            raise RunError(outcome.reason, "make room, then go on with --resume")

    def _release(self, key: str) -> None:
        if self._held_for == key:
            self._held_for = None

    def _put_back(self, key: str, outcome: Outcome) -> bool:
        """Whether a run has to be run again with a whole GPU; then it is the next."""
        if isinstance(outcome, TrialReport) or outcome.kind != "memory" or not outcome.retry:
            return False
        if key in self._whole:
            return False
        self._whole.add(key)
        self._waiting.appendleft(self._taken[key])
        return True

    def _refill(self) -> None:  # noqa: B027  (a queue that knows all its runs at the start has no more)
        """Put more runs on the queue, if there are more."""

    @abstractmethod
    def _label(self, key: str) -> str:
        """What a screen calls a run."""

    @abstractmethod
    def _changed(self) -> None:
        """Tell the screen."""

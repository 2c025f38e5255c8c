"""The runs that have a worker now, and how long the rest will take. Plain bookkeeping for a screen."""

import statistics
import time
from dataclasses import dataclass

from trainables.contract.trial import Outcome, TrialReport


@dataclass(frozen=True)
class Running:
    """A run that has a worker: who it is, and how many epochs it has finished."""

    label: str
    epoch: int = 0


class Crew:
    """Who is running, and what a run has taken so far."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._running: dict[str, Running] = {}  # by the run's key
        self._seconds: list[float] = []
        self._most_running = 1

    def started(self, key: str, label: str) -> None:
        """A run has a worker; also after a lost one."""
        self._running.setdefault(key, Running(label))
        self._most_running = max(self._most_running, len(self._running))

    def epoch(self, key: str, label: str, epoch: int) -> None:
        """A run has finished an epoch."""
        self._running[key] = Running(label, epoch)

    def ended(self, key: str, outcome: Outcome | None = None) -> None:
        """A run has left its worker."""
        self._running.pop(key, None)
        if isinstance(outcome, TrialReport):
            self._seconds.append(outcome.seconds)

    @property
    def running(self) -> tuple[Running, ...]:
        """In the order in which they started."""
        return tuple(self._running.values())

    @property
    def elapsed_s(self) -> float:
        """Seconds since this process began with the work."""
        return time.monotonic() - self._started

    def eta_s(self, left: int) -> float | None:
        """Seconds that `left` runs will take, or None before anything has finished."""
        if not self._seconds:
            return None
        return left * statistics.median(self._seconds) / self._most_running

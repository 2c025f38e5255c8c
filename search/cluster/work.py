"""What the Ray edge needs to know of what it runs: a queue of trials that learns how each ended."""

from typing import Protocol

from trainables.trial import Outcome, TrialSpec


class Job:
    """One run to launch.

    Attributes:
        spec: What to run.
        resume: Folder of an earlier attempt's checkpoint, readable from the worker; None starts afresh.
    """

    def __init__(self, spec: TrialSpec, resume: str | None = None) -> None:
        self.spec, self.resume = spec, resume


class Work(Protocol):
    """A queue of runs; called from one thread."""

    def take(self) -> Job | None:
        """The next run, or None if there is nothing to start now."""

    def exhausted(self) -> bool:
        """Whether `take` will never again give a run."""

    def started(self, key: str) -> None:
        """A run has a worker; also after a lost one."""

    def epoch(self, key: str, epoch: int) -> None:
        """A run has finished an epoch."""

    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended."""

    def stopped(self, key: str) -> None:
        """A scheduler has ended a run early."""

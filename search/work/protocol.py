"""What the Ray edge and what it runs know of each other: a queue of trials, and where it is worked off."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from search.request.config import Resources
from trainables.contract.trial import Outcome, TrialSpec


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


# Runs everything that a queue gives, until it is exhausted or the person interrupts. The folder is the
# study's: each run's files go to `trials/<key>/` in it, so every node must see it.
Launch = Callable[[Work, Path], None]


class Cluster(Protocol):
    """Where work runs. `launch.RayCluster`, and in tests this process."""

    def connected(self, resources: Resources) -> AbstractContextManager[Launch]:
        """Within the context, runs that each occupy `resources` can be launched.

        Raises:
            UsageError: No node can ever hold a run.
            RunError: The cluster cannot be reached.
        """

"""What a queue of runs and whatever works it off know of each other."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from search.record.files import RunFiles
from search.request.computing.resources import Resources
from search.work.allotting import Asked
from spaces.errors import RunError
from trainables.contract.trial import EpochMetrics, Outcome, TrialSpec

Answer = Literal["go on", "stop"]
Clock = Callable[[], float]  # seconds since some moment, never less than before


class ClusterLost(RunError):
    """The cluster is gone in the midst of the work; what was told is kept, and the rest can go on later."""


@dataclass(frozen=True)
class Job:
    """One run to launch.

    Attributes:
        spec: What to run.
        resume: Folder of an earlier attempt's checkpoint, readable from the worker, or its address; None
            starts afresh.
        whole_device: It needs a GPU of its own, whatever share of one the others get.
        timeout_s: Seconds after which it is ended on its worker, as a failure of kind `timeout`; None: never.
        checkpoint_s: As of `SearchConfig`.
    """

    spec: TrialSpec
    resume: Path | str | None = None
    whole_device: bool = False
    timeout_s: float | None = None
    checkpoint_s: float = 0.0


class Work(Protocol):
    """A queue of runs; called from one thread."""

    def take(self) -> Job | None:
        """The next run, or None if there is nothing to start now."""

    def exhausted(self) -> bool:
        """Whether `take` will never again give a run."""

    def over(self) -> bool:
        """Whether what was taken, and has no worker yet, is not to get one: it is `stopped` instead."""

    def started(self, key: str, resources: Resources) -> None:
        """A run has a worker, where it occupies so much; also after a lost one."""

    def lost(self, key: str) -> None:
        """A run has lost its worker; it may get another one."""

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        """A run has finished an epoch; whether it is to go on. After its last the answer changes nothing."""

    def hung(self) -> set[str]:
        """Keys of the runs that say nothing for so long that they must hang."""

    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended."""

    def stopped(self, key: str) -> None:
        """A run has been ended early, as `epoch` was answered, or never got a worker, as `over` was."""


# Runs everything that a queue gives, until it is exhausted or the person interrupts. Every node must see the
# files. Raises `ClusterLost`.
Launch = Callable[[Work, RunFiles], None]


class Cluster(Protocol):
    """Where work runs: `cluster.launch.RayCluster`, or this process, `cluster.here.Here`."""

    @property
    def clock(self) -> Clock:
        """The time that passes there."""

    @property
    def is_here(self) -> bool:
        """Whether all of it is this machine."""

    def connected(self, asked: Asked, reads: Sequence[str] = ()) -> AbstractContextManager[Launch]:
        """Within the context, runs that each occupy what is asked can be launched.

        Args:
            asked: Of each.
            reads: Paths that they read: every node has to see them.

        Raises:
            UsageError: No node can ever hold a run.
            RunError: The cluster cannot be reached.
        """

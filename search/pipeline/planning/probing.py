"""A timed probe: some of the study's runs, three epochs of each, as many at once as the study would make.

One is of the baseline, the others of strategies drawn from the space: what augments takes longer.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import mean

from rich.console import Console

from search.pipeline.allotting import least
from search.pipeline.planning.known import PROBED_EPOCHS, PROBES, Probe
from search.record.away import TRIALS, StoredFiles
from search.record.experiments import now
from search.record.files import RunFiles
from search.record.sampler import drawn
from search.record.storage.address import mirrored_runs
from search.record.storage.lease import LEASE
from search.record.storage.remote import Remote
from search.request.computing.resources import AUTO, Choice, Resources
from search.request.config import LEAST_EPOCHS_OF_TWO, StudyConfig
from search.show.common import bar
from search.work.allotting import Asked, Auto
from search.work.protocol import Answer, Clock, Cluster, Job
from spaces.errors import RunError, UsageError
from spaces.strategy import Strategy
from trainables.contract.trial import DataSpec, EpochMetrics, Outcome, TrialReport, TrialSpec

LEAST = 4  # runs: strategies differ
MOST = 8  # runs at once: what they wait for together, disks, CPUs and GPUs, shows by then


class Timed:
    """Some runs, and when each had its worker, ended an epoch and had its result; a `protocol.Work`.

    Args:
        new: Runs whose time says nothing: their workers are new, and load what the others find loaded.
        specs: The runs that are timed; but for the first, each may diverge, and tells nothing then.
        clock: Of the cluster.
        say: Told how many epochs have ended, and of how many.
    """

    def __init__(
        self,
        new: Sequence[TrialSpec],
        specs: Sequence[TrialSpec],
        clock: Clock,
        say: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        self._clock, self._say = clock, say
        first, *others = [spec.key for spec in specs]
        self._timing, self._may_diverge = {first, *others}, set(others)
        self._waiting = deque([*new, *specs])
        self._moments: dict[str, list[float]] = {}
        self._timed: list[list[float]] = []
        self._left = {spec.key for spec in self._waiting}
        self._epochs = sum(spec.epochs for spec in self._waiting)

    def take(self) -> Job | None:
        """The next run, from its beginning."""
        return Job(self._waiting.popleft()) if self._waiting else None

    def exhausted(self) -> bool:
        """Whether all have been taken."""
        return not self._waiting

    def over(self) -> bool:
        """Never."""
        return False

    def started(self, key: str, resources: Resources) -> None:
        """A run has a worker.

        Raises:
            RunError: It had one before, which was lost: what it took says nothing.
        """
        if key in self._moments:
            raise RunError("a worker was lost in the probe", "once more: rarecall check STUDY --probe")
        self._moments[key] = [self._clock()]

    def lost(self, key: str) -> None:
        """It is told of if it gets another worker, or ends."""

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        """A run has finished an epoch."""
        self._moments[key].append(self._clock())
        self._say(sum(len(moments) - 1 for moments in self._moments.values()), self._epochs)
        return "go on"

    def hung(self) -> set[str]:
        """None: whoever waits sees it."""
        return set()

    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended.

        Raises:
            RunError: It failed.
        """
        self._left.discard(key)
        if isinstance(outcome, TrialReport):
            if key in self._timing:
                self._timed.append([*self._moments[key][: len(outcome.curve)], self._clock()])
        elif outcome.kind != "diverged" or key not in self._may_diverge:
            raise RunError(f"the probe's run failed ({outcome.kind}): {outcome.reason}")

    def stopped(self, key: str) -> None:
        """Never called."""
        raise AssertionError(f"run {key} of a probe was stopped")

    def complete(self) -> bool:
        """Whether every run has its result."""
        return not self._left

    def seconds(self) -> tuple[float, ...]:
        """Of each epoch, the last with what follows it; means over the runs.

        The first begins when a run gets its worker. It is the least, as others may have had a new worker.
        """
        runs = [[end - begin for begin, end in pairwise(moments)] for moments in self._timed]
        first, *later = zip(*runs, strict=True)
        return min(first), *map(mean, later)


def probe(
    config: StudyConfig,
    data: DataSpec,
    runs: Path,
    cluster: Cluster,
    room: Callable[[Resources], tuple[int, str]],
    console: Console,
) -> Probe:
    """Make some runs of three epochs each, and keep how long they took; nothing else is left of them.

    Args:
        config: Of the study, which may not exist yet.
        data: Its data.
        runs: Folder of all studies.
        cluster: Where it runs.
        room: For how many runs that occupy so much there is room at a time there, and why.
        console: Where a bar is shown.

    Raises:
        UsageError: The data are not as they must be, no node can hold a run, or `runs` cannot be written.
        RunError: A run failed, or the cluster is out of reach.
        KeyboardInterrupt: It was asked to end.
    """

    def timed(asked: Asked, at_once: int, words: str) -> tuple[float, ...]:
        """By so many runs at once."""
        new = [
            _short(config, data, config.baseline_strategy, seed, _least_epochs(config))
            for seed in range(at_once)
        ]
        others = drawn(config.space, at_once * ceil(LEAST / at_once) - 1)
        specs = [
            _short(config, data, strategy, at_once + number, PROBED_EPOCHS)
            for number, strategy in enumerate([config.baseline_strategy, *others])
        ]
        with _files(runs) as files, cluster.connected(asked) as launch, bar(console, words) as say:
            work = Timed(new, specs, cluster.clock, say)
            launch(work, files)
        if not work.complete():
            raise KeyboardInterrupt
        return work.seconds()

    resources = least(config)
    if config.resources == AUTO:
        chosen: list[Choice] = []
        first = Auto(lambda: None, chosen.append, needs_gpu=resources.gpu > 0)
        timed(first, 1, "probing what a run needs")
        resources = chosen[0].resources if chosen else resources
    at_once = max(1, min(room(resources)[0], MOST))
    seconds = timed(resources, at_once, f"probing with {at_once} at once")
    found = Probe(created=now(), seconds=seconds, at_once=at_once, resources=resources)
    found.keep(config, runs)
    return found


def _short(config: StudyConfig, data: DataSpec, strategy: Strategy, seed: int, epochs: int) -> TrialSpec:
    """A run of so many epochs, or of all that there are."""
    steps = min(epochs, config.train.epochs) * config.train.eval_every
    short = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    return short.spec(strategy, data, seed=seed)


def _least_epochs(config: StudyConfig) -> int:
    """Of a run of the baseline."""
    return LEAST_EPOCHS_OF_TWO if config.baseline_strategy.division.dual_share else 1


@contextmanager
def _files(runs: Path) -> Iterator[RunFiles]:
    """Where the runs of a probe leave theirs, for as long."""
    name, address = secrets.token_hex(4), mirrored_runs(runs)
    root = runs.absolute() / PROBES / name / TRIALS  # Ray takes no other
    files = RunFiles(root)
    if address is not None:  # nodes share no folder
        remote = Remote(address / f"{PROBES}-{name}")  # so that no empty folder is left
        remote.check()
        remote.write(LEASE, b"")  # which nodes look for
        files = StoredFiles(root, remote)
    try:
        files.root.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"cannot write {runs}: {error.strerror}", "choose another with --runs") from None
    try:
        yield files
    finally:
        files.discard()

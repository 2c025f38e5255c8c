"""Arms × seeds × split: the queue of an experiment's runs, and what they gave. Knows nothing of Ray.

`confirm` and `compare` only choose the arms.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from search.record.experiments import ExperimentRecord
from search.record.folder import StudyFolder
from search.work.protocol import Job
from search.work.queue import Crew, Running
from spaces.errors import RunError
from trainables.contract.trial import Outcome, TrialFailure, TrialReport, TrialSpec

RERUNS = 1  # of a crashed run with the same seed, beside the retries of a lost worker
COUNTED = {"diverged", "receipt"}  # failures that say something of the strategy, so they are results


@dataclass(frozen=True)
class Wanted:
    """One run of an experiment."""

    arm: str
    spec: TrialSpec


@dataclass(frozen=True)
class ExperimentSnapshot:
    """What a screen shows of an experiment; `failed` counts seeds that gave no result."""

    title: str
    done: int
    failed: int
    runs: int
    running: tuple[Running, ...]
    epochs: int
    elapsed_s: float
    eta_s: float | None


def seed_of(study_seed: int, experiment: str, arm: str, index: int) -> int:
    """Training seed number `index` of an arm: fresh for every experiment, and its own for every arm.

    Arms share no seeds, since the bounds take them for independent, and the baseline can be set against
    itself. Seeds of a search are below a million for study seeds below 1,000; these are above.
    """
    digest = hashlib.sha256(f"{study_seed}/{experiment}/{arm}/{index}".encode()).digest()
    return 10**6 + int.from_bytes(digest[:4]) % (2**31 - 10**6)


def seeds_of(study_seed: int, experiment: str, seeds: Mapping[str, int]) -> list[tuple[str, int]]:
    """Arm and training seed of every run, seed by seed over the arms; `seeds` is how many each arm has."""
    return [
        (arm, seed_of(study_seed, experiment, arm, index))
        for index in range(max(seeds.values()))
        for arm, count in seeds.items()
        if index < count
    ]


class ExperimentWork:
    """The queue of an experiment; implements `cluster.work.Work`.

    A seed that crashed is run again with the same seed, once by this process and once by each that resumes.
    One that diverged has a result: it is counted.
    """

    def __init__(
        self,
        title: str,
        record: ExperimentRecord,
        folder: StudyFolder,
        wanted: Sequence[Wanted],
        on_change: Callable[[ExperimentSnapshot], None],
    ) -> None:
        self._title, self._record, self._folder, self._on_change = title, record, folder, on_change
        self._wanted = {one.spec.key: one for one in wanted}
        self._queue: deque[TrialSpec] = deque()
        self._numbers: dict[str, int] = {}  # key -> entry of the run that is queued or running
        self._crashes: dict[str, int] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._crew = Crew()
        left = {run.key: run.number for run in record.runs() if run.outcome is None}
        finished = {run.key: run.outcome for run in record.runs() if run.outcome is not None}
        for key, one in self._wanted.items():
            outcome = finished.get(key)
            if outcome is not None and counts(outcome):
                self._outcomes[key] = outcome
                continue
            self._numbers[key] = left[key] if key in left else record.add(one.arm, one.spec)
            self._queue.append(one.spec)

    # cluster.work.Work

    def take(self) -> Job | None:
        """The next run."""
        if not self._queue:
            return None
        spec = self._queue.popleft()
        resume = self._folder.resumable(spec.key)
        return Job(spec, None if resume is None else str(resume))

    def exhausted(self) -> bool:
        """Whether nothing is queued and nothing that runs could have to be run again."""
        return not self._queue and not self._numbers

    def started(self, key: str) -> None:
        """A run has a worker; also after a lost one."""
        self._crew.started(key, self._label(key))
        self._changed()

    def epoch(self, key: str, epoch: int) -> None:
        """A run has finished an epoch."""
        self._crew.epoch(key, self._label(key), epoch)
        self._changed()

    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended; a crashed one is queued again."""
        self._crew.ended(key, outcome)
        self._record.tell(self._numbers.pop(key), outcome)
        one = self._wanted[key]
        if not counts(outcome) and self._crashes.get(key, 0) < RERUNS:
            self._crashes[key] = self._crashes.get(key, 0) + 1
            self._numbers[key] = self._record.add(one.arm, one.spec)
            self._queue.append(one.spec)
        else:
            self._outcomes[key] = outcome
        self._changed()

    def stopped(self, key: str) -> None:
        """Never called: an experiment's runs are not stopped early, or their seeds would not compare."""
        raise AssertionError(f"run {key} of an experiment was stopped")

    def complete(self) -> bool:
        """Whether every run has ended."""
        return len(self._outcomes) == len(self._wanted)

    # Results

    def outcomes(self, arm: str) -> list[Outcome]:
        """How the runs of an arm ended, in the order of its seeds.

        Raises:
            RunError: A run crashed each time, with its reason: the arm cannot be judged without that seed.
        """
        found = [(one.spec, self._outcomes[key]) for key, one in self._wanted.items() if one.arm == arm]
        for spec, outcome in found:
            if isinstance(outcome, TrialFailure) and not counts(outcome):
                raise RunError(
                    f"{arm}, seed {spec.seed} crashed {RERUNS + 1} times ({outcome.kind}): {outcome.reason}",
                    "with --resume the same seed is tried again",
                )
        return [outcome for _, outcome in found]

    # For a screen

    def _label(self, key: str) -> str:
        one = self._wanted[key]
        index = [key for key, other in self._wanted.items() if other.arm == one.arm].index(key)
        return f"{one.arm} seed {index + 1}"

    def _changed(self) -> None:
        self._on_change(
            ExperimentSnapshot(
                title=self._title,
                done=len(self._outcomes),
                failed=sum(isinstance(outcome, TrialFailure) for outcome in self._outcomes.values()),
                runs=len(self._wanted),
                running=self._crew.running,
                epochs=next(iter(self._wanted.values())).spec.train.epochs,
                elapsed_s=self._crew.elapsed_s,
                eta_s=self._crew.eta_s(len(self._wanted) - len(self._outcomes)),
            )
        )


def counts(outcome: Outcome) -> bool:
    """Whether a run has a result: a report, or a failure that the strategy itself is the reason of."""
    return isinstance(outcome, TrialReport) or outcome.kind in COUNTED

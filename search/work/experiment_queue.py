"""Arms × seeds × split: the queue of an experiment's runs, and what they gave.

`confirm` and `compare` only choose the arms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.record.experiments import ExperimentRecord, Wanted, is_result
from search.record.files import RunFiles
from search.request.config import SearchConfig
from search.work.protocol import Clock
from search.work.queue import Running, RunQueue
from search.work.spending import Meter, spent_in
from spaces.errors import RunError
from trainables.contract.trial import Outcome, TrialFailure

NOT_AGAIN = {  # kinds of failure that would only come again, and what helps
    "memory": "`rarecall search FILE --resume` with more resources in it, then this again; or ask for less",
    "timeout": "`rarecall search FILE --resume` with a longer search.trial_timeout_s in it, then this again",
}
RERUNS = 1  # of a crashed run with the same seed, beside the retries of a lost worker


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
    silent_after_s: float | None = None


class ExperimentQueue(RunQueue):
    """The queue of an experiment; implements `protocol.Work`.

    A seed that crashed is run again with the same seed, once by this process and once by each that resumes.
    One that diverged has a result: it is counted. One that ran out of memory has none, and says nothing of
    its strategy: it is not run again, but once with a whole GPU if it had a share of one, and by a process
    that resumes with other `resources`. Nor does one that took too long, which only a process that resumes
    runs again.
    """

    def __init__(
        self,
        title: str,
        record: ExperimentRecord,
        files: RunFiles,
        wanted: Sequence[Wanted],
        on_change: Callable[[ExperimentSnapshot], None],
        clock: Clock,
        limits: SearchConfig | None = None,
    ) -> None:
        meter = Meter(clock, record, spent_in(record))
        super().__init__(files, clock, meter, limits)
        self._title, self._record, self._on_change = title, record, on_change
        self._wanted = {one.spec.key: one for one in wanted}
        self._numbers: dict[str, int] = {}  # key -> entry of the run that is waiting or running
        self._crashes: dict[str, int] = {}
        self._restore()

    def _restore(self) -> None:
        """Take over what the record has; what it lacks is run."""
        runs = self._record.runs()
        left = {run.key: run.number for run in runs if run.outcome is None}
        finished = {run.key: run.outcome for run in runs if run.outcome is not None}
        for key, one in self._wanted.items():
            outcome = finished.get(key)
            if outcome is not None and self._record.settled(outcome):
                self.outcomes[key] = outcome
            else:
                self._want(one, left.get(key))

    def _want(self, one: Wanted, number: int | None = None) -> None:
        """Put a run on the queue, as an entry of the record, or a new one."""
        self._numbers[one.spec.key] = self._record.add(one.arm, one.spec) if number is None else number
        self._waiting.append(one.spec)

    # protocol.Work

    def exhausted(self) -> bool:
        """Whether nothing is queued and nothing that runs could have to be run again."""
        return not self._waiting and not self._numbers

    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended; a crashed one is queued again."""
        self._left(key, outcome)
        if self._put_back(key, outcome):
            self._changed()
            return
        self._record.tell(self._numbers.pop(key), outcome)
        one = self._wanted[key]
        if _crashed(outcome) and self._crashes.get(key, 0) < RERUNS:
            self._crashes[key] = self._crashes.get(key, 0) + 1
            self._want(one)
        else:
            self.outcomes[key] = outcome
        self._changed()

    def stopped(self, key: str) -> None:
        """Never called: an experiment's runs are not stopped early, or their seeds would not compare."""
        raise AssertionError(f"run {key} of an experiment was stopped")

    def complete(self) -> bool:
        """Whether every run has ended."""
        return len(self.outcomes) == len(self._wanted)

    # Results

    def outcomes_of(self, arm: str) -> list[Outcome]:
        """How the runs of an arm ended, in the order of its seeds.

        Raises:
            RunError: A run crashed each time or ran out of memory, with its reason: the arm cannot be judged
                without that seed.
        """
        found = [(one.spec, self.outcomes[key]) for key, one in self._wanted.items() if one.arm == arm]
        for spec, outcome in found:
            if isinstance(outcome, TrialFailure) and not is_result(outcome):
                how, hint = f"crashed {RERUNS + 1} times", "with --resume the same seed is tried again"
                if not _crashed(outcome):
                    how, hint = "could not be trained", NOT_AGAIN[outcome.kind]
                raise RunError(
                    f"{arm}, seed {spec.seed} {how} ({outcome.kind}): {outcome.reason}",
                    hint,
                )
        return [outcome for _, outcome in found]

    # For a screen

    def _label(self, key: str) -> str:
        one = self._wanted[key]
        index = [key for key, other in self._wanted.items() if other.arm == one.arm].index(key)
        return f"{one.arm} seed {index + 1}"

    def _changed(self) -> None:
        self._record.check_written()
        self._on_change(
            ExperimentSnapshot(
                title=self._title,
                done=len(self.outcomes),
                failed=sum(isinstance(outcome, TrialFailure) for outcome in self.outcomes.values()),
                runs=len(self._wanted),
                running=self._crew.running,
                epochs=max(one.spec.epochs for one in self._wanted.values()),
                elapsed_s=self._crew.elapsed_s,
                eta_s=self._crew.eta_s(len(self._wanted) - len(self.outcomes)),
                silent_after_s=self._crew.silent_after_s,
            )
        )


def _crashed(outcome: Outcome) -> bool:
    """Whether a run gave no result, for a reason that may be gone another time."""
    return isinstance(outcome, TrialFailure) and not is_result(outcome) and outcome.kind not in NOT_AGAIN

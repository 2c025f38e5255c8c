"""The record of one experiment: its plan, every run, what was concluded. Kept beside the search's trials.

An experiment is several arms (strategies), each trained with several seeds. Each run is an entry of its own;
a run that is made again, because its worker was lost, is a further entry of the same arm and seed.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.record.database import Record
from search.record.outcomes import stamped, worth_again
from search.record.stored import decisive, packed, refuse_another_run, unpacked
from search.request.computing.budget import Spent
from search.request.computing.resources import Resources
from search.request.config import StudyConfig
from trainables.contract.trial import Outcome, Split, TrialFailure, TrialReport, TrialSpec

CONFIRMATIONS = "confirm/"  # how the names of confirmations begin
COMPARISON = "compare"  # the name of the comparison
BASELINE_ARM = "baseline"  # name of a confirmation's arm that every candidate is measured against
PLAN, CONCLUSIONS, CREATED = "plan", "conclusions", "created"
COUNTED = {"diverged", "receipt"}  # failures that say something of the strategy, so they are results


@dataclass(frozen=True)
class ArmRun:
    """One run of an arm, as it stands in the record.

    Attributes:
        number: Of the entry.
        arm: Name of the arm.
        seed: Training seed.
        split: That it was measured on.
        key: `TrialSpec.key`.
        outcome: None while it runs.
    """

    number: int
    arm: str
    seed: int
    split: Split
    key: str
    outcome: Outcome | None


@dataclass(frozen=True)
class Wanted:
    """One run of an experiment."""

    arm: str
    spec: TrialSpec


class ExperimentRecord:
    """One experiment in the study's record; written by one process."""

    def __init__(
        self,
        name: str,
        record: Record,
        config: StudyConfig,
        minority: Sequence[str],
        resources: Callable[[], Resources],
    ) -> None:
        self._name, self._record = name, record
        self._config, self._minority, self._resources = config, minority, resources

    @property
    def plan(self) -> Any:
        """What was fixed before the first run: plain values, or None if nothing was yet."""
        return self._record.attrs.get(PLAN)

    @property
    def created(self) -> str:
        """When the plan was fixed first; ISO 8601, UTC."""
        return str(self._record.attrs[CREATED])

    def set_plan(self, plan: Any) -> None:
        """Fix the plan: plain values."""
        if CREATED not in self._record.attrs:
            self._record.set_study_attr(CREATED, now())
        self._record.set_study_attr(PLAN, plan)

    @property
    def conclusions(self) -> list[Any]:
        """What was concluded at each look so far: plain values."""
        return list(self._record.attrs.get(CONCLUSIONS, []))

    def conclude(self, conclusion: Any) -> None:
        """Add the conclusion of a look: plain values."""
        self._record.set_study_attr(CONCLUSIONS, [*self.conclusions, conclusion])

    @property
    def resources(self) -> Resources:
        """Of each of its runs."""
        return self._resources()

    @property
    def spent(self) -> Spent | None:
        """As of `Record`."""
        return self._record.spent

    def keep_spent(self, spent: Spent) -> None:
        """As of `Record`."""
        self._record.keep_spent(spent)

    def runs(self) -> list[ArmRun]:
        """All runs so far, by number."""
        return [self._read(trial) for trial in self._record.trials()]

    def check_written(self) -> None:
        """As `Study.check_written`."""
        self._record.check_written()

    def settled(self, outcome: Outcome) -> bool:
        """Whether a run that ended so is not made again by a later process."""
        if isinstance(outcome, TrialFailure) and outcome.kind == "memory":
            return not worth_again(outcome, self._resources())
        return is_result(outcome)

    def add(self, arm: str, spec: TrialSpec) -> int:
        """Note that a run is wanted; returns its number."""
        trial = self._record.live.ask()
        for name, value in (("arm", arm), ("seed", spec.seed), ("split", spec.split), ("key", spec.key)):
            trial.set_user_attr(name, value)
        trial.set_user_attr("strategy", spec.strategy.model_dump_json())
        return self._record.write_new(trial).number

    def tell(self, number: int, outcome: Outcome) -> ArmRun:
        """A run has ended."""
        if isinstance(outcome, TrialFailure):
            self._record.set_attr(number, "failure", packed(stamped(outcome, self._resources())))
            return self._read(self._record.tell(number, TrialState.FAIL))
        kept = decisive(outcome, self._config.front_metrics, self._minority)
        self._record.set_attr(number, "report", packed(kept))
        values = [outcome.metrics[name] for name in self._config.objectives]
        known = [value for value in values if value is not None]
        # Optuna completes no trial without its values; the report is what counts here.
        state = TrialState.COMPLETE if len(known) == len(values) else TrialState.FAIL
        return self._read(self._record.tell(number, state, known if state == TrialState.COMPLETE else None))

    def _read(self, trial: FrozenTrial) -> ArmRun:
        attrs = trial.user_attrs
        outcome: Outcome | None = None
        if "report" in attrs:
            outcome = unpacked(TrialReport, attrs["report"])
        elif "failure" in attrs:
            outcome = unpacked(TrialFailure, attrs["failure"])
        if outcome is not None:
            refuse_another_run(f"{self._name}: run {trial.number}", attrs["key"], outcome)
        return ArmRun(trial.number, attrs["arm"], attrs["seed"], attrs["split"], attrs["key"], outcome)


def is_result(outcome: Outcome) -> bool:
    """Whether a run has a result: a report, or a failure that the strategy itself is the reason of."""
    return isinstance(outcome, TrialReport) or outcome.kind in COUNTED


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


def now() -> str:
    """The time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""A search on a real Ray, for tests: its queue with chosen runs made to misbehave, and what came of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from in_process import DATA, config
from optuna.trial import FrozenTrial

from search.cluster.launch import run_connected
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.computing.resources import Resources
from search.request.config import StudyConfig
from search.work.allotting import Auto
from search.work.experiment_queue import ExperimentQueue
from search.work.protocol import Answer, Job
from search.work.search_queue import SearchQueue
from trainables.contract.trial import EpochMetrics, Outcome, TrialFailure, TrialReport, TrialSpec


@dataclass
class Sabotaged:
    """A queue of work whose n-th run trains `faults[n]` instead of the plain toy; counts what is run."""

    work: SearchQueue | ExperimentQueue
    faults: Mapping[int, str]
    stop_at: Mapping[int, int] = field(default_factory=dict)  # run -> epoch after which it is told to stop
    ran: list[TrialSpec] = field(default_factory=list)
    epochs: list[tuple[str, int]] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)  # of the run as it is -> as the search knows it
    _numbers: dict[str, int] = field(default_factory=dict)

    def take(self) -> Job | None:
        job = self.work.take()
        if job is None:
            return None
        number = len(self.ran)
        self.ran.append(job.spec)
        model = self.faults.get(number, job.spec.train.model)
        spec = job.spec.model_copy(update={"train": job.spec.train.model_copy(update={"model": model})})
        self._keys[spec.key] = job.spec.key
        self._numbers[spec.key] = number
        return replace(job, spec=spec)

    def exhausted(self) -> bool:
        return self.work.exhausted()

    def over(self) -> bool:
        return self.work.over()

    def started(self, key: str, resources: Resources) -> None:
        self.work.started(self._keys[key], resources)

    def lost(self, key: str) -> None:
        self.work.lost(self._keys[key])

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        self.epochs.append((key, measured.epoch))
        answer = self.work.epoch(self._keys[key], measured)
        return "stop" if measured.epoch == self.stop_at.get(self._numbers[key]) else answer

    def hung(self) -> set[str]:
        known = {own: key for key, own in self._keys.items()}
        return {known[own] for own in self.work.hung()}

    def finish(self, key: str, outcome: Outcome) -> None:
        self.outcomes[self._numbers[key]] = outcome
        self.work.finish(self._keys[key], outcome.model_copy(update={"key": self._keys[key]}))

    def stopped(self, key: str) -> None:
        self.work.stopped(self._keys[key])

    def number(self, key: str) -> int:
        """Which run has this key on Ray."""
        return self._numbers[key]

    def epochs_of(self, number: int) -> list[int]:
        """The epochs that a run has reported, in order."""
        return [epoch for key, epoch in self.epochs if self._numbers[key] == number]

    def report(self, number: int) -> TrialReport:
        outcome = self.outcomes[number]
        assert isinstance(outcome, TrialReport), outcome
        return outcome

    def failure(self, number: int) -> TrialFailure:
        outcome = self.outcomes[number]
        assert isinstance(outcome, TrialFailure), outcome
        return outcome


@dataclass
class Searched:
    """A search that has run on Ray."""

    config: StudyConfig
    folder: StudyFolder
    study: Study
    work: Sabotaged

    def record(self, name: str = "search") -> list[FrozenTrial]:
        """The trials as Optuna itself reads them from the database."""
        return self.optuna_study(name).get_trials()

    def optuna_study(self, name: str = "search") -> optuna.Study:
        database = f"sqlite:///{self.folder.path / 'study.db'}"
        return optuna.load_study(study_name=f"{self.config.name}/{name}", storage=database)


def search_on_ray(
    root: Path,
    faults: Mapping[int, str] | None = None,
    stop_at: Mapping[int, int] | None = None,
    choose: Callable[[Study], Auto] | None = None,
    **changes: Any,
) -> Searched:
    """Run a toy search, `in_process.config` with `changes`, on the Ray that this process is connected to.

    `choose` makes what `resources: auto` asks of the cluster.
    """
    request = config(**changes)
    folder = StudyFolder(root / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    queue = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
    work = Sabotaged(queue, faults or {}, stop_at or {})
    run_connected(work, folder.files, request.resources if choose is None else choose(study))
    study.flush()
    return Searched(request, folder, study, work)

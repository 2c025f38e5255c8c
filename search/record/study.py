"""A study's record: what was asked, what came back. Optuna's storage is the one durable truth.

Several Optuna studies share the storage: `baseline` holds the baseline's seeds, `search` the trials, and each
experiment has one of its own. Only the process that claims the study writes. Knows nothing of Ray, and
nothing of how a violation is computed.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.record.database import Record, Writer, record_names
from search.record.experiments import ExperimentRecord
from search.request.config import SamplerName, StudyConfig
from spaces.strategy import Strategy
from trainables.contract.trial import Metrics, Outcome, TrialFailure, TrialReport

State = Literal["waiting", "running", "complete", "stopped", "failed"]
_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}
BASELINE_MEAN = "baseline_mean"  # marks the one entry of `search` that is the baseline's mean, and no trial
GP_SHARE = 0.05  # `auto` leaves the Gaussian process when one ask costs more than this share of a trial
GP_LEAST_SECONDS = 0.5  # an ask of the Gaussian process never costs less, so short trials do not even try it


@dataclass(frozen=True)
class StudyTrial:
    """One trial or baseline seed as it stands in the record.

    Attributes:
        number: Optuna's trial number; within the baseline, the index of the seed.
        state: `stopped` is a trial ended early on purpose.
        violations: Guarded metric -> violation; empty until told, <= 0 is feasible.
    """

    number: int
    state: State
    strategy: Strategy
    seed: int
    report: TrialReport | None = None
    failure: TrialFailure | None = None
    violations: dict[str, float] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Complete, and no guard is broken."""
        return self.state == "complete" and all(value <= 0 for value in self.violations.values())


@dataclass(frozen=True)
class Baseline:
    """The baseline over its finished seeds.

    Attributes:
        metrics: Mean of each metric; None where a seed could not measure it.
        sd: Sample standard deviation; None with one seed.
        seeds: The seeds that finished.
        reports: In the order of `seeds`.
    """

    metrics: Metrics
    sd: Metrics
    seeds: tuple[int, ...]
    reports: tuple[TrialReport, ...]

    @classmethod
    def of(cls, trials: list[StudyTrial]) -> "Baseline | None":
        """The mean over the complete ones of `trials`, or None if there is none."""
        done = [(trial.seed, trial.report) for trial in trials if trial.report is not None]
        if not done:
            return None
        reports = tuple(report for _, report in done)
        mean: Metrics = {}
        sd: Metrics = {}
        for name in reports[0].metrics:
            values = [report.metrics.get(name) for report in reports]
            known = [value for value in values if value is not None]
            whole = len(known) == len(values)
            mean[name] = statistics.fmean(known) if whole else None
            sd[name] = statistics.stdev(known) if whole and len(known) > 1 else None
        return cls(mean, sd, tuple(seed for seed, _ in done), reports)


class Study:
    """The record of one study, open for reading or, by one process, for writing."""

    def __init__(self, url: str, config: StudyConfig, *, create: bool = False) -> None:
        """Open the record at `url` (an SQLAlchemy database URL).

        Raises:
            UsageError: There is no such study, or with `create` there already is one.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config = config
        # Optuna's check of the schema loads alembic, 0.4 s of every `rarecall pareto`; its version is pinned.
        self._storage, self._writer = optuna.storages.RDBStorage(url, skip_compatibility_check=True), Writer()
        self._ask_seconds: list[float] = []
        self._trial_seconds: list[float] = []
        self._search = self._record("search", create=create)
        self._baseline = self._record("baseline", create=create)

    def _record(self, name: str, *, create: bool) -> Record:
        return Record(self._storage, self._writer, f"{self.config.name}/{name}", create=create)

    # Reading

    def trials(self) -> list[StudyTrial]:
        """All trials asked so far, by number; duplicates (answered from an earlier report) included."""
        return [self._read(trial) for trial in self._search.trials() if BASELINE_MEAN not in trial.user_attrs]

    def baseline_trials(self) -> list[StudyTrial]:
        """The baseline's seeds, in order."""
        return [self._read(trial) for trial in self._baseline.trials()]

    def baseline(self) -> Baseline | None:
        """The baseline over the seeds finished so far."""
        return Baseline.of(self.baseline_trials())

    def _read(self, trial: FrozenTrial) -> StudyTrial:
        attrs = trial.user_attrs
        report, failure = attrs.get("report"), attrs.get("failure")
        return StudyTrial(
            number=trial.number,
            state=_STATES[trial.state],
            strategy=Strategy.model_validate_json(attrs["strategy"]),
            seed=attrs["seed"],
            report=None if report is None else TrialReport.model_validate_json(report),
            failure=None if failure is None else TrialFailure.model_validate_json(failure),
            violations=dict(trial.constraints),
        )

    def experiments(self) -> list[str]:
        """Names of the experiments in the record, in the order they were made."""
        names = record_names(self._storage, f"{self.config.name}/")
        own = [name.removeprefix(f"{self.config.name}/") for name in names]
        return [name for name in own if name not in {"search", "baseline"}]

    @property
    def empty(self) -> bool:
        """Whether nothing was ever wanted of it: no trial, no baseline seed, no run of an experiment."""
        ran = any(self.experiment(name).runs() for name in self.experiments())
        return not (ran or self.baseline_trials() or self.trials())

    def experiment(self, name: str) -> ExperimentRecord:
        """The record of an experiment; made if it does not exist."""
        record = self._record(name, create=name not in self.experiments())
        return ExperimentRecord(record, self.config.objectives)

    # Writing

    def flush(self) -> None:
        """Wait until all that was told is in the database.

        Raises:
            RunError: It could not be written.
        """
        self._writer.flush()

    def add_baseline(self, seed: int) -> int:
        """Note that a baseline seed is wanted; returns its number."""
        trial = self._baseline.live.ask()
        return self._noted(self._baseline, trial, self.config.baseline_strategy, seed).number

    def ask(self, seed: int) -> StudyTrial:
        """The next trial: a point of `space.first` while there are any, then what the sampler proposes."""
        live = self._search.live
        told = self._search.trials()
        asked = sum(BASELINE_MEAN not in trial.user_attrs for trial in told)
        first = self.config.space.first_points()
        if asked < len(first):
            live.enqueue_trial(first[asked])
        name = "random" if asked < len(first) else self.sampler_name()
        live.sampler = _sampler(name, self.config.search.seed, len(told))
        started = time.perf_counter()
        trial = live.ask()
        strategy = self.config.space.suggest(trial)
        if name == "gp":
            self._ask_seconds.append(time.perf_counter() - started)
        return self._noted(self._search, trial, strategy, seed)

    def _noted(self, study: Record, trial: optuna.Trial, strategy: Strategy, seed: int) -> StudyTrial:
        trial.set_user_attr("strategy", strategy.model_dump_json())
        trial.set_user_attr("seed", seed)
        return self._read(study.write_new(trial))

    def store(self, number: int, outcome: Outcome) -> None:
        """Keep what a worker sent back, before it is known whether it is feasible."""
        self._search.set_attr(number, *_attr(outcome))

    def tell_baseline(self, number: int, outcome: Outcome) -> StudyTrial:
        """A baseline seed has ended."""
        return self._tell(self._baseline, number, outcome, {})

    def tell(self, number: int, outcome: Outcome, violations: dict[str, float]) -> StudyTrial:
        """A trial has ended; `violations` as of `guards.violations`, ignored for a failure."""
        if isinstance(outcome, TrialReport):
            self._trial_seconds.append(outcome.seconds)
        return self._tell(self._search, number, outcome, violations)

    def tell_stopped(self, number: int) -> StudyTrial:
        """A trial was ended early on purpose; its low-fidelity values stay unseen by the sampler."""
        return self._read(self._search.tell(number, TrialState.PRUNED))

    def _tell(self, study: Record, number: int, outcome: Outcome, violations: dict[str, float]) -> StudyTrial:
        study.set_attr(number, *_attr(outcome))
        if isinstance(outcome, TrialFailure):
            return self._read(study.tell(number, TrialState.FAIL))
        values = [outcome.metrics[name] for name in self.config.objectives]
        assert all(value is not None for value in values), "who tells a report has checked its objectives"
        return self._read(study.tell(number, TrialState.COMPLETE, values, violations))  # type: ignore[arg-type]

    def tell_baseline_mean(self) -> None:
        """Let the sampler know the baseline's mean, if the baseline is a point of the space."""
        baseline = self.baseline()
        assert baseline is not None
        point = self.config.space.point_of(self.config.baseline_strategy)
        told = any(BASELINE_MEAN in trial.user_attrs for trial in self._search.trials())
        if point is None or told:
            return
        captured = _Capture(point)
        self.config.space.suggest(captured)
        values = [baseline.metrics[name] for name in self.config.objectives]
        assert all(value is not None for value in values)
        self._search.add(
            optuna.create_trial(
                values=values,  # type: ignore[arg-type]
                params=captured.params,
                distributions=captured.distributions,
                constraints={guard.metric: 0.0 for guard in self.config.guards},
                user_attrs={BASELINE_MEAN: True},
            )
        )

    def sampler_name(self) -> SamplerName:
        """What `auto` stands for now: the Gaussian process while it is cheap beside a trial, then TPE."""
        if self.config.search.sampler != "auto":
            return self.config.search.sampler
        if not self._trial_seconds:  # nothing told yet, by this process at least
            self._trial_seconds = [
                trial.report.seconds for trial in self.trials() if trial.report is not None
            ]
        if not self._trial_seconds:
            return "tpe"  # every sampler is still in its random start
        affordable = GP_SHARE * statistics.median(self._trial_seconds)
        # The first ask also loads torch; the smaller of the last two is what an ask costs.
        cost = min(self._ask_seconds[-2:]) if len(self._ask_seconds) > 1 else GP_LEAST_SECONDS
        return "gp" if cost <= affordable else "tpe"


class _Capture:
    """Stands in for an Optuna trial: answers with fixed values and keeps the distributions asked for."""

    def __init__(self, point: dict[str, float]) -> None:
        self.point = point
        self.params: dict[str, float] = {}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = optuna.distributions.FloatDistribution(low, high, log=log)
        return self._answer(name)

    def suggest_categorical(self, name: str, choices: tuple[float, ...]) -> float:
        self.distributions[name] = optuna.distributions.CategoricalDistribution(choices)
        return self._answer(name)

    def _answer(self, name: str) -> float:
        self.params[name] = self.point[name]
        return self.point[name]


def _sampler(name: SamplerName, study_seed: int, number: int) -> BaseSampler:
    """A sampler whose generator depends on (study seed, trial number) alone."""
    seed = int(np.random.SeedSequence((study_seed, number)).generate_state(1)[0])
    makers: dict[str, Callable[[], BaseSampler]] = {
        "gp": lambda: GPSampler(seed=seed),
        "tpe": lambda: TPESampler(seed=seed),
        "nsga2": lambda: NSGAIISampler(seed=seed),
        "random": lambda: RandomSampler(seed=seed),
    }
    return makers[name]()


def _attr(outcome: Outcome) -> tuple[str, str]:
    """Name and value of the user attribute that keeps an outcome."""
    return ("report" if isinstance(outcome, TrialReport) else "failure"), outcome.model_dump_json()

"""A study's record: what was asked, what came back. Optuna's storage is the one durable truth.

Several Optuna studies share the storage: `baseline` holds the baseline's seeds, `search` the trials, and each
experiment has one of its own. Only the process that claims the study writes. Knows nothing of Ray, and
nothing of how a violation is computed.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.record.connection import SAVED, Access, Database
from search.record.database import Record, Writer, delete_records, record_names, without_collecting
from search.record.experiments import ExperimentRecord
from search.record.outcomes import Baseline, State, StudyTrial, stamped
from search.record.sampler import again, auto, known_point, make_sampler
from search.record.stored import decisive, packed, refuse_another_run, unpacked
from search.request.computing.budget import Spent
from search.request.computing.resources import AUTO, Choice, Resources
from search.request.config import SamplerName, StudyConfig
from spaces.errors import RunError
from spaces.strategy import Strategy
from trainables.contract.trial import Outcome, TrialFailure, TrialReport

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}
BASELINE_MEAN = "baseline_mean"  # marks the one entry of `search` that is the baseline's mean, and no trial
ENDED_BY = "ended_by"  # in an entry of `search` that was stopped: by what
CHOICE = "resources"  # of the study of `search`: what `resources: auto` has become
AGAIN = "again"  # in an entry of `search`: number of the failed one whose run it makes once more


class Study:
    """The record of one study, open for reading or, by one process, for writing.

    Attributes:
        config: What was asked.
        minority: Names of the minority classes: those asked for, or those that `auto` meant.
    """

    def __init__(
        self, url: str, config: StudyConfig, minority: tuple[str, ...], access: Access = "read"
    ) -> None:
        """Open the record at `url` (an SQLAlchemy database URL).

        Args:
            url: As of `connection.Database`, and `access` likewise.
            config: What was asked.
            minority: Names of the minority classes.
            access: To `create` it makes it; if that fails, nothing of it stays in the database.

        Raises:
            UsageError: There is no such study, or to `create` there already is one.
            RunError: The database is out of reach, locked or damaged.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config, self.minority = config, minority
        self._database, self._writer = Database(url, access), Writer()
        self._ask_seconds: list[float] = []
        self._trial_seconds: list[float] = []
        self._finished: dict[tuple[Record, int], StudyTrial] = {}  # nothing of them changes any more
        create, made = access == "create", list[str]()
        try:
            self._search = self._record("search", create=create)
            made += [f"{config.name}/search"] if create else []
            self._baseline = self._record("baseline", create=create)
        except BaseException:
            delete_records(self._database, made)
            self._database.leave()
            raise

    def _record(self, name: str, *, create: bool) -> Record:
        """Read with all that this process has written to it so far."""
        self._writer.flush()
        full = f"{self.config.name}/{name}"
        return Record(self._database, self._writer, full, self.config.objectives, create=create)

    # Reading

    def trials(self) -> list[StudyTrial]:
        """All trials asked so far, by number; duplicates (answered from an earlier report) included.

        Of one that was run again, the last entry.
        """
        entries = [trial for trial in self._search.trials() if BASELINE_MEAN not in trial.user_attrs]
        before = {trial.user_attrs[AGAIN] for trial in entries if AGAIN in trial.user_attrs}
        with without_collecting():
            return [self._read(self._search, trial) for trial in entries if trial.number not in before]

    def baseline_trials(self) -> list[StudyTrial]:
        """The baseline's seeds, in order."""
        return [self._read(self._baseline, trial) for trial in self._baseline.trials()]

    def baseline(self) -> Baseline | None:
        """The baseline over the seeds finished so far."""
        return Baseline.of(self.baseline_trials())

    def _read(self, record: Record, trial: FrozenTrial) -> StudyTrial:
        known = self._finished.get((record, trial.number))
        if known is None:
            known = self._read_anew(trial)
            if trial.state.is_finished():
                self._finished[record, trial.number] = known
        return known

    def _read_anew(self, trial: FrozenTrial) -> StudyTrial:
        attrs = trial.user_attrs
        report, failure = attrs.get("report"), attrs.get("failure")
        with self._database.told():
            read = StudyTrial(
                number=trial.number,
                state=_STATES[trial.state],
                strategy=Strategy.model_validate_json(attrs["strategy"]),
                seed=attrs["seed"],
                report=None if report is None else unpacked(TrialReport, report),
                failure=None if failure is None else unpacked(TrialFailure, failure),
                violations=dict(trial.constraints),
                ended_by=attrs.get(ENDED_BY),
            )
        if read.state == "complete" and read.report is None:
            raise RunError(f"{self._database.name} is damaged: trial {read.number} has no report", SAVED)
        for outcome in (read.report, read.failure):
            if outcome is not None:
                self._check_own(read, outcome)
        return read

    def _check_own(self, trial: StudyTrial, outcome: Outcome) -> None:
        """A trial's outcome is of its own run.

        Raises:
            RunError: It is of another one.
        """
        data = self.config.data_spec(self.minority)
        key = self.config.spec(trial.strategy, data, seed=trial.seed).key
        refuse_another_run(f"{self.config.name}: trial {trial.number}", key, outcome)

    @property
    def spent(self) -> Spent | None:
        """What the search took, as of `Record`."""
        return self._search.spent

    def keep_spent(self, spent: Spent) -> None:
        """As of `Record`."""
        self._search.keep_spent(spent)

    def experiments(self) -> list[str]:
        """Names of the experiments in the record, in the order they were made."""
        names = record_names(self._database, f"{self.config.name}/")
        own = [name.removeprefix(f"{self.config.name}/") for name in names]
        return [name for name in own if name not in {"search", "baseline"}]

    @property
    def empty(self) -> bool:
        """Whether nothing was ever wanted of it: no trial, no baseline seed, no run of an experiment."""
        ran = any(self.experiment(name).runs() for name in self.experiments())
        return not (ran or self.baseline_trials() or self.trials())

    def experiment(self, name: str) -> ExperimentRecord:
        """The record of an experiment.

        Raises:
            UsageError: There is none of that name.
        """
        return self._experiment(name, create=False)

    def _experiment(self, name: str, *, create: bool) -> ExperimentRecord:
        record = self._record(name, create=create)
        full = f"{self.config.name}/{name}"
        return ExperimentRecord(full, record, self.config, self.minority, lambda: self.resources)

    @property
    def choice(self) -> Choice | None:
        """What `resources: auto` has become, if it has."""
        stored = self._search.attrs.get(CHOICE)
        return None if stored is None or self.config.resources != AUTO else unpacked(Choice, stored)

    @property
    def resources(self) -> Resources:
        """What a run gets, as far as that is known."""
        if self.config.resources != AUTO:
            return self.config.resources
        return Resources() if self.choice is None else self.choice.resources

    # Writing

    def keep_choice(self, choice: Choice) -> None:
        """Keep what `resources: auto` has become."""
        self._search.set_study_attr(CHOICE, packed(choice))

    def flush(self) -> None:
        """Wait until all that was told is in the database.

        Raises:
            RunError: It could not be written.
        """
        self._writer.flush()

    def check_written(self) -> None:
        """Waits for nothing.

        Raises:
            RunError: Something that was told could not be written; nothing will be any more.
        """
        self._writer.check()

    def also_check(self, check: Callable[[], None]) -> None:
        """Let `check_written` and `flush` also raise what this does, of a copy that is made of the record."""
        self._writer.beside = check

    def delete(self) -> None:
        """Take the study out of its database, with the tables, and an SQLite file, that were made for it."""
        delete_records(self._database, record_names(self._database, f"{self.config.name}/"))
        self._database.leave()

    def add_baseline(self, seed: int) -> int:
        """Note that a baseline seed is wanted; returns its number."""
        trial = self._baseline.live.ask()
        return self._noted(self._baseline, trial, self.config.baseline_strategy, seed).number

    def begin(self, name: str) -> ExperimentRecord:
        """The record of an experiment, made if it does not exist."""
        return self._experiment(name, create=name not in self.experiments())

    def ask(self, seed: int, clock: Callable[[], float]) -> StudyTrial:
        """The next trial: a point of `space.first` while there are any, then what the sampler proposes.

        Args:
            seed: Training seed.
            clock: Seconds; what an ask takes decides for how long `auto` stays with its first sampler.
        """
        live = self._search.live
        told = [trial for trial in self._search.trials() if AGAIN not in trial.user_attrs]
        asked = sum(BASELINE_MEAN not in trial.user_attrs for trial in told)
        first = self.config.space.first_points()
        if asked < len(first):
            live.enqueue_trial(first[asked])
        name = "random" if asked < len(first) else self.sampler_name()
        live.sampler = make_sampler(name, self.config.search.seed, len(told))
        started = clock()
        trial = live.ask()
        strategy = self.config.space.suggest(trial)
        if name == "gp":
            self._ask_seconds.append(clock() - started)
        return self._noted(self._search, trial, strategy, seed)

    def again(self, number: int) -> StudyTrial:
        """Want a failed or stopped trial once more, as a further entry: Optuna reopens none that ended."""
        failed = self._search.trials()[number]
        kept = {name: failed.user_attrs[name] for name in ("strategy", "seed")}
        self._search.add(again(failed, kept | {AGAIN: number}))
        return self._read(self._search, self._search.trials()[-1])

    def _noted(self, study: Record, trial: optuna.Trial, strategy: Strategy, seed: int) -> StudyTrial:
        trial.set_user_attr("strategy", strategy.model_dump_json())
        trial.set_user_attr("seed", seed)
        return self._read(study, study.write_new(trial))

    def store(self, number: int, outcome: Outcome) -> None:
        """Keep what a worker sent back, before it is known whether it is feasible."""
        self._search.set_attr(number, *self._attr(outcome))

    def tell_baseline(self, number: int, outcome: Outcome) -> StudyTrial:
        """A baseline seed has ended."""
        return self._tell(self._baseline, number, outcome, {})

    def tell(self, number: int, outcome: Outcome, violations: dict[str, float]) -> StudyTrial:
        """A trial has ended; `violations` as of `guards.violations`, ignored for a failure."""
        if isinstance(outcome, TrialReport):
            self._trial_seconds.append(outcome.seconds)
        return self._tell(self._search, number, outcome, violations)

    def tell_stopped(self, number: int, by: Literal["budget"] | None = None) -> StudyTrial:
        """A trial was ended early on purpose; its low-fidelity values stay unseen by the sampler."""
        if by is not None:
            self._search.set_attr(number, ENDED_BY, by)
        return self._read(self._search, self._search.tell(number, TrialState.PRUNED))

    def _tell(self, study: Record, number: int, outcome: Outcome, violations: dict[str, float]) -> StudyTrial:
        study.set_attr(number, *self._attr(stamped(outcome, self.resources)))
        if isinstance(outcome, TrialFailure):
            return self._read(study, study.tell(number, TrialState.FAIL))
        values = [outcome.metrics[name] for name in self.config.objectives]
        assert all(value is not None for value in values), "who tells a report has checked its objectives"
        told = study.tell(number, TrialState.COMPLETE, values, violations)  # type: ignore[arg-type]
        return self._read(study, told)

    def _attr(self, outcome: Outcome) -> tuple[str, str]:
        """Name and value of the user attribute that keeps an outcome."""
        kept = decisive(outcome, self.config.front_metrics, self.minority)
        return ("report" if isinstance(outcome, TrialReport) else "failure"), packed(kept)

    def tell_baseline_mean(self, violations: Mapping[str, float]) -> None:
        """Let the sampler know the baseline's mean, if the baseline is a point of the space.

        Args:
            violations: Of the mean itself: a broken floor is broken by the baseline, too.
        """
        baseline = self.baseline()
        assert baseline is not None
        point = self.config.space.point_of(self.config.baseline_strategy)
        told = any(BASELINE_MEAN in trial.user_attrs for trial in self._search.trials())
        if point is None or told:
            return
        values = [value for name in self.config.objectives if (value := baseline.metrics[name]) is not None]
        assert len(values) == len(self.config.objectives)
        self._search.add(known_point(self.config.space, point, values, violations, BASELINE_MEAN))

    def sampler_name(self) -> SamplerName:
        """The sampler by its name; what `auto` stands for now."""
        if self.config.search.sampler != "auto":
            return self.config.search.sampler
        if not self._trial_seconds:  # nothing told yet, by this process at least
            self._trial_seconds = [
                trial.report.seconds for trial in self.trials() if trial.report is not None
            ]
        return auto(self._ask_seconds, self._trial_seconds)

"""The queue of a search: baseline seeds, then trials, each judged against the baseline's mean.

Wires the study's record to a queue of work; knows nothing of Ray or Optuna.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from search.record.files import RunFiles
from search.record.outcomes import Baseline, StudyTrial, worth_again
from search.record.study import Study
from search.request.computing.budget import Account, Limit
from search.request.computing.resources import may_share_gpu
from search.request.guards import MissingMetric, unmeasured, violations
from search.work.protocol import Clock, Job
from search.work.queue import Running, RunQueue
from search.work.spending import Meter, account, spent_in_search
from spaces.errors import RunError
from trainables.contract.trial import DataSpec, Outcome, TrialFailure, TrialReport, TrialSpec

MAX_DUPLICATES = 20  # asks in a row that give nothing new: the space is exhausted


@dataclass(frozen=True)
class Snapshot:
    """What a screen shows of a search.

    Attributes:
        baseline_done: Finished baseline seeds, of `baseline_seeds`.
        done: Told trials, of `trials`; failed ones are counted in both `done` and `failed`.
        running: The runs that have a worker.
        eta_s: Seconds left, or None before anything has finished.
        ended: The told trials.
        baseline: Once it has all of its seeds.
        silent_after_s: As of `Crew`.
        limits: Of the budget, as far as they are used.
    """

    baseline_done: int
    baseline_seeds: int
    done: int
    failed: int
    trials: int
    running: tuple[Running, ...]
    epochs: int
    elapsed_s: float
    eta_s: float | None
    ended: tuple[StudyTrial, ...]
    baseline: Baseline | None
    silent_after_s: float | None = None
    limits: tuple[Limit, ...] = ()


@dataclass
class _Wanted:
    """Who waits for a run: baseline seeds and trials, by number."""

    baseline: list[int] = field(default_factory=list)
    trials: list[int] = field(default_factory=list)


class SearchQueue(RunQueue):
    """The queue of a search; implements `protocol.Work`.

    Nothing waits for the baseline: strategies that are asked first train beside it, and their reports are
    judged once the baseline's mean is known.
    """

    def __init__(
        self,
        study: Study,
        files: RunFiles,
        data: DataSpec,
        on_change: Callable[[Snapshot], None],
        clock: Clock,
    ) -> None:
        self._before = account(study)
        meter = Meter(clock, study, spent_in_search(study))
        super().__init__(files, clock, meter, study.config.search)
        self._ended_by: Limit | None = None
        self._unmeasured = 0  # seeds of the baseline that the budget's end has left
        self._study, self._config, self._data, self._on_change = study, study.config, data, on_change
        self._wanted: dict[str, _Wanted] = {}
        self._unjudged: list[tuple[int, TrialReport]] = []
        self._exhausted = False
        self._baseline: Baseline | None = None
        self._baseline_failures: list[StudyTrial] = []
        self._keys: set[str] = set()  # of the trials asked so far; a duplicate costs nothing of the budget
        self._ended: list[StudyTrial] = []
        self._restore()
        if self.over():
            self._leave_waiting()

    def _restore(self) -> None:
        """Queue the baseline's missing seeds and what an earlier, interrupted search left unfinished."""
        known = self._study.baseline_trials()
        for seed in map(self._seed, range(self._config.baseline.seeds)):
            spec = self._config.spec(self._config.baseline_strategy, self._data, seed=seed)
            reports = [trial.report for trial in known if trial.seed == seed and trial.report is not None]
            if reports:
                self.outcomes[spec.key] = reports[0]
                continue
            left = [trial.number for trial in known if trial.seed == seed and trial.state == "running"]
            self._want(spec).baseline.append(left[0] if left else self._study.add_baseline(seed))
        self._baseline_complete()
        for trial in self._study.trials():
            spec = self._config.spec(trial.strategy, self._data, seed=trial.seed)
            self._keys.add(spec.key)
            if trial.report is not None:
                self.outcomes[spec.key] = trial.report
            if trial.state == "running" and trial.failure is not None:  # its process died telling it
                trial = self._study.tell(trial.number, trial.failure, {})
            if self._is_to_go_on(trial):
                self._want(spec).trials.append(self._study.again(trial.number).number)
            elif trial.state != "running":
                self._ended.append(trial)
            elif trial.report is not None:
                self._answer(trial.number, trial.report)
            else:
                self._want(spec).trials.append(trial.number)

    def _is_to_go_on(self, trial: StudyTrial) -> bool:
        """Whether a trial that an earlier process has ended is made again, from where it was."""
        if trial.failure is not None:
            return worth_again(trial.failure, self._study.resources)
        return trial.ended_by == "budget" and not self.over()

    # protocol.Work

    def exhausted(self) -> bool:
        """Whether all trials of the budget have been started, or the search cannot go on.

        Where runs share a GPU, one that has been started may have to be run again.
        """
        if may_share_gpu(self._config.resources) and self._wanted:
            return False
        return not self._waiting and (self._exhausted or self._spent())

    def finish(self, key: str, outcome: Outcome) -> None:
        """A run has ended: tell whoever waits for it, unless it is to be run again."""
        self._left(key, outcome)
        if self._put_back(key, outcome):
            self._changed()
            return
        self.outcomes[key] = outcome
        wanted = self._wanted.pop(key)
        for number in wanted.baseline:
            told = self._study.tell_baseline(number, self._with_objectives(outcome))
            if told.failure is not None:
                self._baseline_failures.append(told)
        if wanted.baseline:
            self._baseline_complete()
        for number in wanted.trials:
            self._answer(number, outcome)
        self._changed()

    def stopped(self, key: str) -> None:
        """A run was ended early, as `epoch` was answered."""
        self._left(key)
        self._tell_stopped(key)
        self._changed()

    def _tell_stopped(self, key: str) -> None:
        """A seed of the baseline stays wanted: it goes on with `--resume`, as the trials do."""
        wanted = self._wanted.pop(key)
        self._unmeasured += len(wanted.baseline)
        for number in wanted.trials:
            self._ended.append(self._study.tell_stopped(number, "budget" if self._ended_by else None))

    def complete(self) -> bool:
        """Whether all trials were told, or the budget has ended the search and nothing runs any more."""
        return self.exhausted() and not self._wanted and (not self._unjudged or self._ended_by is not None)

    @property
    def ended_by(self) -> Limit | None:
        """The limit of the budget that has ended the search; None if it has done all that was asked."""
        stopped = self._unmeasured > 0 or any(trial.ended_by == "budget" for trial in self._ended)
        return self._ended_by if stopped or not (self._exhausted or self._asked_all) else None

    def over(self) -> bool:
        """Whether a limit of the budget is reached; once one is, it stays so."""
        if self._ended_by is None and self._before.budget is not None:
            self._ended_by = self.account.reached
        return self._ended_by is not None

    @property
    def account(self) -> Account:
        """The budget, and what of it is used now."""
        return replace(self._before, searching=self._before.searching + self.meter.now)

    def take(self) -> Job | None:
        """As of `RunQueue`; once all is over nothing starts, and what waits is told so."""
        if self.over():
            self._leave_waiting()
            return None
        return super().take()

    def _leave_waiting(self) -> None:
        while self._waiting:
            self._tell_stopped(self._waiting.popleft().key)

    def check_baseline(self) -> None:
        """Raise if there is nothing to compare with.

        Raises:
            RunError: A baseline seed gave no result, with its reason.
        """
        for trial in self._baseline_failures:
            failure = trial.failure
            assert failure is not None
            raise RunError(f"the baseline's seed {trial.seed} failed ({failure.kind}): {failure.reason}")

    def _refill(self) -> None:
        """Ask for a trial; a duplicate is answered at once from what is known."""
        if self._exhausted:
            return
        for _ in range(MAX_DUPLICATES):
            if self._spent():
                break
            trial = self._study.ask(self._seed(0), self._clock)
            spec = self._config.spec(trial.strategy, self._data, seed=trial.seed)
            self._keys.add(spec.key)
            known = self.outcomes.get(spec.key)
            if known is not None:
                self._answer(trial.number, known)
                continue
            self._want(spec).trials.append(trial.number)
            if self._waiting:
                return
        self._exhausted = True

    def _spent(self) -> bool:
        """Whether no further trial may be asked: the budget is, or there is nothing to compare with."""
        return self._asked_all or bool(self._baseline_failures) or self._ended_by is not None

    @property
    def _asked_all(self) -> bool:
        return len(self._keys) >= self._config.search.trials

    def _want(self, spec: TrialSpec) -> _Wanted:
        if spec.key not in self._wanted:
            self._wanted[spec.key] = _Wanted()
            self._waiting.append(spec)
        return self._wanted[spec.key]

    def _answer(self, number: int, outcome: Outcome) -> None:
        """Tell a trial's outcome, once the baseline's mean is there to judge it by."""
        if isinstance(outcome, TrialFailure):
            self._ended.append(self._study.tell(number, outcome, {}))
        elif self._baseline is None:
            self._study.store(number, outcome)
            self._unjudged.append((number, outcome))
        else:
            self._judge(number, outcome, self._baseline)

    def _judge(self, number: int, report: TrialReport, baseline: Baseline) -> None:
        found: dict[str, float] = {}
        outcome = self._with_objectives(report)
        if isinstance(outcome, TrialReport):
            try:
                found = violations(self._config.guards, report.metrics, baseline.metrics)
            except MissingMetric as error:
                outcome = TrialFailure(key=report.key, kind="error", reason=error.message)
        self._ended.append(self._study.tell(number, outcome, found))

    def _with_objectives(self, outcome: Outcome) -> Outcome:
        """A report that lacks an objective is a failure: no sampler can use it."""
        if isinstance(outcome, TrialReport):
            for name in self._config.objectives:
                if outcome.metrics.get(name) is None:
                    reason = f"objective '{name}' was not measured"
                    return TrialFailure(key=outcome.key, kind="error", reason=reason)
        return outcome

    def _baseline_complete(self) -> None:
        """Once every baseline seed has reported: judge what has been waiting for its mean."""
        baseline = self._study.baseline()
        if baseline is None or len(baseline.seeds) < self._config.baseline.seeds:
            return
        lacking = unmeasured(self._config.guards, baseline.metrics)
        if lacking:
            raise RunError(
                f"guard on '{lacking[0]}': the baseline could not measure it", "guard another metric"
            )
        self._baseline = baseline
        self._study.tell_baseline_mean(violations(self._config.guards, baseline.metrics, baseline.metrics))
        waiting, self._unjudged = self._unjudged, []
        for number, report in waiting:
            self._judge(number, report, baseline)

    def _seed(self, index: int) -> int:
        """Training seed: `index` counts the baseline's seeds; trials share the first of them.

        Its luck is in every trial and so chooses none of them: `benchmarks.search_seeds` weighs this against
        a fresh seed for each trial, and against the baseline's first run alone as reference.
        """
        return self._config.search.seed * 1000 + index

    # For a screen

    def snapshot(self) -> Snapshot:
        """Where the search stands now."""
        seeds_left = self._unmeasured + sum(len(wanted.baseline) for wanted in self._wanted.values())
        left = max(0, self._config.search.trials - len(self._ended)) + seeds_left
        return Snapshot(
            baseline_done=self._config.baseline.seeds - seeds_left - len(self._baseline_failures),
            baseline_seeds=self._config.baseline.seeds,
            done=len(self._ended) + len(self._unjudged),
            failed=sum(trial.state == "failed" for trial in self._ended),
            trials=self._config.search.trials,
            running=self._crew.running,
            epochs=self._config.train.epochs,
            elapsed_s=self._crew.elapsed_s,
            eta_s=self._crew.eta_s(left),
            ended=tuple(self._ended),
            baseline=self._baseline,
            silent_after_s=self._crew.silent_after_s,
            limits=self.account.limits,
        )

    def _label(self, key: str) -> str:
        wanted = self._wanted[key]
        if wanted.baseline:
            return "baseline seed " + ", ".join(str(number) for number in wanted.baseline)
        return "trial " + ", ".join(str(number) for number in wanted.trials)

    def _changed(self) -> None:
        self._study.check_written()  # it is in vain if it is not
        self._on_change(self.snapshot())

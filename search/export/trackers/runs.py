"""What a tracker is told of a study: a run per arm, with a run for each of its seeds inside.

An arm is the baseline, a trial, or a named strategy of a confirmation or the comparison. Told is what has
ended; of an experiment what is concluded, for to look at a confirmation before its look is over would make
its error rate wrong. The same record gives the same runs with the same ids, so nothing is told twice. All
are values, but for learning curves: they are read from a run's files when it is told.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from search.judging.comparison import ComparePlan, Conclusion
from search.judging.confirmation import Confirmation, load
from search.record.experiments import BASELINE_ARM, COMPARISON, CONFIRMATIONS, ArmRun, is_result, seeds_of
from search.record.folder import StudyFolder
from search.record.outcomes import Baseline, StudyTrial, over_seeds
from search.record.stored import unpacked
from search.record.study import Study
from search.show.common import in_words
from search.show.confirmation import confirmation_json
from spaces.strategy import Strategy
from trainables.contract.tasks import TASKS
from trainables.contract.trial import EpochMetrics, Metrics, Outcome, TrialFailure, TrialReport

State = Literal["finished", "failed", "stopped"]
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]")  # in a metric's name, by MLflow
_ENDED: dict[str, State] = {"complete": "finished", "failed": "failed", "stopped": "stopped"}


@dataclass(frozen=True)
class TrackedRun:
    """One run in a tracker.

    Attributes:
        id: 16 hex digits; of the same run always the same.
        name: As shown.
        arm: That it belongs to.
        parent: Id of the arm's own run; None for that itself.
        params: Its strategy, and what else it was asked for.
        tags: What is said of it in words.
        metrics: At its end; of an arm with several seeds their means.
        seconds: It took.
        state: How it ended.
        files: Name -> text of what is attached to it.
        points: Reads its learning curve, which is the same whenever its end is.
    """

    id: str
    name: str
    arm: str
    parent: str | None
    params: dict[str, str | float]
    tags: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    state: State = "finished"
    files: dict[str, str] = field(default_factory=dict)
    points: Callable[[], Sequence[EpochMetrics]] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def curve(self) -> tuple[tuple[int, dict[str, float]], ...]:
        """Each epoch, and the metrics after it on val."""
        points = () if self.points is None else self.points()
        return tuple((point.epoch, _known(point.metrics)) for point in points)

    @cached_property
    def content(self) -> str:
        """16 hex digits that change whenever anything in it does."""
        of = {one.name: getattr(self, one.name) for one in fields(self) if one.compare}
        return _hash(json.dumps(of, sort_keys=True))


@dataclass(frozen=True)
class TrackedStudy:
    """A study as a tracker is told it.

    Attributes:
        name: Of the study.
        created: When it was made; ISO 8601, UTC. All its runs begin then: the record keeps no other times.
        runs: Each arm before its seeds.
    """

    name: str
    created: str
    runs: tuple[TrackedRun, ...]

    @property
    def by_id(self) -> dict[str, TrackedRun]:
        """The runs by their ids, in their order."""
        return {run.id: run for run in self.runs}


def tracked_search(
    folder: StudyFolder, trials: Sequence[StudyTrial], baseline: Baseline | None
) -> TrackedStudy:
    """The baseline and the trials of a search that have ended so far."""
    book = _Book(folder)
    if baseline is not None:
        book.baseline(baseline)
    for trial in trials:
        if trial.state in _ENDED:
            book.trial(trial)
    return book.study()


def tracked(study: Study, folder: StudyFolder) -> TrackedStudy:
    """All of a study: its search, of its experiments what is concluded, and its page, if there is one.

    Args:
        study: Its record.
        folder: Of the study. Its page, if `rarecall report` has made one, is attached to the baseline.
    """
    found = tracked_search(folder, study.trials(), study.baseline())
    book = _Book(folder, found.by_id)
    for name in study.experiments():
        if name.startswith(CONFIRMATIONS):
            book.confirmation(study, name)
        elif name == COMPARISON:
            book.comparison(study)
    if folder.report.is_file():
        book.attach(folder.report)
    return book.study()


class _Book:
    """Collects the runs of one study."""

    def __init__(self, folder: StudyFolder, runs: Mapping[str, TrackedRun] | None = None) -> None:
        self._config, self._provenance, self._files = folder.config, folder.provenance, folder.files
        self._runs = dict(runs or {})

    def study(self) -> TrackedStudy:
        return TrackedStudy(self._config.name, self._provenance.created, tuple(self._runs.values()))

    def _id(self, *what: object) -> str:
        of = (self._config.name, self._provenance.created, self._provenance.data_fingerprint)
        return _hash("/".join(map(str, (*of, *what))))

    def _tags(self, strategy: Strategy, **more: str) -> dict[str, str]:
        return {"study": self._config.name, "strategy": in_words(strategy)} | more

    def _params(self, strategy: Strategy) -> dict[str, str | float]:
        lacks = TASKS[self._config.task].lacks
        return {knob: value for knob, value in strategy.knobs().items() if knob not in lacks}

    def _arm(self, name: str, strategy: Strategy) -> TrackedRun:
        """The arm's own run, made if there is none."""
        arm_id = self._id("arm", name)
        if arm_id not in self._runs:
            params, tags = self._params(strategy), self._tags(strategy, kind="arm")
            self._runs[arm_id] = TrackedRun(arm_id, name, name, None, params, tags)
        return self._runs[arm_id]

    def baseline(self, baseline: Baseline) -> None:
        strategy = self._config.baseline_strategy
        arm = self._arm(BASELINE_ARM, strategy)
        seconds = sum(report.seconds for report in baseline.reports)
        self._runs[arm.id] = replace(arm, metrics=_known(baseline.metrics), seconds=seconds)
        for seed, report in zip(baseline.seeds, baseline.reports, strict=True):
            self._seed(arm, "search", strategy, seed, "val", report)

    def attach(self, report: Path) -> None:
        arm = self._arm(BASELINE_ARM, self._config.baseline_strategy)
        self._runs[arm.id] = replace(arm, files=arm.files | {report.name: report.read_text()})

    def trial(self, trial: StudyTrial) -> None:
        arm = self._arm(f"trial {trial.number}", trial.strategy)
        violations = {f"violation/{name}": value for name, value in trial.violations.items()}
        feasible = {"feasible": "yes" if trial.feasible else "no"} if trial.violations else {}
        run = self._with_outcome(arm, trial.report or trial.failure)
        self._runs[arm.id] = replace(
            run,
            params=run.params | {"seed": trial.seed, "split": "val"},
            metrics=run.metrics | _known(violations),
            tags=run.tags | feasible,
            state=_ENDED[trial.state],
        )

    def confirmation(self, study: Study, name: str) -> None:
        record = study.experiment(name)
        if record.plan is None or not (confirmation := load(record, name)).looks:
            return
        plan, looks = confirmation.plan, confirmation.looks
        seeds = plan.seeds_per_arm(1, [one.name for one in plan.candidates])
        if len(looks) > 1:
            seeds |= plan.seeds_per_arm(2, looks[0].open_names)
        strategies = plan.arms(self._config, [one.name for one in plan.candidates])
        self._runs_of(name, record.runs(), strategies, seeds, "test")
        self._verdicts(confirmation)

    def _verdicts(self, confirmation: Confirmation) -> None:
        shown = confirmation_json(confirmation, ())["candidates"]
        for result, plain in zip(confirmation.looks[-1].results, shown, strict=True):
            arm = self._arm(result.candidate.name, result.candidate.strategy)
            of = confirmation.experiment
            self._runs[arm.id] = replace(
                arm,
                tags=arm.tags | {"verdict": result.verdict.outcome, "verdict_of": of},
                metrics=arm.metrics | {f"test/{key}": value for key, value in _known(result.means).items()},
                files=arm.files | {f"{of.replace('/', '_')}_verdict.json": json.dumps(plain, indent=2)},
            )

    def comparison(self, study: Study) -> None:
        record = study.experiment(COMPARISON)
        for text in record.conclusions[-1:]:
            plan: ComparePlan = unpacked(Conclusion, text).plan
            self._runs_of(COMPARISON, record.runs(), plan.arms, plan.seeds(), plan.settings.split)

    def _runs_of(
        self,
        experiment: str,
        runs: Sequence[ArmRun],
        strategies: Mapping[str, Strategy],
        seeds: Mapping[str, int],
        split: str,
    ) -> None:
        """The runs of an experiment's arms that its conclusions rest on."""
        wanted = set(seeds_of(self._config.search.seed, experiment, seeds))
        reports: dict[str, list[TrialReport]] = {}
        for run in runs:
            counted = run.outcome is not None and is_result(run.outcome)
            if not counted or (run.arm, run.seed) not in wanted or run.split != split:
                continue
            strategy = strategies[run.arm]
            self._seed(self._arm(run.arm, strategy), experiment, strategy, run.seed, split, run.outcome)
            if isinstance(run.outcome, TrialReport):
                reports.setdefault(run.arm, []).append(run.outcome)
        for name, own in reports.items():
            arm = self._arm(name, strategies[name])
            if not arm.metrics:  # no trial and no baseline of the search
                self._runs[arm.id] = replace(
                    arm, metrics=_known(over_seeds(own)), seconds=sum(report.seconds for report in own)
                )

    def _seed(
        self,
        arm: TrackedRun,
        experiment: str,
        strategy: Strategy,
        seed: int,
        split: str,
        outcome: Outcome | None,
    ) -> None:
        seed_id = self._id(experiment, arm.name, seed)
        run = TrackedRun(
            id=seed_id,
            name=f"{arm.name}, {experiment}, seed {seed}",
            arm=arm.name,
            parent=arm.id,
            params=self._params(strategy) | {"seed": seed, "split": split},
            tags=self._tags(strategy, kind="seed", experiment=experiment),
        )
        self._runs[seed_id] = self._with_outcome(run, outcome)

    def _with_outcome(self, run: TrackedRun, outcome: Outcome | None) -> TrackedRun:
        """The run with how it ended."""
        if isinstance(outcome, TrialFailure):
            failed = {"failure": outcome.kind, "reason": outcome.reason.strip().splitlines()[-1]}
            return replace(run, tags=run.tags | failed, state="failed")
        if outcome is None:
            return run
        return replace(
            run,
            metrics=_known({**outcome.metrics, "exposure": outcome.exposure, "seconds": outcome.seconds}),
            points=partial(self._files.curve, outcome),
            seconds=outcome.seconds,
            tags=run.tags | {"device": outcome.device, "key": outcome.key},
        )


def _known(metrics: Metrics | Mapping[str, float]) -> dict[str, float]:
    """What was measured, by names that every tracker takes."""
    return {_NOT_ALLOWED.sub("_", name): value for name, value in metrics.items() if value is not None}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Confirming finalists: the plan that is fixed first, each look's verdicts, the ledger of the test split.

Values in, values out, but for `load`, `store` and `ledger`, which read the study's record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ConfigDict, ValidationError

from search.judging.diagnostics import Diagnosis, diagnose
from search.judging.measured import MeasuredArm
from search.judging.statistics.bounds import Floats
from search.judging.statistics.decision import Candidate, Evidence, Requirement, Verdict, decide
from search.judging.statistics.jackknife import SplitNoise, split_noise
from search.judging.statistics.levels import Plan, Seeds
from search.judging.statistics.planning import Advice, advise
from search.record.experiments import BASELINE, CONFIRMATIONS, ExperimentRecord, now
from search.record.study import Study
from search.request.config import ConfirmConfig, StudyConfig
from search.request.config_errors import line
from search.request.guards import Floor, MaxDrop
from search.work.experiment_queue import Wanted, seeds_of
from spaces.errors import UsageError
from spaces.frozen import Frozen
from spaces.strategy import Strategy
from trainables.contract.tasks import LOWER_IS_BETTER
from trainables.contract.trial import DataSpec, Metrics, Task, TrialReport

RANKING = "minority_ap50"  # may not fall: rescaling scores alone lifts recall, but not this


@dataclass(frozen=True)
class Asked:
    """What a person wants confirmed, beyond what the study file says.

    Attributes:
        trials: Numbers of trials; with these or `strategies`, nothing else is confirmed.
        strategies: Named strategies.
        seeds: Overrides `confirm.seeds`, if not None.
        baseline_seeds: Overrides `confirm.baseline_seeds`, if not None.
        one_look: No second look.
    """

    trials: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    seeds: int | None = None
    baseline_seeds: int | None = None
    one_look: bool = False

    def settings(self, config: StudyConfig) -> ConfirmConfig:
        """The study's settings with the overrides.

        Raises:
            UsageError: A value is not possible, or a strategy is not known or not for this task.
        """
        changed: dict[str, Any] = {
            "seeds": self.seeds,
            "baseline_seeds": self.baseline_seeds,
            "more_seeds": 0 if self.one_look else None,
        }
        if self.trials or self.strategies:
            changed |= {"finalists": 0, "strategies": self.strategies}
        given = {key: value for key, value in changed.items() if value is not None}
        request = config.model_dump(mode="json")
        try:
            return StudyConfig.model_validate(request | {"confirm": request["confirm"] | given}).confirm
        except ValidationError as error:
            raise UsageError("\n".join(line(item, StudyConfig) for item in error.errors())) from None


class PlannedCandidate(Frozen):
    """A strategy to confirm: of a trial of the search, or one with a name of its own."""

    name: str
    strategy: Strategy
    trial: int | None = None


class ConfirmPlan(Frozen):
    """What is fixed before the first run of a confirmation."""

    settings: ConfirmConfig
    candidates: tuple[PlannedCandidate, ...]

    @property
    def looks(self) -> Plan:
        """Seeds and levels of each look."""
        first = Seeds(self.settings.seeds, self.settings.baseline_seeds)
        more = self.settings.more_seeds
        second = Seeds(first.candidate + more, first.baseline + more) if more else None
        return Plan(first=first, second=second, alpha=self.settings.alpha)

    def seeds(self, look: int) -> Seeds:
        """Seeds per arm at a look, all so far together."""
        seeds = self.looks.first if look == 1 else self.looks.second
        assert seeds is not None, f"look {look} is not planned"
        return seeds

    def arms(self, config: StudyConfig, open_names: Sequence[str]) -> dict[str, Strategy]:
        """The baseline and the candidates that are still open, by name."""
        chosen = {one.name: one.strategy for one in self.candidates if one.name in open_names}
        return {BASELINE: config.baseline_strategy, **chosen}

    def wanted(
        self, experiment: str, config: StudyConfig, data: DataSpec, look: int, open_names: Sequence[str]
    ) -> list[Wanted]:
        """The runs of a look, with those of the look before, seed by seed over the arms."""
        seeds = self.seeds(look)
        arms = self.arms(config, open_names)
        counts = dict.fromkeys(arms, seeds.candidate) | {BASELINE: seeds.baseline}
        return [
            Wanted(arm, config.spec(arms[arm], data, seed=seed, split="test"))
            for arm, seed in seeds_of(config.search.seed, experiment, counts)
        ]


class Result(Frozen):
    """What is known of one candidate after a look.

    Attributes:
        candidate: As planned.
        verdict: Of the last look that it was part of.
        seeds: How many it and the baseline had in that look.
        means: Of every metric over its seeds, on the test split.
        baseline: Likewise over the baseline's seeds of that look.
        advice: What would decide it; only if it is inconclusive and no look is left.
        notes: Diagnoses.
    """

    # A bound's degrees of freedom may be infinite.
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    candidate: PlannedCandidate
    verdict: Verdict
    seeds: Seeds
    means: Metrics
    baseline: Metrics
    advice: Advice | None
    notes: tuple[Diagnosis, ...]


class Look(Frozen):
    """The conclusion of a look, over all candidates of the plan; those settled earlier keep their result.

    Attributes:
        number: 1 or 2.
        finished: When; ISO 8601, UTC.
        results: In the order of the plan.
    """

    number: int
    finished: str
    results: tuple[Result, ...]

    @property
    def open_names(self) -> list[str]:
        """Candidates that a further look could still decide."""
        return [result.candidate.name for result in self.results if result.verdict.outcome == "inconclusive"]

    @property
    def accepted(self) -> tuple[Result, ...]:
        """In the order of the plan."""
        return tuple(result for result in self.results if result.verdict.outcome == "accepted")


@dataclass(frozen=True)
class Confirmation:
    """A confirmation as it stands in the record; `looks` holds those that are concluded."""

    experiment: str
    plan: ConfirmPlan
    looks: tuple[Look, ...]

    @property
    def finished(self) -> bool:
        """Whether no look is left, or nothing is open."""
        done = len(self.looks)
        return done > 0 and (done == self.plan.looks.looks or not self.looks[-1].open_names)


@dataclass(frozen=True)
class SplitUse:
    """One line of the ledger: an experiment that measured on the test split; `created` is ISO 8601, UTC."""

    experiment: str
    created: str
    arms: int
    runs: int


def requirements(config: StudyConfig) -> tuple[Requirement, ...]:
    """What a candidate must show: the gain, every guard, and for a detector a ranking that does not fall."""
    asked = [Requirement(config.objectives[0], config.confirm.min_gain)]
    for guard in config.guards:
        lower = guard.metric in LOWER_IS_BETTER
        match guard:
            case MaxDrop():
                # Not `-guard.max_drop`: the -0.0 of a drop of 0 would be shown as -0.000.
                asked.append(Requirement(guard.metric, 0.0 - guard.max_drop, lower))
            case Floor():
                asked.append(Requirement(guard.metric, -guard.floor if lower else guard.floor, lower, False))
    if config.task == "detection" and all(guard.metric != RANKING for guard in config.guards):
        asked.append(Requirement(RANKING, 0.0))
    return tuple(asked)


def judge(
    config: StudyConfig,
    minority: Sequence[str],
    plan: ConfirmPlan,
    number: int,
    arms: Mapping[str, MeasuredArm],
    before: Look | None,
) -> Look:
    """The verdicts of a look.

    Args:
        config: Of the study.
        minority: Names of the minority classes.
        plan: Of the confirmation.
        number: Of the look, 1 or 2.
        arms: The baseline and every candidate that is open, with all their seeds so far.
        before: The look before.
    """
    asked = requirements(config.model_copy(update={"confirm": plan.settings}))
    baseline = arms[BASELINE]
    open_now = [one for one in plan.candidates if one.name in arms]
    weighed = [_candidate(config.task, arms[one.name], baseline, asked) for one in open_now]
    accepted_before = 0 if before is None else len(before.accepted)
    verdicts = decide(
        weighed, plan.looks, look=number, family=len(plan.candidates), accepted_before=accepted_before
    )
    last = number == plan.looks.looks
    results = {} if before is None else {result.candidate.name: result for result in before.results}
    for one, candidate, verdict in zip(open_now, weighed, verdicts, strict=True):
        undecided = last and verdict.outcome == "inconclusive"
        results[one.name] = Result(
            candidate=one,
            verdict=verdict,
            seeds=Seeds(len(arms[one.name].reports), len(baseline.reports)),
            means=means(arms[one.name].reports),
            baseline=means(baseline.reports),
            # A fresh confirmation of this candidate alone, in one look, has the whole alpha.
            advice=advise(candidate.evidence, plan.settings.alpha) if undecided else None,
            notes=_notes(asked[0], minority, arms[one.name], baseline),
        )
    return Look(
        number=number,
        finished=now(),
        results=tuple(results[one.name] for one in plan.candidates),
    )


def _candidate(
    task: Task, arm: MeasuredArm, baseline: MeasuredArm, asked: Sequence[Requirement]
) -> Candidate:
    problems = [*arm.problems, *baseline.problems]
    for one in (arm, baseline):
        problems += [one.untold[asking.metric] for asking in asked if asking.metric in one.untold]
    if problems:
        return Candidate(arm.name, (), tuple(dict.fromkeys(problems)))
    evidence = tuple(
        Evidence(
            requirement=requirement,
            candidate=_values(arm, requirement.metric),
            baseline=_values(baseline, requirement.metric) if requirement.against_baseline else np.empty(0),
            split=None if task == "toy" else _split(arm, baseline, requirement),
        )
        for requirement in asked
    )
    return Candidate(arm.name, evidence)


def _values(arm: MeasuredArm, metric: str) -> Floats:
    return np.array([report.metrics[metric] for report in arm.reports], dtype=np.float64)  # (n_seeds,)


def _split(arm: MeasuredArm, baseline: MeasuredArm, requirement: Requirement) -> SplitNoise:
    own = arm.replicates[requirement.metric]
    return split_noise(own, baseline.replicates[requirement.metric] if requirement.against_baseline else ())


def _notes(
    gain: Requirement, minority: Sequence[str], arm: MeasuredArm, baseline: MeasuredArm
) -> tuple[Diagnosis, ...]:
    if not arm.reports:
        return ()
    own = arm.replicates.get(gain.metric)
    return diagnose(
        arm.strategy,
        arm.reports,
        baseline.reports,
        minority=minority,
        split="test",
        split_variance=None if own is None else float(split_noise(own).variance),
        min_gain=gain.margin,
    )


def means(reports: Sequence[TrialReport]) -> Metrics:
    """Mean of each metric over the seeds; None where a seed could not measure it, or there is none."""
    found: Metrics = {}
    for name in reports[0].metrics if reports else ():
        values = [report.metrics[name] for report in reports]
        known = [value for value in values if value is not None]
        found[name] = float(np.mean(known)) if len(known) == len(values) else None
    return found


# The record


def load(study: Study, experiment: str) -> Confirmation:
    """A confirmation as it stands in the record."""
    record = study.experiment(experiment)
    return Confirmation(
        experiment,
        ConfirmPlan.model_validate_json(record.plan),
        tuple(Look.model_validate_json(text) for text in record.conclusions),
    )


def latest(study: Study) -> Confirmation | None:
    """The confirmation that was begun last, or None."""
    names = [name for name in study.experiments() if name.startswith(CONFIRMATIONS)]
    return load(study, names[-1]) if names else None


def store(record: ExperimentRecord, look: Look) -> None:
    """Keep the conclusion of a look."""
    record.conclude(look.model_dump_json())


def ledger(study: Study) -> tuple[SplitUse, ...]:
    """Every experiment of this study that measured on the test split, in order."""
    uses = []
    for name in study.experiments():
        record = study.experiment(name)
        runs = [run for run in record.runs() if run.split == "test" and run.outcome is not None]
        if runs:
            uses.append(SplitUse(name, record.created, len({run.arm for run in runs}), len(runs)))
    return tuple(uses)

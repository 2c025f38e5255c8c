"""A confirmation as values: its plan, fixed first, each look's results, the ledger of the test split.

Needs no SciPy; `judge` computes. `load`, `store`, `verdicts` and `ledger` know the study's record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ConfigDict, ValidationError

from search.judging.diagnostics import Diagnosis
from search.judging.statistics.values import Advice, Plan, Requirement, Seeds, Verdict
from search.record.experiments import BASELINE_ARM, CONFIRMATIONS, ExperimentRecord, Wanted, seeds_of
from search.record.stored import packed, unpacked
from search.record.study import Study
from search.request.config import ConfirmConfig, StudyConfig
from search.request.config_errors import line
from search.request.guards import Floor, MaxDrop
from spaces.errors import UsageError
from spaces.frozen import Frozen
from spaces.strategy import Strategy
from trainables.contract.tasks import LOWER_IS_BETTER, TASKS, on_whole_images
from trainables.contract.trial import DataSpec, FusionSpec, Merging, Metrics, TrialSpec

LEAST_SEEDS_OF_SEVERAL = 4  # per arm, where several candidates are judged


@dataclass(frozen=True)
class Asked:
    """What a person wants confirmed, beyond what the study file says.

    Attributes:
        trials: Numbers of trials; with these, `strategies` or `fusions`, nothing else is confirmed.
        strategies: Named strategies.
        fusions: Numbers of pairs that `fuse` has ranked.
        seeds: Overrides `confirm.seeds`, if not None.
        baseline_seeds: Overrides `confirm.baseline_seeds`, if not None.
        one_look: No second look.
    """

    trials: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    fusions: tuple[int, ...] = ()
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
        if self.trials or self.strategies or self.fusions:
            changed |= {"finalists": 0, "strategies": self.strategies}
        given = {key: value for key, value in changed.items() if value is not None}
        request = config.model_dump(mode="json")
        try:
            return StudyConfig.model_validate(request | {"confirm": request["confirm"] | given}).confirm
        except ValidationError as error:
            raise UsageError("\n".join(line(item, StudyConfig) for item in error.errors())) from None


def requirements(config: StudyConfig, *, whole_images: bool = False) -> tuple[Requirement, ...]:
    """What a candidate must show: the gain, every guard, and for a detector a ranking that does not fall.

    Args:
        config: Of the study.
        whole_images: Whether it must show it on whole images, where it shows it on tiles else.
    """
    asked = [Requirement(config.objectives[0], config.confirm.min_gain)]
    for guard in config.guards:
        lower = guard.metric in LOWER_IS_BETTER
        match guard:
            case MaxDrop():
                # Not `-guard.max_drop`: the -0.0 of a drop of 0 would be shown as -0.000.
                asked.append(Requirement(guard.metric, 0.0 - guard.max_drop, lower))
            case Floor():
                asked.append(Requirement(guard.metric, -guard.floor if lower else guard.floor, lower, False))
    ranking = TASKS[config.task].ranking
    if ranking is not None and all(guard.metric != ranking for guard in config.guards):
        asked.append(Requirement(ranking, 0.0))
    if not whole_images:
        return tuple(asked)
    return tuple(replace(one, metric=on_whole_images(one.metric)) for one in asked)


class PlannedCandidate(Frozen):
    """A strategy to confirm: of a trial of the search, or one with a name of its own.

    Attributes:
        name: As shown.
        strategy: Of a fusion, that of the minority's model.
        trial: That it is of.
        fusion: The other model, of a fusion.
        merging: How its tiles become whole images, of a fusion; None as the plan says.
    """

    name: str
    strategy: Strategy
    trial: int | None = None
    fusion: FusionSpec | None = None
    merging: Merging | None = None


class ConfirmPlan(Frozen):
    """What is fixed before the first run of a confirmation."""

    settings: ConfirmConfig
    candidates: tuple[PlannedCandidate, ...]
    whole_images: bool = False  # whether it is decided on them, and not on tiles
    merging: Merging = "core"  # how tiles become whole images, but for fusions with a way of their own

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
        return {BASELINE_ARM: config.baseline_strategy, **chosen}

    def wanted(
        self, experiment: str, config: StudyConfig, data: DataSpec, look: int, open_names: Sequence[str]
    ) -> list[Wanted]:
        """The runs of a look, with those of the look before, seed by seed over the arms."""
        arms, seeds = self.arms(config, open_names), self.seeds_per_arm(look, open_names)
        fusions = {one.name: one.fusion for one in self.candidates}
        ways = {one.name: one.merging for one in self.candidates if one.merging is not None}

        def spec(arm: str, seed: int) -> TrialSpec:
            merged = data.model_copy(update={"merging": ways.get(arm, self.merging)})
            alone = config.spec(arms[arm], merged, seed=seed, split="test")
            return alone.model_copy(update={"fusion": fusions.get(arm)})

        return [Wanted(arm, spec(arm, seed)) for arm, seed in seeds_of(config.search.seed, experiment, seeds)]

    def seeds_per_arm(self, look: int, open_names: Sequence[str]) -> dict[str, int]:
        """How many the baseline and each candidate that is still open have at a look."""
        seeds = self.seeds(look)
        named = [one.name for one in self.candidates if one.name in open_names]
        return {BASELINE_ARM: seeds.baseline, **dict.fromkeys(named, seeds.candidate)}


class Result(Frozen):
    """What is known of one candidate after a look.

    Attributes:
        candidate: As planned.
        verdict: Of the last look that it was part of.
        seeds: How many it and the baseline had in that look.
        means: Of every metric over its seeds, on the test split.
        baseline: Likewise over the baseline's seeds of that look.
        advice: What would decide it; only if it is inconclusive, no look is left for it, and no training
            collapsed.
        notes: Diagnoses.
        seconds: Of a run, and of one of the baseline, on average; None in records of before.
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
    seconds: tuple[float, float] | None = None


BEST_FIRST = ("accepted", "inconclusive", "rejected", "invalid")


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
        return [
            result.candidate.name
            for result in self.results
            if result.verdict.outcome == "inconclusive" and not result.verdict.settled
        ]

    @property
    def leading(self) -> Result:
        """The one with the best outcome; of several that with the highest lower bound of its gain."""

        def rank(result: Result) -> tuple[int, float]:
            bounds = result.verdict.bounds
            return BEST_FIRST.index(result.verdict.outcome), -(bounds[0].lower if bounds else 0.0)

        return min(self.results, key=rank)

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
class Judged:
    """What a confirmation found of a trial."""

    experiment: str
    result: Result


@dataclass(frozen=True)
class SplitUse:
    """One line of the ledger: an experiment that measured on the test split; `created` is ISO 8601, UTC."""

    experiment: str
    created: str
    arms: int
    runs: int


def refuse_too_few_seeds(plan: ConfirmPlan) -> None:
    """Several candidates are not judged on two or three seeds.

    Each is then tested at a part of alpha, where a variance of so few seeds is too rough: one of three
    candidates of three seeds each is accepted wrongly in 5.9 % of the cases, against ten of the baseline. It
    is asked of a new plan only, so that studies with another one still open and go on.

    Raises:
        UsageError: There are several candidates, and an arm with fewer than four seeds.
    """
    candidates, least = len(plan.candidates), LEAST_SEEDS_OF_SEVERAL
    asked = {"seeds": plan.settings.seeds, "baseline_seeds": plan.settings.baseline_seeds}
    for name, seeds in asked.items():
        if candidates > 1 and seeds < least:
            raise UsageError(
                f"confirm.{name}: at least {least} are needed to judge {candidates} candidates, got {seeds}",
                f"--{name.replace('_', '-')} {least}, or one candidate alone: --trial N",
            )


def refuse_another_plan(begun: Confirmation | None, asked: Asked, where: str) -> None:
    """A confirmation that was begun is carried out as it was planned.

    Args:
        begun: The last one.
        asked: What a person wants confirmed.
        where: The study's folder as the person would type it.

    Raises:
        UsageError: It was begun, and something else is asked.
    """
    if begun is not None and asked != Asked():
        raise UsageError(
            f"{where} has been planned for {begun.experiment} already",
            "add --fresh for another confirmation, on seeds of its own; without options you see this one",
        )


# The record


def load(record: ExperimentRecord, experiment: str) -> Confirmation:
    """A confirmation as it stands in its record."""
    return Confirmation(
        experiment,
        unpacked(ConfirmPlan, record.plan),
        tuple(unpacked(Look, text) for text in record.conclusions),
    )


def latest(study: Study) -> Confirmation | None:
    """The confirmation that was begun last, or None; one whose process died before its plan was not begun."""
    for name in reversed(study.experiments()):
        if name.startswith(CONFIRMATIONS) and (record := study.experiment(name)).plan is not None:
            return load(record, name)
    return None


def store(record: ExperimentRecord, look: Look) -> None:
    """Keep the conclusion of a look."""
    record.conclude(packed(look))


def verdicts(study: Study) -> dict[int, Judged]:
    """The last verdict on each trial that was confirmed, by trial number."""
    found = {}
    for name in study.experiments():
        if name.startswith(CONFIRMATIONS):
            for text in study.experiment(name).conclusions[-1:]:
                for result in unpacked(Look, text).results:
                    if result.candidate.trial is not None:
                        found[result.candidate.trial] = Judged(name, result)
    return found


def ledger(study: Study) -> tuple[SplitUse, ...]:
    """Every experiment of this study that measured on the test split, in order."""
    uses = []
    for name in study.experiments():
        record = study.experiment(name)
        runs = [run for run in record.runs() if run.split == "test" and run.outcome is not None]
        if runs:
            uses.append(SplitUse(name, record.created, len({run.arm for run in runs}), len(runs)))
    return tuple(uses)

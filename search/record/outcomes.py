"""What came of runs: a trial, the baseline over its seeds, and whether a failed run is worth another one."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from search.request.computing.resources import Resources
from spaces.strategy import Strategy
from trainables.contract.trial import Metrics, Outcome, TrialFailure, TrialReport, valued

State = Literal["waiting", "running", "complete", "stopped", "failed"]


@dataclass(frozen=True)
class StudyTrial:
    """One trial or baseline seed as it stands in the record.

    Attributes:
        number: Optuna's trial number; within the baseline, the index of the seed.
        state: `stopped` is a trial ended early on purpose.
        ended_by: What it was stopped by.
        violations: Guarded metric -> violation; empty until told, <= 0 is feasible.
    """

    number: int
    state: State
    strategy: Strategy
    seed: int
    report: TrialReport | None = None
    failure: TrialFailure | None = None
    violations: dict[str, float] = field(default_factory=dict)
    ended_by: Literal["budget"] | None = None

    @property
    def feasible(self) -> bool:
        """Complete, and no guard is broken."""
        return self.state == "complete" and all(value <= 0 for value in self.violations.values())

    def value(self, objective: str) -> float:
        """Of a complete trial, which has both objectives."""
        assert self.report is not None
        value = self.report.metrics[objective]
        assert value is not None, "who told it has checked its objectives"
        return value


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
        spread = statistics.stdev if len(reports) > 1 else lambda values: None
        return cls(over_seeds(reports), over_seeds(reports, spread), tuple(seed for seed, _ in done), reports)


def over_seeds(
    reports: Sequence[TrialReport], of: Callable[[Sequence[float]], float | None] = statistics.fmean
) -> Metrics:
    """The mean of each metric over the seeds, or what `of` makes of its values.

    None where a seed could not measure it; nothing without reports.
    """
    found: Metrics = {}
    for name in reports[0].metrics if reports else ():
        values = [valued(report.metrics, name) for report in reports]
        known = [value for value in values if value is not None]
        found[name] = of(known) if len(known) == len(values) else None
    return found


def stamped(outcome: Outcome, resources: Resources) -> Outcome:
    """An outcome as it is stored: a run that ran out of memory with what the study gave to it."""
    if isinstance(outcome, TrialFailure) and outcome.kind == "memory" and outcome.resources is None:
        return outcome.model_copy(update={"resources": resources.model_dump()})
    return outcome


def worth_again(failure: TrialFailure, resources: Resources) -> bool:
    """Whether a later process should run it once more: its node was lost, or there is other memory now.

    Args:
        failure: As it was stored.
        resources: What the study gives to a run now.
    """
    if failure.kind == "memory":
        return failure.resources != resources.model_dump()  # 0.1.0 did not say: it gets another attempt
    return failure.kind == "lost" and failure.retry

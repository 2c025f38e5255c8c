"""Which trials are best, and why the others are not. Pure: values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.judging.diagnostics import Diagnosis, diagnose
from search.judging.learning import still_learning
from search.record.outcomes import Baseline, StudyTrial
from search.request.config import StudyConfig
from search.request.guards import Floor, violations
from trainables.contract.tasks import ROUNDING
from trainables.contract.trial import valued


@dataclass(frozen=True)
class Front:
    """Every trial of a study in exactly one group, each by number except `best`, by falling first objective.

    Attributes:
        best: Feasible, in the first objective not below the baseline's mean, and neither another feasible
            trial nor that mean is at least as good in both objectives and better in one.
        dominated: Feasible, but one of those is, or it lies below that mean: a trial that loses some of the
            minority solves another problem, whatever it does for the rest.
        infeasible: Complete, and breaks a guard.
        stopped: Ended early on purpose.
        running: Not told yet.
        failed: Gave no result.
    """

    best: tuple[StudyTrial, ...]
    dominated: tuple[StudyTrial, ...]
    infeasible: tuple[StudyTrial, ...]
    stopped: tuple[StudyTrial, ...]
    running: tuple[StudyTrial, ...]
    failed: tuple[StudyTrial, ...]


def front(trials: Sequence[StudyTrial], objectives: tuple[str, str], baseline: Baseline | None) -> Front:
    """Sort `trials` into a `Front`."""
    feasible = [trial for trial in trials if trial.feasible]
    values = {trial.number: tuple(map(trial.value, objectives)) for trial in feasible}
    rivals = list(values.values())
    if baseline is not None:
        of_baseline = tuple(value for name in objectives if (value := baseline.metrics[name]) is not None)
        assert len(of_baseline) == len(objectives), "a search does not go on without the baseline's"
        rivals.append(of_baseline)
    best = [
        trial
        for trial in feasible
        if reaches(baseline, trial, objectives[0])
        and not any(dominates(rival, values[trial.number]) for rival in rivals)
    ]
    names = {trial.number for trial in best}
    return Front(
        best=tuple(sorted(best, key=lambda trial: values[trial.number], reverse=True)),
        dominated=tuple(trial for trial in feasible if trial.number not in names),
        infeasible=tuple(trial for trial in trials if trial.state == "complete" and not trial.feasible),
        stopped=tuple(trial for trial in trials if trial.state == "stopped"),
        running=tuple(trial for trial in trials if trial.state == "running"),
        failed=tuple(trial for trial in trials if trial.state == "failed"),
    )


def reaches(baseline: Baseline | None, trial: StudyTrial, objective: str) -> bool:
    """Whether a complete trial's `objective` is not below the baseline's mean, if there is one.

    A recall of 0 reaches nothing, not even a baseline that finds nothing either.
    """
    usual, value = None if baseline is None else baseline.metrics.get(objective), trial.value(objective)
    if value == 0 and "recall" in objective:
        return False
    return usual is None or value >= usual - ROUNDING


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` is at least as high everywhere and higher somewhere."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def notes(
    trial: StudyTrial, baseline: Baseline | None, config: StudyConfig, minority: Sequence[str]
) -> tuple[Diagnosis, ...]:
    """What is wrong with a trial; nothing is said of one without a report. `minority` as in `diagnose`."""
    if trial.report is None:
        return ()
    usual = () if baseline is None else baseline.reports
    asked = config.confirm.min_gain
    return diagnose(trial.strategy, [trial.report], usual, minority=minority, min_gain=asked)


def notes_on_baseline(
    baseline: Baseline | None, config: StudyConfig, minority: Sequence[str]
) -> tuple[Diagnosis, ...]:
    """What is wrong with the baseline itself, before anything is compared with it; `minority` as above."""
    if baseline is None:
        return ()
    asked = config.confirm.min_gain
    found = diagnose(config.baseline_strategy, baseline.reports, (), minority=minority, min_gain=asked)
    further = (still_learning(baseline.reports, config.objectives[0]), no_room(baseline, config))
    return (*found, *broken_floors(baseline, config), *(note for note in further if note is not None))


def no_room(baseline: Baseline, config: StudyConfig) -> Diagnosis | None:
    """The baseline is so good that nothing can gain what is asked for; number: its mean."""
    objective, asked = config.objectives[0], config.confirm.min_gain
    usual = baseline.metrics.get(objective)
    if usual is None or usual + asked <= 1 + ROUNDING:
        return None
    said = f"{objective} is {usual:.3f} already: no trial can gain the {asked:g} that confirm asks for"
    return Diagnosis("no room", usual, said)


def broken_floors(baseline: Baseline, config: StudyConfig) -> list[Diagnosis]:
    """Floors that the baseline's own mean does not keep; number: by how much."""
    floors = tuple(guard for guard in config.guards if isinstance(guard, Floor))
    known = tuple(guard for guard in floors if valued(baseline.metrics, guard.metric) is not None)
    return [
        Diagnosis("floor broken", violation, f"it breaks its own guard on {metric}, by {violation:.3f}")
        for metric, violation in violations(known, baseline.metrics, baseline.metrics).items()
        if violation > 0
    ]

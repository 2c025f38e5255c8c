"""Which trials of a search are worth confirming. Pure: values in, values out."""

from collections.abc import Sequence

from search.record.study import Baseline, StudyTrial
from search.request.config import StudyConfig
from spaces.strategy import FAMILY_OF, Strategy


def choose_finalists(
    trials: Sequence[StudyTrial], baseline: Baseline, config: StudyConfig, count: int
) -> tuple[StudyTrial, ...]:
    """The feasible trials with the highest first objective, not all of one family.

    Only trials of another strategy than the baseline's, whose guards hold by at least one sd of its seeds: a
    guard that holds by less is as likely to break as not on fresh seeds. If all would be of one family, the
    last place goes to the best of another, so that a search that liked one kind of strategy does not decide
    alone.

    Args:
        trials: Of the search.
        baseline: Over its finished seeds; with one seed its sd is taken for 0.
        config: Of the study.
        count: How many at most.
    """
    objective = config.objectives[0]
    held = [
        trial
        for trial in trials
        if trial.feasible and trial.strategy != config.baseline_strategy and _holds(trial, baseline)
    ]
    distinct: dict[Strategy, StudyTrial] = {}
    for trial in sorted(held, key=lambda trial: _value(trial, objective), reverse=True):
        distinct.setdefault(trial.strategy, trial)
    ranked = list(distinct.values())
    chosen = ranked[:count]
    seen = {families(trial.strategy) for trial in chosen}
    if count > 1 and len(seen) == 1:
        others = (trial for trial in ranked[count:] if families(trial.strategy) not in seen)
        chosen[-1] = next(others, chosen[-1])
    return tuple(chosen)


def families(strategy: Strategy) -> frozenset[str]:
    """The families that a strategy changes something in."""
    return frozenset(FAMILY_OF[knob] for knob in strategy.changed())


def _holds(trial: StudyTrial, baseline: Baseline) -> bool:
    """Whether every guard holds by at least one sd."""
    for metric, violation in trial.violations.items():
        sd = baseline.sd.get(metric)
        if -violation < (0.0 if sd is None else sd):
            return False
    return True


def _value(trial: StudyTrial, objective: str) -> float:
    assert trial.report is not None
    value = trial.report.metrics[objective]
    assert value is not None, "a complete trial has both objectives"
    return value

"""Which trials of a search are worth confirming, and which one to export."""

from collections.abc import Sequence

from search.judging.confirmation import verdicts
from search.record.study import Baseline, Study, StudyTrial, best_feasible, reaches
from search.request.config import StudyConfig
from spaces.errors import UsageError
from spaces.strategy import FAMILY_OF, Strategy


def choose_finalists(
    trials: Sequence[StudyTrial], baseline: Baseline, config: StudyConfig, count: int
) -> tuple[StudyTrial, ...]:
    """The feasible trials with the highest first objective, not all of one family.

    Only trials of another strategy than the baseline's, not below its mean, whose guards hold by at least one
    sd of its seeds: a guard that holds by less is as likely to break as not on fresh seeds. If all would be
    of one family, the last place goes to the best of another, so that a search that liked one kind of
    strategy does not decide alone.

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
        if trial.feasible
        and trial.strategy != config.baseline_strategy
        and reaches(baseline, trial, objective)
        and _holds(trial, baseline)
    ]
    distinct: dict[Strategy, StudyTrial] = {}
    for trial in sorted(held, key=lambda trial: trial.value(objective), reverse=True):
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


def choose(study: Study, number: int | None) -> StudyTrial:
    """The trial that a person means: the one asked for, else the best accepted, else the best feasible one.

    Of accepted trials the best is the one whose gain in the first objective has the highest lower bound.

    Raises:
        UsageError: There is no such finished trial.
    """
    trials = study.trials()
    if number is None:
        judged = {of: one.result.verdict for of, one in verdicts(study).items()}
        accepted = {of: verdict for of, verdict in judged.items() if verdict.outcome == "accepted"}
        if accepted:
            surest = max(accepted, key=lambda of: accepted[of].bounds[0].lower)
            return next(trial for trial in trials if trial.number == surest)
        best = best_feasible(trials, study.config.objectives[0], study.baseline())
        if best is None:
            raise UsageError(
                "no trial is feasible and as good as the baseline, so none is best",
                "name one with --trial N",
            )
        return best
    chosen = next((trial for trial in trials if trial.number == number), None)
    if chosen is None or chosen.report is None:
        state = "no such trial" if chosen is None else f"it is {chosen.state}"
        numbers = ", ".join(str(trial.number) for trial in trials if trial.report is not None)
        raise UsageError(f"--trial {number}: {state}", f"finished trials: {numbers or 'none'}")
    return chosen

"""Which trials of a search are worth confirming, and which one to export."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

from search.judging.confirmation import load, verdicts
from search.judging.front import front, reaches
from search.record.experiments import CONFIRMATIONS
from search.record.outcomes import Baseline, StudyTrial
from search.record.study import Study
from search.request.config import StudyConfig
from spaces.errors import UsageError
from spaces.strategy import FAMILY_OF, Strategy
from trainables.contract.trial import Merging


@dataclass(frozen=True)
class Recommended:
    """The trial to take from a search that was not confirmed.

    Attributes:
        trial: Feasible, and in the first objective not below the baseline's mean.
        with_margin: Whether its guards hold by at least one sd of the baseline's seeds. If not, none is
            feasible by such a margin.
    """

    trial: StudyTrial
    with_margin: bool


def recommended(
    trials: Sequence[StudyTrial], config: StudyConfig, baseline: Baseline | None
) -> Recommended | None:
    """The highest first objective among the trials whose guards hold with a margin, else among the feasible.

    The highest of many noisy values is one that was lucky in its guards, too: `benchmarks.search_seeds` says
    how often such a pick breaks them in truth, and how much rarer with the margin. None if no trial is
    feasible, or all lie below the baseline's mean.
    """
    objective = config.objectives[0]
    feasible = [trial for trial in trials if trial.feasible and reaches(baseline, trial, objective)]
    held = [trial for trial in feasible if _holds(trial, baseline)]
    best = max(held or feasible, key=lambda trial: trial.value(objective), default=None)
    return None if best is None else Recommended(best, with_margin=bool(held))


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


def choose_merging(study: Study) -> Merging:
    """How tiles are merged into whole images, for all that is set side by side.

    What the study file says; else the way with the highest AP50 of the minority on val's whole images, on
    average over the baseline's seeds, and `core` if none has been trained.
    """
    asked = study.config.merging
    if asked != "auto":
        return asked
    reports = [trial.report for trial in study.baseline_trials() if trial.report is not None]

    def mean(way: Merging) -> float:
        known = [report.metrics.get(f"merging/{way}/minority_ap50") for report in reports]
        values = [value for value in known if value is not None]
        return fmean(values) if values else 0.0

    return max(get_args(Merging), key=mean)  # of equals the first, which is `core`


def without_use(study: Study) -> frozenset[str]:
    """Keys of the trials whose weights nothing asks for: neither on the front nor named, or failed for good.

    Named are the recommended trial, those that `confirm` would take, and those that any confirmation has
    taken. A search that goes on puts none of the others on the front: trials only ever take each other from
    it, and the baseline that they are judged by has all its seeds.
    """
    config, trials, baseline = study.config, study.trials(), study.baseline()
    if baseline is None:
        return frozenset()
    named = [*front(trials, config.objectives, baseline).best]
    named += choose_finalists(trials, baseline, config, config.confirm.finalists)
    if (best := recommended(trials, config, baseline)) is not None:
        named.append(best.trial)
    records = [
        (name, study.experiment(name)) for name in study.experiments() if name.startswith(CONFIRMATIONS)
    ]
    plans = [load(record, name).plan for name, record in records if record.plan is not None]
    confirmed = {candidate.trial for plan in plans for candidate in plan.candidates}
    named += [trial for trial in trials if trial.number in confirmed]
    kept = {trial.report.key for trial in (*named, *study.baseline_trials()) if trial.report is not None}
    ended = {trial.report.key for trial in trials if trial.report is not None}
    ended |= {trial.failure.key for trial in trials if trial.failure is not None and not trial.failure.retry}
    return frozenset(ended - kept)


def families(strategy: Strategy) -> frozenset[str]:
    """The families that a strategy changes something in."""
    return frozenset(FAMILY_OF[knob] for knob in strategy.changed())


def _holds(trial: StudyTrial, baseline: Baseline | None) -> bool:
    """Whether every guard holds by at least one sd of the baseline's seeds; an unknown sd is taken for 0."""
    for metric, violation in trial.violations.items():
        sd = None if baseline is None else baseline.sd.get(metric)
        if -violation < (0.0 if sd is None else sd):
            return False
    return True


def choose(study: Study, number: int | None) -> StudyTrial:
    """The trial that a person means: the one asked for, else the best accepted, else the recommended one.

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
        baseline = study.baseline()
        if baseline is None:
            raise UsageError(
                "no baseline seed has finished, so no trial can be judged", "go on with the search"
            )
        best = recommended(trials, study.config, baseline)
        if best is None:
            raise UsageError(
                "no trial is feasible and as good as the baseline, so none is best",
                "name one with --trial N",
            )
        return best.trial
    chosen = next((trial for trial in trials if trial.number == number), None)
    if chosen is None or chosen.report is None:
        state = "no such trial" if chosen is None else f"it is {chosen.state}"
        numbers = ", ".join(str(trial.number) for trial in trials if trial.report is not None)
        raise UsageError(f"--trial {number}: {state}", f"finished trials: {numbers or 'none'}")
    return chosen

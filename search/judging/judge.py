"""What a candidate must show, and the verdicts of a look. Values in, values out."""

from collections.abc import Mapping, Sequence

import numpy as np

from search.judging.confirmation import ConfirmPlan, Look, Result, requirements
from search.judging.diagnostics import Diagnosis, diagnose
from search.judging.measured import Arm
from search.judging.statistics.bounds import Floats, Part
from search.judging.statistics.collapse import collapsed
from search.judging.statistics.decision import Candidate, Evidence, decide
from search.judging.statistics.jackknife import SplitNoise, split_noise
from search.judging.statistics.planning import advise
from search.judging.statistics.values import Requirement, Seeds
from search.record.experiments import BASELINE_ARM, now
from search.record.outcomes import over_seeds
from search.request.config import StudyConfig
from trainables.contract.tasks import TASKS, Task


def judge(
    config: StudyConfig,
    minority: Sequence[str],
    plan: ConfirmPlan,
    number: int,
    arms: Mapping[str, Arm],
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
    settled = config.model_copy(update={"confirm": plan.settings})
    asked = requirements(settled, whole_images=plan.whole_images)
    baseline = arms[BASELINE_ARM]
    open_now = [one for one in plan.candidates if one.name in arms]
    weighed = [_candidate(config.task, arms[one.name], baseline, asked) for one in open_now]
    accepted_before = 0 if before is None else len(before.accepted)
    verdicts = decide(
        weighed, plan.looks, look=number, family=len(plan.candidates), accepted_before=accepted_before
    )
    last = number == plan.looks.looks
    results = {} if before is None else {result.candidate.name: result for result in before.results}
    for one, candidate, verdict in zip(open_now, weighed, verdicts, strict=True):
        undecided = verdict.outcome == "inconclusive" and (last or verdict.settled)
        results[one.name] = Result(
            candidate=one,
            verdict=verdict,
            seeds=Seeds(len(arms[one.name].reports), len(baseline.reports)),
            means=over_seeds(arms[one.name].reports, _mean),
            baseline=over_seeds(baseline.reports, _mean),
            # A fresh confirmation of this candidate alone, in one look, has the whole alpha.
            # For one that collapses there is none: its seeds' noise is no normal one.
            advice=advise(candidate.evidence, plan.settings.alpha)
            if undecided and not candidate.collapsed
            else None,
            notes=_notes(asked[0], minority, arms[one.name], baseline),
            seconds=_seconds(arms[one.name], baseline),
        )
    return Look(
        number=number,
        finished=now(),
        results=tuple(results[one.name] for one in plan.candidates),
    )


def _candidate(task: Task, arm: Arm, baseline: Arm, asked: Sequence[Requirement]) -> Candidate:
    problems = [*arm.problems, *baseline.problems]
    for requirement in asked:
        measured = (arm, baseline) if requirement.against_baseline else (arm,)
        problems += [one.untold[requirement.metric] for one in measured if requirement.metric in one.untold]
    if problems:
        return Candidate(arm.name, (), tuple(dict.fromkeys(problems)))
    unstable = collapsed(baseline.values(asked[0].metric).tolist())
    evidence = tuple(
        Evidence(
            requirement=requirement,
            candidate=arm.values(requirement.metric),
            baseline=baseline.values(requirement.metric) if requirement.against_baseline else np.empty(0),
            split=_split(arm, baseline, requirement) if TASKS[task].leaves_predictions else None,
            lent=_variance(baseline.values(requirement.metric)) if unstable else None,
        )
        for requirement in asked
    )
    remarks = (
        f"{unstable} of {len(baseline.reports)} trainings of the baseline collapsed: those of the candidate "
        "are taken to vary as much at least",
    )
    return Candidate(
        arm.name,
        evidence,
        collapsed=collapsed(evidence[0].candidate.tolist()),
        remarks=remarks if unstable else (),
    )


def _variance(values: Floats) -> Part | None:
    """Of one seed, with its degrees of freedom; None if it cannot be told."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return np.asarray(values.var(ddof=1)), np.asarray(len(values) - 1.0)


def _split(arm: Arm, baseline: Arm, requirement: Requirement) -> SplitNoise:
    own = arm.replicates[requirement.metric]
    return split_noise(own, baseline.replicates[requirement.metric] if requirement.against_baseline else ())


def _notes(gain: Requirement, minority: Sequence[str], arm: Arm, baseline: Arm) -> tuple[Diagnosis, ...]:
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


def _seconds(arm: Arm, baseline: Arm) -> tuple[float, float] | None:
    both = [[report.seconds for report in of.reports] for of in (arm, baseline)]
    return (_mean(both[0]), _mean(both[1])) if all(both) else None


def _mean(values: Sequence[float]) -> float:
    """NumPy's, which stored conclusions have always had: its last digit is not that of an exact sum."""
    return float(np.mean(values))

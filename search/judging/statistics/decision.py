"""The verdict on each candidate: accepted, rejected, inconclusive or invalid. Pure arithmetic.

A candidate is accepted if every requirement's lower bound clears its margin, and rejected if some upper bound
lies below its margin. Lower bounds have the level that the look and Holm's rank give (`levels`). To be wrong
about one of k requirements is to reject wrongly, so upper bounds have the look's level over k, and both looks
together reject wrongly with probability alpha at most. Over candidates a rejection is not corrected, as
nobody ships what was rejected.

A candidate with a training that collapsed is not accepted: its mean hangs on how often that happens. Nor is
a further look made for it, or for one that the test split's own error keeps from its margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.judging.statistics.bounds import Floats, Part, StudentGain
from search.judging.statistics.collapse import highest_rate
from search.judging.statistics.jackknife import SplitNoise, mean_gain
from search.judging.statistics.levels import holm, level_of, levels_of
from search.judging.statistics.values import ALPHA, Bounds, Plan, Requirement, Verdict
from trainables.contract.tasks import ROUNDING


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured for one requirement, on the test split, each value of one fresh seed.

    Attributes:
        requirement: The requirement.
        candidate: (n_c,) raw values of the metric.
        baseline: (n_b,) likewise; empty for a floor.
        split: The test split's own error of the same mean difference; None if it is not to be counted.
        lent: (variance, degrees of freedom) of one seed of a baseline that collapses, which the candidate's
            is at least; None if it does not.
    """

    requirement: Requirement
    candidate: Floats
    baseline: Floats
    split: SplitNoise | None
    lent: Part | None = None

    def gain(self) -> StudentGain:
        """By Welch over seeds, with the test split's own error; what both hold counts once."""
        sign, floor = self.requirement.sign, not self.requirement.against_baseline
        return mean_gain(
            sign * self.candidate, None if floor else sign * self.baseline, self.split, self.lent
        )

    def over_seeds(self) -> StudentGain:
        """On these test images, so without the split's own error: what more seeds can still change."""
        return replace(self, split=None).gain()

    @property
    def range(self) -> tuple[float, float]:
        """Where the true gain lies; all numbers if a value was measured outside of [0, 1]."""
        values = np.concatenate([self.candidate, self.baseline])
        return self.requirement.range if ((values >= 0) & (values <= 1)).all() else (-np.inf, np.inf)


@dataclass(frozen=True)
class Candidate:
    """A strategy with all that was measured of it.

    Attributes:
        name: As shown.
        evidence: One for each requirement, at least one.
        problems: Why no verdict can be given, in sentences: no test split, diverged seeds, evaluator limits,
            seeds with identical predictions.
        collapsed: How many of its seeds collapsed; None if that was not looked for.
        remarks: Sentences for its verdict, whatever the outcome.
    """

    name: str
    evidence: tuple[Evidence, ...]
    problems: tuple[str, ...] = ()
    collapsed: int | None = None
    remarks: tuple[str, ...] = ()


def decide(
    candidates: Sequence[Candidate],
    plan: Plan,
    *,
    look: int = 1,
    family: int | None = None,
    accepted_before: int = 0,
) -> tuple[Verdict, ...]:
    """The verdict on each candidate of a look.

    Args:
        candidates: Those measured at this look, with all their seeds so far.
        plan: As fixed before the first look.
        look: 1 or 2.
        family: Candidates at the first look; None for all of `candidates` and those accepted before. One that
            was rejected or dropped meanwhile still counts.
        accepted_before: How many were accepted at the first look; they stay accepted.

    Raises:
        ValueError: The plan has no such look, or there are more candidates than the family has.
    """
    m = len(candidates) + accepted_before if family is None else family
    if m < len(candidates) + accepted_before:
        raise ValueError(
            f"{len(candidates)} candidates and {accepted_before} accepted before, of a family of {m}"
        )
    problems = [_problems(candidate) for candidate in candidates]
    gains = [
        () if problem else tuple(evidence.gain() for evidence in candidate.evidence)
        for candidate, problem in zip(candidates, problems, strict=True)
    ]
    worst = [_largest_p(candidate, gain) for candidate, gain in zip(candidates, gains, strict=True)]
    p_values = np.array([0.0] * accepted_before + worst + [1.0] * (m - len(candidates) - accepted_before))
    accepted, levels = holm(p_values, levels_of(plan, look, m))
    return tuple(
        Verdict(candidate.name, "invalid", (), problem)
        if problem
        else _verdict(candidate, gain, bool(accepted[i]), float(levels[i]), plan, look)
        for i, (candidate, problem, gain) in enumerate(
            zip(candidates, problems, gains, strict=True), accepted_before
        )
    )


def _problems(candidate: Candidate) -> tuple[str, ...]:
    """Sentences on why no verdict can be given; empty if one can."""
    found = list(candidate.problems)
    for arm in ("candidate", "baseline"):
        values = [
            np.asarray(getattr(evidence, arm))
            for evidence in candidate.evidence
            if arm == "candidate" or evidence.requirement.against_baseline
        ]
        found += _arm_problems(arm, values)
    return tuple(found)


def _arm_problems(arm: str, values: list[Floats]) -> list[str]:
    """Of the values (n_seeds,) of each metric in one arm."""
    n = min((len(value) for value in values), default=2)
    if n < 2:
        return [f"{arm}: {n} seed, at least 2 are needed"]
    if not all(np.isfinite(value).all() for value in values):
        return [f"{arm}: a seed diverged"]
    if len(values) > 1 and all(np.ptp(value) == 0 for value in values):
        return [
            f"{arm}: all {n} seeds give the same value of every metric, so their spread cannot be told: "
            "more seeds, or more test objects"
        ]
    return []


def _largest_p(candidate: Candidate, gains: tuple[StudentGain, ...]) -> float:
    """The p-value of the intersection-union test; 1 of one that cannot be accepted: invalid or collapsed."""
    if candidate.collapsed:
        return 1.0
    pairs = zip(candidate.evidence, gains, strict=False)
    return max((float(gain.p_value(evidence.requirement.margin)) for evidence, gain in pairs), default=1.0)


def _verdict(
    candidate: Candidate,
    gains: tuple[StudentGain, ...],
    accepted: bool,
    level: float,
    plan: Plan,
    look: int,
) -> Verdict:
    upper_level = level_of(plan, look) / len(gains)
    bounds = tuple(
        _bounds(evidence, gain, level, upper_level)
        for evidence, gain in zip(candidate.evidence, gains, strict=True)
    )
    missed = tuple(_missed(bound) for bound in bounds if bound.short_by > ROUNDING)
    remarks = (*_unseen(candidate), *candidate.remarks)
    if accepted:
        return Verdict(candidate.name, "accepted", bounds, (), remarks)
    if missed:
        return Verdict(candidate.name, "rejected", bounds, missed, remarks)
    unclear = tuple(_unclear(bound) for bound in bounds if bound.p_value > level)
    final = _collapse(candidate) + (_out_of_reach(candidate, plan, look + 1) if look < plan.looks else ())
    return Verdict(candidate.name, "inconclusive", bounds, (*unclear, *final), remarks, bool(final))


def _collapse(candidate: Candidate) -> tuple[str, ...]:
    """Why one whose trainings collapse cannot be accepted."""
    if not candidate.collapsed:
        return ()
    n, metric = len(candidate.evidence[0].candidate), candidate.evidence[0].requirement.metric
    return (
        f"{candidate.collapsed} of {n} trainings collapsed ({metric} 0, or below half of their median): "
        "what it gains hangs on how often that happens",
    )


def _unseen(candidate: Candidate) -> tuple[str, ...]:
    """What is known of collapses if there was none."""
    if candidate.collapsed != 0:
        return ()
    n = len(candidate.evidence[0].candidate)
    return (f"0 of {n} trainings collapsed: up to {highest_rate(n):.0%} of trainings may (one-sided 95 %)",)


def _out_of_reach(candidate: Candidate, plan: Plan, next_look: int) -> tuple[str, ...]:
    """A sentence for each requirement that the test split's own error alone keeps from its margin.

    More seeds move the estimate, but hardly above its upper bound over seeds, and leave the test split's own
    error. At the best level that the look could give, that one alone must be able to clear the margin. To
    stop is never an error of the kind that alpha limits.
    """
    level = level_of(plan, next_look)
    found = []
    for evidence in candidate.evidence:
        if evidence.split is None:
            continue
        alone = float(evidence.split.half_width(level))
        best = min(float(evidence.over_seeds().upper(ALPHA)), evidence.range[1])
        if best - alone < evidence.requirement.margin - ROUNDING:
            found.append(
                f"{evidence.requirement.metric}: the test images alone leave it uncertain by ±{alone:.3f}, "
                "so more seeds cannot help: label more"
            )
    return tuple(found)


def _bounds(evidence: Evidence, gain: StudentGain, level: float, upper_level: float) -> Bounds:
    least, most = evidence.range
    return Bounds(
        requirement=evidence.requirement,
        gain=float(gain.value),
        standard_error=float(np.sqrt(gain.variance)),
        df=float(gain.df),
        p_value=float(gain.p_value(evidence.requirement.margin)),
        lower=max(float(gain.lower(level)), least),
        upper=min(float(gain.upper(upper_level)), most),
        lower_level=level,
        upper_level=upper_level,
        split_half_width=None if evidence.split is None else float(evidence.split.half_width(level)),
    )


def _missed(bound: Bounds) -> str:
    asked = bound.requirement
    best, least = ("at least", "at most") if asked.lower_is_better else ("at most", "at least")
    return (
        f"{asked.metric}: {best} {asked.sign * bound.upper:+.3f}, {least} {asked.sign * asked.margin:+.3f} "
        f"is asked for, {bound.short_by:.3f} short"
    )


def _unclear(bound: Bounds) -> str:
    asked = bound.requirement
    low, high = sorted((asked.sign * bound.lower, asked.sign * bound.upper))
    least = "at most" if asked.lower_is_better else "at least"
    return (
        f"{asked.metric}: between {low:+.3f} and {high:+.3f}, "
        f"{least} {asked.sign * asked.margin:+.3f} is asked for"
    )

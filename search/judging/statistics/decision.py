"""The verdict on each candidate: accepted, rejected, inconclusive or invalid. Pure arithmetic.

A candidate is accepted if every requirement's lower bound clears its margin, and rejected if some upper bound
lies below its margin. Lower bounds have the level that the look and Holm's rank give (`levels`). To be wrong
about one of k requirements is to reject wrongly, so upper bounds have the look's level over k, and both looks
together reject wrongly with probability alpha at most. Over candidates a rejection is not corrected, as
nobody ships what was rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.judging.statistics.bounds import Floats, StudentGain, one_sample, welch
from search.judging.statistics.jackknife import SplitNoise
from search.judging.statistics.levels import holm, level_of, levels_of
from search.judging.statistics.values import Bounds, Plan, Requirement, Verdict
from trainables.contract.tasks import ROUNDING


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured for one requirement, on the test split, each value of one fresh seed.

    Attributes:
        requirement: The requirement.
        candidate: (n_c,) raw values of the metric.
        baseline: (n_b,) likewise; empty for a floor.
        split: The test split's own error of the same mean difference; None if it is not to be counted.
    """

    requirement: Requirement
    candidate: Floats
    baseline: Floats
    split: SplitNoise | None

    def gain(self) -> StudentGain:
        """By Welch over seeds, with the test split's own error."""
        candidate = self.requirement.sign * self.candidate
        others = () if self.split is None else (self.split.part,)
        if not self.requirement.against_baseline:
            return one_sample(candidate, *others)
        return welch(candidate, self.requirement.sign * self.baseline, *others)


@dataclass(frozen=True)
class Candidate:
    """A strategy with all that was measured of it.

    Attributes:
        name: As shown.
        evidence: One for each requirement, at least one.
        problems: Why no verdict can be given, in sentences: no test split, diverged seeds, evaluator limits,
            seeds with identical predictions.
    """

    name: str
    evidence: tuple[Evidence, ...]
    problems: tuple[str, ...] = ()


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
        else _verdict(candidate, gain, bool(accepted[i]), float(levels[i]), level_of(plan, look))
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
        return [f"{arm}: all {n} seeds give identical metrics, so the seed changes nothing"]
    return []


def _largest_p(candidate: Candidate, gains: tuple[StudentGain, ...]) -> float:
    """The p-value of the intersection-union test; 1 without gains, which is an invalid candidate's."""
    pairs = zip(candidate.evidence, gains, strict=False)
    return max((float(gain.p_value(evidence.requirement.margin)) for evidence, gain in pairs), default=1.0)


def _verdict(
    candidate: Candidate, gains: tuple[StudentGain, ...], accepted: bool, level: float, look_level: float
) -> Verdict:
    upper_level = look_level / len(gains)
    bounds = tuple(
        _bounds(evidence, gain, level, upper_level)
        for evidence, gain in zip(candidate.evidence, gains, strict=True)
    )
    missed = tuple(_missed(bound) for bound in bounds if bound.short_by > ROUNDING)
    if accepted:
        return Verdict(candidate.name, "accepted", bounds, ())
    if missed:
        return Verdict(candidate.name, "rejected", bounds, missed)
    unclear = tuple(_unclear(bound) for bound in bounds if bound.p_value > level)
    return Verdict(candidate.name, "inconclusive", bounds, unclear)


def _bounds(evidence: Evidence, gain: StudentGain, level: float, upper_level: float) -> Bounds:
    return Bounds(
        requirement=evidence.requirement,
        gain=float(gain.value),
        standard_error=float(np.sqrt(gain.variance)),
        df=float(gain.df),
        p_value=float(gain.p_value(evidence.requirement.margin)),
        lower=float(gain.lower(level)),
        upper=float(gain.upper(upper_level)),
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

"""What a plan, a verdict and its advice say, as values: read and shown without loading SciPy.

Conventions as in the package: a *gain* is oriented, so more is better; a level is the one-sided probability
of an error.
"""

import math
from dataclasses import dataclass
from typing import Literal

from trainables.contract.tasks import ROUNDING, UNLIMITED

ALPHA = 0.05
FIRST_SHARE = 0.5  # of alpha, spent at the first look

Decision = Literal["accepted", "rejected", "inconclusive", "invalid"]


@dataclass(frozen=True)
class Seeds:
    """Seeds per arm at a look, all so far together."""

    candidate: int
    baseline: int


@dataclass(frozen=True)
class Plan:
    """What was fixed before the first look.

    Attributes:
        first: Seeds at the first look.
        second: Seeds at the second, all together; None if there is none.
        alpha: Overall one-sided error, over looks and candidates.
        first_share: Share of alpha for the first look, if there are two.
    """

    first: Seeds = Seeds(candidate=5, baseline=10)
    second: Seeds | None = Seeds(candidate=10, baseline=15)
    alpha: float = ALPHA
    first_share: float = FIRST_SHARE

    @property
    def looks(self) -> int:
        """1 or 2."""
        return 1 if self.second is None else 2


@dataclass(frozen=True)
class Requirement:
    """What one metric must show.

    Attributes:
        metric: Its name.
        margin: The smallest gain that will do, in the direction in which more is better: .05 for a gain asked
            for, -.03 for a drop allowed, and for a floor the value itself (negative if lower is better).
        lower_is_better: Whether the metric counts the other way.
        against_baseline: Whether the gain is over the baseline; a floor is not.
    """

    metric: str
    margin: float
    lower_is_better: bool = False
    against_baseline: bool = True

    @property
    def sign(self) -> int:
        """-1 if lower is better, else 1."""
        return -1 if self.lower_is_better else 1

    @property
    def range(self) -> tuple[float, float]:
        """Where the true gain must lie, in the direction in which more is better; for a floor the value."""
        if self.metric in UNLIMITED:
            return -math.inf, math.inf
        if self.against_baseline:
            return -1.0, 1.0
        return (-1.0, 0.0) if self.lower_is_better else (0.0, 1.0)


@dataclass(frozen=True)
class Bounds:
    """One requirement's estimate and bounds, in the direction in which more is better.

    Attributes:
        requirement: The requirement.
        gain: Estimated gain; for a floor the mean itself.
        standard_error: Over seeds and test sources.
        df: Degrees of freedom of the standard error.
        p_value: One-sided, of "the true gain is at most the margin".
        lower: Lower bound at `lower_level`, within what the metric can be.
        upper: Upper bound at `upper_level`, likewise.
        lower_level: One-sided level of the lower bound.
        upper_level: One-sided level of the upper bound.
        split_half_width: The half-width at `lower_level` that the test split alone would leave with
            infinitely many seeds; None if not counted.
    """

    requirement: Requirement
    gain: float
    standard_error: float
    df: float
    p_value: float
    lower: float
    upper: float
    lower_level: float
    upper_level: float
    split_half_width: float | None

    @property
    def short_by(self) -> float:
        """By how much even the upper bound misses the margin; <= 0 if it does not."""
        return self.requirement.margin - self.upper

    @property
    def point_rule(self) -> bool:
        """Whether the mean alone meets the margin: the note's literal rule, no verdict."""
        return self.gain - self.requirement.margin >= -ROUNDING


@dataclass(frozen=True)
class Verdict:
    """What was decided on one candidate.

    Attributes:
        candidate: Its name.
        outcome: accepted, rejected, inconclusive or invalid.
        bounds: One for each requirement; empty if invalid.
        reasons: Sentences: the problems of an invalid candidate, the requirements that a rejected one misses,
            or those that an inconclusive one has not cleared.
        remarks: Sentences that hold whatever the outcome: what is known of trainings that collapse.
        settled: Whether no look that is left could accept an inconclusive one, so that none is made for it.
    """

    candidate: str
    outcome: Decision
    bounds: tuple[Bounds, ...]
    reasons: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    settled: bool = False

    @property
    def point_rule(self) -> bool:
        """Whether the note's literal rule is met; to be shown labelled, it decides nothing."""
        return bool(self.bounds) and all(bound.point_rule for bound in self.bounds)


@dataclass(frozen=True)
class Advice:
    """What would decide an inconclusive candidate, if its gains are what they seem.

    Attributes:
        kind: `seeds` (retrain on so many), `labels` (more seeds cannot help: label more test images),
            `too_many_seeds` (the limit would not do: the gain is too small for its noise), or `no_gain` (an
            estimate is not above its margin: nothing to confirm).
        candidate_seeds: Seeds for the candidate in a fresh confirmation; None unless `kind` is `seeds`.
        baseline_seeds: Likewise for the baseline.
        sources: How many times the test sources are needed; None unless `kind` is `labels`.
        best_power: Power with infinitely many seeds.
    """

    kind: Literal["seeds", "labels", "too_many_seeds", "no_gain"]
    candidate_seeds: int | None
    baseline_seeds: int | None
    sources: float | None
    best_power: float

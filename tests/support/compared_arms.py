"""Arms with known recalls, and a comparison of them, for tests."""

from collections.abc import Sequence

import numpy as np
from reports import report_with

from search.judging.compare import compare
from search.judging.comparison import Comparison, Estimate
from search.judging.measured import Arm
from search.judging.statistics.jackknife import Replicates
from spaces.strategy import PLAIN
from trainables.contract.trial import TrialFailure, TrialReport

USUAL = (0.40, 0.43, 0.38, 0.41, 0.44, 0.39, 0.42, 0.37, 0.45, 0.40)
LIFTED = (0.52, 0.55, 0.49, 0.58, 0.51)
RECALL, NLL = "minority_recall", "nll"


def report(recall: float | None, nll: float | None = 0.3, exposure: float = 0.1) -> TrialReport:
    more = {"images_seen": 960, "unique_images": 500, "steps": 60, "seconds": 12.0}
    return report_with({RECALL: recall, NLL: nll}, exposure=exposure, **more)


def arm(name: str, recalls: Sequence[float | None], *failures: TrialFailure) -> Arm:
    """Its nll falls as its recall rises."""
    reports = tuple(report(value, None if value is None else 1 - value) for value in recalls)
    return Arm(name, PLAIN, reports, failures)


def with_split(of: Arm, rng: np.random.Generator) -> Arm:
    """With recall measured without each of 20 sources in turn."""
    names = tuple(f"slide{i:02}" for i in range(20))
    replicates = tuple(
        Replicates(value, value + rng.normal(0, 0.01, 20), names) for value in of.values(RECALL).tolist()
    )
    return Arm(of.name, of.strategy, of.reports, of.failures, {RECALL: replicates})


def compared(*arms: Arm, pairs: Sequence[tuple[str, str]] = (), alpha: float = 0.05) -> Comparison:
    return compare(arms, "plain", [RECALL, NLL], deciding=RECALL, split="test", pairs=pairs, alpha=alpha)


def gain(comparison: Comparison, name: str, metric: str = RECALL) -> Estimate:
    found = next(arm for arm in comparison.arms if arm.name == name).measured[metric].gain
    assert found is not None
    return found

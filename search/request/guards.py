"""What may not be lost. A violation is a distance beyond the limit: <= 0 is feasible.

Pure arithmetic on metric values; does not know where they come from.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from spaces.errors import RunError
from spaces.frozen import Frozen
from trainables.contract.tasks import LOWER_IS_BETTER, ROUNDING
from trainables.contract.trial import Metrics, valued


class MissingMetric(RunError):
    """A guarded metric was not measured, e.g. the class has no object in this split."""


class MaxDrop(Frozen):
    """`metric` may be worse than the baseline's mean by at most `max_drop`, absolute."""

    metric: str
    max_drop: float = Field(ge=0, le=1)

    def violation(self, value: float | None, baseline: float | None) -> float:
        """Distance beyond the allowed drop; <= 0 is feasible.

        Args:
            value: The trial's metric.
            baseline: Mean of the same metric over the baseline's seeds.

        Raises:
            MissingMetric: If either is absent.

        Example:
            >>> round(MaxDrop(metric="map50_95", max_drop=0.02).violation(value=0.47, baseline=0.50), 6)
            0.01
        """
        if value is None or baseline is None:
            raise MissingMetric(f"guard on '{self.metric}': it was not measured")
        drop = value - baseline if self.metric in LOWER_IS_BETTER else baseline - value
        return _rounded(drop - self.max_drop)


class Floor(Frozen):
    """`metric` may not be worse than `floor`, whatever the baseline does."""

    metric: str
    floor: float

    def violation(self, value: float | None, baseline: float | None) -> float:
        """Distance below the floor; <= 0 is feasible. `baseline` plays no part.

        Raises:
            MissingMetric: If the value is absent.
        """
        if value is None:
            raise MissingMetric(f"guard on '{self.metric}': it was not measured")
        return _rounded(value - self.floor if self.metric in LOWER_IS_BETTER else self.floor - value)


def _rounded(violation: float) -> float:
    return 0.0 if abs(violation) < ROUNDING else violation


def _kind(guard: Any) -> str:
    floor = isinstance(guard, Floor) or (isinstance(guard, dict) and "floor" in guard)
    return "floor" if floor else "max_drop"


Guard = Annotated[
    Annotated[MaxDrop, Tag("max_drop")] | Annotated[Floor, Tag("floor")],
    Discriminator(_kind),
]


def violations(guards: tuple[MaxDrop | Floor, ...], metrics: Metrics, baseline: Metrics) -> dict[str, float]:
    """Guarded metric -> violation; with several guards on one metric, the worst.

    Raises:
        MissingMetric: If a guarded metric is absent.
    """
    found: dict[str, float] = {}
    for guard in guards:
        worst = guard.violation(valued(metrics, guard.metric), valued(baseline, guard.metric))
        found[guard.metric] = max(worst, found.get(guard.metric, worst))
    return found


def unmeasured(guards: tuple[MaxDrop | Floor, ...], baseline: Metrics) -> list[str]:
    """Guarded metrics that no trial can be judged by, as the baseline lacks them."""
    return [guard.metric for guard in guards if valued(baseline, guard.metric) is None]

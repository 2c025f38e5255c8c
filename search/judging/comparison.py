"""A comparison as values: its plan, what is known of each arm, what is stored. Free of SciPy.

A gain has the metric's own sign: if lower is better, so is a negative gain. What cannot be told is None, with
a reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from search.judging.statistics.values import Requirement
from search.record.experiments import COMPARISON, Wanted, seeds_of
from search.request.config import CompareConfig, StudyConfig
from spaces.frozen import Frozen
from spaces.strategy import Strategy
from trainables.contract.tasks import LOWER_IS_BETTER, ROUNDING, on_whole_images
from trainables.contract.trial import DataSpec, Merging, Split


@dataclass(frozen=True)
class Estimate:
    """A mean or a gain.

    Attributes:
        value: None if it cannot be told.
        interval: Two-sided, 95 %; None if it cannot be told.
        split_counted: Whether the interval holds the split's own error beside the seeds'.
        reason: Why something is None or not to be trusted; else empty.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    split_counted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Measured:
    """One metric of one arm.

    Attributes:
        values: Of each seed that could measure it.
        sd: Over the seeds; None with fewer than two, or if one could not measure it.
        mean: Over the seeds.
        gain: Mean minus the reference's; None for the reference itself.
    """

    values: tuple[float, ...]
    sd: float | None
    mean: Estimate
    gain: Estimate | None


@dataclass(frozen=True)
class ArmResult:
    """What is known of one arm; means are over its finished seeds, None without any.

    Attributes:
        name: As shown.
        strategy: What was trained.
        seeds: Number of finished seeds.
        failed: Kind of failure -> number of seeds.
        exposure: Mean share of the drawn images that hold a minority object.
        images_seen: Mean number of images drawn.
        unique_images: Mean number of distinct images drawn.
        seconds: Mean wall time.
        measured: By metric.
        p_value: Two-sided, of "the deciding metric does not differ from the reference"; None if no gain is
            claimed.
        p_holm: Adjusted over all arms.
        differs: Whether `p_holm` is at most alpha.
    """

    name: str
    strategy: Strategy
    seeds: int
    failed: dict[str, int]
    exposure: float | None
    images_seen: float | None
    unique_images: float | None
    seconds: float | None
    measured: dict[str, Measured]
    p_value: float | None
    p_holm: float | None
    differs: bool


@dataclass(frozen=True)
class Pair:
    """Two arms of equal exposure, and by how much the first exceeds the second in each metric."""

    first: str
    second: str
    differences: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """All arms in the order given.

    Attributes:
        arms: The reference among them.
        reference: Its name.
        metrics: In the order given.
        deciding: The metric of the p-values.
        pairs: Of equal exposure.
        split: What all was measured on.
        alpha: Of "some arm differs that does not", over all arms.
    """

    arms: tuple[ArmResult, ...]
    reference: str
    metrics: tuple[str, ...]
    deciding: str
    pairs: tuple[Pair, ...]
    split: Split
    alpha: float

    def of(self, metrics: Sequence[str]) -> "Comparison":
        """The same with some of its metrics alone, in that order; the deciding one must be among them."""
        return replace(
            self,
            metrics=tuple(metrics),
            arms=tuple(
                replace(arm, measured={metric: arm.measured[metric] for metric in metrics})
                for arm in self.arms
            ),
            pairs=tuple(
                replace(pair, differences={metric: pair.differences[metric] for metric in metrics})
                for pair in self.pairs
            ),
        )

    def with_whole_images(self, metrics: Sequence[str]) -> "Comparison":
        """As `of`, each metric followed by that of whole images, where these were measured."""
        pairs = [name for metric in metrics for name in (metric, on_whole_images(metric))]
        return self.of([name for name in dict.fromkeys(pairs) if name in self.metrics])


def at_margins(arm: ArmResult, asked: Sequence[Requirement]) -> str:
    """Whether an arm's 95 % intervals lie beyond every margin: `yes`, `no` if one lies below its own, `open`.

    Exploratory: a verdict takes fresh seeds and images that nothing was chosen on.

    Args:
        arm: Not the reference.
        asked: Of metrics that were compared.
    """
    beyond = []
    for one in asked:
        measured = arm.measured[one.metric]
        estimate = measured.gain if one.against_baseline else measured.mean
        if estimate is None or estimate.interval is None:
            return "open"
        low, high = sorted(one.sign * end for end in estimate.interval)
        beyond.append((low >= one.margin - ROUNDING, high < one.margin - ROUNDING))
    if any(below for _, below in beyond):
        return "no"
    return "yes" if all(above for above, _ in beyond) else "open"


def is_better(metric: str, gain: float) -> bool:
    """Whether a gain of this sign is an improvement."""
    return gain < 0 if metric in LOWER_IS_BETTER else gain > 0


_STORED: TypeAdapter[Comparison] = TypeAdapter(Comparison)


class ComparePlan(Frozen):
    """What a comparison runs: its settings, and every arm with the strategy that it stands for here."""

    settings: CompareConfig
    arms: dict[str, Strategy]
    whole_images: bool = False  # whether they are measured, too
    merging: Merging = "core"  # how tiles become whole images, the same for all

    def wanted(self, config: StudyConfig, data: DataSpec) -> list[Wanted]:
        """The runs, seed by seed over the arms; an arm that was compared before keeps its seeds."""
        merged = data.model_copy(update={"merging": self.merging})
        return [
            Wanted(arm, config.spec(self.arms[arm], merged, seed=seed, split=self.settings.split))
            for arm, seed in seeds_of(config.search.seed, COMPARISON, self.seeds())
        ]

    def seeds(self) -> dict[str, int]:
        """How many each arm has."""
        settings = self.settings
        return dict.fromkeys(self.arms, settings.seeds) | {settings.reference: settings.reference_seeds}


class Conclusion(Frozen):
    """A finished comparison, as it is kept in the record."""

    plan: ComparePlan
    comparison: str  # JSON

    @classmethod
    def of(cls, plan: ComparePlan, comparison: Comparison) -> "Conclusion":
        """To be stored."""
        return cls(plan=plan, comparison=_STORED.dump_json(comparison).decode())

    def read(self) -> Comparison:
        """As it was concluded."""
        return _STORED.validate_json(self.comparison)

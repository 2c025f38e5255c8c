"""Arms against a reference: what each lifts and what it costs. Pure: values in, values out.

Exploratory. `statistics.decision` asks of few candidates, on fresh seeds, whether one-sided bounds clear
margins; this looks at many arms and all metrics from both sides. Every interval is 95 % by itself, by Welch
over seeds, with the split's own error where it is known. In one metric, the deciding one, each arm is also
tested against the reference, with Holm's correction over the arms: Dunnett's wants equal variances, and arms
differ in theirs.

A gain has the metric's own sign: if lower is better, so is a negative gain. What cannot be told is None, with
a reason; a mean over the seeds that happened to survive is no basis for a gain.
"""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from search.judging.comparison import ArmResult, Comparison, Estimate, Measured, Pair
from search.judging.measured import Arm
from search.judging.statistics.bounds import Floats, StudentGain
from search.judging.statistics.jackknife import SplitNoise, mean_gain, split_noise
from trainables.contract.tasks import ROUNDING
from trainables.contract.trial import Split

TAIL = 0.025  # that an interval leaves out on each side


def compare(
    arms: Sequence[Arm],
    reference: str,
    metrics: Sequence[str],
    *,
    deciding: str,
    split: Split,
    pairs: Sequence[tuple[str, str]] = (),
    alpha: float = 0.05,
) -> Comparison:
    """Every arm's metrics, and their difference from the reference's.

    Args:
        arms: At least two, with different names, the reference among them.
        reference: Its name.
        metrics: What to show.
        deciding: The one of `metrics` to test.
        split: What the reports were measured on.
        pairs: Names of arms with equal exposure.
        alpha: Overall two-sided error of that test. An arm without a gain counts among the arms.

    Raises:
        ValueError: Arms or names are not as described, or runs were not measured on the same sources.
    """
    by_name = {arm.name: arm for arm in arms}
    absent = {reference, *(name for pair in pairs for name in pair)} - set(by_name)
    if len(by_name) < max(len(arms), 2) or absent or deciding not in metrics:
        raise ValueError(
            f"arms {[arm.name for arm in arms]}, absent {sorted(absent)}, deciding '{deciding}' of {metrics}"
        )
    base = by_name[reference]
    tested = _tested([arm for arm in arms if arm is not base], base, deciding)
    return Comparison(
        arms=tuple(_result(arm, base, metrics, tested.get(arm.name), alpha) for arm in arms),
        reference=reference,
        metrics=tuple(metrics),
        deciding=deciding,
        pairs=tuple(
            Pair(one, other, {metric: _gain(by_name[one], by_name[other], metric) for metric in metrics})
            for one, other in pairs
        ),
        split=split,
        alpha=alpha,
    )


def holm_adjusted(p_values: Floats) -> Floats:
    """(m,): the smallest overall level at which Holm's step-down still rejects each.

    Source: Holm 1979.
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(m, 0, -1))
    return np.minimum(adjusted, 1.0)


def _tested(arms: Sequence[Arm], base: Arm, metric: str) -> dict[str, tuple[float, float]]:
    """Arm -> its p-value, and that adjusted over all arms; without those of which no gain is claimed."""
    p_values = {arm.name: _p_value(arm, base, metric) for arm in arms if not _no_gain(arm, base, metric)}
    untested = [1.0] * (len(arms) - len(p_values))  # they count all the same
    adjusted = holm_adjusted(np.array([*p_values.values(), *untested])).tolist()
    return {name: (p, p_holm) for (name, p), p_holm in zip(p_values.items(), adjusted, strict=False)}


def _p_value(arm: Arm, base: Arm, metric: str) -> float:
    """Two-sided, of "no difference"."""
    gain = _welch(arm, base, metric)
    if abs(gain.value) <= ROUNDING:  # without any variance `StudentGain` knows only 0 and 1
        return 1.0
    return min(1.0, 2 * float(StudentGain(np.abs(gain.value), gain.variance, gain.df).p_value(0.0)))


def _result(
    arm: Arm, base: Arm, metrics: Sequence[str], p_values: tuple[float, float] | None, alpha: float
) -> ArmResult:
    p_value, p_holm = p_values or (None, None)
    return ArmResult(
        name=arm.name,
        strategy=arm.strategy,
        seeds=len(arm.reports),
        failed=arm.failed(),
        exposure=_over_seeds([report.exposure for report in arm.reports]),
        images_seen=_over_seeds([report.images_seen for report in arm.reports]),
        unique_images=_over_seeds([report.unique_images for report in arm.reports]),
        seconds=_over_seeds([report.seconds for report in arm.reports]),
        measured={metric: _measured(arm, base, metric) for metric in metrics},
        p_value=p_value,
        p_holm=p_holm,
        differs=p_holm is not None and p_holm <= alpha,
    )


def _over_seeds(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _measured(arm: Arm, base: Arm, metric: str) -> Measured:
    values = arm.values(metric)
    return Measured(
        values=tuple(values[~np.isnan(values)].tolist()),
        sd=float(values.std(ddof=1)) if len(values) > 1 and not np.isnan(values).any() else None,
        mean=_mean(arm, metric),
        gain=None if arm is base else _gain(arm, base, metric),
    )


def _mean(arm: Arm, metric: str) -> Estimate:
    values, reason = arm.values(metric), arm.problem(metric)
    if len(values) == 0 or np.isnan(values).any():
        return Estimate(reason=reason)
    if len(values) == 1:
        return Estimate(float(values[0]), reason=reason)
    split = _split(metric, arm)
    return _estimate(mean_gain(values, None, split), split, reason)


def _gain(arm: Arm, base: Arm, metric: str) -> Estimate:
    reason = _no_gain(arm, base, metric)
    if reason:
        return Estimate(reason=reason)
    return _estimate(_welch(arm, base, metric), _split(metric, arm, base))


def _no_gain(arm: Arm, base: Arm, metric: str) -> str:
    """Why no gain of `arm` over `base` is claimed; empty if one can be."""
    of_base = base.problem(metric)
    return arm.problem(metric) or (of_base and f"{base.name}: {of_base}")


def _welch(arm: Arm, base: Arm, metric: str) -> StudentGain:
    return mean_gain(arm.values(metric), base.values(metric), _split(metric, arm, base))


def _split(metric: str, *arms: Arm) -> SplitNoise | None:
    """The split's own error of the mean, or of the difference of two; None if it is unknown of any arm."""
    replicates = [arm.replicates.get(metric, ()) for arm in arms]
    return split_noise(*replicates) if all(replicates) else None


def _estimate(gain: StudentGain, split: SplitNoise | None, reason: str = "") -> Estimate:
    interval = (float(gain.lower(TAIL)), float(gain.upper(TAIL)))
    return Estimate(float(gain.value), interval, split is not None, reason)

"""What is wrong with a strategy's runs, in plain sentences, each with the number that it hangs on.

Pure: values in, values out. A diagnosis that needs what is not there (the baseline, a metric of an older
record, a second seed) is left out. Identical seeds and evaluator limits are not looked for here.
"""

import math
import statistics
from collections.abc import Sequence

from search.judging.learning import (
    BEYOND_NOISE,
    RECALL,
    Diagnosis,
    collapse,
    memorised,
    minus,
    support_of,
    too_strong,
    untrained,
    val_recall,
    values_of,
)
from spaces.strategy import Strategy
from trainables.contract.tasks import MERGED, ROUNDING
from trainables.contract.trial import Split, TrialReport

__all__ = ["Diagnosis", "diagnose", "lines", "ships_poorly"]

RANKING = "minority_ap50"
DEPLOYED = "deployed/minority_recall"

Z95 = 1.645  # one-sided 95 % of a normal
# Where the counting error of a recall is largest. At the observed recall it would be 0 where the minority is
# never or always found, and what is a property of the split would differ from trial to trial.
WORST_RECALL = 0.5
SAME_RECALL = 0.02  # nearer is the same to whoever uses the model
LEAST_SHIPPED = 0.5  # of the recall in the table: what finds less is told again at `confirm` and `export`
SAME_EXPOSURE = 0.05  # relative: nearer to what it would be without the knob is no effect
MOST_LOST = 0.05  # share of the boxes that augmentation may push out of the image
# Of small structures, after augmentation; ours at full strength leave 63 to 75 % of it on digits of 8 px.
LEAST_CONTRAST = 0.6
REWEIGHTING = (
    ("sampler_power", "the weighted sampler"),
    ("repeat_threshold", "repeat factors"),
    ("alpha_power", "class weights"),
    ("class_balance", "class-balanced weights"),
    ("logit_tau", "logit adjustment"),
)


def diagnose(
    strategy: Strategy,
    reports: Sequence[TrialReport],
    baseline: Sequence[TrialReport],
    *,
    minority: Sequence[str],
    split: Split = "val",
    split_variance: float | None = None,
    min_gain: float,
) -> tuple[Diagnosis, ...]:
    """Everything that is wrong with one strategy.

    Args:
        strategy: What was asked.
        reports: Its seeds, at least one, measured on `split`.
        baseline: The baseline's seeds, measured on the same split; may be empty.
        minority: Names of the minority classes; if empty, what counts their objects is left out.
        split: Where the reports' final metrics were measured; the curves are on val.
        split_variance: Variance of the recall on `split` that comes from its images, not from the seeds.
        min_gain: The gain in minority recall that is looked for.
    """
    found = (
        small_support(reports, minority, split=split, min_gain=min_gain),
        idle_sampler(strategy, reports),
        idle_retention(strategy, reports),
        threshold_shift(reports, baseline, min_gain=min_gain),
        deployed_apart(reports),
        memorised(reports, baseline),
        collapse(reports),
        untrained(reports, minority),
        boxes_lost(reports),
        structures_lost(reports),
        too_strong(strategy, reports, baseline),
        stacked(strategy, reports, minority),
        fall(reports, minority, split_variance) if split == "test" else None,
    )
    return tuple(diagnosis for diagnosis in found if diagnosis is not None)


def lines(diagnoses: Sequence[Diagnosis]) -> list[str]:
    """One line of text for each."""
    return [f"{diagnosis.name}: {diagnosis.sentence}" for diagnosis in diagnoses]


def small_support(
    reports: Sequence[TrialReport], minority: Sequence[str], *, split: Split, min_gain: float
) -> Diagnosis | None:
    """Counting alone leaves recall more uncertain than the gain; number: the one-sided 95 % half-width.

    The objects of several minority classes are taken together: the best case for the mean of their recalls.
    Where there are whole images these count: what their tiles show of an object is no more than one.
    """
    metrics = reports[0].metrics
    support = support_of(metrics, minority, MERGED)
    if support is None:
        support = support_of(metrics, minority)
    return None if support is None else few_objects(support, split=split, min_gain=min_gain)


def few_objects(support: float, *, split: Split, min_gain: float) -> Diagnosis | None:
    """The same of a number of objects, for before there is a report."""
    width = Z95 * math.sqrt(WORST_RECALL * (1 - WORST_RECALL) / support) if support else 1.0
    if width <= min_gain:
        return None
    return Diagnosis(
        "support too small",
        width,
        f"the {split} split holds {support:.0f} minority objects: so few leave recall uncertain by up to "
        f"±{width:.3f} (one-sided 95 %), more than the gain of {min_gain:g} that is looked for",
    )


def idle_sampler(strategy: Strategy, reports: Sequence[TrialReport]) -> Diagnosis | None:
    """Weighted draws show the minority no more often than uniform ones; number: the exposure.

    Where every image kept holds a minority object, no weighting can: that is found here too.
    """
    if strategy.sampling.sampler_power == 0 and strategy.sampling.repeat_threshold == 0:
        return None
    return _idle("the sampler", strategy.sampling.retention, reports)


def idle_retention(strategy: Strategy, reports: Sequence[TrialReport]) -> Diagnosis | None:
    """Undersampling shows the minority no more often than all images would; number: the exposure."""
    if strategy.sampling.retention == 1:
        return None
    return _idle("undersampling the majority", 1.0, reports)


def _idle(what: str, retention: float, reports: Sequence[TrialReport]) -> Diagnosis | None:
    """`what` does not move the exposure from that of uniform draws at `retention`."""
    applied = reports[0].applied
    if "minority_images" not in applied:
        return None
    natural = applied["minority_images"] / (
        applied["minority_images"] + retention * applied["majority_images"]
    )
    exposure = statistics.fmean(report.exposure for report in reports)
    if abs(exposure - natural) > SAME_EXPOSURE * natural + ROUNDING:
        return None
    return Diagnosis(
        "strategy without effect",
        exposure,
        f"{what} changes nothing: {exposure:.1%} of the drawn images hold a minority object, "
        f"{natural:.1%} would without it",
    )


def threshold_shift(
    reports: Sequence[TrialReport], baseline: Sequence[TrialReport], *, min_gain: float
) -> Diagnosis | None:
    """Recall rose, the ranking did not; number: the change of minority AP50."""
    recall, ranking = (_rise(reports, baseline, name) for name in (RECALL, RANKING))
    if recall is None or ranking is None or recall < min_gain - ROUNDING or ranking > ROUNDING:
        return None
    return Diagnosis(
        "threshold shift only",
        ranking,
        f"minority recall rose by {recall:.3f} over the baseline, but average precision (AP50) changed by "
        f"{ranking:+.3f}: detections are ranked no better, and a lower score threshold would do the same",
    )


def deployed_apart(reports: Sequence[TrialReport]) -> Diagnosis | None:
    """What ships finds another share of the minority than the table's recall; number: the difference."""
    recall, deployed = (
        values_of(reports, read)
        for read in (lambda report: report.metrics[RECALL], lambda report: report.metrics.get(DEPLOYED))
    )
    if not deployed:
        return None
    apart = statistics.fmean(deployed) - statistics.fmean(recall)
    if abs(apart) <= SAME_RECALL + ROUNDING:
        return None
    return Diagnosis(
        "deployed differs",
        apart,
        f"the exported weights, at the threshold that ships, find {statistics.fmean(deployed):.3f} of the "
        f"minority ({apart:+.3f}): one label per box, at an operating point fitted on val",
    )


def ships_poorly(report: TrialReport) -> Diagnosis | None:
    """`deployed_apart` of a run whose weights, as they ship, find less than half of what the table says."""
    recall, deployed = report.metrics.get(RECALL), report.metrics.get(DEPLOYED)
    if recall is None or deployed is None or deployed >= LEAST_SHIPPED * recall:
        return None
    return deployed_apart([report])


def boxes_lost(reports: Sequence[TrialReport]) -> Diagnosis | None:
    """Augmentation pushes boxes out of the image; number: their share."""
    entered, lost = (
        sum(report.applied.get(name, 0) for report in reports) for name in ("boxes_augmented", "boxes_lost")
    )
    if lost <= MOST_LOST * entered:
        return None
    return Diagnosis(
        "augmentation too strong",
        lost / entered,
        f"augmentation loses {lost / entered:.1%} of the boxes it is given ({lost} of {entered})",
    )


def structures_lost(reports: Sequence[TrialReport]) -> Diagnosis | None:
    """Augmentation blurs small structures or makes them pale; number: the share of contrast left."""
    kept = [
        (share, group)
        for report in reports
        for group, share in report.applied.get("contrast_kept", {}).items()
        if share is not None
    ]
    least, group = min(kept, default=(1.0, ""))
    if least >= LEAST_CONTRAST:
        return None
    images = "of the minority" if group == "minority" else "of the other classes"
    return Diagnosis(
        "augmentation too strong",
        least,
        f"augmentation leaves small structures {least:.0%} of their contrast, in images {images}: a small "
        "defect may be gone",
    )


def stacked(strategy: Strategy, reports: Sequence[TrialReport], minority: Sequence[str]) -> Diagnosis | None:
    """The minority is favoured in more than one way at once, and too much; number: in how many ways.

    Too much is a minority class with more than its even share of the prior that the trained scores stand for.
    If the receipt lacks that prior, or no minority is known, more than one way is enough.
    """
    used = [
        f"{words} ({knob} {strategy.knobs()[knob]:.2f})"
        for knob, words in REWEIGHTING
        if knob in strategy.changed()
    ]
    prior = {
        name: share for name, share in reports[0].applied.get("effective_prior", {}).items() if share > 0
    }
    favoured = [name for name in minority if prior.get(name, 0) * len(prior) > 1 + SAME_EXPOSURE]
    if len(used) < 2 or (prior and minority and not favoured):
        return None
    sentence = f"{' and '.join(used)} multiply: they can more than make up for the minority being rare"
    if prior:
        most, least = max(prior, key=prior.__getitem__), min(prior, key=prior.__getitem__)
        sentence += f"; the loss sees '{most}' {prior[most] / prior[least]:.1f} times as much as '{least}'"
        shares = ", ".join(f"'{name}' {prior[name]:.0%}" for name in favoured or minority if name in prior)
        sentence += f" (effective prior: {shares}; even would be {1 / len(prior):.0%})"
    return Diagnosis("reweighting stacked", len(used), sentence)


def fall(
    reports: Sequence[TrialReport], minority: Sequence[str], split_variance: float | None
) -> Diagnosis | None:
    """Recall on test lies below that on val by more than seeds and images explain; number: the mean fall.

    SE^2 = variance of the n seeds' falls / n + split_variance * (1 + support on test / support on val). Seeds
    share the images, so what these add is not averaged; val's add what test's do, scaled by support.
    """
    falls = values_of(reports, lambda report: minus(val_recall(report), report.metrics[RECALL]))
    on_test = support_of(reports[0].metrics, minority)
    on_val = support_of(reports[0].curve[-1].metrics, minority)
    if split_variance is None or len(falls) < 2 or on_test is None or not on_val:
        return None
    mean = statistics.fmean(falls)
    error = math.sqrt(statistics.variance(falls) / len(falls) + split_variance * (1 + on_test / on_val))
    if mean <= BEYOND_NOISE * error:
        return None
    return Diagnosis(
        "val-to-test fall",
        mean,
        f"minority recall falls by {mean:.3f} from the val to the test split, where chance explains up to "
        f"{BEYOND_NOISE * error:.3f}: the two splits differ, or the strategy was fitted to val",
    )


def _rise(reports: Sequence[TrialReport], baseline: Sequence[TrialReport], metric: str) -> float | None:
    """Of the mean of a final metric over the baseline's."""
    ours, theirs = (
        values_of(group, lambda report: report.metrics.get(metric)) for group in (reports, baseline)
    )
    return statistics.fmean(ours) - statistics.fmean(theirs) if ours and theirs else None

"""Whether anything was learnt, and what: the notes that read operating points and learning curves.

Also what every note is made of. Pure: values in, values out; as in `diagnostics`, what needs a number that is
not there is left out.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.judging.statistics.collapse import collapsed
from search.record.stored import LATE
from spaces.strategy import Strategy
from trainables.contract.tasks import ROUNDING
from trainables.contract.trial import TRAIN_RECALL, Metrics, TrialReport

RECALL, PRECISION = "minority_recall", "minority_precision"

LARGE_GAP = 0.1  # of recalls on the training images: less is never worth a sentence
BEYOND_NOISE = 2.0  # standard errors
FLOOR = 0.001  # a score threshold that lets every box count
AUGMENTING = ("augment_minority", "augment_rest")
ADVICE = "raise train.steps"


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is wrong.

    Attributes:
        name: The same for all trials, e.g. `strategy without effect`.
        number: What it hangs on; its meaning is in the sentence.
        sentence: For someone who has not seen the code.
    """

    name: str
    number: float
    sentence: str


def collapse(reports: Sequence[TrialReport]) -> Diagnosis | None:
    """Some seeds find next to nothing of what the others find; number: how many."""
    recalls = values_of(reports, lambda report: report.metrics[RECALL])
    lost = collapsed(recalls)
    if lost == 0:
        return None
    how = "never found the minority: recall 0"
    if sum(recall == 0 for recall in recalls) < lost:
        how = f"found less than half of what their median finds, down to a recall of {min(recalls):.3f}"
    return Diagnosis("minority collapse", lost, f"{lost} of {len(reports)} trained models {how}")


def untrained(reports: Sequence[TrialReport], minority: Sequence[str]) -> Diagnosis | None:
    """Some seeds of a detector cannot tell the minority from anything; number: how many.

    Their threshold is the lowest there is, or their minority precision is no better than what guessing the
    class of each object gives: the minority's share of the objects. A classifier has neither number.
    """
    lost = [report.metrics for report in reports if _at_floor(report.metrics)]
    if lost:
        why = f"cannot tell by a score: at the best threshold, {lost[0]['threshold']:.3f}, every box counts"
    else:
        lost = [report.metrics for report in reports if _guesses(report.metrics, minority)]
        if not lost:
            return None
        guess = _guessed_precision(lost[0], minority)
        why = f"have a minority precision of {lost[0][PRECISION]:.3f}, where guessing would reach {guess:.3f}"
    return Diagnosis(
        "untrained model", len(lost), f"{len(lost)} of {len(reports)} trained models {why}; {ADVICE}"
    )


def _at_floor(metrics: Metrics) -> bool:
    threshold = metrics.get("threshold")
    return threshold is not None and threshold <= FLOOR


def _guesses(metrics: Metrics, minority: Sequence[str]) -> bool:
    precision, share = metrics.get(PRECISION), _guessed_precision(metrics, minority)
    return precision is not None and share is not None and precision <= share + ROUNDING


def _guessed_precision(metrics: Metrics, minority: Sequence[str]) -> float | None:
    """Mean over the minority classes with an object of their share of all objects.

    None if it is not known, or if there is no other class to take an object for.
    """
    counts = {name: count for name, count in metrics.items() if name.startswith("support/")}
    present = [count for name in minority if (count := counts.get(f"support/{name}"))]
    objects = sum(count for count in counts.values() if count is not None)
    if not present or present == [objects]:
        return None
    return statistics.fmean(present) / objects


def still_learning(reports: Sequence[TrialReport], objective: str) -> Diagnosis | None:
    """The objective still rises over the last quarter of the epochs; number: by how much, over the seeds.

    It rises if the mean over the seeds does by more than half of `LARGE_GAP` and more than `BEYOND_NOISE`
    standard errors (sd of the seeds' rises / sqrt(n)); one seed has no sd: nothing is said.
    """
    pairs = [_late_and_last(report, objective) for report in reports]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(reports) or len(known) < 2:
        return None
    rises = [last - late for late, last in known]
    rise, error = statistics.fmean(rises), statistics.stdev(rises) / math.sqrt(len(rises))
    if rise <= LARGE_GAP / 2 + ROUNDING or rise <= BEYOND_NOISE * error:
        return None
    late, last = (statistics.fmean(side) for side in zip(*known, strict=True))
    return Diagnosis(
        "still learning",
        rise,
        f"{objective} rose from {late:.3f} to {last:.3f} over the last quarter of the training: a strategy "
        f"may win by being faster, not better; {ADVICE}",
    )


def _late_and_last(report: TrialReport, objective: str) -> tuple[float, float] | None:
    """The objective after three quarters of a run's epochs, and after the last; None if they are the same."""
    last = report.curve[-1]
    late = [point for point in report.curve[:-1] if point.epoch == math.ceil(LATE * last.epoch)]
    values = [point.metrics.get(objective) for point in [*late, last]]
    known = [value for value in values if value is not None]
    return (known[0], known[1]) if len(known) == 2 else None


def memorised(reports: Sequence[TrialReport], baseline: Sequence[TrialReport]) -> Diagnosis | None:
    """Recall falls off from training to val images by more than the baseline's; number: by how much more."""
    gaps, usual = values_of(reports, _train_gap), values_of(baseline, _train_gap)
    excess = _rise_beyond_noise(gaps, usual)
    if excess is None:
        return None
    return Diagnosis(
        "minority memorised",
        excess,
        f"minority recall is {statistics.fmean(gaps):.3f} higher on the training images than on val; for the "
        f"baseline the difference is {statistics.fmean(usual):.3f}",
    )


def too_strong(
    strategy: Strategy, reports: Sequence[TrialReport], baseline: Sequence[TrialReport]
) -> Diagnosis | None:
    """Augmentation keeps even the training images from being learnt; number: the recall on them it costs."""
    if strategy.changed().keys().isdisjoint(AUGMENTING):
        return None
    ours, usual = values_of(reports, _train_recall), values_of(baseline, _train_recall)
    deficit = _rise_beyond_noise([-recall for recall in ours], [-recall for recall in usual])
    if deficit is None:
        return None
    return Diagnosis(
        "augmentation too strong",
        deficit,
        f"minority recall is only {statistics.fmean(ours):.3f} even on the training images as they are, not "
        f"augmented; for the baseline it is {statistics.fmean(usual):.3f}",
    )


def _rise_beyond_noise(ours: Sequence[float], baseline: Sequence[float]) -> float | None:
    """How far the mean of `ours` lies above the baseline's, if that is far; else None.

    Far is at least `LARGE_GAP` and more than `BEYOND_NOISE` standard errors. The baseline's sd stands for
    both (a search trial is one seed and has none): SE = sd * sqrt(1 / n + 1 / n_baseline), so that far is
    2.3 sd for 1 seed against 3, and 1.1 sd for 5 against 10. One baseline seed has no sd: nothing is said.
    """
    if not ours or len(baseline) < 2:
        return None
    rise = statistics.fmean(ours) - statistics.fmean(baseline)
    error = statistics.stdev(baseline) * math.sqrt(1 / len(ours) + 1 / len(baseline))
    return rise if rise >= LARGE_GAP - ROUNDING and rise > BEYOND_NOISE * error else None


def _train_recall(report: TrialReport) -> float | None:
    return report.metrics.get(TRAIN_RECALL)


def val_recall(report: TrialReport) -> float | None:
    """Minority recall on val at the end, wherever the final metrics were measured."""
    return report.curve[-1].metrics[RECALL]


def _train_gap(report: TrialReport) -> float | None:
    return minus(_train_recall(report), val_recall(report))


def minus(a: float | None, b: float | None) -> float | None:
    """`a - b`, or None if either is."""
    return None if a is None or b is None else a - b


def support_of(metrics: Metrics, minority: Sequence[str], prefix: str = "") -> float | None:
    """Minority objects of the split that was measured; None if it is not known.

    Args:
        metrics: Of a report.
        minority: Names of the classes.
        prefix: `merged/` for whole images.
    """
    counts = _complete([metrics.get(f"{prefix}support/{name}") for name in minority])
    return sum(counts) if counts else None


def values_of(reports: Sequence[TrialReport], read: Callable[[TrialReport], float | None]) -> list[float]:
    """What is read from each report, or nothing if one of them lacks it."""
    return _complete([read(report) for report in reports])


def _complete(values: Sequence[float | None]) -> list[float]:
    """`values`, or none of them if one is missing."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []

"""Runs with the numbers that a diagnosis reads, and the diagnoses of one name, for tests."""

from collections.abc import Sequence
from typing import Any

from search.judging.diagnostics import Diagnosis, diagnose
from spaces.strategy import Strategy
from trainables.contract.trial import EpochMetrics, TrialReport


def report(
    recall: float | None = 0.5,
    *,
    ap50: float | None = None,
    train: float | None = None,
    deployed: float | None = None,
    on_val: float | None = None,
    support: dict[str, float] | None = None,
    val_support: float = 1000,
    exposure: float = 0.04,
    **applied: Any,
) -> TrialReport:
    """A run that measured `recall`; on val, where the curve is, `on_val` or the same."""
    metrics = {
        "minority_recall": recall,
        "minority_ap50": ap50,
        "train/minority_recall": train,
        "deployed/minority_recall": deployed,
    }
    counts = {f"support/{name}": count for name, count in (support or {}).items()}
    last = {"minority_recall": recall if on_val is None else on_val, "support/rare": val_support}
    return TrialReport(
        key="k",
        metrics={name: value for name, value in metrics.items() if value is not None} | counts,
        curve=(EpochMetrics(epoch=1, metrics={"minority_recall": 0.0}), EpochMetrics(epoch=2, metrics=last)),
        applied=applied,
        exposure=exposure,
        images_seen=1,
        unique_images=1,
        steps=1,
        seconds=1.0,
        device="cpu",
    )


def found(
    name: str,
    reports: Sequence[TrialReport],
    baseline: Sequence[TrialReport] = (),
    knobs: dict[str, float] | None = None,
    **more: Any,
) -> list[Diagnosis]:
    """The diagnoses of that name."""
    strategy = Strategy.from_knobs(knobs or {})
    diagnoses = diagnose(strategy, reports, baseline, **({"minority": ("rare",), "min_gain": 0.05} | more))
    return [one for one in diagnoses if one.name == name]

"""Reports of runs that nobody trained, for tests."""

from typing import Any

from trainables.contract.trial import EpochMetrics, Metrics, TrialFailure, TrialReport

DIVERGED = TrialFailure(key="gone", kind="diverged", reason="the loss is nan")


def report_with(metrics: Metrics, **more: Any) -> TrialReport:
    """A run of one epoch with these metrics; all else is the least it can be unless `more` says otherwise."""
    usual: dict[str, Any] = {
        "key": "k",
        "curve": (EpochMetrics(epoch=1, metrics=metrics),),
        "applied": {},
        "exposure": 0.1,
        "images_seen": 1,
        "unique_images": 1,
        "steps": 1,
        "seconds": 1.0,
        "device": "cpu",
    }
    return TrialReport.model_validate({"metrics": metrics} | usual | more)

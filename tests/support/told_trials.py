"""Trials of a detector that nobody trained, for tests of what is said of them."""

from reports import DIVERGED, report_with

from search.record.outcomes import State, StudyTrial
from spaces.strategy import PLAIN


def trial(
    number: int, recall: float, overall: float, state: State = "complete", violation: float = -0.1
) -> StudyTrial:
    """Of the plain strategy; a violation of at most 0 is feasible."""
    metrics = {"minority_recall": recall, "map50_95": overall, "support/rare": 62.0}
    report = report_with(metrics, key=f"{number:016}", seconds=2.0)
    return StudyTrial(
        number=number,
        state=state,
        strategy=PLAIN,
        seed=0,
        report=report if state == "complete" else None,
        failure=DIVERGED if state == "failed" else None,
        violations={"map50_95": violation} if state == "complete" else {},
    )

"""What a study stores as JSON says which schema it has."""

import json

import pytest
from reports import DIVERGED, report_with

from search.judging.learning import still_learning
from search.record.stored import SCHEMA, decisive, packed, unpacked
from spaces.errors import UsageError
from trainables.contract.trial import EpochMetrics, Metrics, TrialReport

REPORT = report_with({"minority_recall": 0.1 + 0.2, "nll": None})


def test_a_value_reads_back_to_the_last_digit() -> None:
    assert unpacked(TrialReport, packed(REPORT)) == REPORT
    assert json.loads(packed(REPORT))["schema"] == SCHEMA


def test_what_0_1_0_stored_says_no_schema_and_is_read() -> None:
    assert unpacked(TrialReport, REPORT.model_dump_json()) == REPORT


def test_what_a_newer_version_stored_is_refused_in_a_sentence() -> None:
    newer = json.dumps({**json.loads(packed(REPORT)), "schema": SCHEMA + 1, "unheard_of": 1})
    with pytest.raises(
        UsageError, match=r"TrialReport in version 2, this rarecall reads up to 1\nhint: .* newer"
    ):
        unpacked(TrialReport, newer)


def epoch(number: int, recall: float, classes: int) -> EpochMetrics:
    metrics: Metrics = {"minority_recall": recall, "recall/top": recall}
    for i in range(classes):
        metrics |= {f"support/c{i}": 5.0, f"recall/c{i}": recall}
    return EpochMetrics(epoch=number, metrics=metrics)


def of_epochs(epochs: int, classes: int) -> TrialReport:
    curve = [epoch(number, number / epochs, classes) for number in range(1, epochs + 1)]
    return report_with(curve[-1].metrics, curve=tuple(curve))


def test_of_a_curve_the_database_keeps_what_notes_read() -> None:
    report = of_epochs(10, classes=3)
    kept = decisive(report, ("recall/c2", "recall/top"), ("c1",))
    assert isinstance(kept, TrialReport)
    assert kept.metrics == report.metrics
    assert [point.epoch for point in kept.curve] == [8, 10]
    assert kept.curve[-1].metrics == {
        "minority_recall": 1.0,
        "recall/top": 1.0,
        "support/c1": 5.0,
        "recall/c1": 1.0,
        "recall/c2": 1.0,
    }
    assert still_learning([kept] * 2, "minority_recall") == still_learning([report] * 2, "minority_recall")


def test_a_run_with_1000_classes_fits_a_column_of_mysql() -> None:
    kept = decisive(of_epochs(100, classes=1000), ("minority_recall",), ("c1", "c998"))
    assert len(packed(kept)) < 2**16
    assert isinstance(kept, TrialReport)
    assert {"support/c1", "recall/c998"} <= kept.metrics.keys()


def test_a_failure_is_kept_as_it_is() -> None:
    assert decisive(DIVERGED, (), ()) == DIVERGED

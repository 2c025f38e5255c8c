"""What a study stores as JSON says which schema it has."""

import json

import pytest
from reports import report_with

from search.record.stored import SCHEMA, packed, unpacked
from spaces.errors import UsageError
from trainables.contract.trial import TrialReport

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

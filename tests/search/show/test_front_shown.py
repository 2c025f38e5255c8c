"""The front as a person reads it."""

import io
from dataclasses import replace

import pytest
from in_process import config
from places import EXAMPLES
from rich.console import Console
from told_trials import trial

from search.judging.front import front
from search.record.outcomes import Baseline, StudyTrial
from search.request.config import StudyConfig
from search.request.guards import Floor, MaxDrop
from search.request.reading import load_config
from search.show.front import caption, change, pareto_table, strategies
from trainables.contract.trial import Metrics

OBJECTIVES = ("minority_recall", "map50_95")
DETECTION = load_config(EXAMPLES / "cytology.yaml").model_copy(
    update={"guards": (MaxDrop(metric="map50_95", max_drop=0.03),)}
)
SHARED = "The trials share one training seed (0), whose luck is in all of them."


@pytest.mark.parametrize(
    ("trials", "shared"),
    [
        pytest.param([trial(0, 0.5, 0.5), trial(1, 0.4, 0.4)], True, id="one seed"),
        pytest.param(
            [trial(0, 0.5, 0.5), trial(1, 0.9, 0.9, violation=0.1)], True, id="one of them breaks a guard"
        ),
        pytest.param(
            [trial(0, 0.5, 0.5), replace(trial(1, 0.4, 0.4), seed=7)], False, id="a seed of its own"
        ),
        pytest.param([trial(0, 0.5, 0.5), trial(1, 0, 0, "running")], False, id="only one is measured"),
        pytest.param([], False, id="no trial"),
    ],
)
def test_the_caption_says_that_trials_share_a_seed_only_if_they_do(
    trials: list[StudyTrial], shared: bool
) -> None:
    said = caption(front(trials, OBJECTIVES, None), being_searched=True)
    assert said.endswith(SHARED if shared else "! breaks its guard.")


def measured(one: StudyTrial, **more: float | None) -> StudyTrial:
    assert one.report is not None
    metrics: Metrics = one.report.metrics | more
    return replace(one, report=one.report.model_copy(update={"metrics": metrics}))


def rows(baseline: Baseline, *trials: StudyTrial, request: StudyConfig = DETECTION) -> list[list[str]]:
    """The table, cell by cell, the header first."""
    found = front(trials, OBJECTIVES, baseline)
    table = pareto_table(found, baseline, request, everything=True)
    columns = [[str(column.header), *column.cells] for column in table.columns]
    return [list(map(str, row)) for row in zip(*columns, strict=True)]


def test_every_table_of_a_detector_says_at_what_price_recall_was_reached() -> None:
    usual = [
        measured(trial(i, 0.3, 0.4), minority_precision=precision, threshold=threshold)
        for i, (precision, threshold) in enumerate([(0.5, 0.2), (0.7, 0.4)])
    ]
    baseline = Baseline.of(usual)
    assert baseline is not None
    lucky = measured(trial(3, 0.667, 0.4), minority_precision=0.033, threshold=0.0)
    head, base, row = rows(baseline, lucky)
    assert head[3:5] == ["minority_precision", "threshold"]
    assert base[3:5] == ["0.600 ± 0.141", "0.300 ± 0.141"]
    assert row[3:5] == ["0.033 -0.567", "0.000"]  # neither more nor less of a threshold is better
    said = change(lucky, baseline, DETECTION)
    assert said.endswith("minority_precision 0.033 -0.567, threshold 0.000")


def test_an_older_record_that_lacks_them_is_shown() -> None:
    baseline = Baseline.of([trial(0, 0.3, 0.4)])
    assert baseline is not None
    _, base, row = rows(baseline, trial(1, 0.5, 0.4))
    assert base[3:5] == row[3:5] == ["-", "-"]
    assert "minority_precision -" in change(trial(1, 0.5, 0.4), baseline, DETECTION)


def test_a_guarded_precision_has_one_column() -> None:
    request = load_config(EXAMPLES / "cytology.yaml")
    assert request.front_metrics.count("minority_precision") == 1
    assert request.front_metrics[-1] == "threshold"


def test_in_a_narrow_terminal_no_digit_is_cut_off() -> None:
    baseline = Baseline.of([trial(0, 0.312, 0.4), trial(1, 0.334, 0.4)])
    found = front([measured(trial(2, 0.567, 0.4), minority_precision=0.4567)], OBJECTIVES, baseline)
    console = Console(width=60, file=io.StringIO(), record=True)
    console.print(pareto_table(found, baseline, DETECTION, everything=False))
    text = console.export_text()
    assert all(number in text for number in ("0.323", "0.016", "0.567", "+0.244", "0.457"))


def test_what_is_wrong_with_the_baseline_is_said_once_and_without_a_front() -> None:
    usual = [measured(trial(i, 0.3, 0.4), threshold=0.0) for i in range(3)]
    baseline = Baseline.of(usual)
    support = "support too small: the val split holds 62 minority objects"
    lines = strategies(front([], OBJECTIVES, baseline), baseline, DETECTION, ("rare",), everything=False)
    assert [line.startswith(f"note on the baseline: {support}") for line in lines] == [True, False]
    assert lines[1].startswith("note on the baseline: untrained model: 3 of 3 trained models")
    assert lines[1].endswith("raise train.steps")
    # What is said of the trials too is said once.
    trials = [trial(3, 0.5, 0.4), trial(4, 0.6, 0.3), trial(5, 0, 0, "failed")]
    lines = strategies(front(trials, OBJECTIVES, baseline), baseline, DETECTION, ("rare",), everything=True)
    assert sum(support in line for line in lines) == 1
    assert sum("untrained model" in line for line in lines) == 1
    assert not strategies(front([], OBJECTIVES, None), None, config(), ("rare",), everything=False)


@pytest.mark.parametrize("example", ["cytology.yaml", "cytology_full.yaml"])
def test_the_examples_guard_a_precision(example: str) -> None:
    guards = load_config(EXAMPLES / example).guards
    assert Floor(metric="minority_precision", floor=0.2) in guards

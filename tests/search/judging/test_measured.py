"""An arm's runs measured from the predictions that they left."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_predictions import drawn_classifications, drawn_detections
from in_process import config
from matched_boxes import drawn
from reports import DIVERGED, report_with

from search.judging.measured import Arm, Measurer, run_replicates
from search.record.folder import StudyFolder
from spaces.errors import RunError
from spaces.strategy import NAMED
from trainables.contract.predictions import Predictions, save_predictions
from trainables.contract.tasks import Task
from trainables.contract.trial import Outcome, TrialReport

METRICS = ("minority_recall", "minority_ap50")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    folder.create(config(), "fingerprint", ["rare"])
    return folder


def report(key: str, threshold: float | None = 0.3) -> TrialReport:
    return report_with({} if threshold is None else {"threshold": threshold}, key=key)


def leave(folder: StudyFolder, key: str, predictions: Predictions, wholes: Predictions | None = None) -> None:
    """As a finished run does."""
    result = folder.files.root / key / "checkpoint_000003"
    result.mkdir(parents=True)
    save_predictions(result / "predictions.npz", predictions)
    if wholes is not None:
        save_predictions(result / "merged.npz", wholes)


def measured(
    folder: StudyFolder, outcomes: list[Outcome], task: Task = "detection", metrics: tuple[str, ...] = METRICS
) -> Arm:
    return Measurer(folder.files, task, metrics).measure("weighted", NAMED["weighted"], outcomes)


def test_each_runs_replicates_at_its_own_frozen_threshold(folder: StudyFolder) -> None:
    for key, seed in (("a", 1), ("b", 2)):
        leave(folder, key, drawn_detections(seed))
    arm = measured(folder, [report("a", 0.3), report("b", 0.6)])
    assert (arm.problems, arm.untold, arm.failures) == ((), {}, ())
    for i, (seed, threshold) in enumerate(((1, 0.3), (2, 0.6))):
        expected = run_replicates(drawn_detections(seed), METRICS, threshold=threshold)
        for metric in METRICS:
            assert arm.replicates[metric][i].whole == expected[metric].whole
            np.testing.assert_array_equal(arm.replicates[metric][i].without, expected[metric].without)


def test_metrics_of_whole_images_are_measured_on_these(folder: StudyFolder) -> None:
    leave(folder, "a", drawn_detections(1), wholes=drawn_detections(2))
    names = ("minority_recall", "merged/minority_recall", "merged/minority_ap50")
    arm = measured(folder, [report("a", 0.3)], metrics=names)
    assert set(arm.replicates) == set(names)
    tiles = run_replicates(drawn_detections(1), ["minority_recall"], threshold=0.3)
    wholes = run_replicates(drawn_detections(2), ["minority_recall", "minority_ap50"], threshold=0.3)
    assert arm.replicates["minority_recall"][0].whole == tiles["minority_recall"].whole
    for metric in ("minority_recall", "minority_ap50"):
        (found,) = arm.replicates[f"merged/{metric}"]
        assert found.whole == wholes[metric].whole
        np.testing.assert_array_equal(found.without, wholes[metric].without)


def test_whole_images_that_are_gone_are_told(folder: StudyFolder) -> None:
    leave(folder, "a", drawn_detections(1))
    with pytest.raises(RunError, match=r"merged\.npz is gone"):
        measured(folder, [report("a")], metrics=("merged/minority_recall",))


def test_a_classifier_has_no_threshold(folder: StudyFolder) -> None:
    for key, seed in (("a", 1), ("b", 2)):
        leave(folder, key, drawn_classifications(seed))
    arm = measured(
        folder, [report("a", None), report("b", None)], "classification", ("minority_recall", "nll")
    )
    assert arm.problems == ()
    assert [len(replicates) for replicates in arm.replicates.values()] == [2, 2]


def test_a_second_look_has_the_first_ones_runs_measured_already(folder: StudyFolder) -> None:
    leave(folder, "a", drawn_detections(1))
    measurer = Measurer(folder.files, "detection", METRICS)
    first = measurer.measure("weighted", NAMED["weighted"], [report("a")])
    leave(folder, "b", drawn_detections(2))
    second = measurer.measure("weighted", NAMED["weighted"], [report("a"), report("b")])
    assert second.replicates["minority_recall"][0] is first.replicates["minority_recall"][0]
    assert len(second.replicates["minority_recall"]) == 2


def test_a_seed_without_result_is_a_problem_and_the_others_are_measured(folder: StudyFolder) -> None:
    leave(folder, "a", drawn_detections(1))
    arm = measured(folder, [report("a"), DIVERGED])
    assert arm.problems == ("weighted: a seed gave no result (diverged): the loss is nan",)
    assert (len(arm.reports), arm.failures) == (1, (DIVERGED,))
    assert len(arm.replicates["minority_recall"]) == 1


def test_seeds_with_identical_predictions_are_a_problem(folder: StudyFolder) -> None:
    for key, seed in (("a", 1), ("b", 2), ("c", 1)):
        leave(folder, key, drawn_detections(seed))
    arm = measured(folder, [report("a"), report("b"), report("c")])
    (problem,) = arm.problems
    assert problem == "weighted: seeds 1 and 3 give identical predictions, so the seed changes nothing"


@pytest.mark.parametrize(
    ("max_det", "problems"),
    [
        pytest.param(100, 0, id="no image comes near the limit"),
        pytest.param(1, 1, id="one prediction per image is kept, and it is sure"),
    ],
)
def test_the_evaluators_limit_is_a_problem_where_it_decides(
    folder: StudyFolder, max_det: int, problems: int
) -> None:
    leave(folder, "a", replace(drawn_detections(1), max_det=max_det))
    arm = measured(folder, [report("a")])
    assert len(arm.problems) == problems
    assert all("images of a run more boxes score above its threshold" in one for one in arm.problems)


def test_a_metric_that_the_split_cannot_tell_leaves_the_others(folder: StudyFolder) -> None:
    """All rare objects are of one source, so nothing is known of recall without it."""
    drawn = drawn_detections(1)
    of_first_source = np.isin(drawn.true_image, [i for i in range(36) if i % 12 == 0])
    lonely = replace(drawn, true_class=np.where(of_first_source, 1, 0))
    leave(folder, "a", lonely)
    arm = measured(folder, [report("a")], metrics=("minority_recall", "ap50/common"))
    assert set(arm.replicates) == {"ap50/common"}
    assert arm.untold["minority_recall"] == (
        "weighted: test split without source 's00': minority_recall is None"
    )


def test_the_precision_of_a_model_that_finds_nothing_is_0_with_and_without_each_source() -> None:
    predictions = drawn(0)
    unsure = replace(predictions, pred_class=np.zeros_like(predictions.pred_class))
    (found,) = run_replicates(unsure, ["minority_precision"], threshold=0.3).values()
    assert found.whole == 0
    assert not found.without.any()


def test_predictions_that_are_gone_are_an_error_that_says_where_they_were(folder: StudyFolder) -> None:
    with pytest.raises(RunError, match=r"predictions of a finished run are gone from .*trials/a"):
        measured(folder, [report("a")])


def test_the_toy_predicts_nothing(folder: StudyFolder) -> None:
    arm = measured(folder, [report("a"), DIVERGED], "toy")
    assert (arm.replicates, arm.untold, len(arm.problems)) == ({}, {}, 1)

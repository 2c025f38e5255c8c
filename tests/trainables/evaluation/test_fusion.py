"""Two models fused by class, and boxes of the majority inside a minority's, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from matched_boxes import drawn, with_matches

from trainables.contract.predictions import DetectionPredictions
from trainables.evaluation.detection import best_threshold, class_curves, detection_metrics
from trainables.evaluation.fusion import fused, of_classes, shift_between, shifted
from trainables.evaluation.overlaps import covered

TRUTH = {
    "true_image": [0, 0],
    "true_class": [0, 1],
    "true_box": [[10, 10, 20, 20], [40, 40, 80, 80]],
    "n_images": 2,
}


def test_each_model_is_believed_in_its_own_classes() -> None:
    boxes = [[10, 10, 20, 20], [40, 40, 80, 80]]
    majority = with_matches([0, 0], [0, 1], [0.9, 0.8], boxes, **TRUTH)
    minority = with_matches([0, 1], [1, 0], [0.95, 0.7], [[42, 42, 80, 80], [1, 1, 5, 5]], **TRUTH)
    both = fused(majority, minority, 0.0)
    assert both.pred_class.tolist() == [1, 0]
    np.testing.assert_allclose(both.pred_score, [0.95, 0.9])
    np.testing.assert_array_equal(both.pred_box, [[42, 42, 80, 80], [10, 10, 20, 20]])
    assert both.pred_match[:, 0].tolist() == [True, True]
    assert both.max_det == 200
    assert both.true_class.tolist() == [0, 1]


@pytest.mark.parametrize("shift", [0.0, 1.5, -3.0])
def test_each_classs_ap_is_that_of_its_model(shift: float) -> None:
    one, other = drawn(1), drawn(1)  # of the same truth
    both = detection_metrics(fused(one, of_classes(other, {1}), shift))
    alone = detection_metrics(one)
    for metric in ("ap50/cell", "ap50/cluster", "map50_95/cluster"):
        assert both[metric] == alone[metric]


def test_the_shift_makes_one_confidence_the_best_of_both_models() -> None:
    one, strong = drawn(1), drawn(1)
    weak = replace(strong, pred_score=shifted(strong.pred_score, -2.0))  # as sure, on another scale
    shift = shift_between(one, weak)
    assert shift == pytest.approx(
        shift_between(one, strong) + 2.0, abs=0.3
    )  # a confidence lies between two scores
    together, apart = mean_f1(fused(one, weak, shift)), mean_f1(fused(one, weak, 0.0))
    assert together == pytest.approx(mean_f1(fused(one, strong, shift_between(one, strong))), abs=0.02)
    assert together > apart + 0.02


def mean_f1(predictions: DetectionPredictions) -> float:
    """At the one confidence that is best."""
    curves = class_curves(predictions)
    at = [curve.at(best_threshold(curves)) for curve in curves.values()]
    return float(np.mean([2 * p * r / (p + r) for p, r in at if p is not None]))


def test_what_no_model_has_learnt_yet_is_not_measurable() -> None:
    metrics = detection_metrics(of_classes(drawn(1), {0}))
    assert metrics["minority_recall"] is None
    assert metrics["minority_ap50"] is None
    assert metrics["map50"] == metrics["ap50/cell"] is not None


@pytest.mark.parametrize(
    ("box", "score", "goes"),
    [
        pytest.param([50, 50, 60, 60], 0.9, True, id="inside a sure one"),
        pytest.param([50, 50, 60, 60], 0.4, False, id="inside one that is not sure"),
        pytest.param([35, 50, 45, 60], 0.9, False, id="half inside"),
        pytest.param([38, 50, 48, 60], 0.9, True, id="four fifths inside"),
        pytest.param([100, 50, 110, 60], 0.9, False, id="outside"),
    ],
)
def test_a_box_of_the_majority_inside_one_of_the_minority(box: list[int], score: float, goes: bool) -> None:
    found = covered(
        np.array([0, 0, 1]),
        np.array([1, 0, 0]),
        np.array([score, 0.5, 0.5]),
        np.array([[40, 40, 80, 80], box, [50, 50, 60, 60]], dtype=float),
        {1},
        least=0.5,
        share=0.8,
    )
    assert found.tolist() == [False, goes, False]  # another image's is not in it

"""Thresholds per class: fitted on val, chosen out of fold, one confidence for the weights that ship."""

from dataclasses import replace

import numpy as np
import pytest
from matched_boxes import drawn

from trainables.contract.predictions import DetectionPredictions
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.matching import match
from trainables.evaluation.operating_point import fit_operating_point, folds

PRIOR = np.array([900.0, 100.0])


def shifted(predictions: DetectionPredictions, logits: np.ndarray) -> DetectionPredictions:
    """With a constant added to each class's logits."""
    score = predictions.pred_score.astype(np.float64)
    moved = 1 / (1 + np.exp(-(np.log(score / (1 - score)) + logits[predictions.pred_class])))
    order = np.argsort(-moved, kind="stable")
    columns = {name: getattr(predictions, name)[order] for name in ("pred_image", "pred_class", "pred_box")}
    truth = predictions.true_image, predictions.true_class, predictions.true_box
    score32 = moved[order].astype(np.float32)
    matched = match(columns["pred_image"], columns["pred_class"], score32, columns["pred_box"], *truth)
    return replace(predictions, pred_score=score32, pred_match=matched, **columns)


def rates(predictions: DetectionPredictions, decided: np.ndarray) -> list[tuple[int, int]]:
    """Per class: true positives, and predictions that count."""
    mine = [decided & (predictions.pred_class == c) for c in range(2)]
    return [(int((each & predictions.pred_match[:, 0]).sum()), int(each.sum())) for each in mine]


def mean_f1(predictions: DetectionPredictions, decided: np.ndarray) -> float:
    objects = np.bincount(predictions.true_class, minlength=2)
    counted = zip(rates(predictions, decided), objects, strict=True)
    return float(np.mean([2 * true / (kept + n) for (true, kept), n in counted]))


def test_classes_on_one_scale_keep_the_shared_threshold() -> None:
    found = {}
    for seed in range(8):
        predictions = drawn(seed)
        point = fit_operating_point(predictions, PRIOR)
        if point.way == "shared":
            threshold = detection_metrics(predictions)["threshold"]
            assert point.conf == threshold
            assert not point.bias.any()
            np.testing.assert_array_equal(point.tuned, predictions.pred_score >= threshold)
        found[seed] = point.way
    assert "shared" in found.values()


@pytest.mark.parametrize("lowered", [2.0, 4.0])
def test_a_class_whose_scores_are_on_another_scale_gets_a_threshold_of_its_own(lowered: float) -> None:
    even = drawn(3)
    predictions = shifted(even, np.array([0.0, -lowered]))
    point = fit_operating_point(predictions, PRIOR)
    assert point.way != "shared"
    assert point.bias[1] - point.bias[0] > lowered / 3
    shared = predictions.pred_score >= detection_metrics(predictions)["threshold"]
    assert mean_f1(predictions, point.counts(predictions)) > mean_f1(predictions, shared) + 0.02


def test_the_bias_makes_one_confidence_do_for_all_classes() -> None:
    predictions = shifted(drawn(5), np.array([0.5, -3.0]))
    point = fit_operating_point(predictions, PRIOR)
    shipped = shifted(predictions, point.bias)
    assert rates(shipped, shipped.pred_score >= point.conf) == rates(predictions, point.counts(predictions))


def test_a_source_is_in_one_fold_and_the_rare_class_in_all() -> None:
    predictions = drawn(1)
    fold = folds(predictions)
    for source in np.unique(predictions.source):
        assert len(set(fold[predictions.source == source].tolist())) == 1
    rare = predictions.true_image[predictions.true_class == 1]
    assert set(fold[rare].tolist()) == set(range(5))


def test_what_is_out_of_fold_does_not_know_its_fold() -> None:
    """Turning one fold's hits into misses moves what counts elsewhere, and not there."""
    predictions = shifted(drawn(2), np.array([0.0, -4.0]))
    fold = folds(predictions)
    inside = fold[predictions.pred_image] == 0
    spoiled = replace(predictions, pred_match=predictions.pred_match & ~inside[:, None])

    points = [fit_operating_point(of, PRIOR) for of in (predictions, spoiled)]
    assert points[0].way == points[1].way != "shared"
    np.testing.assert_array_equal(points[0].tuned[inside], points[1].tuned[inside])
    assert (points[0].tuned != points[1].tuned).any()


def test_a_val_split_of_one_source_has_nothing_out_of_fold() -> None:
    predictions = shifted(drawn(5), np.array([0.5, -3.0]))
    alone = replace(predictions, source=np.full_like(predictions.source, "s0"))
    point = fit_operating_point(alone, PRIOR)
    assert point.way == "shared"
    assert point.conf == detection_metrics(alone)["threshold"]

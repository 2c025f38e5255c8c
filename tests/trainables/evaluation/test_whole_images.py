"""What tiles found as predictions of whole images, by hand: one image in two tiles, another in one."""

from dataclasses import replace

import numpy as np
import pytest
from matched_boxes import with_matches

from trainables.contract.predictions import DetectionPredictions, ShippedBoxes
from trainables.evaluation.whole_images import Layout, compared_ways, merged, merged_metrics

# One image of 160 x 100 in two tiles of 100, at 0 and at 60; another that one tile shows.
WHOLES = Layout(
    name=np.array(["a", "b"]),
    source=np.array(["patient 1", "patient 2"]),
    size=np.array([[100, 160], [100, 100]]),
    whole=np.array([0, 0, 1]),
    window=np.array([[0, 0, 100, 100], [60, 0, 100, 100], [0, 0, 100, 100]]),
    true_image=np.array([0, 0, 1]),
    true_class=np.array([1, 0, 1]),
    true_box=np.array([[62.0, 10, 92, 40], [130, 50, 150, 70], [10, 10, 30, 30]]),
)


def found_on_tiles() -> DetectionPredictions:
    """The first object on both tiles, nothing of the second, the third, and something where nothing is."""
    return with_matches(
        image=[0, 1, 2, 2],
        label=[1, 1, 1, 1],
        score=[0.6, 0.9, 0.55, 0.3],
        box=[[62, 10, 92, 40], [2, 10, 32, 40], [10, 10, 30, 30], [60, 60, 90, 90]],
        true_image=[0, 1, 1, 2],
        true_class=[1, 1, 0, 1],
        true_box=[[62, 10, 92, 40], [2, 10, 32, 40], [70, 50, 90, 70], [10, 10, 30, 30]],
        n_images=3,
    )


def shipped(tiles: DetectionPredictions, conf: float) -> DetectionPredictions:
    kept = tiles.pred_score > conf
    return replace(
        tiles,
        shipped=ShippedBoxes(
            tuned=kept,
            bias=np.zeros(2),
            conf=conf,
            image=tiles.pred_image[kept],
            label=tiles.pred_class[kept],
            score=tiles.pred_score[kept],
            box=tiles.pred_box[kept],
            match=tiles.pred_match[kept, 0],
            ignored=tiles.pred_ignored[kept],
        ),
    )


def test_an_object_on_two_tiles_counts_once_and_against_the_original_truth() -> None:
    tiles = found_on_tiles()
    # What a tile ignores is judged by the whole image's own truth.
    tiles = replace(tiles, pred_ignored=np.ones_like(tiles.pred_ignored))
    whole = merged(shipped(tiles, 0.5), WHOLES, "nms")
    assert whole.pred_ignored.tolist() == [False, False, False]
    assert whole.image.tolist() == ["a", "b"]
    assert whole.source.tolist() == ["patient 1", "patient 2"]
    assert whole.size.tolist() == [[100, 160], [100, 100]]
    assert whole.pred_image.tolist() == [0, 1, 1]
    np.testing.assert_allclose(whole.pred_score, [0.9, 0.55, 0.3])
    np.testing.assert_array_equal(whole.pred_box[0], [62, 10, 92, 40])
    assert whole.pred_match[:, 0].tolist() == [True, True, False]
    assert whole.true_class.tolist() == [1, 0, 1]
    assert whole.shipped is not None
    assert whole.shipped.image.tolist() == [0, 1]
    assert whole.shipped.ignored.tolist() == [False, False]
    assert whole.shipped.match.tolist() == [True, True]
    assert whole.shipped.tuned.tolist() == [True, True, False]


def test_the_metrics_are_those_of_any_predictions_at_the_confidence_of_tiles() -> None:
    metrics = merged_metrics(merged(shipped(found_on_tiles(), 0.5), WHOLES, "nms"), threshold=0.58)
    assert metrics["merged/recall/cluster"] == 0.5  # at .58 the third is not found
    assert metrics["merged/deployed/recall/cluster"] == 1.0  # at .5 it is
    assert metrics["merged/recall/cell"] == 0.0
    assert metrics["merged/support/cluster"] == 2.0
    assert metrics["merged/minority_ap50"] == pytest.approx(0.995)  # all of it, by the trapezoids
    assert not [name for name in metrics if "tuned" in name or "threshold" in name]


def test_without_merging_the_double_is_a_false_positive() -> None:
    ways = compared_ways(shipped(found_on_tiles(), 0.5), WHOLES, threshold=0.5)
    assert ways["merging/core/minority_ap50"] == pytest.approx(0.995)  # all of it, by the trapezoids
    assert ways["merging/none/minority_ap50"] < 1.0  # type: ignore[operator]  # the double, .6, comes before .55
    assert {name.split("/")[1] for name in ways} == {"core", "nms", "ios", "wbf", "joined", "none"}

import trainables.detector  # noqa: F401  (settles the environment before Ultralytics is imported)

# isort: split
import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ap_per_class, box_iou

from trainables.evaluation.detection import IOUS, detection_metrics, match
from trainables.predictions import DetectionPredictions

SIDE = 128


def with_matches(
    image, label, score, box, true_image, true_class, true_box, n_images: int
) -> DetectionPredictions:
    order = np.argsort(-np.asarray(score), kind="stable")
    image, label, score, box = (np.asarray(values)[order] for values in (image, label, score, box))
    true_image, true_class = np.asarray(true_image, int), np.asarray(true_class, int)
    true_box = np.asarray(true_box, float).reshape(-1, 4)
    return DetectionPredictions(
        split="val",
        class_names=np.array(["cell", "cluster"]),
        minority=np.array([1]),
        image=np.array([f"i{i}" for i in range(n_images)]),
        source=np.array([f"s{i // 4}" for i in range(n_images)]),
        size=np.full((n_images, 2), SIDE),
        pred_image=image,
        pred_class=label,
        pred_score=score.astype(np.float32),
        pred_box=box,
        pred_match=match(image, label, score, box, true_image, true_class, true_box),
        true_image=true_image,
        true_class=true_class,
        true_box=true_box,
        max_det=100,
        conf=0.001,
        iou=0.7,
    )


def drawn(seed: int, n_images: int = 60, per_image: float = 8.0, rare: float = 0.15) -> DetectionPredictions:
    """Random truth, and predictions that are shifted copies of it, doubles and inventions."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(per_image, n_images)
    true_image = np.repeat(np.arange(n_images), counts)
    n = len(true_image)
    true_class = (rng.random(n) < rare).astype(int)
    corner, sides = rng.uniform(0, 90, (n, 2)), rng.uniform(8, 36, (n, 2))
    true_box = np.concatenate([corner, corner + sides], axis=1)
    found = np.flatnonzero(rng.random(n) < 0.8)
    found = np.concatenate([found, rng.choice(found, len(found) // 4)])
    shift = rng.normal(0, 0.12, (len(found), 4)) * np.tile(sides[found], 2)
    m = n // 2
    corner, sides = rng.uniform(0, 90, (m, 2)), rng.uniform(8, 36, (m, 2))
    box = np.concatenate([true_box[found] + shift, np.concatenate([corner, corner + sides], axis=1)])
    label = np.concatenate([true_class[found], rng.random(m) < rare]).astype(int)
    image = np.concatenate([true_image[found], rng.integers(0, n_images, m)])
    score = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(2, 4, m)])
    return with_matches(image, label, score, box, true_image, true_class, true_box, n_images)


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_ultralytics(seed: int) -> None:
    p = drawn(seed)
    validator = BaseValidator.__new__(BaseValidator)
    validator.iouv = torch.tensor(IOUS)
    for i in range(len(p.image)):
        mine, truth = p.pred_image == i, p.true_image == i
        iou = box_iou(torch.tensor(p.true_box[truth]), torch.tensor(p.pred_box[mine]))
        theirs = validator.match_predictions(
            torch.tensor(p.pred_class[mine]), torch.tensor(p.true_class[truth]), iou
        )
        np.testing.assert_array_equal(p.pred_match[mine], theirs.numpy())


@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_and_ap_are_those_of_ultralytics(seed: int) -> None:
    p = drawn(seed)
    metrics = detection_metrics(p)
    _, _, precision, recall, _, ap, classes, *_ = ap_per_class(
        p.pred_match, p.pred_score, p.pred_class, p.true_class
    )
    assert classes.tolist() == [0, 1]
    for c, name in enumerate(p.class_names.tolist()):
        assert metrics[f"precision/{name}"] == pytest.approx(precision[c], abs=1e-6)
        assert metrics[f"recall/{name}"] == pytest.approx(recall[c], abs=1e-6)
        assert metrics[f"ap50/{name}"] == pytest.approx(ap[c, 0], abs=1e-9)
        assert metrics[f"map50_95/{name}"] == pytest.approx(ap[c].mean(), abs=1e-9)
    assert metrics["map50_95"] == pytest.approx(ap.mean(), abs=1e-9)
    assert metrics["minority_recall"] == metrics["recall/cluster"]


@pytest.mark.parametrize(
    ("n_images", "tolerance"),
    [
        pytest.param(120, 0.003, id="65 clusters and more"),
        pytest.param(20, 0.01, id="fewer clusters"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_ap_is_that_of_pycocotools(n_images: int, tolerance: float, seed: int) -> None:
    p = drawn(seed, n_images=n_images)
    metrics = detection_metrics(p)
    assert ((p.true_class == 1).sum() >= 65) == (tolerance == 0.003)
    for c, name in enumerate(p.class_names.tolist()):
        theirs = coco_ap(p, c)
        assert metrics[f"ap50/{name}"] == pytest.approx(theirs[0], abs=tolerance)
        assert metrics[f"map50_95/{name}"] == pytest.approx(theirs.mean(), abs=tolerance)


def coco_ap(p: DetectionPredictions, label: int) -> np.ndarray:
    """AP at the ten IoU thresholds, (10,)."""

    def wide(box):
        return [*box[:2], *(box[2:] - box[:2])]

    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(len(p.image))],
        "categories": [{"id": 0}, {"id": 1}],
        "annotations": [
            {  # ids start at 1: pycocotools takes id 0 for "unmatched"
                "id": j + 1,
                "image_id": int(i),
                "category_id": int(c),
                "bbox": wide(b),
                "area": 1,
                "iscrowd": 0,
            }
            for j, (i, c, b) in enumerate(zip(p.true_image, p.true_class, p.true_box, strict=True))
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(
            [
                {"image_id": int(i), "category_id": int(c), "score": float(s), "bbox": wide(b)}
                for i, c, s, b in zip(p.pred_image, p.pred_class, p.pred_score, p.pred_box, strict=True)
            ]
        )
        run = COCOeval(truth, found, "bbox")
        run.params.catIds = [label]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.params.maxDets = [p.max_det]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, 0, 0, 0].mean(axis=1)


def test_each_object_is_taken_once_and_by_the_surest_prediction() -> None:
    truth = [[0, 0, 10, 10]]
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8]]
    p = with_matches([0, 0], [1, 1], [0.6, 0.9], boxes, [0], [1], truth, 1)
    assert p.pred_score.tolist() == pytest.approx([0.9, 0.6])
    # IoU .8 for the surer one: it holds the object up to there, and leaves it to the exact box beyond.
    assert p.pred_match[0].sum() == 7
    assert p.pred_match[1].tolist() == [False] * 7 + [True] * 3


def test_a_prediction_of_another_class_or_image_matches_nothing() -> None:
    box = [0.0, 0, 10, 10]
    p = with_matches([0, 1], [0, 1], [0.9, 0.8], [box, box], [0], [1], [box], 2)
    assert not p.pred_match.any()


def test_a_class_without_objects_is_none_and_not_zero() -> None:
    box = [0.0, 0, 10, 10]
    metrics = detection_metrics(with_matches([0, 0], [0, 1], [0.9, 0.8], [box, box], [0], [0], [box], 1))
    for name in ("minority_recall", "minority_recall_worst", "minority_ap50", "recall/cluster"):
        assert metrics[name] is None
    assert metrics["support/cluster"] == 0
    assert metrics["map50"] == metrics["ap50/cell"] == pytest.approx(1, abs=0.01)


def test_precision_without_predictions_is_none() -> None:
    box = [0.0, 0, 10, 10]
    metrics = detection_metrics(with_matches([0], [0], [0.9], [box], [0, 0], [0, 1], [box, box], 1))
    assert metrics["precision/cluster"] is None
    assert metrics["minority_precision"] is None
    assert metrics["minority_recall"] == 0


def test_no_predictions_at_all() -> None:
    empty = with_matches(
        np.zeros(0, int),
        np.zeros(0, int),
        np.zeros(0),
        np.zeros((0, 4)),
        [0, 0],
        [0, 1],
        [[0, 0, 9, 9]] * 2,
        1,
    )
    metrics = detection_metrics(empty)
    assert metrics["map50_95"] == metrics["minority_recall"] == 0
    assert metrics["minority_precision"] is None


def test_a_frozen_threshold_is_used_as_it_is() -> None:
    p = drawn(1)
    own = detection_metrics(p)
    higher = detection_metrics(p, threshold=0.9)
    assert detection_metrics(p, threshold=own["threshold"]) == own
    assert higher["threshold"] == 0.9
    assert higher["minority_recall"] < own["minority_recall"]
    assert higher["minority_ap50"] == own["minority_ap50"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), power=st.floats(0.2, 5))
def test_rescaling_the_majoritys_scores_leaves_the_minoritys_ap_alone(seed: int, power: float) -> None:
    p = drawn(seed, n_images=20)
    score = np.where(p.pred_class == 0, p.pred_score**power, p.pred_score)
    moved = with_matches(
        p.pred_image, p.pred_class, score, p.pred_box, p.true_image, p.true_class, p.true_box, 20
    )
    assert detection_metrics(moved)["minority_ap50"] == detection_metrics(p)["minority_ap50"]


def test_rescaling_the_majoritys_scores_moves_the_minoritys_recall() -> None:
    p = drawn(3)
    score = np.where(p.pred_class == 0, p.pred_score**5, p.pred_score)
    moved = with_matches(
        p.pred_image, p.pred_class, score, p.pred_box, p.true_image, p.true_class, p.true_box, 60
    )
    assert detection_metrics(moved)["minority_recall"] > detection_metrics(p)["minority_recall"] + 0.02

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import contextlib
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matched_boxes import drawn, with_matches, with_shipping
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ap_per_class, box_iou

from search.request.reading import load_config
from spaces.errors import UsageError
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.tasks import TASKS, metric_names
from trainables.evaluation.detection import GRID, detection_metrics
from trainables.evaluation.matching import IOUS, match


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
        grid = GRID[np.abs(GRID - metrics["threshold"]).argmin()]  # Ultralytics reads its curves there
        own = detection_metrics(p, threshold=grid)
        assert own[f"ultralytics/precision/{name}"] == pytest.approx(precision[c], abs=1e-6)
        assert own[f"ultralytics/recall/{name}"] == pytest.approx(recall[c], abs=1e-6)
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


@pytest.mark.parametrize("seed", range(3))
def test_recall_at_a_classs_own_best_f1_is_ultralytics_for_that_class_alone(seed: int) -> None:
    p = drawn(seed)
    metrics = detection_metrics(p, threshold=0.9)  # the shared threshold has no say
    for c, name in enumerate(p.class_names.tolist()):
        mine = p.pred_class == c
        _, _, _, recall, *_ = ap_per_class(
            p.pred_match[mine], p.pred_score[mine], p.pred_class[mine], p.true_class[p.true_class == c]
        )
        objects = int((p.true_class == c).sum())  # ours is counted, theirs read between scores
        assert metrics[f"recall_best_f1/{name}"] == pytest.approx(recall[0], abs=1.01 / objects)


def test_every_name_that_a_study_file_may_use_is_measured() -> None:
    p = with_shipping(drawn(0))
    named = {*metric_names("detection", tuple(p.class_names.tolist())), *TASKS["detection"].reported}
    assert named <= detection_metrics(p).keys()


def test_recall_at_half_precision_is_no_guard(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    guard = "guards: [{metric: minority_recall_at_p50, max_drop: 0}]"
    study.write_text(
        f"name: s\ntask: detection\ndata: demo:cytology\ntrain: {{steps: 2, eval_every: 1}}\n{guard}\n"
    )
    with pytest.raises(UsageError, match=r"guards\.0\.metric: 'minority_recall_at_p50' is only reported"):
        load_config(study)


def scored(hits: list[int], objects: int) -> DetectionPredictions:
    """One class, predictions by falling score, of which those with a 1 find an object each."""
    apart = [[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(objects)]
    free = iter(apart)
    boxes = [next(free) if hit else [0, 500, 10, 510] for hit in hits]
    n, one = len(hits), np.ones(len(hits), int)
    score = np.linspace(0.9, 0.1, n)
    return with_matches(
        0 * one, one, score, np.reshape(boxes, (-1, 4)), [0] * objects, [1] * objects, apart, 1
    )


@pytest.mark.parametrize(
    ("hits", "objects", "froc", "at_p50"),
    [
        # With 8 objects the limits are 1, 2, 4, 8, 16, 32 and 64 false positives.
        pytest.param(
            [1, 0, 1, 0, 0, 1, 0, 1], 8, (2 + 2 + 4 * 5) / 8 / 7, 4 / 8, id="four found among four false"
        ),
        pytest.param([0, 0, 1], 8, (0 + 1 * 6) / 8 / 7, 0.0, id="two false ones come first"),
        pytest.param([1, 1], 2, 1.0, 1.0, id="all found, none false"),
        pytest.param([0, 0], 2, 0.0, 0.0, id="none found"),
        pytest.param([], 2, 0.0, None, id="nothing predicted"),
        # With 1 object the first limits are below one: no false positive at all.
        pytest.param([0, 1], 1, 4 / 7, 1.0, id="one object behind one false positive"),
        # Precision falls to 3/7 and comes back to 4/8.
        pytest.param(
            [1, 1, 0, 0, 0, 0, 1, 1], 4, (2 / 4 * 3 + 4 / 4 * 4) / 7, 1.0, id="precision one half comes back"
        ),
    ],
)
def test_froc_and_recall_at_half_precision_by_hand(
    hits: list[int], objects: int, froc: float, at_p50: float | None
) -> None:
    metrics = detection_metrics(scored(hits, objects))
    assert metrics["froc/cluster"] == metrics["minority_froc"] == pytest.approx(froc)
    assert metrics["minority_recall_at_p50"] == (None if at_p50 is None else pytest.approx(at_p50))
    assert metrics["froc/cell"] is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_froc_and_recall_at_half_precision_are_those_of_a_direct_count(seed: int) -> None:
    p = drawn(seed, n_images=20)
    metrics = detection_metrics(p)
    for c, name in enumerate(p.class_names.tolist()):
        objects = int((p.true_class == c).sum())
        recalls = []
        precise = 0.0
        for limit in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
            found = false = best = 0
            for hit in p.pred_match[p.pred_class == c, 0]:
                found, false = found + hit, false + (not hit)
                if false <= limit * objects:
                    best = found
                if found >= false:
                    precise = max(precise, found / objects)
            recalls.append(best / objects)
        assert metrics[f"froc/{name}"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert metrics["minority_recall_at_p50"] == pytest.approx(precise, abs=1e-12)


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


def test_without_any_object_nothing_matches() -> None:
    alone, nothing = np.zeros(1, int), np.zeros(0, int)
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    assert not match(alone, alone, np.ones(1), box, nothing, nothing, np.zeros((0, 4))).any()


def test_a_class_without_objects_is_none_and_not_zero() -> None:
    box = [0.0, 0, 10, 10]
    metrics = detection_metrics(with_matches([0, 0], [0, 1], [0.9, 0.8], [box, box], [0], [0], [box], 1))
    for name in (
        *("minority_recall", "minority_recall_worst", "minority_ap50", "minority_froc"),
        *("minority_recall_at_p50", "recall/cluster", "recall_best_f1/cluster", "froc/cluster"),
    ):
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
def test_rescaling_the_majoritys_scores_leaves_what_ranks_the_minority_alone(seed: int, power: float) -> None:
    p = drawn(seed, n_images=20)
    score = np.where(p.pred_class == 0, p.pred_score**power, p.pred_score)
    moved = with_matches(
        p.pred_image, p.pred_class, score, p.pred_box, p.true_image, p.true_class, p.true_box, 20
    )
    before, after = detection_metrics(p), detection_metrics(moved)
    for name in ("minority_ap50", "minority_froc", "minority_recall_at_p50", "recall_best_f1/cluster"):
        assert after[name] == before[name]


def test_rescaling_the_majoritys_scores_moves_the_minoritys_recall() -> None:
    p = drawn(3)
    score = np.where(p.pred_class == 0, p.pred_score**5, p.pred_score)
    moved = with_matches(
        p.pred_image, p.pred_class, score, p.pred_box, p.true_image, p.true_class, p.true_box, 60
    )
    before, after = detection_metrics(p), detection_metrics(moved)
    assert after["minority_recall"] > before["minority_recall"] + 0.02
    assert after["minority_froc"] == before["minority_froc"]


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_counted_at_the_threshold(seed: int) -> None:
    p = drawn(seed)
    metrics = detection_metrics(p)
    sure = p.pred_score >= metrics["threshold"]
    for c, name in enumerate(p.class_names.tolist()):
        mine = sure & (p.pred_class == c)
        assert metrics[f"precision/{name}"] == p.pred_match[mine, 0].sum() / mine.sum()
        assert metrics[f"recall/{name}"] == p.pred_match[mine, 0].sum() / (p.true_class == c).sum()
    score = p.pred_score.astype(float)
    above, below = score[sure].min(), score[~sure].max()
    assert metrics["threshold"] == pytest.approx((above + below) / 2, abs=1e-7)


def test_three_of_nine_right_is_a_precision_of_a_third() -> None:
    # Read between scores, as Ultralytics does, it is .317.
    p = scored([1, 0, 0, 1, 0, 0, 1, 0, 0], 3)
    metrics = detection_metrics(p, threshold=0.05)
    assert metrics["minority_precision"] == pytest.approx(1 / 3)
    assert metrics["minority_recall"] == 1


def test_matching_is_flat_in_memory() -> None:
    """300 tiles, the fullest with 300 objects: a table of predictions times most objects takes gigabytes."""
    rng = np.random.default_rng(0)
    counts = np.full(300, 40)
    counts[7] = 300
    true_image = np.repeat(np.arange(300), counts)
    corner = rng.uniform(0, 600, (len(true_image), 2))
    true_box = np.hstack([corner, corner + 20])
    pred_image = np.repeat(true_image, 4)
    pred_box = np.repeat(true_box, 4, axis=0) + rng.normal(0, 2, (len(pred_image), 4))
    label, score = np.zeros(len(pred_image), int), rng.random(len(pred_image))
    tracemalloc.start()
    matched = match(pred_image, label, score, pred_box, true_image, label[: len(true_image)], true_box)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert matched[:, 0].sum() > 0.9 * len(true_image)
    assert peak < 100 * 2**20

"""What lies on an object that a tile's cut hid counts neither as true nor as false."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from matched_boxes import drawn, with_matches, with_shipping
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainables.contract.predictions import DetectionPredictions, restricted
from trainables.evaluation.detection import RankedPredictions, detection_metrics
from trainables.evaluation.matching import on_hidden
from trainables.evaluation.operating_point import fit_operating_point

HIDDEN = [0.0, 20.0, 6.0, 60.0]  # the left edge of a tile shows 6 pixels of an object


@pytest.mark.parametrize(
    ("box", "ignored"),
    [
        pytest.param(HIDDEN, True, id="the part itself"),
        pytest.param([0, 20, 6, 30], True, id="a piece of the part, of little IoU"),
        pytest.param([0, 20, 12, 60], True, id="half of it within"),
        pytest.param([0, 20, 12.1, 60], False, id="less than half of it within"),
        pytest.param([20, 20, 30, 30], False, id="elsewhere"),
        pytest.param([0, 20, 0, 60], False, id="a box without area"),
    ],
)
def test_half_of_a_box_decides(box: list[float], ignored: bool) -> None:
    one, part = np.zeros(1, int), np.array([HIDDEN])
    assert on_hidden(one, one, np.array([box]), one, one, part).tolist() == [ignored]
    assert not on_hidden(one, one + 1, np.array([box]), one, one, part)[0]  # of another class
    assert not on_hidden(one + 1, one, np.array([box]), one, one, part)[0]  # of another image


def test_without_predictions_or_hidden_objects_nothing_is_ignored() -> None:
    one, none, box = np.zeros(1, int), np.zeros(0, int), np.array([HIDDEN])
    assert on_hidden(none, none, np.zeros((0, 4)), one, one, box).tolist() == []
    assert on_hidden(one, one, box, none, none, np.zeros((0, 4))).tolist() == [False]


def with_hidden(seed: int) -> tuple[DetectionPredictions, tuple[np.ndarray, ...]]:
    """Predictions of tiles with hidden objects, some of which were found; and these objects."""
    p, rng, n = drawn(seed), np.random.default_rng(seed), 80
    image, label = rng.integers(0, len(p.image), n), (rng.random(n) < 0.4).astype(int)
    corner = rng.uniform(0, 100, (n, 2))
    box = np.hstack([corner, corner + rng.uniform(8, 28, (n, 2))])
    found = np.repeat(np.arange(n), 2)[: n + n // 2]  # half of them twice
    more = with_matches(
        np.concatenate([p.pred_image, image[found]]),
        np.concatenate([p.pred_class, label[found]]),
        np.concatenate([p.pred_score, rng.random(len(found))]),
        np.concatenate([p.pred_box, box[found] + rng.normal(0, 2, (len(found), 4))]),
        *(p.true_image, p.true_class, p.true_box, len(p.image)),
    )
    within = on_hidden(more.pred_image, more.pred_class, more.pred_box, image, label, box)
    ignored = within & ~more.pred_match.any(axis=1)
    assert 60 < ignored.sum() < len(ignored) / 2
    return with_shipping(replace(more, pred_ignored=ignored)), (image, label, box)


@pytest.mark.parametrize("seed", range(3))
def test_ap50_is_that_of_pycocotools_with_hidden_objects_as_crowds(seed: int) -> None:
    p, (image, label, box) = with_hidden(seed)
    # A double that is true at a higher IoU alone is false to both at .5, and COCO ignores it on a crowd.
    p = replace(p, pred_match=np.repeat(p.pred_match[:, :1], 10, axis=1))
    within = on_hidden(p.pred_image, p.pred_class, p.pred_box, image, label, box)
    p = replace(p, pred_ignored=within & ~p.pred_match[:, 0])
    truth = [(p.true_image, p.true_class, p.true_box, 0), (image, label, box, 1)]
    entries = [(*entry, crowd) for *of, crowd in truth for entry in zip(*of, strict=True)]
    annotations = [
        {
            "id": k,
            "image_id": int(i) + 1,
            "category_id": int(c) + 1,
            "bbox": [*b[:2], *(b[2:] - b[:2])],
            "area": float(np.prod(b[2:] - b[:2])),
            "iscrowd": crowd,
        }
        for k, (i, c, b, crowd) in enumerate(entries, start=1)
    ]
    results = [
        {"image_id": int(i) + 1, "category_id": int(c) + 1, "bbox": [*b[:2], *(b[2:] - b[:2])], "score": s}
        for i, c, s, b in zip(p.pred_image, p.pred_class, p.pred_score.tolist(), p.pred_box, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i + 1} for i in range(len(p.image))],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "cluster"}],
            "info": {},
        }
        coco.createIndex()
        found = COCOeval(coco, coco.loadRes(results), "bbox")
        found.params.maxDets = [1, 10, 1000]
        found.params.iouThrs = np.array([0.5])
        found.evaluate()
        found.accumulate()
    metrics = detection_metrics(p)
    for c, name in enumerate(("cell", "cluster")):
        theirs = found.eval["precision"][0, :, c, 0, 2].mean()
        assert metrics[f"ap50/{name}"] == pytest.approx(theirs, abs=0.006)  # as of those without crowds
        untold = detection_metrics(replace(p, pred_ignored=np.zeros_like(p.pred_ignored)))
        assert untold[f"ap50/{name}"] < theirs - 0.01


@pytest.mark.parametrize("seed", range(3))
def test_all_metrics_are_as_if_what_is_ignored_had_not_been_found(seed: int) -> None:
    p, _ = with_hidden(seed)
    kept, shipped = ~p.pred_ignored, p.shipped
    assert shipped is not None
    assert shipped.ignored.any()
    columns = ("image", "class", "score", "box", "match", "ignored")
    less = replace(
        p,
        **{f"pred_{name}": getattr(p, f"pred_{name}")[kept] for name in columns},
        shipped=replace(
            shipped,
            tuned=shipped.tuned[kept],
            **{
                name: getattr(shipped, name)[~shipped.ignored]
                for name in ("image", "label", "score", "box", "match", "ignored")
            },
        ),
    )
    assert detection_metrics(p) == detection_metrics(less)
    one, other = fit_operating_point(p, np.array([85.0, 15])), fit_operating_point(less, np.array([85.0, 15]))
    assert (one.way, one.conf, one.thresholds) == (other.way, other.conf, other.thresholds)
    np.testing.assert_array_equal(one.tuned[kept], other.tuned)


def test_a_subset_of_the_images_takes_along_what_is_ignored() -> None:
    p, _ = with_hidden(0)
    keep = np.arange(len(p.image)) % 3 > 0
    assert RankedPredictions(p).metrics(keep, 0.4) == detection_metrics(restricted(p, keep), threshold=0.4)

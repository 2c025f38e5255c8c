"""What was found on tiles as found on the whole images that they were cut from, with the original truth.

The whole images are judged as any images are: `merged` makes predictions of them, with matches of their own,
whose metrics, thresholds and jackknife are those of `detection`. Pure NumPy.
"""

from dataclasses import dataclass, replace

import numpy as np

from trainables.contract.predictions import DetectionPredictions, ShippedBoxes, Strings
from trainables.contract.predictions import Floats as AnyFloats
from trainables.contract.tasks import MERGED
from trainables.contract.trial import Merging, Metrics
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.matching import Bools, Floats, Ints, match
from trainables.evaluation.merging import WAYS, Merged, Placed, merge

# Metrics of a way of merging, by which ways are compared; the first decides.
COMPARED = ("minority_ap50", "minority_recall", "map50_95")


@dataclass(frozen=True)
class Layout:
    """The whole images of a split, and where its tiles lie on them.

    Attributes:
        name: (W,) of each whole image.
        source: (W,) what was kept in one split: the image itself, or its group.
        size: (W, 2) height, width; pixels.
        whole: (N,) which of them each image of the split, a tile, was cut from.
        window: (N, 4) x, y, width, height of each tile there.
        true_image: (T,) which of them each object is on.
        true_class: (T,) class ids.
        true_box: (T, 4) xyxy, pixels.
    """

    name: Strings
    source: Strings
    size: Ints
    whole: Ints
    window: Ints
    true_image: Ints
    true_class: Ints
    true_box: Floats


def merged(tiles: DetectionPredictions, wholes: Layout, way: Merging) -> DetectionPredictions:
    """Predictions of tiles as predictions of the whole images.

    Args:
        tiles: Of a split, what ships included.
        wholes: Of that split.
        way: How they are merged.

    Returns:
        One image for each whole one. `max_det` is what all tiles of the fullest may hold together.
    """
    found = _on_wholes(wholes, way, tiles.pred_image, tiles.pred_class, tiles.pred_score, tiles.pred_box)
    return replace(
        tiles,
        image=wholes.name,
        source=wholes.source,
        size=wholes.size,
        pred_image=found.image,
        pred_class=found.label,
        pred_score=found.score,
        pred_box=found.box,
        pred_match=_matched(wholes, found),
        pred_ignored=np.zeros(len(found.score), dtype=bool),  # a whole image hides nothing
        true_image=wholes.true_image,
        true_class=wholes.true_class,
        true_box=wholes.true_box.astype(np.float32),
        max_det=tiles.max_det * int(np.bincount(wholes.whole).max()),
        shipped=None if tiles.shipped is None else _shipped(tiles.shipped, wholes, way, found),
    )


def merged_metrics(predictions: DetectionPredictions, threshold: float) -> Metrics:
    """`merged/…`: the metrics of whole images, at a confidence that was picked on tiles.

    Args:
        predictions: As `merged` returns them.
        threshold: Confidence of precision and recall.
    """
    left_out = ("tuned/", "ultralytics/", "threshold", "deployed/threshold")
    return {
        f"{MERGED}{name}": value
        for name, value in detection_metrics(predictions, threshold).items()
        if not name.startswith(left_out)
    }


def compared_ways(tiles: DetectionPredictions, wholes: Layout, threshold: float) -> Metrics:
    """`merging/<way>/<metric>` of each way and of what `COMPARED` names; arguments as of `merged`."""
    plain = replace(tiles, shipped=None)
    found: Metrics = {}
    for way in WAYS:
        metrics = detection_metrics(merged(plain, wholes, way), threshold)
        found |= {f"merging/{way}/{name}": metrics[name] for name in COMPARED}
    return found


def _on_wholes(
    wholes: Layout, way: Merging, tile: Ints, label: Ints, score: AnyFloats, box: AnyFloats
) -> Merged:
    """Boxes of tiles, (P,) and (P, 4), merged."""
    corner = wholes.window[tile, :2]
    placed = Placed(
        image=wholes.whole[tile],
        tile=tile,
        label=label,
        score=score,
        box=box.astype(np.float64) + np.hstack([corner, corner]),
    )
    return merge(placed, wholes.window, wholes.whole, way)


def _matched(wholes: Layout, found: Merged) -> Bools:
    truth = wholes.true_image, wholes.true_class, wholes.true_box
    return match(found.image, found.label, found.score, found.box, *truth)


def _shipped(tiles: ShippedBoxes, wholes: Layout, way: Merging, predicted: Merged) -> ShippedBoxes:
    found = _on_wholes(wholes, way, tiles.image, tiles.label, tiles.score, tiles.box)
    return replace(
        tiles,
        tuned=tiles.tuned[predicted.origin],
        image=found.image,
        label=found.label,
        score=found.score,
        box=found.box,
        match=_matched(wholes, found)[:, 0],
        ignored=np.zeros(len(found.score), dtype=bool),
    )

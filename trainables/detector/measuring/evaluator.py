"""Run a detector over a split and keep its boxes, in pixels of the original images."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainables.contract.predictions import DetectionPredictions, ShippedBoxes
from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.detector.arguments import max_detections
from trainables.detector.measuring.squares import Squares
from trainables.detector.settled import nms, ops
from trainables.evaluation.matching import match, on_hidden
from trainables.evaluation.operating_point import OperatingPoint
from trainables.evaluation.overlaps import covered

Rows = npt.NDArray[np.float64]

HEAD_MAX_DET = 300  # that `predict` leaves an end-to-end head at least
CONF = 0.001  # lowest score kept; Ultralytics' validation default
IOU = 0.7  # of non-maximum suppression; Ultralytics' validation default
NO_TIME_LIMIT = (
    1e6  # seconds per image: past its limit Ultralytics drops the rest of a batch with a mere warning
)


def find_boxes(
    model: Any, loader: Any, *, conf: float, max_det: int, multi_label: bool, device: torch.device
) -> Rows:
    """All boxes that a model finds, by falling score.

    Args:
        model: In evaluation mode.
        loader: Over `Squares`.
        conf: Boxes must score more.
        max_det: Kept per image.
        multi_label: Whether a box counts for each class that scores more, or for its highest one alone.
        device: Of the model.

    Returns:
        (P, 7): image, x1, y1, x2, y2 in its pixels, score, class.
    """
    squares: Squares = loader.dataset
    rows = [np.zeros((0, 7))]
    for indices, pixels in loader:
        images = indices.tolist()
        sizes = [squares.shape(i) for i in images]
        rows += boxes_in(
            model,
            pixels.to(device),
            images,
            sizes,
            conf=conf,
            iou=IOU,
            max_det=max_det,
            multi_label=multi_label,
        )
    return by_score(np.concatenate(rows))


@torch.no_grad()
def boxes_in(
    model: Any,
    squares: torch.Tensor,
    images: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    *,
    conf: float,
    iou: float,
    max_det: int,
    multi_label: bool,
) -> list[Rows]:
    """The boxes on each image of a batch, (p, 7) as `find_boxes` returns them.

    Args:
        model: In evaluation mode.
        squares: (B, 3, side, side) RGB uint8, on its device.
        images: (B,) indices.
        sizes: (B,) height and width of each before it was made square.
        conf: As of `find_boxes`.
        iou: Of non-maximum suppression.
        max_det: As of `find_boxes`.
        multi_label: As of `find_boxes`.
    """
    # An end-to-end head keeps so many itself; `predict` sets it likewise.
    model.set_head_attr(max_det=max(max_det, HEAD_MAX_DET))
    batch = (squares.float() / 255).contiguous(memory_format=torch.channels_last)
    found = nms.non_max_suppression(
        model(batch),
        conf,
        iou,
        multi_label=multi_label,
        max_det=max_det,
        max_time_img=NO_TIME_LIMIT,
        end2end=bool(getattr(model, "end2end", False)),
    )
    rows = []
    for boxes, i, size in zip(found, images, sizes, strict=True):
        ops.scale_boxes(batch.shape[2:], boxes[:, :4], size)
        image = torch.full((len(boxes), 1), i, device=boxes.device)
        rows.append(torch.cat([image, boxes[:, :6]], dim=1).cpu().numpy())
    return rows


def by_score(rows: Rows) -> Rows:
    """By falling score; equal ones as they are."""
    return np.asarray(rows[np.argsort(-rows[:, 5], kind="stable")])


def uncovered(rows: Rows, minority: Collection[int], share: float) -> Rows:
    """Rows as of `find_boxes`, all sure, without those of the majority that lie in one of the minority.

    Args:
        rows: (P, 7).
        minority: Class ids.
        share: Of a box's area that must lie there.
    """
    image, label, score, box = _columns(rows)
    return rows[~covered(image, label, score, box, minority, least=0.0, share=share)]


def for_inference(model: Any) -> Any:
    """A copy with batch normalisation folded into the convolutions, a quarter faster."""
    copied = deepcopy(model)
    copied.criterion = None
    return copied.eval().fuse(verbose=False)


def predict(
    model: Any, loader: Any, data: BoxData, *, split: str, minority: tuple[int, ...], device: torch.device
) -> DetectionPredictions:
    """Predict one split as validation does: every class of a box, down to the lowest scores.

    Args:
        model: In evaluation mode.
        loader: Over `Squares` of that split.
        data: The data set.
        split: Its name.
        minority: Class ids.
        device: Of the model.
    """
    max_det = max_detections(data)
    rows = find_boxes(model, loader, conf=CONF, max_det=max_det, multi_label=True, device=device)
    return measured_rows(rows, data, loader.dataset.images, split=split, minority=minority)


def measured_rows(
    rows: Rows, data: BoxData, images: tuple[BoxImage, ...], *, split: str, minority: tuple[int, ...]
) -> DetectionPredictions:
    """What was found on the images of a split, matched with the truth.

    Args:
        rows: (P, 7) as of `find_boxes`.
        data: The data set.
        images: That were looked at.
        split: That they are of.
        minority: Class ids.
    """
    image, label, score, box = _columns(rows)
    sizes = np.array([each.size for each in images])
    counts = [len(each.classes) for each in images]
    true_image = np.repeat(np.arange(len(counts)), counts)
    true_class = np.concatenate([each.classes for each in images])
    true_box = _corners(images, sizes)
    matched = match(image, label, score, box, true_image, true_class, true_box)
    return DetectionPredictions(
        split=split,
        class_names=np.array(data.class_names),
        minority=np.array(minority, dtype=np.int64),
        image=np.array([each.name for each in images]),
        source=np.array([each.source for each in images]),
        size=sizes,
        pred_image=image,
        pred_class=label,
        pred_score=score,
        pred_box=box,
        pred_match=matched,
        pred_ignored=on_hidden(image, label, box, *_hidden(images)) & ~matched.any(axis=1),
        true_image=true_image,
        true_class=true_class,
        true_box=true_box,
        max_det=max_detections(data),
        conf=CONF,
        iou=IOU,
    )


def with_shipped(
    predictions: DetectionPredictions,
    images: tuple[BoxImage, ...],
    rows: Rows,
    point: OperatingPoint,
    tuned: npt.NDArray[np.bool_],
) -> DetectionPredictions:
    """A split's predictions with those of the weights that ship.

    Args:
        predictions: Of the split, untouched.
        images: Of the split.
        rows: What the weights that ship find there, one label per box, above `point.conf`.
        point: Fitted on val.
        tuned: (P,) predictions that count at the tuned thresholds.
    """
    image, label, score, box = _columns(rows)
    truth = predictions.true_image, predictions.true_class, predictions.true_box
    matched = match(image, label, score, box, *truth)[:, 0]
    shipped = ShippedBoxes(
        tuned=tuned,
        bias=point.bias,
        conf=point.conf,
        image=image,
        label=label,
        score=score,
        box=box,
        match=matched,
        ignored=on_hidden(image, label, box, *_hidden(images)) & ~matched,
    )
    return replace(predictions, shipped=shipped)


def fold_bias(model: Any, bias: npt.NDArray[np.float64]) -> None:
    """Add (C,) `bias` to the class logits of a detection model, in place, in each of its heads' branches."""
    head = model.model[-1]
    added = torch.as_tensor(bias, dtype=torch.float32)
    with torch.no_grad():
        for branch in ("cv3", "one2one_cv3"):
            for level in getattr(head, branch, None) or ():
                level[-1].bias += added.to(level[-1].bias)


def _columns(rows: Rows) -> tuple[Any, Any, Any, Any]:
    """Image (P,) and class (P,) as int64, score (P,) and box (P, 4) as float32."""
    image, label = rows[:, 0].astype(np.int64), rows[:, 6].astype(np.int64)
    return image, label, rows[:, 5].astype(np.float32), rows[:, 1:5].astype(np.float32)


def _hidden(images: tuple[BoxImage, ...]) -> tuple[Any, Any, Any]:
    """Image (H,), class (H,) and box (H, 4) of the objects that tiles show too little of."""
    image = np.repeat(np.arange(len(images)), [len(each.hidden_classes) for each in images])
    return (
        image,
        np.concatenate([each.hidden_classes for each in images]),
        np.concatenate([each.hidden_boxes for each in images]),
    )


def _corners(images: tuple[BoxImage, ...], sizes: Any) -> Any:
    """True boxes of all images as xyxy pixels, (T, 4)."""
    scaled = [image.boxes * np.tile(size[::-1], 2) for image, size in zip(images, sizes, strict=True)]
    boxes = np.concatenate(scaled)
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1).astype(np.float32)

"""Run a detector over a split and keep its boxes, in pixels of the original images."""

from typing import Any

import numpy as np
import torch

from trainables.contract.predictions import DetectionPredictions
from trainables.data.boxes.listed import BoxData, BoxImage, image_size
from trainables.detector.dataset import TileDataset
from trainables.detector.settled import nms, ops
from trainables.evaluation.detection import match

CONF = 0.001  # lowest score kept; Ultralytics' validation default
IOU = 0.7  # of non-maximum suppression; Ultralytics' validation default
LEAST_MAX_DET = 100  # COCO's limit per image
NO_TIME_LIMIT = (
    1e6  # seconds per image: past its limit Ultralytics drops the rest of a batch with a mere warning
)


def max_detections(data: BoxData) -> int:
    """Predictions kept per image: twice the objects of the fullest, so that the limit never caps recall."""
    return max(LEAST_MAX_DET, 2 * data.most_objects())


@torch.no_grad()
def predict(
    model: Any, loader: Any, data: BoxData, *, split: str, minority: tuple[int, ...], device: torch.device
) -> DetectionPredictions:
    """Predict one split.

    Args:
        model: In evaluation mode.
        loader: Over a `TileDataset` of that split.
        data: The data set.
        split: Its name.
        minority: Class ids.
        device: Of the model.
    """
    dataset: TileDataset = loader.dataset
    index = {str(image.path): i for i, image in enumerate(dataset.images)}
    max_det = max_detections(data)
    rows = [np.zeros((0, 7))]
    for batch in loader:
        pixels = (batch["img"].to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        found = nms.non_max_suppression(
            model(pixels),
            CONF,
            IOU,
            multi_label=True,
            max_det=max_det,
            max_time_img=NO_TIME_LIMIT,
            end2end=bool(getattr(model, "end2end", False)),
        )
        shapes = zip(batch["im_file"], batch["ori_shape"], batch["ratio_pad"], strict=True)
        for boxes, (file, original, ratio_pad) in zip(found, shapes, strict=True):
            ops.scale_boxes(pixels.shape[2:], boxes[:, :4], original, ratio_pad)
            image = torch.full((len(boxes), 1), index[file], device=boxes.device)
            rows.append(torch.cat([image, boxes], dim=1).cpu().numpy())
    found_rows = np.concatenate(rows)  # (P, 7): image, x1, y1, x2, y2, score, class
    found_rows = found_rows[np.argsort(-found_rows[:, 5], kind="stable")]
    pred_image, pred_class = found_rows[:, 0].astype(np.int64), found_rows[:, 6].astype(np.int64)
    pred_box, pred_score = found_rows[:, 1:5].astype(np.float32), found_rows[:, 5].astype(np.float32)
    sizes = np.array([image_size(image.path) for image in dataset.images])
    counts = [len(image.classes) for image in dataset.images]
    true_image = np.repeat(np.arange(len(counts)), counts)
    true_class = np.concatenate([image.classes for image in dataset.images])
    true_box = _corners(dataset.images, sizes)
    return DetectionPredictions(
        split=split,
        class_names=np.array(data.class_names),
        minority=np.array(minority, dtype=np.int64),
        image=np.array([image.path.stem for image in dataset.images]),
        source=np.array([image.source for image in dataset.images]),
        size=sizes,
        pred_image=pred_image,
        pred_class=pred_class,
        pred_score=pred_score,
        pred_box=pred_box,
        pred_match=match(pred_image, pred_class, pred_score, pred_box, true_image, true_class, true_box),
        true_image=true_image,
        true_class=true_class,
        true_box=true_box,
        max_det=max_det,
        conf=CONF,
        iou=IOU,
    )


def _corners(images: tuple[BoxImage, ...], sizes: Any) -> Any:
    """True boxes of all images as xyxy pixels, (T, 4)."""
    scaled = [image.boxes * np.tile(size[::-1], 2) for image, size in zip(images, sizes, strict=True)]
    boxes = np.concatenate(scaled)
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1).astype(np.float32)

"""A trained model as a file: weights that plain Ultralytics loads, with all that it takes to use them."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from trainables.contract.predictions import DetectionPredictions
from trainables.contract.trial import Merging
from trainables.data.boxes.listed import BoxData
from trainables.detector.arguments import max_detections
from trainables.detector.settled import ultralytics_version


def as_file(
    model: Any,
    args: Any,
    data: BoxData,
    predictions: DetectionPredictions,
    *,
    believed: Sequence[int],
    suppress: float,
    merging: Merging,
    pixel_max: int | None,
) -> dict[str, Any]:
    """A model as a checkpoint that `ultralytics.YOLO` loads, with how to use it under `predict`.

    Args:
        model: The EMA.
        args: Ultralytics' of the training.
        data: That it was trained on.
        predictions: With what ships.
        believed: Ids of the classes to take from it.
        suppress: As of `FusionSpec`.
        merging: Of what is found on tiles.
        pixel_max: The 16-bit value of its images that is white; None for their high bytes.
    """
    shipped, grid = predictions.shipped, data.grid
    assert shipped is not None
    model.criterion = None  # ours; whoever loads the weights need not have it
    use = {
        "conf": shipped.conf,
        "iou": predictions.iou,
        "max_det": max_detections(data),
        "imgsz": args.imgsz,
        "rect": False,
    }
    if len(believed) < len(data.class_names):
        use["classes"] = list(believed)
    return {
        "model": model.to(memory_format=torch.contiguous_format),
        "ema": None,
        "train_args": vars(args),
        "predict": use,
        "suppress": suppress,
        "tiles": grid and {"size": grid.size, "overlap": grid.overlap, "merging": merging},
        "pixel_max": pixel_max,
        "date": datetime.now(UTC).isoformat(),
        "version": ultralytics_version,
    }


def save_atomically(value: Any, path: Path) -> None:
    """Write with torch; a reader sees the whole file or none."""
    partial = path.with_name(f"{path.name}.tmp")
    torch.save(value, partial)
    os.replace(partial, path)

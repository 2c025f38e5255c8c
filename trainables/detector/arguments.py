"""What Ultralytics is asked for a run: its arguments, and a model that it finds without the network."""

from pathlib import Path
from typing import Any

import torch

from trainables.contract.trial import TrialFolder, TrialSpec
from trainables.data.boxes.listed import BoxData
from trainables.detector.evaluator import max_detections
from trainables.detector.models import OUR_DETECTORS, check_detector

GPU_LOADERS = 4  # processes that prepare batches beside a GPU; a CPU trial has one core and none to spare


def arguments(spec: TrialSpec, folder: TrialFolder, data: BoxData, device: torch.device) -> dict[str, Any]:
    """Ultralytics' arguments.

    Its augmentations keep their defaults, but mosaic and mixup are the strategy's, and `augmentations` (blur,
    grey, CLAHE, applied silently) is off.
    """
    train, on_gpu = spec.train, device.type == "cuda"
    return {
        "task": "detect",
        "mode": "train",
        "model": resolve_model(train.model),
        "data": spec.data.source,
        "imgsz": train.imgsz,
        "batch": train.batch // train.accumulate,  # what goes through the network at once
        "nbs": train.batch,  # of an optimizer step; the weight decay is scaled to it
        "epochs": train.epochs,
        "optimizer": "AdamW",  # "auto" would ignore lr0 and change with the data set's size
        "lr0": train.lr,
        "lrf": train.lr_final,
        "weight_decay": train.weight_decay,
        "warmup_epochs": 1.0,
        "warmup_bias_lr": 0.0,
        "mosaic": spec.strategy.augmentation.mosaic,
        "mixup": spec.strategy.augmentation.mixup,
        "close_mosaic": 0,  # in epochs; the data set closes it at a step
        "augmentations": [],
        "amp": "bf16" if on_gpu and train.amp == "bf16" else False,
        "device": "0" if on_gpu else "cpu",
        "workers": GPU_LOADERS if on_gpu else 0,
        "max_det": max_detections(data),
        "seed": spec.seed,
        "deterministic": True,
        "patience": 0,
        "plots": False,
        "verbose": False,
        "save_dir": str(folder.root / "ultralytics"),
        "exist_ok": True,
    }


def resolve_model(name: str) -> str:
    """The file or name by which Ultralytics finds a model without asking the network.

    Raises:
        UsageError: There is no such model, or it is no detector.
    """
    check_detector(name)
    file = next((place for place in (OUR_DETECTORS / name, Path(name)) if place.is_file()), None)
    return name if file is None else str(file.resolve())

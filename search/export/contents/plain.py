"""A detector's training once more in plain Ultralytics, where that can express it.

`yolo detect train cfg=train.yaml` then makes as many steps, by the same optimizer, on the same images. It is
another training all the same: other random numbers, and epochs that are passes over the images.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.export.chosen import Chosen
from search.export.contents.carried import CARRIED, START
from search.request.config import StudyConfig
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.trial import TrainSpec
from trainables.detector.models import OUR_DETECTORS, own_file

if TYPE_CHECKING:
    from search.export.contents.listing import Listed

TRAIN, DATA = "train.yaml", "data.yaml"
# Knob -> why plain Ultralytics has nothing for it.
LACKING = {
    "sampler_power": "it draws all images equally often, without a weighted sampler",
    "repeat_threshold": "it has no repeat factors",
    "focal_gamma": "it has no focal loss",
    "alpha_power": "its `cls_pw` weighs a class's negatives, too",
    "augment_minority": "it augments all images alike",
    "augment_rest": "it augments all images alike",
    "augment_variants": "it draws each augmentation anew",
    "copy_paste": "its `copy_paste` needs segments, and boxes have none",
    "dual_share": "it trains one model at a time",
    "pretile_copies": "it has no copies of whole images",
    "pretile_fresh": "it has no copies of whole images",
}


def lacking(config: StudyConfig, chosen: Chosen) -> list[str]:
    """What of a run plain Ultralytics cannot express, a sentence each."""
    changed = [knob for knob in chosen.strategy.changed() if knob in LACKING]
    said = [f"`{knob}`: {LACKING[knob]}" for knob in changed]
    if chosen.fusion is not None:
        said.append(f"two models fused: {LACKING['dual_share']}")
    if config.pixel_max is not None:
        said.append("`pixel_max`: it keeps the high byte of 16-bit images")
    return said


def write_plain(
    bundle: Path, config: StudyConfig, chosen: Chosen, found: DetectionPredictions, listed: "Listed"
) -> list[str]:
    """Write `train.yaml` with all that it names, if plain Ultralytics can express the run.

    Args:
        bundle: A folder that exists, with what `train.py` carries.
        config: The study's.
        chosen: The run.
        found: Its predictions.
        listed: Its images.

    Returns:
        Sentences on how it is trained so, or why it cannot be.
    """
    unsaid = lacking(config, chosen) + ([listed.unfit] if listed.unfit else [])
    if unsaid:
        return [f"There is no `{TRAIN}`, for plain Ultralytics cannot train so: {'; '.join(unsaid)}."]
    images = listed.splits
    asked = arguments(config.train, chosen, len(images["train"]), found.max_det)
    for split, names in images.items():
        (bundle / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    described: dict[str, Any] = {split: f"{split}.txt" for split in images}
    described |= {"names": dict(enumerate(found.class_names.tolist()))}
    (bundle / DATA).write_text(yaml.safe_dump(described, sort_keys=False))
    (bundle / TRAIN).write_text(
        "# In this folder: yolo detect train cfg=train.yaml\n"
        f"# As many optimizer steps as here, {config.train.steps}, rounded to whole passes over the images.\n"
        + yaml.safe_dump(asked, sort_keys=False)
    )
    return [
        "In plain Ultralytics, in this folder and where the images are: `yolo detect train cfg=train.yaml`. "
        "That is another training with the same strategy, so it lands where another seed would (take "
        "`last.pt`); its confidences are its own, not those of `predict.yaml`."
    ]


def arguments(train: TrainSpec, chosen: Chosen, n_images: int, max_det: int) -> dict[str, Any]:
    """Ultralytics' arguments.

    Args:
        train: The study's.
        chosen: The run, which plain Ultralytics can express.
        n_images: In the training list.
        max_det: Of the evaluation.
    """
    at_once = train.batch // train.accumulate
    per_epoch = math.ceil(n_images / at_once) / train.accumulate  # optimizer steps of a pass
    epochs = max(1, round(train.steps / per_epoch))
    augmentation = chosen.strategy.augmentation
    return {
        "task": "detect",
        "mode": "train",
        "model": _model(train.model),
        "data": DATA,
        "imgsz": train.imgsz,
        "batch": at_once,
        "nbs": train.batch,
        "epochs": epochs,
        "optimizer": "AdamW",
        "lr0": train.lr,
        "lrf": train.lr_final,
        "weight_decay": train.weight_decay,
        "warmup_epochs": round(train.eval_every / per_epoch, 4),
        "warmup_bias_lr": 0.0,
        "mosaic": augmentation.mosaic,
        "mixup": augmentation.mixup,
        "close_mosaic": round(train.close_mosaic * epochs),
        "augmentations": [],
        "amp": train.amp == "bf16",
        "max_det": max_det,
        "seed": chosen.seed,
        "deterministic": True,
        "patience": 0,
    }


def _model(name: str) -> str:
    """Where it is found from the bundle's folder."""
    file = own_file(name)
    if file is not None:
        return f"{START}/{file.name}"
    return f"{CARRIED}/trainables/detector/{name}" if (OUR_DETECTORS / name).is_file() else name

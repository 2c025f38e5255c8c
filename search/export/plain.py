"""A detector's training once more in plain Ultralytics, where that can express it.

`yolo detect train cfg=train.yaml` then makes as many steps, by the same optimizer, on the same images. It is
another training all the same: other random numbers, and epochs that are passes over the images.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from search.export.chosen import Chosen
from search.request.config import StudyConfig
from spaces.errors import UsageError
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.trial import TrainSpec
from trainables.detector.models import OUR_DETECTORS, own_file

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

# Split -> files of its images; of `train` those that the strategy keeps.
Images = Mapping[str, list[Path]]


def lacking(config: StudyConfig, chosen: Chosen) -> list[str]:
    """What of a run plain Ultralytics cannot express, a sentence each."""
    changed = [knob for knob in chosen.strategy.changed() if knob in LACKING]
    said = [f"`{knob}`: {LACKING[knob]}" for knob in changed]
    if chosen.fusion is not None:
        said.append(f"two models fused: {LACKING['dual_share']}")
    if config.pixel_max is not None:
        said.append("`pixel_max`: it keeps the high byte of 16-bit images")
    return said


def write_again(
    bundle: Path,
    config: StudyConfig,
    chosen: Chosen,
    predictions: DetectionPredictions,
    images: Callable[[], Images],
) -> list[str]:
    """Write `train.yaml` with all that it names, if plain Ultralytics can express the run.

    Args:
        bundle: A folder that exists.
        config: The study's.
        chosen: The run.
        predictions: Of it.
        images: Looks for the data.

    Returns:
        Paragraphs on how it is trained again, or why it cannot be there.
    """
    unsaid = lacking(config, chosen)
    if unsaid:
        return [
            "Plain Ultralytics cannot express this strategy, so there is no `train.yaml`: "
            f"{'; '.join(unsaid)}. `rarecall search` and `rarecall confirm` train it, by `config.yaml`."
        ]
    try:
        found = images()
    except UsageError as error:
        return [f"There is no `{TRAIN}`: {error.message}."]
    asked = arguments(config.train, chosen, len(found["train"]), predictions.max_det)
    ours = OUR_DETECTORS / config.train.model
    if own_file(config.train.model) is None and ours.is_file():
        (bundle / config.train.model).write_bytes(ours.read_bytes())
    for split, paths in found.items():
        (bundle / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths))
    names = dict(enumerate(predictions.class_names.tolist()))
    described = {split: f"{split}.txt" for split in found} | {"names": names}
    (bundle / DATA).write_text(yaml.safe_dump(described, sort_keys=False))
    (bundle / TRAIN).write_text(
        "# In this folder: yolo detect train cfg=train.yaml\n"
        f"# As many optimizer steps as here, {config.train.steps}, rounded to whole passes over the images.\n"
        + yaml.safe_dump(asked, sort_keys=False)
    )
    return [
        "In plain Ultralytics, in this folder and where the images are: `yolo detect train cfg=train.yaml`. "
        f"`train.txt` names the {len(found['train'])} images that the strategy keeps. It is another "
        "training, so it lands where another seed would; confidences are then its own, not those of "
        "`predict.yaml`."
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
        "model": train.model,
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

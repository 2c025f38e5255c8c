"""The images that a run is trained on, for whoever trains it elsewhere. Reads the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.contract.tasks import TASKS
from trainables.contract.trial import TrialSpec
from trainables.data.boxes.listed import BoxImage
from trainables.data.sources import boxes_of, images_of
from trainables.storage.address import is_address
from trainables.strategy.sampling import retain


@dataclass(frozen=True)
class Listed:
    """The images of a run.

    Attributes:
        splits: Split -> files of its images, or their names; of `train` those that the strategy keeps.
        unfit: Why plain Ultralytics cannot train on them as they lie; empty if it can.
    """

    splits: Mapping[str, list[str]]
    unfit: str = ""


def images_of_run(spec: TrialSpec) -> Listed:
    """The images of each split; of a classifier's only those of `train`.

    Raises:
        UsageError: The data are not there, are whole images, or two models have each their own.
    """
    if spec.fusion is not None or spec.strategy.division.dual_share:
        raise UsageError("each of the two models has its own")
    if spec.data.tile is not None:
        raise UsageError("they are tiles, which `train.py` cuts anew")
    return _pictures(spec) if TASKS[spec.task].one_class_per_image else _boxes(spec)


def _pictures(spec: TrialSpec) -> Listed:
    data = images_of(spec.data.source, spec.train.imgsz, spec.data.pixel_max)
    train = data.splits["train"]
    kept = _kept(spec, data.class_names, [frozenset({int(label)}) for label in train.labels])
    return Listed({"train": train.ids[kept].tolist()})


def _boxes(spec: TrialSpec) -> Listed:
    data = boxes_of(spec.data.place, spec.data.pixel_max)
    train = data.splits["train"]
    kept = _kept(spec, data.class_names, [frozenset(image.classes.tolist()) for image in train])
    splits = data.splits | {"train": tuple(train[i] for i in kept)}
    if is_address(spec.data.source):  # where they are on this machine says nothing to others
        unfit = "it reads files of its machine, and the images lie on a storage"
        return Listed({split: [image.name for image in images] for split, images in splits.items()}, unfit)
    elsewhere = [image.name for images in splits.values() for image in images if not _labelled(image)]
    unfit = ""
    if elsewhere:
        unfit = f"the boxes of {len(elsewhere)} images are in no YOLO label files, e.g. of {elsewhere[0]}"
    return Listed({split: [str(image.path) for image in images] for split, images in splits.items()}, unfit)


def _kept(
    spec: TrialSpec, class_names: Sequence[str], classes: Sequence[frozenset[int]]
) -> npt.NDArray[np.int64]:
    minority = {class_names.index(name) for name in spec.data.minority}
    return retain(classes, minority, retention=spec.strategy.sampling.retention, seed=spec.seed)


def _labelled(image: BoxImage) -> bool:
    """Whether its boxes are where Ultralytics looks for them: `labels` in the place of the last `images`."""
    before, _, after = str(image.path).rpartition("/images/")
    return len(image.classes) == 0 or Path(f"{before}/labels/{after}").with_suffix(".txt").is_file()

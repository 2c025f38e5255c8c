"""The images that a detector's run was trained on, for a training elsewhere."""

from pathlib import Path

from search.record.study import Study
from spaces.errors import UsageError
from spaces.strategy import Strategy
from trainables.data.boxes.listed import BoxImage
from trainables.data.sources import boxes_of
from trainables.strategy.sampling import retain


def training_images(study: Study, strategy: Strategy, seed: int) -> dict[str, list[Path]]:
    """Split -> image files; of `train` those that the strategy keeps.

    Args:
        study: Of a detector.
        strategy: Whose `retention` is applied.
        seed: Of the run.

    Raises:
        UsageError: The data are not there, or other programs would not find their labels.
    """
    config = study.config
    data = boxes_of(config.data_spec(study.minority).place, config.pixel_max)
    minority = {data.class_names.index(name) for name in study.minority}
    train = data.splits["train"]
    classes = [frozenset(image.classes.tolist()) for image in train]
    kept = retain(classes, minority, retention=strategy.sampling.retention, seed=seed)
    chosen = data.splits | {"train": tuple(train[i] for i in kept)}
    unlabelled = [image for images in chosen.values() for image in images if not _labelled(image)]
    if unlabelled:
        raise UsageError(
            f"the boxes of {len(unlabelled)} images are in no YOLO label files, e.g. of {unlabelled[0].name}"
        )
    return {split: [image.path for image in images] for split, images in chosen.items()}


def _labelled(image: BoxImage) -> bool:
    """Whether its boxes are where Ultralytics looks for them: `labels` in the place of the last `images`."""
    before, _, after = str(image.path).rpartition("/images/")
    return len(image.classes) == 0 or Path(f"{before}/labels/{after}").with_suffix(".txt").is_file()

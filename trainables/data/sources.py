"""Which reader a study's `data:` needs. The one place that knows the data sources by name.

To add a demo: an entry in `DEMOS`. To read another format: its reader in `boxes` or `images`, called by that
folder's `data_set`, and its suffix in `FILES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spaces.errors import UsageError
from trainables.contract.tasks import Task
from trainables.contract.trial import WholeImages
from trainables.data.boxes.data_set import describe_detection, detection_once
from trainables.data.boxes.listed import BoxData
from trainables.data.cut_once import tiles_once
from trainables.data.demo import cytology, cytology_whole, digits, toy
from trainables.data.files import check_names, existing
from trainables.data.images.data_set import describe_classification
from trainables.data.images.pixels import ImageData, load_files
from trainables.data.summary import DataSummary


@dataclass(frozen=True)
class Demo:
    """A data set that needs no file of the person's.

    Attributes:
        task: That it is for.
        describe: Counts it.
        file: For a detector: the data.yaml, drawn if this node has not got it yet.
        images: For a classifier: its images at a side in pixels.
    """

    task: Task
    describe: Callable[[], DataSummary]
    file: Callable[[], Path] | None = None
    images: Callable[[int], ImageData] | None = None


@dataclass(frozen=True)
class Files:
    """What a task reads from disk.

    Attributes:
        fits: Whether a path can be one, by its kind and suffix.
        kinds: What is said of one that does not.
        describe: Counts it; the second argument is the study's `pixel_max`.
        instead: What a folder that does not fit may be meant as; empty if there is nothing to say.
    """

    fits: Callable[[Path], bool]
    kinds: str
    describe: Callable[[Path, int | None], DataSummary]
    instead: str = ""


DEMOS = {
    "demo:digits": Demo("classification", digits.describe, images=digits.at_side),
    "demo:cytology": Demo("detection", cytology.describe, file=cytology.materialise),
    "demo:cytology_whole": Demo("detection", cytology_whole.describe, file=cytology_whole.materialise),
    "demo:toy": Demo("toy", toy.describe),
}
FILES: dict[Task, Files] = {
    "classification": Files(
        lambda path: path.is_dir() or path.suffix == ".csv",
        "neither a folder of images nor a CSV",
        describe_classification,
    ),
    "detection": Files(
        lambda path: path.suffix in {".yaml", ".yml", ".json"},
        "neither a YOLO data.yaml nor a COCO json",
        describe_detection,
        "whole images that are to be cut are `data: {images: FOLDER, tile: {size: 640, overlap: 64}}`",
    ),
}


def describe(source: str, task: Task, pixel_max: int | None = None) -> DataSummary:
    """Count what `source` holds.

    Args:
        source: A demo, or a path.
        task: Of the study.
        pixel_max: The value of 16-bit images that is white, or None.

    Raises:
        UsageError: The source does not exist, belongs to another task, or cannot be read.
    """
    if source.startswith("demo:"):
        if source not in DEMOS:
            raise UsageError(f"data: no such demo '{source}'", f"demos: {', '.join(DEMOS)}")
        demo = DEMOS[source]
        if demo.task != task:
            raise UsageError(f"data: {source} is for {demo.task}, the study's task is {task}")
        if pixel_max is not None:
            raise UsageError(f"pixel_max: for 16-bit images, and {source} has none, got {pixel_max}")
        return demo.describe()
    path = existing(source)
    if task not in FILES:
        raise UsageError(f"data: {task} has no data of its own, got {path}", f"demos: {', '.join(DEMOS)}")
    files = FILES[task]
    if not files.fits(path):
        raise UsageError(f"data: {path} is {files.kinds}", files.instead if path.is_dir() else "")
    summary = files.describe(path, pixel_max)
    check_names(summary.class_names)
    return summary


def images_of(source: str, side: int, pixel_max: int | None = None) -> ImageData:
    """A classifier's images, resized to `side` x `side`.

    Raises:
        UsageError: As `images.data_set.load_classification` and `images.cache.stored_pixels`.
    """
    demo = DEMOS.get(source)
    if demo is None or demo.images is None:
        return load_files(Path(source), side, pixel_max)
    return demo.images(side)


def boxes_of(source: str | WholeImages, pixel_max: int | None = None) -> BoxData:
    """A detector's images and boxes, read once for all trials of a worker; of whole images, their tiles.

    Raises:
        UsageError: As `boxes.data_set.load_detection` and `cut_once.tiles_once`.
        RunError: As `cut_once.tiles_once`.
    """
    if isinstance(source, WholeImages):
        return tiles_once(source)
    demo = DEMOS.get(source)
    path = Path(source) if demo is None or demo.file is None else demo.file()
    return detection_once(path, pixel_max)

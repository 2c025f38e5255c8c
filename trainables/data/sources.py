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
from trainables.data.staging.staged import by_address, local, place_of, stage
from trainables.data.summary import DataSummary
from trainables.storage.address import is_address


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
        suffixes: Of the files that it takes.
        folders: Whether it takes a folder, too.
        kinds: What is said of anything else.
        describe: Counts it; the second argument is the study's `pixel_max`.
        instead: What a folder that does not fit may be meant as; empty if there is nothing to say.
    """

    suffixes: frozenset[str]
    folders: bool
    kinds: str
    describe: Callable[[Path, int | None], DataSummary]
    instead: str = ""

    def check(self, shown: object, suffix: str, *, is_folder: bool) -> None:
        """Refuse what the task does not take.

        Raises:
            UsageError: It is another kind.
        """
        if not (self.folders if is_folder else suffix in self.suffixes):
            raise UsageError(f"data: {shown} is {self.kinds}", self.instead if is_folder else "")


DEMOS = {
    "demo:digits": Demo("classification", digits.describe, images=digits.at_side),
    "demo:cytology": Demo("detection", cytology.describe, file=cytology.materialise),
    "demo:cytology_whole": Demo("detection", cytology_whole.describe, file=cytology_whole.materialise),
    "demo:toy": Demo("toy", toy.describe),
}
FILES: dict[Task, Files] = {
    "classification": Files(
        frozenset({".csv"}), True, "neither a folder of images nor a CSV", describe_classification
    ),
    "detection": Files(
        frozenset({".yaml", ".yml", ".json"}),
        False,
        "neither a YOLO data.yaml nor a COCO json",
        describe_detection,
        "whole images that are to be cut are `data: {images: FOLDER, tile: {size: 640, overlap: 64}}`",
    ),
}


def describe(source: str, task: Task, pixel_max: int | None = None) -> DataSummary:
    """Count what `source` holds.

    Args:
        source: A demo, a path, or an address on a storage.
        task: Of the study.
        pixel_max: The value of 16-bit images that is white, or None.

    Raises:
        UsageError: The source does not exist, belongs to another task, or cannot be read.
        RunError: As `staged.stage`.
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
    if is_address(source):
        _check_kind(source, task)
    with by_address(source):
        path = existing(str(local(source)))
        files = _files_of(task, path)
        files.check(path, path.suffix, is_folder=path.is_dir())
        summary = files.describe(path, pixel_max)
    check_names(summary.class_names)
    return summary


def bring(source: str | WholeImages, task: Task) -> None:
    """Have on this node what a study reads from a storage, as it is there now; nothing to do for other data.

    Raises:
        UsageError: As `staged.stage`, or the task takes no such data.
        RunError: As `staged.stage`.
    """
    if isinstance(source, WholeImages):
        for one, alone in ((source.images, False), (source.annotations, True), (source.group_by, True)):
            if one is not None and is_address(one):
                stage(one, alone=alone)
    elif is_address(source):
        _check_kind(source, task)
        stage(source)


def _check_kind(source: str, task: Task) -> None:
    place = place_of(source)
    suffix = Path(place.name).suffix
    _files_of(task, place.shown).check(place.shown, suffix, is_folder=not place.name)


def _files_of(task: Task, shown: object) -> Files:
    if task not in FILES:
        raise UsageError(f"data: {task} has no data of its own, got {shown}", f"demos: {', '.join(DEMOS)}")
    return FILES[task]


def images_of(source: str, side: int, pixel_max: int | None = None) -> ImageData:
    """A classifier's images, resized to `side` x `side`.

    Raises:
        UsageError: As `images.data_set.load_classification`, `images.cache.stored_pixels` and `staged.stage`.
        RunError: As `staged.stage`.
    """
    demo = DEMOS.get(source)
    if demo is None or demo.images is None:
        return load_files(local(source), side, pixel_max)
    return demo.images(side)


def boxes_of(source: str | WholeImages, pixel_max: int | None = None) -> BoxData:
    """A detector's images and boxes, read once for all trials of a worker; of whole images, their tiles.

    Raises:
        UsageError: As `boxes.data_set.load_detection`, `cut_once.tiles_once` and `staged.stage`.
        RunError: As `cut_once.tiles_once` and `staged.stage`.
    """
    if isinstance(source, WholeImages):
        return tiles_once(source)
    demo = DEMOS.get(source)
    path = local(source) if demo is None or demo.file is None else demo.file()
    return detection_once(path, pixel_max)

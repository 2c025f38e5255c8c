"""Tiling: whole images with boxes become a data set of tiles, split by source before anything is cut."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from search.request.config_errors import did_you_mean
from search.show.common import bar
from search.show.tiling import Tiling, thousands
from spaces.errors import Interrupted, UsageError
from trainables.contract.trial import SMALLEST_TILE
from trainables.data.boxes.data_set import summary_of
from trainables.data.boxes.listed import BoxData
from trainables.data.boxes.tiles import Counts
from trainables.data.boxes.tiling import Grid, corners
from trainables.data.boxes.whole import load_whole
from trainables.data.probing import left_out, watched
from trainables.data.summary import DataSummary, rare_classes
from trainables.data.tiled import cut_into, refuse_among

COVERED = 95  # per cent of the minority's objects that should lie wholly within a tile, wherever they are


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    Attributes:
        images: A folder, a data.yaml or a COCO json.
        out: Folder of the tiles.
        grid: How images are cut.
        annotations: A COCO json, for a folder.
        group_by: What is kept in one split: a CSV or a pattern; None for each image by itself.
        minority: Classes; empty for those that are rare.
        workers: Processes; None for as many as there are processors.
    """

    images: Path
    out: Path
    grid: Grid
    annotations: Path | None = None
    group_by: str | None = None
    minority: tuple[str, ...] = ()
    workers: int | None = None


def tile_images(asked: Asked, console: Console, go_on: str) -> Tiling:
    """Cut whole images into a YOLO data set.

    Args:
        asked: By the person.
        console: Where bars and notes are shown.
        go_on: The command that goes on after an interruption.

    Raises:
        UsageError: The arguments, the images, the annotations or the folder are not as they must be.
        RunError: The disk is full, or a worker was killed.
        Interrupted: By Ctrl-C; images that are cut stay so.
    """
    _check_arguments(asked)
    with bar(console, "looking at images") as watch, watched(watch):
        data = load_whole(asked.images, asked.annotations, asked.group_by)
    refuse_among(asked.images, data, asked.out, listed=asked.annotations is not None)
    summary = summary_of(data)
    minority = _minority(asked.minority, summary)
    before = [*summary.notes(), *grid_notes(data, minority, asked.grid, "--overlap {}")]
    _say(before, console)  # now, so that a person can stop and choose another overlap
    workers = len(os.sched_getaffinity(0)) if asked.workers is None else asked.workers
    try:
        with bar(console, "cutting images") as watch:
            tiled = cut_into(asked.out, data, asked.grid, workers=workers, watch=watch)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", go_on) from None
    after = cut_notes(tiled.counts, tiled.problems, data)
    _say(after, console)
    return Tiling(asked.out, data.class_names, minority, tiled.counts, tiled.found, (*before, *after))


def _say(notes: list[str], console: Console) -> None:
    for note in notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def _check_arguments(asked: Asked) -> None:
    grid = asked.grid
    if grid.size < SMALLEST_TILE:
        raise UsageError(f"--size: at least {SMALLEST_TILE} pixels, got {grid.size}")
    if not 0 <= grid.overlap < grid.size:
        raise UsageError(
            f"--overlap: from 0 to less than --size, {grid.size} pixels, got {grid.overlap}",
            "as large as most objects of the minority",
        )
    if asked.workers is not None and asked.workers < 1:
        raise UsageError(f"--workers: at least 1, got {asked.workers}")


def _minority(named: tuple[str, ...], summary: DataSummary) -> tuple[str, ...]:
    """The classes that the overlap has to do with; none if all are about equally frequent."""
    for name in named:
        if name not in summary.class_names:
            hint = (
                did_you_mean(name, summary.class_names).removeprefix("\nhint: ")
                or f"classes: {', '.join(summary.class_names)}"
            )
            raise UsageError(f"--minority: no class '{name}' in the data", hint)
    if named:
        return named
    try:
        return rare_classes(summary)
    except UsageError:  # that none is rare is no error here
        return ()


def grid_notes(data: BoxData, minority: Sequence[str], grid: Grid, option: str) -> list[str]:
    """Whether too many objects of the minority are so large that a cut may go through them in every tile.

    Args:
        data: The whole images.
        minority: The rare classes.
        grid: How the images are cut.
        option: How a person asks for another overlap; `{}` stands for the pixels.
    """
    sizes = [image.size for images in data.splits.values() for image in images]
    found = []
    if all(max(size) <= grid.size for size in sizes):
        found.append(f"no image is larger than a tile of {grid.size} pixels: each becomes one tile")
    for name in minority:
        class_id = data.class_names.index(name)
        sides = np.concatenate(
            [
                _longer_sides(image.boxes[image.classes == class_id], image.size)
                for images in data.splits.values()
                for image in images
            ]
        )
        if not len(sides):
            continue
        wanted = float(np.percentile(sides, COVERED))
        if grid.overlap < wanted and any(max(size) > grid.size for size in sizes):
            enough = option.format(math.ceil(wanted))
            larger = f"{thousands(int((sides > grid.overlap).sum()))} of {thousands(len(sides))}"
            found.append(
                f"warning: {larger} objects of {name} are larger than the overlap of "
                f"{grid.overlap} pixels, so no tile may show them whole; {enough} is "
                f"as large as {COVERED} % of them"
            )
    return found


def _longer_sides(boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(n,) of each box, pixels."""
    placed = corners(boxes, size[1], size[0])
    sides: npt.NDArray[np.float64] = (placed[:, 2:] - placed[:, :2]).max(axis=1, initial=0)
    return sides


def cut_notes(by_split: Mapping[str, Counts], problems: Mapping[str, str], data: BoxData) -> list[str]:
    """What cutting has shown, a sentence each.

    Args:
        by_split: What is in each split.
        problems: Name of each image that could not be read -> why.
        data: The whole images.
    """
    said = [f"{count} {what}" for what, count in left_out(problems).items()]
    without = sum(counts.without for counts in by_split.values())
    if without:
        said.append(f"{without} images have no object; all their tiles count as background")
    for class_id, name in enumerate(data.class_names):
        unseen = sum(int(counts.unseen[class_id]) for counts in by_split.values())
        if unseen:
            said.append(
                f"warning: {thousands(unseen)} objects of {name} have a label in no tile, as each shows too "
                "little of them; larger tiles would show more"
            )
    return said

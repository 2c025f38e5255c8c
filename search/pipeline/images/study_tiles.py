"""The tiles of a study that names whole images: cut before anything else, and what is to be said of them."""

import os
from dataclasses import replace

from rich.console import Console

from search.pipeline.images.tiling import cut_notes, grid_notes
from search.request.config import StudyConfig
from search.request.data_check import check_data
from search.show.common import bar
from search.show.tiling import thousands
from spaces.errors import Interrupted
from trainables.contract.trial import WholeImages
from trainables.data.boxes.data_set import summary_of
from trainables.data.boxes.tiling import Grid
from trainables.data.cut_once import CutOnce, cut_once, load_asked
from trainables.data.probing import watched
from trainables.data.summary import DataSummary


def describe_tiles(config: StudyConfig, console: Console | None) -> DataSummary:
    """Cut a study's whole images, unless their tiles are in the cache folder, and count what these hold.

    Args:
        config: Of the study.
        console: Where bars are shown, if it is a terminal; or None.

    Returns:
        Of the tiles; its listing and how its splits came about are of the whole images.

    Raises:
        UsageError: The images, the annotations or what the study asks of them are not as they must be.
        RunError: The disk is full, or a worker was killed.
        Interrupted: By Ctrl-C; images that are cut stay so.
    """
    asked = config.data
    assert isinstance(asked, WholeImages)
    with bar(console, "looking at whole images") as watch, watched(watch):
        whole = load_asked(asked)
    of_whole = summary_of(whole)
    # What is wrong is told before it takes time; metrics of whole images are those of its tiles.
    counts = {split: counted.images for split, counted in of_whole.splits.items()}
    minority = check_data(config, replace(of_whole, whole_images=counts)).minority
    try:
        with bar(console, "cutting images") as watch:
            made = cut_once(whole, asked.tile, workers=len(os.sched_getaffinity(0)), watch=watch)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", "the same command") from None
    with bar(console, "looking at tiles") as watch, watched(watch):
        tiles = summary_of(made.load())
    grid = Grid(asked.tile.size, asked.tile.overlap)
    said = [
        _counted(made, grid),
        *grid_notes(whole, minority, grid, "data.tile.overlap: {}"),
        *cut_notes(made.counts, made.left_out, whole),
    ]
    return replace(
        tiles,
        fingerprint=made.fingerprint,  # of the whole images: whoever encodes the tiles may do it otherwise
        unit=whole.unit,
        one_piece=whole.one_piece,
        test_from_val=whole.test_from_val,
        mended={**whole.mended, **tiles.mended},
        warnings=(*said, *whole.warnings, *tiles.warnings),
        listing=of_whole.listing,
    )


def _counted(made: CutOnce, grid: Grid) -> str:
    splits = ", ".join(
        f"{split} {thousands(counts.images)} -> {thousands(counts.tiles)}"
        for split, counts in made.counts.items()
    )
    images = thousands(sum(counts.images for counts in made.counts.values()))
    return f"{images} whole images as tiles of {grid.size} pixels, {grid.overlap} of overlap: {splits}"

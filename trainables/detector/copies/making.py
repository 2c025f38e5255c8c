"""The tiles of copies as files, once per node: trials whose copies are equal share them.

They lie in `copies/` of the cache folder: a folder for each strength, seed and grid, and in it one for each
copy, named by what it is made of: the file, its objects, the copy's number. The first trial that needs a copy
makes it, others with the same strength, seed and grid wait. A copy's folder is filled under another name, so
what a killed process leaves is never read. Each image is decoded once for all its copies, of each tile only
its part is transformed. To free the disk remove `copies/`.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spaces.augmentation import Augmentation
from spaces.errors import UsageError
from trainables.contract.node import cache_folder, own_threads
from trainables.data.boxes.cutting import write_tile
from trainables.data.boxes.decoding import Unreadable, bands
from trainables.data.boxes.listed import BoxData, BoxImage, Tile
from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import HEADERS
from trainables.data.probing import Look, locked, look_at
from trainables.detector.copies.planning import Copy, plan_copies
from trainables.strategy.augmentation import Change, turn_boxes, turn_image, warp

VERSION = 1  # of how copies are made
SAMPLED = 2**18  # pixels of a whole image whose mean stands for all
MARGIN = 2  # pixels around a part, for what is interpolated

Pixels = npt.NDArray[np.uint8]
Window = tuple[int, int, int, int]


def copied_tiles(
    data: BoxData, minority: Collection[int], augmentation: Augmentation, *, seed: int
) -> tuple[BoxImage, ...]:
    """The tiles that a strategy's copies add to the training tiles, made now unless this node has them.

    Args:
        data: The data set.
        minority: Class ids of the minority.
        augmentation: Of the strategy.
        seed: Of the trial.

    Raises:
        UsageError: As `plan_copies`, or a whole image is gone, has changed, or cannot be read.
        OSError: The disk is full, or nothing can be written to the cache folder.
    """
    copies = plan_copies(data, minority, augmentation, seed=seed)
    if not copies:
        return ()
    assert data.grid is not None
    assert data.images_in is not None
    files = {copy.source.name: data.images_in / copy.source.name for copy in copies}
    looks = look_at(list(files.values()), HEADERS)
    # The minority belongs to it: which objects are spared and which tiles chosen hangs on it.
    recipe = (VERSION, augmentation.augment_minority, seed, data.grid, sorted(minority))
    folder = cache_folder() / "copies" / _hash(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / _key(copy, files[copy.source.name], looks) for copy in copies]
    missing = [(copy, place) for copy, place in zip(copies, places, strict=True) if not place.is_dir()]
    if missing:
        with locked(folder.with_suffix(".lock")):
            left = [
                (copy, place) for copy, place in missing if not place.is_dir()
            ]  # another may have made it
            _make_all(left, files, data.grid)
    return tuple(
        image for copy, place in zip(copies, places, strict=True) for image in _listed(copy, place, data.grid)
    )


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def _key(copy: Copy, file: Path, looks: dict[Path, Look]) -> str:
    source = copy.source
    objects = source.classes.tobytes() + source.boxes.tobytes()
    # A look's digest is of a part of the content.
    content = looks[file].digest, file.stat().st_mtime_ns, source.width, source.height
    return _hash((source.name, content, hashlib.sha256(objects).hexdigest(), copy.number))


def _listed(copy: Copy, place: Path, grid: Grid) -> list[BoxImage]:
    listed = []
    for (x, y, width, height), classes, boxes in zip(
        copy.windows.tolist(), copy.classes, copy.boxes, strict=True
    ):
        name = f"{copy.name}/{_file_name(x, y, grid)}"
        listed.append(
            BoxImage(
                path=place / _file_name(x, y, grid),
                name=name,
                source=copy.source.group,
                classes=classes,
                boxes=boxes,
                look=Look(height, width),
                tile=Tile(name, copy.name, copy.source.split, x, y, width, height, copy.source.name),
            )
        )
    return listed


def _file_name(x: int, y: int, grid: Grid) -> str:
    return f"x{x}_y{y}{grid.suffix}"


def _make_all(missing: Sequence[tuple[Copy, Path]], files: dict[str, Path], grid: Grid) -> None:
    """Make copies, those of an image one after the other, and as many images at once as the run has CPUs."""
    by_image = [list(group) for _, group in groupby(missing, lambda pair: pair[0].source.name)]
    with ThreadPoolExecutor(own_threads()) as pool:
        made = [pool.submit(_make, group, files[group[0][0].source.name], grid) for group in by_image]
        try:
            for future in made:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make(wanted: Sequence[tuple[Copy, Path]], file: Path, grid: Grid) -> None:
    """Copies of one image."""
    source = wanted[0][0].source
    try:
        (image,) = bands(file, (source.height, source.width), [(0, source.height)])
    except Unreadable as error:
        raise UsageError(f"{file}: {error}", "it is a whole image that the tiles were cut from") from error
    for copy, place in wanted:
        partial = place.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            mean = 0.0 if copy.change is None else mean_light(image, copy.change)
            for x, y, width, height in copy.windows.tolist():
                shown = tile_of(image, copy.change, (x, y, width, height), mean)
                write_tile(partial / _file_name(x, y, grid), shown, grid)
            os.replace(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def mean_light(image: Pixels, change: Change) -> float:
    """What contrast turns about: the mean of the whole image in its new stain, by some of its pixels."""
    step = sampling_step((image.shape[0], image.shape[1]))
    return change.mean_of(np.ascontiguousarray(image[::step, ::step, ::-1]))


def sampling_step(size: tuple[int, int]) -> int:
    """Every how many pixels of a whole image of (height, width) one stands for its light."""
    return max(1, math.isqrt(size[0] * size[1] // SAMPLED))


def tile_of(image: Pixels, change: Change | None, window: Window, mean: float) -> Pixels:
    """One tile of a changed whole image, of which only that part is computed.

    Args:
        image: (height, width, 3) BGR, the whole one as it is.
        change: What is done to it; None for nothing.
        window: x, y, width, height in the changed image.
        mean: As of `Change.recoloured`.

    Returns:
        (height, width, 3) BGR.
    """
    left, top, right, bottom = region(change, window, (image.shape[0], image.shape[1]))
    return show(image[top:bottom, left:right], (left, top), change, window, mean)


def region(change: Change | None, window: Window, size: tuple[int, int]) -> Window:
    """Left, top, right, bottom of what a tile of a changed image of (height, width) is made of."""
    x, y, width, height = window
    if change is None:
        return x, y, x + width, y + height
    box = _before_symmetry(change, window)
    corners = np.array([[box[i], box[j]] for i in (0, 2) for j in (1, 3)])  # (4, 2)
    seen = np.linalg.solve(change.matrix[:, :2], (corners - change.matrix[:, 2]).T).T
    left, top = np.maximum(np.floor(seen.min(axis=0)).astype(int) - MARGIN, 0).tolist()
    right, bottom = np.minimum(np.ceil(seen.max(axis=0)).astype(int) + MARGIN, size[::-1]).tolist()
    return left, top, right, bottom


def show(part: Pixels, corner: tuple[int, int], change: Change | None, window: Window, mean: float) -> Pixels:
    """A tile of a changed image from the part of it that `region` names; arguments as of `tile_of`.

    Args:
        part: (height, width, 3) BGR.
        corner: Left and top of the part.
        change: See above.
        window: See above.
        mean: See above.
    """
    if change is None:
        return part
    box = _before_symmetry(change, window)
    linear, shift = change.matrix[:, :2], change.matrix[:, 2]
    moved = np.column_stack([linear, linear @ np.array(corner) + shift - box[:2]])
    rgb = np.ascontiguousarray(part[..., ::-1])
    turned = turn_image(warp(rgb, moved, (box[3] - box[1], box[2] - box[0])), change.symmetry)
    return np.ascontiguousarray(change.recoloured(turned, mean)[..., ::-1])


def _before_symmetry(change: Change, window: Window) -> npt.NDArray[np.int64]:
    """(4,) xyxy of a window before the symmetry of the square."""
    x, y, width, height = window
    back = change.symmetry if change.symmetry >= 4 else (4 - change.symmetry) % 4  # a mirror undoes itself
    turned = turn_boxes(np.array([[x, y, x + width, y + height]]), change.size_after, back)
    return np.asarray(turned[0], dtype=np.int64)

"""Cut whole images into tiles on disk, several at once: each is decoded once, and its tiles appear together.

In `out`, the tiles of an image are in `images/<split>/<stem>/`, their labels in `labels/<split>/<stem>/`; a
tile without an object has no label file. Both folders are filled elsewhere and moved there, the images last:
so an image whose folder is there and complete is done, however the process ended. Tiles are PNG without loss,
or JPEG. No torch, as processes start fast without.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from spaces.errors import RunError
from trainables.data.boxes.decoding import Unreadable, bands
from trainables.data.boxes.listed import BoxImage
from trainables.data.boxes.tiling import Floats, Grid, Ints, Pieces, corners, cut, windows
from trainables.data.probing import Watch, check_unreadable

PARTIAL = ".partial"  # in `out`: what is not finished
JPEG_QUALITY = 95
# OpenCV's own choice where nothing is said: a sixth of the time of Pillow's default, files as small.
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, 3, cv2.IMWRITE_PNG_FILTER, 16]
JPEG = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
GO_ON = "the same command goes on from here"


@dataclass(frozen=True)
class Whole:
    """One image that is to be cut.

    Attributes:
        image: With its boxes.
        split: That it is in.
        stem: Of its tiles' names, another one for each image.
        grid: How it is cut.
    """

    image: BoxImage
    split: str
    stem: str
    grid: Grid

    @property
    def folder(self) -> PurePosixPath:
        """Of its tiles, below `images` and `labels`."""
        return PurePosixPath(self.split, self.stem)

    def laid(self) -> "Laid":
        """Its tiles; not kept, so that many images take no memory."""
        height, width = self.image.size
        objects = corners(self.image.boxes, width, height)
        found = windows(width, height, size=self.grid.size, overlap=self.grid.overlap)
        return Laid(self, objects, found, cut(objects, found))

    def is_done(self, out: Path) -> bool:
        """Whether all its tiles and labels are there, none of them empty."""
        laid = self.laid()
        tiles = {f"{stem}{self.grid.suffix}" for stem in laid.tile_stems()}
        labels = {f"{stem}.txt" for stem in laid.labels()}
        return _holds(out / "images" / self.folder, tiles) and _holds(out / "labels" / self.folder, labels)


@dataclass(frozen=True)
class Laid:
    """The tiles of one image, not cut yet.

    Attributes:
        whole: The image.
        objects: (n, 4) left, top, right, bottom; pixels of the image.
        windows: (m, 4) x, y, width, height of the tiles.
        pieces: What they show.
    """

    whole: Whole
    objects: Floats
    windows: Ints
    pieces: Pieces

    def tile_stems(self) -> list[str]:
        """Names of the tiles without suffix, by window."""
        return [f"{self.whole.stem}_x{x}_y{y}" for x, y in self.windows[:, :2].tolist()]

    def tile_names(self) -> list[str]:
        """Paths of the tiles, relative to the data set, by window."""
        folder, suffix = PurePosixPath("images") / self.whole.folder, self.whole.grid.suffix
        return [f"{folder}/{stem}{suffix}" for stem in self.tile_stems()]

    def labels(self) -> dict[str, str]:
        """Tile stem -> its label file's text; tiles that have none are left out."""
        kept, stems = self.pieces.kept, self.tile_stems()
        window, boxes = self.pieces.window[kept], self.pieces.boxes[kept]
        sides = self.windows[window, 2:]
        centres, shares = (boxes[:, :2] + boxes[:, 2:] / 2) / sides, boxes[:, 2:] / sides
        classes = self.whole.image.classes[self.pieces.object[kept]]
        found: dict[str, str] = {}
        rows = zip(window.tolist(), classes.tolist(), np.hstack([centres, shares]).tolist(), strict=True)
        for i, class_id, box in rows:
            line = f"{class_id} {' '.join(f'{value:.9g}' for value in box)}\n"
            found[stems[i]] = found.get(stems[i], "") + line
        return found


def _holds(folder: Path, names: set[str]) -> bool:
    if not folder.is_dir():
        return not names
    with os.scandir(folder) as entries:
        found = {entry.name for entry in entries if entry.stat().st_size > 0}
    return found == names


def stems(names: Sequence[str]) -> list[str]:
    """A stem for the tiles of each image: its file's, or one that differs, where two would be the same.

    Args:
        names: Relative paths of the images.
    """
    plain = [PurePosixPath(name).stem for name in names]
    often = Counter(stem.casefold() for stem in plain)  # file systems may take a and A for one
    # `images` as a folder would mislead whoever looks for the labels.
    return [
        f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        if often[stem.casefold()] > 1 or stem in ("images", "labels")
        else stem
        for name, stem in zip(names, plain, strict=True)
    ]


def cut_image(whole: Whole, out: Path) -> str:
    """Write the tiles and the labels of one image; returns why it cannot be read, empty if it can.

    Raises:
        OSError: The disk is full, or nothing can be written there.
    """
    partial = out / PARTIAL / whole.folder
    images, labels = partial / "images", partial / "labels"
    try:
        images.mkdir(parents=True)
        labels.mkdir()
        laid = whole.laid()
        for stem, pixels in _tiles(laid):
            # Grey stays one channel: it is read as three equal ones.
            shown = pixels[..., 0] if whole.image.look.grey else pixels
            write_tile(images / f"{stem}{whole.grid.suffix}", shown, whole.grid)
        texts = laid.labels()
        for stem, text in texts.items():
            (labels / f"{stem}.txt").write_text(text)
        if texts:
            _move(labels, out / "labels" / whole.folder)
        _move(images, out / "images" / whole.folder)
    except Unreadable as error:
        return str(error)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ""


def write_tile(path: Path, pixels: npt.NDArray[np.uint8], grid: Grid) -> None:
    """Encode (height, width) grey or (height, width, 3) BGR as all tiles of a data set are.

    Raises:
        OSError: The disk is full, or nothing can be written there.
    """
    path.write_bytes(cv2.imencode(grid.suffix, pixels, JPEG if grid.jpeg else PNG)[1].data)


def _tiles(laid: Laid) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Tile stem, and (height, width, 3) BGR."""
    found, image = laid.windows, laid.whole.image
    tops = np.unique(found[:, 1])
    rows = [(int(top), int(top + found[0, 3])) for top in tops]
    names = iter(zip(laid.tile_stems(), found.tolist(), strict=True))
    per_row = len(found) // len(tops)
    for band in bands(image.path, image.size, rows):
        for _ in range(per_row):
            stem, (x, _y, width, _height) = next(names)
            yield stem, band[:, x : x + width]


def _move(folder: Path, place: Path) -> None:
    if place.exists():  # an incomplete one
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(folder, place)


def cut_all(wholes: Sequence[Whole], out: Path, *, workers: int, total: int, watch: Watch) -> dict[str, str]:
    """Cut images, several at once.

    Args:
        wholes: What is still to be cut.
        out: Folder of the data set.
        workers: Processes; with one, it is this one.
        total: Number of images in the whole data set.
        watch: Told how many are done, and of how many.

    Returns:
        Name of each image that cannot be read -> why.

    Raises:
        UsageError: These are too many.
        RunError: The disk is full, or a worker was killed.
    """
    problems: dict[str, str] = {}
    try:
        for done, (whole, problem) in enumerate(_done(wholes, out, workers), start=1):
            if problem:
                problems[whole.image.name] = problem
                check_unreadable(problems, total)
            watch(done, len(wholes))
    except BrokenProcessPool:
        raise RunError(
            "a worker was killed, as by a lack of memory",
            f"{GO_ON}; fewer --workers need less memory, at most four decoded images each",
        ) from None
    except OSError as error:
        raise RunError(f"{out}: {error.strerror or error}", f"make room; {GO_ON}") from error
    return problems


def _done(wholes: Sequence[Whole], out: Path, workers: int) -> Iterator[tuple[Whole, str]]:
    if workers == 1:
        for whole in wholes:
            yield whole, cut_image(whole, out)
        return
    # Not forked: threads of OpenCV and of others would be missing in the copies.
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(wholes)), spawned, initializer=_begin) as pool:
        futures = {pool.submit(cut_image, whole, out): whole for whole in wholes}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """In a worker: leave Ctrl-C to the process that started it, and end when that has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""A folder that whole images are cut into: gone on with after an interruption, never half a data set.

`tile.json` says what was asked for; another request does not go into the same folder. `data.yaml` comes last,
so a folder that a data set can be read from is complete.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from spaces.errors import RunError, UsageError
from trainables.data.boxes.cutting import PARTIAL, Whole, cut_all, stems
from trainables.data.boxes.listed import BoxData
from trainables.data.boxes.tiles import DATA, MANIFEST, OBJECTS, REQUEST, TRUTH, Counts, write_data_set
from trainables.data.boxes.tiling import VISIBLE, Grid
from trainables.data.probing import Watch

VERSION = 1  # of how images are cut
LOCK = ".lock"
OURS = frozenset({REQUEST, LOCK, PARTIAL, "images", "labels", DATA, MANIFEST, OBJECTS, TRUTH})


@dataclass(frozen=True)
class Tiled:
    """What came of it.

    Attributes:
        counts: Split -> what is in it.
        problems: Name of each image that could not be read -> why.
        found: Images whose tiles were there before.
    """

    counts: dict[str, Counts]
    problems: dict[str, str]
    found: int


def whole_images(data: BoxData, grid: Grid) -> list[Whole]:
    """The images of a data set, as they are cut: in the order of splits and paths."""
    listed = [(image, split) for split, images in data.splits.items() for image in images]
    named = stems([image.name for image, _ in listed])
    return [Whole(image, split, stem, grid) for (image, split), stem in zip(listed, named, strict=True)]


def cut_into(out: Path, data: BoxData, grid: Grid, *, workers: int, watch: Watch) -> Tiled:
    """Cut whole images into a data set of tiles; what is there already is not made again.

    Args:
        out: Its folder; there may be none, or one that the same request was begun in.
        data: The whole images.
        grid: How they are cut.
        workers: Processes.
        watch: Told how many images are cut, and of how many.

    Raises:
        UsageError: The folder holds something else, or more images cannot be read than may be left out.
        RunError: The disk is full, or a worker was killed.
    """
    wholes = whole_images(data, grid)
    _refuse_within(out, wholes)
    with _occupied(out, request_of(data, grid)) as fresh:
        left = [whole for whole in wholes if not whole.is_done(out)]
        if left:
            (out / DATA).unlink(missing_ok=True)
        try:
            problems = cut_all(left, out, workers=workers, total=len(wholes), watch=watch) if left else {}
        except UsageError:
            if fresh:
                _discard(out)
            raise
        cut = [whole for whole in wholes if whole.image.name not in problems]
        with _told(out):
            counts = write_data_set(out, cut, data.class_names, images_in(wholes[0]))
    return Tiled(counts, problems, found=len(wholes) - len(left))


def images_in(whole: Whole) -> Path:
    """What images' names are relative to."""
    return whole.image.path.parents[len(PurePosixPath(whole.image.name).parts) - 1]


def _refuse_within(out: Path, wholes: list[Whole]) -> None:
    """Tiles among the images would be taken for images the next time."""
    place = out.resolve()
    shared = {images_in(whole) for whole in wholes if whole.image.path.is_relative_to(place)}
    if shared:
        raise UsageError(f"--out: {out} holds the images themselves", "choose a folder of its own")


def refuse_among(images: Path, data: BoxData, out: Path, *, listed: bool) -> None:
    """Tiles in a folder that is searched for images would be images the next time.

    Args:
        images: What a person names: a folder, a data.yaml or a COCO json.
        data: What is there.
        out: Folder of the tiles.
        listed: Whether there are annotations that list the images.

    Raises:
        UsageError: `out` lies in such a folder.
    """
    if images.suffix.lower() == ".json" or listed:
        return
    searched = {image.path.parent for images in data.splits.values() for image in images}
    searched |= {images.resolve()} if images.is_dir() else set()
    if any(out.resolve().is_relative_to(folder) for folder in searched - {out.resolve()}):
        raise UsageError(f"--out: {out} lies among the images", "choose a folder outside of theirs")


def request_of(data: BoxData, grid: Grid) -> dict[str, Any]:
    """Plain values that say what tiles come of it; others for other images, annotations, splits or cuts."""
    looks = [image.look.digest for images in data.splits.values() for image in images]
    return {
        "version": VERSION,
        "size": grid.size,
        "overlap": grid.overlap,
        "format": grid.suffix.removeprefix("."),
        "visible": VISIBLE,
        "data": hashlib.sha256(repr((data.fingerprint, looks)).encode()).hexdigest(),
    }


@contextmanager
def _occupied(out: Path, request: dict[str, Any]) -> Iterator[bool]:
    """Be the one process that writes there; yields whether nobody has begun before.

    Raises:
        UsageError: The folder holds something else, or another process writes there.
    """
    _check_folder(out, request)
    with _told(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"--out: another process is cutting into {out}") from None
        _check_folder(out, request)
        fresh = not (out / REQUEST).exists()
        with _told(out):
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
            if fresh:
                partial = out / PARTIAL
                partial.mkdir()
                (partial / REQUEST).write_text(json.dumps(request, indent=2) + "\n")
                os.replace(partial / REQUEST, out / REQUEST)
        yield fresh
        shutil.rmtree(out / PARTIAL, ignore_errors=True)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Say what the system says of a folder that cannot be written to."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"--out: {error.strerror}: {error.filename or out}") from error
    except OSError as error:
        raise RunError(
            f"{out}: {error.strerror or error}", "make room; the same command goes on from here"
        ) from error


def _check_folder(out: Path, request: dict[str, Any]) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out: {out} is a file")
    held = sorted(entry.name for entry in out.iterdir())
    if not (out / REQUEST).is_file():
        others = [name for name in held if name not in (LOCK, PARTIAL)]
        if others:
            raise UsageError(
                f"--out: {out} is there and holds other things, e.g. {others[0]}", "choose a new folder"
            )
        return
    try:
        asked = json.loads((out / REQUEST).read_text())
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise UsageError(f"{out / REQUEST}: damaged", "remove the folder, or choose a new one")
    differing = next((key for key in request if asked.get(key) != request[key]), None)
    if differing is not None:
        was = f"begun with {differing} {asked.get(differing)}, not {request[differing]}"
        raise UsageError(
            f"--out: {out} was {'cut from other images or annotations' if differing == 'data' else was}",
            "choose a new folder, or remove this one",
        )


def _discard(out: Path) -> None:
    """Remove what this process has put there."""
    for name in OURS:
        place = out / name
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    if not any(out.iterdir()):
        out.rmdir()

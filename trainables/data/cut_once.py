"""The tiles of a study's whole images, in the cache folder: cut once, by whoever needs them first on a node.

The driver cuts before anything is trained, a worker whose node has no such tiles does it again. They are
found by what they are made of: the images, the annotations, the splits and the grid. So what was interrupted
is gone on with, and what is changed is cut anew.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from spaces.errors import RunError, UsageError
from trainables.contract.node import cache_folder
from trainables.contract.trial import TileSpec, WholeImages
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.listed import BoxData
from trainables.data.boxes.tiles import DATA, Counts, count, written
from trainables.data.boxes.tiling import Grid
from trainables.data.boxes.whole import load_whole
from trainables.data.probing import Watch, changed_ns, locked
from trainables.data.staging.staged import by_address, local
from trainables.data.tiled import cut_into, images_in, refuse_among, request_of, whole_images
from trainables.storage.address import is_address

# What errors call what a study has no option for.
KEYS = {
    "--annotations": "data.annotations",
    "--group-by": "data.group_by",
    "--out": "RARECALL_CACHE",
    "fewer --workers need less memory, at most four decoded images each": "each process takes at most four "
    "decoded images",
}


@dataclass(frozen=True)
class CutOnce:
    """Tiles that are there.

    Attributes:
        file: Their `data.yaml`.
        fingerprint: Of what they are made of.
        counts: Split -> what is in it.
        left_out: Name of each whole image that could not be read -> why, if that was found out just now.
    """

    file: Path
    fingerprint: str
    counts: dict[str, Counts]
    left_out: Mapping[str, str]

    def load(self) -> BoxData:
        """The data set; its fingerprint does not depend on who encoded the tiles.

        Raises:
            UsageError: As `load_detection`.
        """
        return replace(load_detection(self.file), fingerprint=self.fingerprint)


@lru_cache(maxsize=1)
def tiles_once(asked: WholeImages) -> BoxData:
    """The tiles of whole images, read once for all trials of a worker; cut here if its node lacks them.

    Raises:
        UsageError: As `load_asked` and `cut_once`.
        RunError: As `cut_once`.
    """
    # One process: a run has its share of the node, and the others that wait have theirs.
    return cut_once(load_asked(asked), asked.tile, workers=1, watch=lambda done, total: None).load()


def load_asked(asked: WholeImages) -> BoxData:
    """The whole images that a study names, with their boxes and splits.

    Raises:
        UsageError: As `load_whole` and `staged.stage`, or they lie where tiles would be put.
        RunError: As `staged.stage`.
    """
    images = local(asked.images)
    if not images.exists():
        raise UsageError(
            f"data.images: no such file or folder: {images}", "a path is taken relative to the study file"
        )
    annotations = None if asked.annotations is None else local(asked.annotations, alone=True)
    group_by = asked.group_by
    if group_by is not None and is_address(group_by):
        group_by = str(local(group_by, alone=True))
    with _by_key(), by_address(asked.images):
        data = load_whole(images, annotations, group_by)
        refuse_among(images, data, _tiles_folder(), listed=annotations is not None)
        return data


def cut_once(data: BoxData, tile: TileSpec, *, workers: int, watch: Watch) -> CutOnce:
    """Have the tiles of whole images; others of this node that need the same wait.

    Args:
        data: The whole images.
        tile: How they are cut.
        workers: Processes.
        watch: Told how many images are cut, and of how many; not at all if all are.

    Raises:
        UsageError: Too many images cannot be read, or the cache folder cannot be written to.
        RunError: The disk is full, or a worker was killed.
    """
    grid = Grid(tile.size, tile.overlap, jpeg=tile.jpeg)
    fingerprint = hashlib.sha256(json.dumps(request_of(data, grid), sort_keys=True).encode()).hexdigest()
    wholes = whole_images(data, grid)
    # The fingerprint, equal on all nodes, goes by a part of each image's content.
    changed = [changed_ns(whole.image.path) for whole in wholes]
    out = _tiles_folder() / hashlib.sha256(repr((fingerprint, changed)).encode()).hexdigest()[:16]
    with _by_key(), _occupied(out):
        left_out: Mapping[str, str] = {}
        before = written(out)
        known = frozenset[str]() if before is None else before[1]
        done = before is not None and before[0] == images_in(wholes[0])
        if not (done and all(whole.is_done(out) for whole in wholes if whole.image.name in known)):
            left_out = cut_into(out, data, grid, workers=workers, watch=watch).problems
        else:
            left_out = {whole.image.name: "" for whole in wholes if whole.image.name not in known}
    cut = [whole for whole in wholes if whole.image.name not in left_out]
    return CutOnce(out / DATA, fingerprint, count(cut, len(data.class_names)), left_out)


def _tiles_folder() -> Path:
    return cache_folder() / "tiles"


@contextmanager
def _occupied(out: Path) -> Iterator[None]:
    """Be the one process of this node that cuts into `out`."""
    lock = out.with_suffix(".lock")
    try:
        out.parent.mkdir(exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UsageError(f"--out: {error.strerror}: {error.filename or out}") from error
    with locked(lock):
        yield


@contextmanager
def _by_key() -> Iterator[None]:
    """Errors name the keys of a study file in place of the options of `rarecall tile`."""
    try:
        yield
    except (UsageError, RunError) as error:
        message, hint = error.message, error.hint
        for option, key in KEYS.items():
            message, hint = message.replace(option, key), hint.replace(option, key)
        raise type(error)(message, hint) from error

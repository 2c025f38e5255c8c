"""What lies in the cache folder once per node: decoded pixels, which all trials map, and data of a storage.

Each data set, image size and state of the files has a folder of its own, below `images/` for a classifier's
pixels, `pixels/` for a detector's and `staged/` for files of a storage. It is filled under another name by
the one process that holds its `.lock`, so what a killed process leaves is never read, and two trials that
start together fill it once. Whoever uses it shares its `.used` for as long as the process lives; where room
is needed, what nobody uses goes, the longest unused first.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.contract.node import cache_folder
from trainables.data.probing import locked, writing_to

LIMIT = "RARECALL_CACHE_GB"  # of all such folders of this node, in units of 2**30 bytes
LEFT_FREE = 0.05  # of a disk: results are written, too
FOLDERS = ("images", "pixels", "staged")
LOCK, USED, PARTIAL = ".lock", ".used", ".tmp"
_SHARED: dict[Path, int] = {}  # folder -> file descriptor of its `.used`, which this process shares


def made_once(folder: Path, make: Callable[[Path], None], *, goes_on: bool = False) -> None:
    """Have a folder with what `make` puts into it, now unless this node has it; nobody removes it then.

    Args:
        folder: In one of `FOLDERS`.
        make: Fills the folder that it is given.
        goes_on: Whether it goes on with what it had put there when it was interrupted.

    Raises:
        RunError: The cache folder cannot be written.
    """
    if shared(folder):
        return
    with writing_to(folder.parent):
        folder.parent.mkdir(exist_ok=True)
        for name in (LOCK, USED):
            folder.with_suffix(name).touch()
    with locked(folder.with_suffix(LOCK)):
        if not shared(folder):
            _make(folder, make, goes_on)
            shared(folder)


def _make(folder: Path, make: Callable[[Path], None], goes_on: bool) -> None:
    partial = folder.with_suffix(PARTIAL)
    if not goes_on:
        shutil.rmtree(partial, ignore_errors=True)
    with writing_to(folder.parent):
        partial.mkdir(exist_ok=True)
    try:
        make(partial)
        os.replace(partial, folder)
    finally:
        if not goes_on:
            shutil.rmtree(partial, ignore_errors=True)


def shared(folder: Path) -> bool:
    """Whether a folder is there, for this process to use from here on."""
    try:
        used = os.open(folder.with_suffix(USED), os.O_RDONLY)
    except FileNotFoundError:  # nor is the folder, or it is of an earlier version
        return False
    fcntl.flock(used, fcntl.LOCK_SH)
    if not folder.is_dir():
        os.close(used)
        return False
    if os.access(folder.with_suffix(USED), os.W_OK):
        os.utime(folder.with_suffix(USED))
    if _SHARED.setdefault(folder, used) != used:
        os.close(used)
    return True


def make_room(size: int) -> int:
    """As `room`, after what no process uses was removed, if that makes room for `size` bytes.

    Raises:
        UsageError: As `room`.
    """
    free, gain = room(), 0
    if free >= size:
        return free
    kept = [used.with_suffix("") for name in FOLDERS for used in (cache_folder() / name).glob(f"*{USED}")]
    with ExitStack() as stack:
        chosen = []
        for folder in sorted(kept, key=lambda folder: folder.with_suffix(USED).stat().st_mtime):
            there = [place for place in (folder, folder.with_suffix(PARTIAL)) if place.is_dir()]
            if free + gain < size and there and _nobody_uses(folder, stack):
                chosen.append(folder)
                gain += sum(map(_taken, there))
        for folder in chosen if free + gain >= size else ():
            gone = folder.with_suffix(PARTIAL)
            shutil.rmtree(gone, ignore_errors=True)
            if folder.is_dir():
                os.replace(folder, gone)  # who looks sees all of it or nothing
                shutil.rmtree(gone)
    return room()


def _nobody_uses(folder: Path, stack: ExitStack) -> bool:
    """Whether no process fills or uses a folder; none can until the stack is left."""
    for name in (LOCK, USED):
        try:  # NFS locks for one alone only what is open for writing
            held = stack.enter_context(folder.with_suffix(name).open("r+b"))
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it is locked, another person's, or gone
            return False
    return True


def room() -> int:
    """Bytes that another file of decoded pixels may take on this node.

    Raises:
        UsageError: RARECALL_CACHE_GB is no size.
    """
    folder = cache_folder()
    disk = shutil.disk_usage(folder)
    free = max(0, disk.free - int(LEFT_FREE * disk.total))
    limit = os.environ.get(LIMIT)
    if limit is None:
        return free
    try:
        allowed = int(float(limit) * 2**30)
    except (ValueError, OverflowError):
        raise UsageError(f"{LIMIT}: a number of GiB expected, got '{limit}'", "e.g. 50") from None
    return min(free, max(0, allowed - sum(_taken(folder / name) for name in FOLDERS)))


def _taken(folder: Path) -> int:
    """Bytes on the disk that the files below a folder take; others may remove or rename them meanwhile."""
    return sum(_blocks(os.path.join(path, name)) for path, _, names in os.walk(folder) for name in names)


def _blocks(file: str) -> int:
    try:
        return os.lstat(file).st_blocks * 512
    except FileNotFoundError:
        return 0


def save(file: Path, values: npt.NDArray[Any]) -> None:
    """Write an array file that is on the disk before the folder gets its name."""
    with file.open("wb") as stored:
        np.save(stored, values)
        stored.flush()
        os.fsync(stored.fileno())


def reserve(file: Path, size: int) -> None:
    """Give a new file its room on the disk, which else may run out in the middle of a write.

    Raises:
        OSError: There is none.
    """
    with file.open("a+b") as stored:
        os.posix_fallocate(stored.fileno(), 0, size)

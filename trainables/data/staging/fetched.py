"""A folder of this node that is filled from a storage: whole, checked, and mended where it is damaged.

`files/` is what the storage lists, each file with its time of change there. `files.json` comes last: what was
seen of each file when it came, its SHA-256 too. One that is missing, cut or changed since is fetched again.
"""

import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from spaces.errors import RunError, UsageError
from trainables.data.mapped import LIMIT, make_room
from trainables.data.probing import told, writing_to
from trainables.storage.reading import Listed, Storage

FILES, COMING, RECORD = "files", "coming", "files.json"
THREADS = 16  # that wait for the storage; they compute little
BLOCK = 4096  # bytes that a file takes at the least

Listing = dict[str, Listed]
Kept = tuple[int, int, str]  # of a file here: size in bytes, time of change in ns, SHA-256 in hex digits
_RECORD: TypeAdapter[dict[str, Kept]] = TypeAdapter(dict[str, Kept])


class DataChanged(RunError):
    """What a storage holds is not what it was."""


def fill(folder: Path, storage: Storage, listing: Listing) -> None:
    """Fetch what of a listing is not in a folder as it must be, and write down what is there then.

    Args:
        folder: It may hold what an interrupted call has left, or what was damaged since.
        storage: Whose folder is listed.
        listing: All files that are wanted.

    Raises:
        UsageError: There is no room, or the storage lets nobody in.
        DataChanged: A file is not what the listing says, or what it was before.
        RunError: The storage stayed away, or the folder cannot be written.
    """
    with writing_to(folder):
        kept = _fetched(folder, storage, listing, _recorded(folder) or {})
        # Not flushed: what a machine loses of it when it fails is short, and found so.
        partial = folder / f".{RECORD}"
        partial.write_bytes(_RECORD.dump_json(kept))
        os.replace(partial, folder / RECORD)


def is_whole(folder: Path) -> bool:
    """Whether all files are there, in their sizes and untouched."""
    known = _recorded(folder)
    return known is not None and all(
        _state(folder / FILES / name) == (size, changed) for name, (size, changed, _) in known.items()
    )


def _fetched(folder: Path, storage: Storage, listing: Listing, known: dict[str, Kept]) -> dict[str, Kept]:
    """What is known of each file, once it is there."""
    files, coming = folder / FILES, folder / COMING
    shutil.rmtree(coming, ignore_errors=True)
    for parent in {coming, *((files / name).parent for name in listing)}:
        parent.mkdir(parents=True, exist_ok=True)

    def found(name: str) -> Kept | None:
        return _kept(files / name, listing[name], known.get(name))

    def bring(number: int, name: str) -> Kept:
        file, before = coming / str(number), known.get(name)
        sha256 = storage.fetch(name, file)
        if (
            sha256 is None
            or file.stat().st_size != listing[name].size
            or (before is not None and before[2] != sha256)
        ):
            raise changed(storage)
        state = _dated(file, listing[name])
        os.replace(file, files / name)
        return (*state, sha256)

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="staging")
    try:
        had = dict(zip(listing, pool.map(found, listing), strict=True))
        kept = {name: one for name, one in had.items() if one is not None}
        missing = [name for name in listing if name not in kept]
        sizes = [listing[name].size for name in missing]
        _check_room(folder, storage, sizes)
        done, total = 0, sum(sizes)
        for name, got in zip(missing, pool.map(bring, range(len(missing)), missing), strict=True):
            kept[name], done = got, done + got[0]
            told(done, total)
    except BaseException:  # an interrupt, or what failed, waits only for what is on its way
        storage.leave()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    coming.rmdir()
    return kept


def _kept(file: Path, listed: Listed, known: Kept | None) -> Kept | None:
    """What is known of a file, if it is what it must be; it is read only if that is not plain."""
    state = _state(file)
    if known is not None and state == known[:2]:
        return known
    if state is None or state[0] != listed.size:
        return None
    if known is None and state[1] != listed.changed_ns:  # else it came before an interruption
        return None
    with file.open("rb") as stored:
        sha256 = hashlib.file_digest(stored, "sha256").hexdigest()
    return None if known is not None and sha256 != known[2] else (*_dated(file, listed), sha256)


def _dated(file: Path, listed: Listed) -> tuple[int, int]:
    """A file's state, once it has its time of change from the storage: caches know a copy by it."""
    if listed.changed_ns:
        os.utime(file, ns=(listed.changed_ns, listed.changed_ns))
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _recorded(folder: Path) -> dict[str, Kept] | None:
    """What was written down of the files; None if nothing was, or it is damaged."""
    try:
        return _RECORD.validate_json((folder / RECORD).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size, found.st_mtime_ns


def _check_room(folder: Path, storage: Storage, sizes: list[int]) -> None:
    """Refuse what would fill the disk."""
    needed = sum(-(-size // BLOCK) * BLOCK for size in sizes)
    there = make_room(needed) if needed else 0
    if needed <= there:
        return
    said = f"data: {storage.address.place} needs {_size(needed)} in {folder.parent}, and there is room for "
    within = f", within {LIMIT}" if LIMIT in os.environ else ""
    raise UsageError(
        f"{said}{_size(there)}{within}", "set RARECALL_CACHE to a folder on a larger disk, on every node"
    ) from OSError(errno.ENOSPC, "No space left on device", str(folder))


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def changed(storage: Storage) -> DataChanged:
    """What is said where something else comes than was listed."""
    said = f"data: what lies below {storage.address.place} has changed while it was brought here"
    return DataChanged(said, "again, once nobody writes to it")

"""A study's folder as a mirror: brought from its storage, and while it is written to, copied there.

The storage holds the files at the top of the folder, e.g. study.yaml and study.db; what runs leave goes there
from the workers. SQLite stays on this machine's disk, where locks work; copied is a consistent state of it.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from search.record.storage.lease import LEASE, REFRESH_S, Lease, current, is_own, refreshed, release, take
from search.record.storage.locks import one_at_a_time
from search.record.storage.remote import Remote
from spaces.errors import RarecallError, RunError, UsageError
from spaces.frozen import Frozen

DATABASE = "study.db"
REQUEST = "study.yaml"
STOP = "stop"  # in a study's folder: whoever makes it asks the process that has the study to end
BROUGHT = ".brought.json"  # in a mirror
LOOK_S = 1.0  # between two looks for what has changed
_COPY = ".study.db.copy"


class Brought(Frozen):
    """What a mirror has of its storage, where nobody has written to it since.

    Attributes:
        at: When that was so, in seconds since 1970.
        lease: Of then.
        files: Name -> size and time of those that were fetched, as of `Remote.listed`.
    """

    at: float
    lease: Lease | None
    files: dict[str, tuple[int, int]]


def brought(mirror: Path) -> Brought | None:
    """What a mirror has, or None before the first time."""
    try:
        return Brought.model_validate_json((mirror / BROUGHT).read_bytes())
    except FileNotFoundError:
        return None


def bring(remote: Remote, mirror: Path, written: Callable[[], bool] = lambda: False) -> None:
    """Make a mirror as new as its storage is, unless a process of this machine writes to it.

    Args:
        remote: The study on its storage.
        mirror: Its folder here.
        written: Whether one does.

    Raises:
        UsageError: There is no such bucket, or it lets nobody in.
        RunError: The storage does not answer.
    """
    remote.check()
    with one_at_a_time(_bringing(mirror)):
        if written():
            return
        known, lease = brought(mirror), current(remote)
        there = known.files if known is not None else {}
        if not is_own(lease, mirror):
            there = _stamps(remote)
            # A copy may be of the size and the second of the one before: the lease is not.
            if known is None or known.lease != lease or known.files != there:
                (mirror / BROUGHT).unlink(missing_ok=True)
                restore(remote, mirror)
        if mirror.is_dir():
            _replace(mirror / BROUGHT, Brought(at=time.time(), lease=lease, files=there).model_dump_json())


def _bringing(mirror: Path) -> Path:
    """The lock of who fetches files into a mirror, or is about to write to it."""
    return mirror.with_name(f".{mirror.name}.bringing")


def _replace(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text)
    partial.replace(file)


def ask_to_stop(remote: Remote) -> None:
    """Ask the machine that writes to a study to end; it looks whenever it refreshes its lease."""
    remote.write(STOP, b"")


def restore(remote: Remote, mirror: Path) -> None:
    """Let a mirror have the files of its storage, and no others; without a study there, nothing stays."""
    there = [name for name in remote.files(below=False) if not _is_hidden(name)]
    there = there if REQUEST in there else []  # what else may lie there is not ours
    for name in sorted(there, key=lambda name: name == REQUEST):  # last: with it a folder is a study
        mirror.mkdir(parents=True, exist_ok=True)
        if name == DATABASE:
            (mirror / f"{DATABASE}-journal").unlink(missing_ok=True)  # of the file whose place is taken
        remote.get(name, mirror / name)
    for path in _files(mirror):
        if path.name not in there:
            path.unlink()


def _files(mirror: Path) -> list[Path]:
    """Those at the top that a storage has, too, the database among them."""
    found = mirror.iterdir() if mirror.is_dir() else ()
    return [path for path in found if path.is_file() and not _is_hidden(path.name)]


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, or None if it has gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:  # of a `compare.csv` that is written anew, the one before
        return None
    return stat.st_size, stat.st_mtime_ns


def _stamps(remote: Remote) -> dict[str, tuple[int, int]]:
    found = remote.listed(below=False)
    return {name: (one.size, one.changed_ns) for name, one in found.items() if not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    """Whether a file is not the study's, but for what works with it."""
    return name.startswith((".", f"{DATABASE}-")) or name == STOP


class Copying:
    """Copies what has changed in a mirror, and keeps its lease, from a thread of its own.

    Args:
        remote: Where to.
        mirror: The folder.
        being: As of `Lease`.
        new: The storage has no study yet.

    Attributes:
        discarded: Whether the study is to be on no storage either.
    """

    def __init__(self, remote: Remote, mirror: Path, being: str, *, new: bool) -> None:
        self._remote, self._mirror = remote, mirror
        with one_at_a_time(_bringing(mirror)):
            self._lease = take(remote, mirror, being, self._refuse_another if new else self._restore)
            (mirror / BROUGHT).unlink(missing_ok=True)
            self._forget_requests()
        self._copied: dict[str, tuple[int, int]] = {}  # name -> size and time of what is on the storage
        self.discarded = False
        self._failure: RarecallError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry_on, name="copies", daemon=True)

    def _restore(self) -> None:
        restore(self._remote, self._mirror)

    def _refuse_another(self) -> None:
        if self._remote.read(REQUEST) is not None:
            raise UsageError(f"{self._remote.address.place} already holds a study", "go on with it: --resume")

    def _forget_requests(self) -> None:
        """Whoever was to stop has ended."""
        self._remote.remove(STOP)
        (self._mirror / STOP).unlink(missing_ok=True)

    def start(self) -> None:
        """Copy all that there is, then begin with the thread."""
        self.copy()
        self._thread.start()

    def check(self) -> None:
        """Waits for nothing.

        Raises:
            RunError: Something could not be copied; nothing is any more.
        """
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, self._failure.hint)

    def end(self) -> None:
        """Copy the last changes and give the lease back, or, of a study that was discarded, remove it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.check()
        self._lease = refreshed(self._remote, self._lease)
        if not self.discarded:
            self.copy()
            self._forget_requests()
            release(self._remote, self._lease)
            return
        for name in [REQUEST, *self._copied, STOP, LEASE]:
            self._remote.remove(name)

    def copy(self) -> None:
        """Copy what has changed; the request last, for with it there is a study."""
        for path in sorted(_files(self._mirror), key=lambda path: path.name == REQUEST):
            state = _state(path)
            if state is None or self._copied.get(path.name) == state:
                continue
            if path.name == DATABASE:
                self._copy_database(path)
            else:
                self._remote.put(path, path.name)
            self._copied[path.name] = state

    def _pass_on_a_request(self) -> None:
        """What asks on the storage to stop, asks once on this machine."""
        if self._remote.read(STOP) is not None:
            self._remote.remove(STOP)
            (self._mirror / STOP).touch()

    def _copy_database(self, path: Path) -> None:
        copy = path.with_name(_COPY)
        copy.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(path, timeout=60)) as stored, closing(sqlite3.connect(copy)) as made:
                stored.backup(made)
        except sqlite3.Error as error:
            raise RunError(f"{path} cannot be copied: {error}") from error
        self._remote.put(copy, DATABASE)
        copy.unlink()

    def _carry_on(self) -> None:
        due = time.monotonic() + REFRESH_S
        try:
            while not self._ended.wait(LOOK_S):
                if time.monotonic() >= due:  # first: who was away for long may write no more
                    self._lease = refreshed(self._remote, self._lease)
                    due = time.monotonic() + REFRESH_S
                    self._pass_on_a_request()
                self.copy()
        except RarecallError as error:
            self._failure = error
        except Exception as error:  # nobody else would hear of it: raised where the work goes on
            self._failure = RunError(f"{self._mirror} cannot be copied: {error!r}")


@contextmanager
def copying(remote: Remote, mirror: Path, being: str, *, new: bool) -> Iterator[Copying]:
    """Within the context the mirror is this machine's to write; after it the storage has all of it.

    Args:
        remote: Where to.
        mirror: The folder, locked.
        being: As of `Lease`.
        new: Its study was made a moment ago, so the storage has none.

    Raises:
        UsageError: Another machine writes, or there is a study where none was.
        RunError: The storage stayed away.
    """
    remote.check()
    copies = Copying(remote, mirror, being, new=new)
    copies.start()
    failed = True
    try:
        yield copies
        failed = False
    finally:
        try:
            copies.end()
        except RarecallError as error:
            if not failed:
                raise
            # What has ended the work is told by whoever raised it; this would take its place.
            logging.getLogger(__name__).warning("not all is on the storage: %s", error)

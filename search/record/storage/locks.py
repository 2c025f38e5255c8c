"""Locks between the processes of one machine, by files; a process that dies gives up its own."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from search.record.storage.address import mirrored
from spaces.errors import UsageError

OWN_DISK = "set RARECALL_CACHE to a folder on this machine's own disk"
ANOTHER_FOLDER = "name it file:///… with --runs, choose another folder, or have it mounted with flock"


def locked(lock: TextIO, how: int, take: Callable[[TextIO, int], None] | None = None) -> bool:
    """Whether the lock could be had, one of `flock` or with `take`; it cannot while another process holds it.

    Raises:
        UsageError: There are no locks here, whoever holds what.
    """
    try:
        (take or fcntl.flock)(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UsageError(
            f"the file system of {lock.name} has no file locks ({error.strerror}), so nothing would keep two "
            "processes from writing to one study",
            OWN_DISK if mirrored(Path(lock.name).parent) else ANOTHER_FOLDER,
        ) from None
    return True


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Of those who name a file, which is made, one at a time is in the context; where there are no locks all.

    For what nobody does on a file system without locks but those who only look.
    """
    with path.open("a") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

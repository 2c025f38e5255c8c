"""Running out of space on a disk, by what the system, PyArrow and torch then say; torch is not needed."""

import errno
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainables.contract.trial import TrialFailure

LEAST_FREE = 2**20  # bytes: with less a disk is as good as full
FULL = {errno.ENOSPC, errno.EDQUOT}
# Of `torch.save`, which says nothing of the system's reason.
SIGNS = ("iostream error", "unexpected pos", "file write failed")


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that a disk is full."""
    return any(_says_so(one) for one in _chain(error))


def out_of_space(key: str, error: BaseException, *places: Path) -> TrialFailure:
    """What a run ends as that could not write: it says nothing of its strategy, and can go on with space.

    Args:
        key: Of the run.
        error: One of which `is_out_of_space` is true.
        places: Where it may have been writing, unless the error itself knows; the likeliest first.
    """
    full = [one for one in _chain(error) if isinstance(one, OSError)]
    named = [name for one in full for name in (one.filename2, one.filename) if name is not None]
    reason = f"no space left on {socket.gethostname()} for {_on_full_disk([*named, *places])}"
    return TrialFailure(key=key, kind="disk", reason=reason, retry=True)


def _on_full_disk(paths: Sequence[Path | str]) -> Path | str:
    """The first of the paths whose disk has no room; the error may name what was copied, not where to."""
    for path in paths:
        there = next((folder for folder in (Path(path), *Path(path).parents) if folder.exists()), None)
        if there is not None and shutil.disk_usage(there).free < LEAST_FREE:
            return path
    return paths[0]


def _says_so(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    said = str(error)
    return (
        isinstance(error, RuntimeError) and "inline_container" in said and any(sign in said for sign in SIGNS)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ if error.__cause__ is not None else error.__context__

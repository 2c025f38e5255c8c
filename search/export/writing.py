"""A bundle's folder, whole or not at all, and never in the place of another one unless that is asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spaces.errors import UsageError

MARK = "metrics.json"  # what tells a bundle from any other folder


@contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside `target`, which becomes it once all is written; it goes if anything fails.

    Args:
        target: There is no such folder yet, or an empty one, or with `force` another bundle.
        force: Take the place of another bundle.

    Raises:
        UsageError: Something else is there, or it cannot be written.
    """
    _check_free(target, force=force)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        _swap(partial, target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error}", "choose another folder with --out") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_free(target: Path, *, force: bool) -> None:
    try:
        if not target.is_dir() or not any(target.iterdir()):
            return
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error}", "choose another folder with --out") from None
    if not (target / MARK).is_file():
        raise UsageError(f"{target} is no bundle, and not empty", "choose another folder with --out")
    if not force:
        raise UsageError(f"{target} holds a bundle already", "add --force, or choose another with --out")


def _swap(partial: Path, target: Path) -> None:
    """Give the folder its name; a bundle that has it goes only once it is out of the way."""
    if not (target / MARK).is_file():
        partial.rename(target)  # an empty folder gives way
        return
    gone = partial.with_suffix(".gone")
    target.rename(gone)
    try:
        partial.rename(target)
    except OSError:
        gone.rename(target)
        raise
    shutil.rmtree(gone)

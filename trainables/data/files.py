"""What both kinds of data sets have in common on disk: names of splits, kinds of image files, paths."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from spaces.errors import UsageError

SPLITS = ("train", "val", "test")
ALL = "all"  # the split of every image of a data set in one piece
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
STUDY = frozenset({"study.yaml", "provenance.json"})  # what tells a study's folder, which is no data
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def existing(source: str) -> Path:
    """`source` as a path.

    Raises:
        UsageError: There is nothing there.
    """
    path = Path(source)
    if not path.exists():
        raise UsageError(
            f"data: no such file or folder: {path}", "a path is taken relative to the study file"
        )
    return path


def path_in(folder: Path, written: str, where: str) -> Path:
    """The path that somebody has written, relative to `folder`; there may be nothing.

    Raises:
        UsageError: No path can be so: it is too long, or there is a NUL in it; after `where`.
    """
    path = folder / written
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError) as error:
        raise UsageError(f"{where}: no path: {error}") from None
    return path


def first_of_file(paths: Sequence[Path | str]) -> list[int]:
    """For each path the position of the first that is the same file: hard links under one suffix are.

    Raises:
        UsageError: There is no such file, or its folder cannot be entered.
    """
    seen: dict[tuple[int, int, str], int] = {}
    first = []
    for i, path in enumerate(paths):
        try:
            found = os.stat(path)
        except OSError as error:
            raise UsageError(f"data: {error}") from error
        key = (found.st_dev, found.st_ino, os.path.splitext(path)[1])
        # Some file systems on a network have no number of their own for each file.
        first.append(seen.setdefault(key, i) if found.st_nlink > 1 else i)
    return first


def check_names(class_names: Iterable[str]) -> None:
    """Refuse names of classes that nobody could read: blank ones, and what would steer a terminal.

    Raises:
        UsageError: There is one.
    """
    for name in class_names:
        if _CONTROL.search(name):
            raise UsageError(f"data: a control character in the name of class '{name}'")
        if not name.strip():
            raise UsageError("data: a class has a blank name", "give it one")

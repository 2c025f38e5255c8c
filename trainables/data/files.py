"""What both kinds of data sets have in common on disk: names of splits, kinds of image files, paths."""

from pathlib import Path

from spaces.errors import UsageError

SPLITS = ("train", "val", "test")
ALL = "all"  # the split of every image of a data set in one piece
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

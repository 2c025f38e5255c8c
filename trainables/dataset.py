"""What a data set holds, counted before anything is trained. No pixels, no torch, no Ultralytics."""

from dataclasses import dataclass
from pathlib import Path

from spaces.errors import UsageError

RARE_SHARE = (
    0.1  # `minority: auto`: classes with fewer training objects than this share of the largest class's
)


@dataclass(frozen=True)
class SplitSummary:
    """One split, counted.

    Attributes:
        images: Number of images.
        objects: Class name -> number of objects (of images, for a classifier); every class has an entry.
        classes_per_image: For each image the set of class ids in it; empty for a background image.
        sources: Number of distinct source images.
    """

    images: int
    objects: dict[str, int]
    classes_per_image: tuple[frozenset[int], ...]
    sources: int


@dataclass(frozen=True)
class DataSummary:
    """A whole data set, counted.

    Attributes:
        class_names: In class-id order.
        splits: Keys `train`, `val` and, where there is one, `test`.
        fingerprint: Hash of file names, sizes and labels; another one means other data.
    """

    class_names: tuple[str, ...]
    splits: dict[str, SplitSummary]
    fingerprint: str


def rare_classes(summary: DataSummary) -> tuple[str, ...]:
    """What `minority: auto` stands for: classes under a tenth of the largest class's training objects.

    Raises:
        UsageError: No class is that rare.
    """
    objects = summary.splits["train"].objects
    largest = max(objects.values())
    rare = tuple(name for name in summary.class_names if objects[name] < RARE_SHARE * largest)
    if not rare:
        counts = ", ".join(f"{name} {count}" for name, count in objects.items())
        raise UsageError(f"minority: auto finds no rare class ({counts})", "name the minority classes")
    return rare


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

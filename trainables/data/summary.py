"""What a data set holds, counted before anything is trained. No pixels, no torch, no Ultralytics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spaces.errors import UsageError

RARE_SHARE = (
    0.1  # `minority: auto`: classes with fewer training objects than this share of the largest class's
)


# In notes of all readers: names of images follow the one, and end where the other begins.
EXAMPLE, FLATTERS = ", e.g. ", "; what is measured"


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
        fingerprint: Hash of file names, labels, sources and splits, and of each image's size in bytes, head,
            middle and end; another one means other data.
        one_piece: Whether the data set came undivided, so that all its splits were cut by source image.
        test_from_val: Whether the test split is half of the data's val.
        shared_sources: Source with images in more than one split -> those splits.
        mended: What was left out or changed in images and annotations -> how often.
        warnings: Sentences on what the images are.
        listing: Split -> name and source of each image.
        whole_images: Split -> number of whole images that its images are tiles of; empty if they are none.
        whole_objects: Split -> class name -> number of objects in these; what a split of tiles counts are the
            pieces of them that have a label.
        unit: What is kept in one split: a `source` image, or a `group` that the person named.
        absent: File of each whole image of the training tiles that is not there any more -> class ids in it.
        listed_as: The fingerprint of versions up to 0.1, which knew nothing of the images but their sizes.
    """

    class_names: tuple[str, ...]
    splits: dict[str, SplitSummary]
    fingerprint: str
    one_piece: bool = False
    test_from_val: bool = False
    shared_sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mended: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    listing: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    whole_images: Mapping[str, int] = field(default_factory=dict)
    whole_objects: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unit: str = "source"
    absent: Mapping[str, frozenset[int]] = field(default_factory=dict)
    listed_as: str = ""

    def is_that(self, fingerprint: str) -> bool:
        """Whether these are the data that a study was made with, whichever version wrote its fingerprint."""
        return fingerprint in (self.fingerprint, self.listed_as)

    def held_classes(self) -> tuple[str, ...]:
        """The classes that have an object in some split."""
        return tuple(
            name for name in self.class_names if any(split.objects[name] for split in self.splits.values())
        )

    def true_objects(self, split: str) -> Mapping[str, int]:
        """Class name -> number of objects in a split; of tiles, in their whole images."""
        return self.whole_objects[split] if self.whole_images else self.splits[split].objects

    def notes(self) -> list[str]:
        """What a person should know of how the splits came about and of the annotations, a sentence each."""
        said = []
        if self.one_piece:
            counts = ", ".join(f"{split} {counted.sources}" for split, counted in self.splits.items())
            by = "source image" if self.unit == "source" else self.unit
            said.append(f"the data is in one piece; it is split by {by}: {counts} {self.unit}s")
        if self.test_from_val:
            val, test = self.splits["val"], self.splits["test"]
            said.append(
                f"the data has no test split; half of val is set aside as test: {test.sources} of "
                f"{val.sources + test.sources} {self.unit}s, {test.images} of {val.images + test.images} "
                "images"
            )
        if self.shared_sources:
            source, splits = next(iter(self.shared_sources.items()))
            said.append(
                f"warning: {self.unit}s with images in more than one split: {len(self.shared_sources)}, e.g. "
                f"{source} in {' and '.join(splits)}; what is measured on a {self.unit} that was trained on, "
                "or tuned on, flatters"
            )
        trained = self.splits["train"].objects
        for split in ("val", "test"):
            held = self.splits[split].objects if split in self.splits else trained
            absent = [name for name in self.class_names if trained[name] and not held[name]]
            said += [f"{split} has no object of {', '.join(absent)}"] if absent else []
        return [*said, *self.warnings, *(f"{count} {what}" for what, count in self.mended.items())]


def without_names(note: str) -> str:
    """A note of a summary for those who may not read names of images: these stand after `e.g.` alone.

    Example:
        >>> without_names("identical images: 2, e.g. a.png in val; what is measured on them flatters")
        'identical images: 2; what is measured on them flatters'
    """
    said, _, names = note.partition(EXAMPLE)
    _, ends, why = names.rpartition(FLATTERS)
    return said + ends + why if ends else said


def rare_classes(summary: DataSummary) -> tuple[str, ...]:
    """What `minority: auto` stands for: classes under a tenth of the largest class's training objects.

    One without an object in any split is none: exports have such, e.g. Roboflow's first category.

    Raises:
        UsageError: No class is that rare.
    """
    objects = summary.splits["train"].objects
    largest = max(objects.values())
    rare = tuple(name for name in summary.held_classes() if objects[name] < RARE_SHARE * largest)
    if not rare:
        counts = ", ".join(f"{name} {count}" for name, count in objects.items())
        raise UsageError(f"minority: auto finds no rare class ({counts})", "name the minority classes")
    return rare

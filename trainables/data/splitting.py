"""Cut a data set into splits by source image: no source in two of them, each with its share of every class.

A source is the slide or photograph that images were cut from. What is drawn depends on nothing but the
sources' names and classes: not on the order of the images, a seed or a machine. Pure: no files, no pixels.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from trainables.data.files import ALL

SHARES = {"train": 70, "val": 15, "test": 15}  # of a data set that comes in one piece
HALVES = {"val": 1, "test": 1}
IMAGES = -1  # stands among the class ids for the images, of which each part gets its share too


class OneSource(Exception):
    """A set in one piece has one source, which is the message: it cannot be cut by source."""


class FromSource(Protocol):
    """An image that knows what it was cut from."""

    @property
    def source(self) -> str:
        """The slide, photograph or group."""


Listed = TypeVar("Listed", bound=FromSource)


@dataclass(frozen=True)
class Division(Generic[Listed]):
    """The splits that a study uses.

    Attributes:
        splits: `train`, `val` and, where there is one, `test`.
        one_piece: Whether the data set came undivided, so that all its splits were cut here.
        test_from_val: Whether `test` was cut from `val` here.
    """

    splits: dict[str, list[Listed]]
    one_piece: bool = False
    test_from_val: bool = False


def divide(
    listed: Mapping[str, list[Listed]], classes_of: Callable[[Listed], Iterable[int]]
) -> Division[Listed]:
    """Cut a set in one piece in three, and set a test split aside from val where there is none.

    Args:
        listed: Split -> its images; or `files.ALL` -> all images. With splits, `train` and `val` are there.
        classes_of: Class id of each object in an image; for a classifier, of the image.

    Raises:
        OneSource: A set in one piece has one source.
    """
    if "test" in listed:
        return Division(dict(listed))
    whole = listed.get(ALL, listed.get("val", []))
    sources, classes = [image.source for image in whole], [classes_of(image) for image in whole]
    if ALL in listed:
        parts = cut_by_source(sources, classes, SHARES)
        splits: dict[str, list[Listed]] = {part: [] for part in SHARES if part in parts}
        for image, part in zip(whole, parts, strict=True):
            splits[part].append(image)
        if "val" not in splits:
            raise OneSource(whole[0].source)
        return Division(splits, one_piece=True)
    test = set_aside(sources, classes)
    if not test.any():
        return Division(dict(listed))
    kept, aside = ([whole[i] for i in np.flatnonzero(mask)] for mask in (~test, test))
    return Division({**listed, "val": kept, "test": aside}, test_from_val=True)


def cut_by_source(
    sources: Sequence[str], classes: Sequence[Iterable[int]], shares: Mapping[str, int]
) -> list[str]:
    """The part that each image goes to.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011) of sources: one after the other, those of
    the class with the fewest sources first, goes to the part that lacks most of that class. The first part
    gets a source of every class; another part gets one too, unless that would rob an earlier part.

    Args:
        sources: (n,) source of each image.
        classes: (n,) class id of each object in the image; for a classifier, of the image.
        shares: Part -> its share, in the order of importance.

    Example:
        >>> cut_by_source(["a", "b", "c"], [[0], [0, 1], [0, 1]], {"val": 1, "test": 1})
        ['val', 'test', 'val']
    """
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for source, ids in zip(sources, classes, strict=True):
        counts[source].update([IMAGES, *ids])
    total, left = Counter[int](), Counter[int]()  # objects in all; sources that are still to be dealt
    for held in counts.values():
        total.update(held)
        left.update(held.keys())
    ranked = sorted(total, key=lambda c: (c == IMAGES, left[c], total[c], c))
    rank = {class_id: i for i, class_id in enumerate(ranked)}
    rarest_first = {source: sorted(held, key=rank.__getitem__) for source, held in counts.items()}

    def turn(source: str) -> tuple[int, int, str]:
        rarest = rarest_first[source][0]
        # Equals in the order of their names' hash: names are often numbered in the order of a cause.
        return rank[rarest], -counts[source][rarest], hashlib.sha256(os.fsencode(source)).hexdigest()

    got: dict[str, Counter[int]] = {part: Counter() for part in shares}
    part_of = {}
    for source in sorted(counts, key=turn):
        part = _most_in_need(rarest_first[source], left, total, got, shares)
        part_of[source] = part
        got[part].update(counts[source])
        left.subtract(counts[source].keys())
    return [part_of[source] for source in sources]


def _most_in_need(
    held: Sequence[int],
    left: Mapping[int, int],
    total: Mapping[int, int],
    got: Mapping[str, Mapping[int, int]],
    shares: Mapping[str, int],
) -> str:
    """The part for a source with the classes `held`, rarest first."""
    parts, whole = list(shares), sum(shares.values())
    last_chances = []  # of each class that is running out, the parts that still hope for it
    for class_id in held:
        without = [part for part in parts if not got[part][class_id]]
        if len(without) >= left[class_id]:
            last_chances.append(without[: left[class_id]])
    candidates = parts
    for hoping in sorted(last_chances, key=lambda hoping: (len(hoping) > 1, parts.index(hoping[0]))):
        candidates = [part for part in candidates if part in hoping] or candidates
    return max(candidates, key=lambda part: [shares[part] * total[c] - whole * got[part][c] for c in held])


def set_aside(sources: Sequence[str], classes: Sequence[Iterable[int]]) -> npt.NDArray[np.bool_]:
    """Which images of val become the test split of a data set that has none: half of them, by source.

    Val keeps a source of every class that it has; so nothing is set aside from a single source.

    Args:
        sources: (n,) source of each image.
        classes: (n,) class id of each object in the image; for a classifier, of the image.

    Returns:
        (n,) True for test.
    """
    return np.array([part == "test" for part in cut_by_source(sources, classes, HALVES)], dtype=np.bool_)


def shared_sources(sources: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Sources with images in more than one split, sorted; source -> those splits.

    Args:
        sources: Split -> sources of its images.
    """
    splits_of = defaultdict(list)
    for split, found in sources.items():
        for source in set(found):
            splits_of[source].append(split)
    return {source: tuple(splits) for source, splits in sorted(splits_of.items()) if len(splits) > 1}

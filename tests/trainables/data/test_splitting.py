from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.splitting import HALVES, SHARES, cut_by_source, set_aside, shared_sources

# Source -> its images, each the class ids of its objects.
slides = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=3),
    min_size=1,
    max_size=12,
)
shares = st.sampled_from([HALVES, SHARES])

Slides = dict[str, list[list[int]]]


def listed(found: Slides) -> tuple[list[str], list[list[int]]]:
    """Source and class ids of each image."""
    pairs = [(source, ids) for source, images in found.items() for ids in images]
    return [source for source, _ in pairs], [ids for _, ids in pairs]


def part_of_sources(found: Slides, wanted: dict[str, int]) -> dict[str, str]:
    """Source -> its part, having checked that all its images went there."""
    sources, classes = listed(found)
    parts = cut_by_source(sources, classes, wanted)
    pairs = set(zip(sources, parts, strict=True))
    assert len(pairs) == len(found)
    return dict(pairs)


def held(found: Slides) -> dict[int, set[str]]:
    """Class id -> the sources that hold it."""
    return {
        c: {source for source, images in found.items() if any(c in ids for ids in images)} for c in range(4)
    }


@pytest.mark.parametrize(
    ("found", "test"),
    [
        pytest.param({"a": [[0]], "b": [[0]]}, 1, id="two equal sources: one each"),
        pytest.param({"a": [[0], [0, 1]]}, 0, id="a single source stays in val"),
        pytest.param({"a": [[0, 1]], "b": [[0, 2]]}, 0, id="two sources that val both needs stay in val"),
        pytest.param({"a": [[0, 1]], "b": [[0]]}, 1, id="the only source of a class stays in val"),
        pytest.param({"a": [[]], "b": [[]], "c": [[]], "d": [[]]}, 2, id="background alone is halved"),
    ],
)
def test_sources_set_aside(found: Slides, test: int) -> None:
    assert list(part_of_sources(found, HALVES).values()).count("test") == test


def test_the_rare_objects_are_halved_though_the_common_ones_would_be_cut_otherwise() -> None:
    # Of the rare class 1 the slides hold 4, 3, 2 and 1: 4 to val, 3 and 2 to test, 1 to val.
    found = {slide: [[1] * rare + [0] * 10] for slide, rare in {"a": 4, "b": 3, "c": 2, "d": 1}.items()}
    assert part_of_sources(found, HALVES) == {"a": "val", "b": "test", "c": "test", "d": "val"}


def test_the_only_source_of_a_class_stays_in_val_whatever_the_shares() -> None:
    found = {"a": [[0, 2]], "b": [[0] * 50], "c": [[0] * 50, [1]], "d": [[1]]}
    parts = part_of_sources(found, HALVES)
    assert parts["a"] == "val"
    assert {parts["c"], parts["d"]} == {"val", "test"}


def test_one_piece_is_cut_seventy_fifteen_fifteen_for_each_class() -> None:
    found = {f"s{i}": [[0, 0, 0], [1]] if i < 20 else [[0, 0, 0]] for i in range(60)}
    parts = part_of_sources(found, SHARES)
    assert Counter(parts.values()) == {"train": 42, "val": 9, "test": 9}
    assert Counter(parts[source] for source in held(found)[1]) == {"train": 14, "val": 3, "test": 3}


def test_a_class_with_few_sources_reaches_the_splits_in_the_order_of_their_importance() -> None:
    found = {f"s{i}": [[0] * 5] for i in range(30)} | {"a": [[1, 2]], "b": [[1]], "c": [[3]]}
    parts = part_of_sources(found, SHARES)
    assert {parts["a"], parts["b"]} == {"train", "val"}
    assert parts["a"] == "train"  # the only source of class 2
    assert parts["c"] == "train"


@given(slides, shares, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(found: Slides, wanted: dict[str, int], rng: object) -> None:
    sources = list(found)
    rng.shuffle(sources)
    turned = {source: found[source][::-1] for source in sources}
    assert part_of_sources(turned, wanted) == part_of_sources(found, wanted)


@given(slides, shares)
def test_the_first_part_has_a_source_of_every_class(found: Slides, wanted: dict[str, int]) -> None:
    parts = part_of_sources(found, wanted)
    first = next(iter(wanted))
    for sources in held(found).values():
        assert not sources or first in {parts[source] for source in sources}


@given(slides)
def test_both_halves_hold_the_rarest_class_that_val_can_spare(found: Slides) -> None:
    of_class = held(found)
    kept = {source for sources in of_class.values() if len(sources) == 1 for source in sources}
    shared = [c for c, sources in of_class.items() if len(sources) > 1]
    if not shared:
        return
    objects = Counter(c for images in found.values() for ids in images for c in ids)
    rarest = min(shared, key=lambda c: (len(of_class[c]), objects[c], c))
    parts = part_of_sources(found, HALVES)
    if of_class[rarest] - kept:
        assert {parts[source] for source in of_class[rarest]} == {"val", "test"}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_a_lone_class_is_halved_to_within_its_fullest_source(counts: list[int]) -> None:
    found = {f"s{i}": [[0] * count] for i, count in enumerate(counts)}
    parts = part_of_sources(found, HALVES)
    got = Counter[str]()
    for i, count in enumerate(counts):
        got[parts[f"s{i}"]] += count
    assert abs(got["val"] - got["test"]) <= max(counts)


@given(st.integers(4, 200))
def test_three_parts_hold_their_shares_to_within_a_source(n: int) -> None:
    got = Counter(part_of_sources({f"s{i}": [[0]] for i in range(n)}, SHARES).values())
    assert all(abs(got[part] - share * n / 100) < 1 for part, share in SHARES.items())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_an_image_folder_is_halved_class_by_class(labels: list[int]) -> None:
    """A classifier's images: each its own source, of one class."""
    aside = set_aside([f"image_{i}" for i in range(len(labels))], [[label] for label in labels])
    for c in set(labels):
        of_class = aside[np.array(labels) == c]
        assert abs(2 * int(of_class.sum()) - len(of_class)) <= 1
        assert not of_class.all()


def test_shared_sources_are_named_with_their_splits() -> None:
    found = {"train": ["b", "a", "a"], "val": ["c", "b"], "test": ["b", "c", "d"]}
    assert shared_sources(found) == {"b": ("train", "val", "test"), "c": ("val", "test")}

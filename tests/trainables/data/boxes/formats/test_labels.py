"""Labels are read once, and again where their file has changed."""

import os
from pathlib import Path

import numpy as np
import pytest

from spaces.errors import UsageError
from trainables.data.boxes.formats import labels
from trainables.data.boxes.formats.labels import parse, read_labels

LINES = ["0 0.5 0.5 0.2 0.1", "1 .25 1e-1 0.1 0.1", "", "0 0.5 0.5 0.2 0.1", "  1 0.3 0.3 0.1 0.1\t"]
POLYGON = "1 0.1 0.1 0.3 0.1 0.3 0.5"
WRONG = {
    "0 0.5 0.5 0.2": "'class x y w h' expected, got 4 numbers",
    "0 0.5 0.5 0.2 x": "numbers expected, got '0 0.5 0.5 0.2 x'",
    "2 0.5 0.5 0.2 0.2": r"class 2 is none of 0\.\.1",
    "0.5 0.5 0.5 0.2 0.2": "class 0.5 is none",
    "-1 0.5 0.5 0.2 0.2": "class -1 is none",
    "nan 0.5 0.5 0.2 0.2": "class nan is none",
    "0 nan 0.5 0.2 0.2": "coordinates are fractions",
    "0 0.5 inf 0.2 0.2": "coordinates are fractions",
    "0 0.5 0.5 0 0.2": "sizes above 0",
    "0 0.5 0.5 0.2 1.02": "coordinates are fractions",
    "0 -0.02 0.5 0.2 0.2": "coordinates are fractions",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "labels"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are read as text."""
    found: list[str] = []
    plain = labels._text

    def noted(file: Path) -> str:
        found.append(file.name)
        return plain(file)

    monkeypatch.setattr(labels, "_text", noted)
    return found


def write(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{i}.txt" for i in range(count)]
    for i, file in enumerate(files):
        file.write_text("\n".join([*LINES, f"0 0.{i + 1} 0.5 0.1 0.1"]))
    return files


def test_a_line_that_is_there_twice_counts_once_and_the_order_stays() -> None:
    classes, boxes = parse("\r\n".join(LINES), "a.txt", 2)
    assert classes.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(
        boxes, np.float32([[0.5, 0.5, 0.2, 0.1], [0.25, 0.1, 0.1, 0.1], [0.3, 0.3, 0.1, 0.1]])
    )


def test_a_polygon_among_boxes_changes_nothing_of_them() -> None:
    alone, mixed = parse("\n".join(LINES), "a.txt", 2), parse("\n".join([POLYGON, *LINES]), "a.txt", 2)
    np.testing.assert_array_equal(mixed.classes, [1, *alone.classes])
    np.testing.assert_array_equal(mixed.boxes[1:], alone.boxes)
    np.testing.assert_allclose(mixed.boxes[0], [0.2, 0.3, 0.2, 0.4], rtol=1e-6)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_first_line_that_is_wrong_is_named(wrong: str) -> None:
    with pytest.raises(UsageError, match=WRONG[wrong]) as refused:
        parse("\n".join([*LINES, wrong, wrong, "also wrong"]), "a.txt", 2)
    assert refused.value.message.startswith("a.txt, line 6: ")


def test_labels_are_read_once_and_again_only_where_they_changed(tmp_path: Path, read: list[str]) -> None:
    files = [*write(tmp_path / "labels", 5), tmp_path / "labels" / "none.txt"]
    first = read_labels(files, 2)
    assert read == [file.name for file in files]
    read.clear()
    for again in (read_labels(files, 2), read_labels(files, 2)):
        assert all(
            np.array_equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True)
        )
    assert read == []
    files[2].write_text("1 0.5 0.5 0.5 0.5")
    files[5].write_text("1 0.1 0.1 0.1 0.1")
    files[4].unlink()
    changed = read_labels(files, 2)
    assert read == ["2.txt", "4.txt", "none.txt"]
    assert [len(of.classes) for of in changed] == [4, 4, 1, 4, 0, 1]
    np.testing.assert_array_equal(changed[3].boxes, first[3].boxes)


def test_another_number_of_classes_is_checked_anew(tmp_path: Path) -> None:
    files = write(tmp_path / "labels", 2)
    read_labels(files, 2)
    with pytest.raises(UsageError, match=r"0.txt, line 2: class 1 is none of 0\.\.0"):
        read_labels(files, 1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_what_is_kept_and_damaged_is_read_again(
    content: bytes, tmp_path: Path, cache: Path, read: list[str]
) -> None:
    files = write(tmp_path / "labels", 3)
    first = read_labels(files, 2)
    (kept,) = cache.glob("*.npz")
    kept.write_bytes(content or kept.read_bytes()[:-30])
    read.clear()
    assert [of.classes.tolist() for of in read_labels(files, 2)] == [of.classes.tolist() for of in first]
    assert len(read) == 3


def test_a_folder_in_place_of_a_label_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UsageError, match=r"a\.txt: not a file"):
        read_labels([tmp_path / "a.txt"], 2)


def test_names_that_are_no_utf_8_are_kept(tmp_path: Path, read: list[str]) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt"))
    file.write_text(LINES[0])
    for _ in range(2):
        assert read_labels([file], 2)[0].classes.tolist() == [0]
    assert len(read) == 1


def test_splits_that_share_a_folder_are_kept_side_by_side(tmp_path: Path, read: list[str]) -> None:
    files = write(tmp_path / "labels", 5)
    first = [read_labels(split, 2) for split in (files[:3], files[2:])]
    assert sorted(read) == [file.name for file in files]
    again = [read_labels(split, 2) for split in (files[:3], files[2:])]
    assert len(read) == 5
    for before, after in zip(first, again, strict=True):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one.classes, other.classes)
            np.testing.assert_array_equal(one.boxes, other.boxes)

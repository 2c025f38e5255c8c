"""What is found out about a classifier's image files before anything is trained."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_images import write_folder
from PIL import Image

from spaces.errors import UsageError
from trainables.data.images.data_set import describe_classification
from trainables.data.images.decoding import decode
from trainables.data.sources import images_of

COUNTS = {"train/a": 60, "train/b": 40, "val/a": 6, "val/b": 6, "test/a": 4, "test/b": 4}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", COUNTS)


def deep(folder: Path, highest: int, channels: int = 1) -> None:
    """Replace the first two images of a folder by 16-bit ones, of which `highest` is the largest value."""
    for i, value in enumerate((highest, highest // 2)):
        (folder / f"{i:03}.jpg").unlink()
        cv2.imwrite(str(folder / f"{i:03}.png"), np.full((14, 20, channels), value, np.uint16))


def test_dark_16_bit_images_are_told_with_what_to_set(root: Path) -> None:
    deep(root / "train" / "a", 1001)
    assert describe_classification(root).warnings == (
        "warning: 2 of 120 images have 16 bits, and no value in them is above 1001 of 65535: they are seen "
        "as (almost) black; set `pixel_max: 1023` in the study file, the value that is to be white",
    )
    assert describe_classification(root, 1023).warnings == ()
    assert describe_classification(root).fingerprint != describe_classification(root, 1023).fingerprint


def test_pixel_max_is_white_in_what_a_trial_sees(root: Path) -> None:
    deep(root / "train" / "a", 1023)
    dark, light = (images_of(str(root), 8, pixel_max).splits["train"].images for pixel_max in (None, 1023))
    assert (dark[0].max(), light[0].max()) == (4, 255)
    np.testing.assert_array_equal(dark[2:], light[2:])
    np.testing.assert_array_equal(decode(root / "train" / "a" / "000.png", 8, 3, 65535), dark[0])


def test_16_bit_colours_lose_their_low_bytes_and_that_is_told(root: Path) -> None:
    deep(root / "train" / "a", 4000, channels=3)
    (told,) = describe_classification(root).warnings
    assert told.startswith(
        "warning: 2 of 120 images have 16-bit colours, and no value in them is above 4000 of"
    )
    with pytest.raises(
        UsageError, match=r"pixel_max: for grey images, and 2 of 120 .* e\.g\. train/a/000\.png"
    ):
        describe_classification(root, 4095)


def test_an_image_in_two_splits_is_told(root: Path) -> None:
    shutil.copy(root / "train" / "a" / "000.jpg", root / "val" / "a" / "000.jpg")
    summary = describe_classification(root)
    assert list(summary.mended.values()) == [1]
    (told,) = summary.warnings
    assert told.startswith(
        "warning: identical images in more than one split: 1, e.g. train/a/000.jpg in train"
    )
    assert "val/a/000.jpg in val" in told


def test_gifs_are_counted(root: Path) -> None:
    Image.new("P", (20, 10)).save(root / "train" / "a" / "moving.gif")
    Image.new("P", (20, 10)).save(root / "train" / "a" / ".hidden.gif")
    read = ".bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp"
    assert describe_classification(root).mended == {f".gif files left out: only {read} are read": 1}


def test_what_was_seen_is_not_looked_at_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = describe_classification(root)
    opened: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *args: opened.append(args))
    assert describe_classification(root) == first
    assert opened == []

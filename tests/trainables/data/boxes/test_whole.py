"""Whole images as a person has them: folders, labels in any of the usual places, kinds of files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from whole_images import SIZE, boxes, noise, write_json, write_slides, write_whole_splits, yolo_text

from spaces.errors import UsageError
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.decoding import read_pixels
from trainables.data.boxes.listed import BoxData
from trainables.data.boxes.whole import load_whole


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


def objects(data: BoxData) -> dict[str, int]:
    return {image.name: len(image.classes) for images in data.splits.values() for image in images}


# Where labels and classes are


def beside(root: Path) -> None:
    """As `write_slides` leaves them."""


def in_labels(root: Path) -> None:
    (root / "labels").mkdir()
    for file in root.glob("s*.txt"):
        file.rename(root / "labels" / file.name)


def in_images_and_labels(root: Path) -> None:
    in_labels(root)
    (root / "images").mkdir()
    for file in root.glob("*.png"):
        file.rename(root / "images" / file.name)


def names_in_a_yaml(root: Path) -> None:
    (root / "classes.txt").unlink()
    (root / "data.yaml").write_text(yaml.safe_dump({"names": {0: "cell", 1: "cluster"}}))


def names_among_labels(root: Path) -> None:
    in_labels(root)
    (root / "classes.txt").rename(root / "labels" / "classes.txt")


def in_subfolders(root: Path) -> None:
    (root / "day1").mkdir()
    for name in ("s0.png", "s0.txt", "s1.png", "s1.txt"):
        (root / name).rename(root / "day1" / name)


@pytest.mark.parametrize(
    "change", [beside, in_labels, in_images_and_labels, names_in_a_yaml, names_among_labels, in_subfolders]
)
def test_a_folder_with_its_labels_in_any_usual_place(tmp_path: Path, change: Callable[[Path], None]) -> None:
    write_slides(tmp_path / "slides")
    change(tmp_path / "slides")
    data = load_whole(tmp_path / "slides")
    assert data.class_names == ("cell", "cluster")
    assert sorted(objects(data).values()) == [12] * 8
    assert data.one_piece


def test_the_folder_of_the_images_alone_is_enough(tmp_path: Path) -> None:
    write_slides(tmp_path / "slides")
    in_images_and_labels(tmp_path / "slides")
    assert sum(objects(load_whole(tmp_path / "slides" / "images")).values()) == 96


def test_a_folder_and_a_json_are_what_the_folder_with_labels_is(tmp_path: Path) -> None:
    file = write_json(tmp_path / "whole.json", write_slides(tmp_path / "slides"))
    plain = load_whole(tmp_path / "slides")
    found = load_whole(tmp_path / "slides", file)
    for split, images in plain.splits.items():
        assert [image.name for image in found.splits[split]] == [image.name for image in images]
        for image, other in zip(images, found.splits[split], strict=True):
            np.testing.assert_allclose(image.boxes, other.boxes, atol=1e-6)


def test_the_splits_of_a_data_yaml_are_respected_and_it_is_found_in_its_folder(tmp_path: Path) -> None:
    file = write_whole_splits(tmp_path / "set", {"train": 4, "val": 2, "test": 2})
    data = load_whole(file)
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert not data.one_piece
    assert objects(load_whole(file.parent)) == objects(data)
    assert data.fingerprint == load_detection(file).fingerprint


def test_groups_stay_together(tmp_path: Path) -> None:
    listed = write_slides(tmp_path / "slides")
    lines = [f"{name},patient{i // 2}" for i, name in enumerate(listed)]
    (tmp_path / "groups.csv").write_text("\n".join(["image,group", *lines]))
    by_file = load_whole(tmp_path / "slides", group_by=str(tmp_path / "groups.csv"))
    for images in by_file.splits.values():
        held = [image.source for image in images]
        assert all(held.count(source) == 2 for source in held)
    by_name = load_whole(tmp_path / "slides", group_by=r"s(\d)")
    assert {image.source for image in by_name.splits["train"]} <= set("01234567")


# What is refused


def lacks_classes(root: Path) -> None:
    (root / "classes.txt").unlink()


def lacks_an_image(root: Path) -> None:
    (root / "s3.png").unlink()


def lacks_labels(root: Path) -> None:
    for file in root.glob("s*.txt"):
        file.unlink()


def lacks_images(root: Path) -> None:
    for file in root.glob("*.png"):
        file.unlink()


def a_slide(root: Path) -> None:
    (root / "scan.svs").write_bytes(b"II*\0")


def sixteen_bits(root: Path) -> None:
    cv2.imwrite(str(root / "s2.png"), noise(2).astype(np.uint16) * 256)


def sixteen_grey_bits(root: Path) -> None:
    cv2.imwrite(str(root / "s2.png"), noise(2)[..., 0].astype(np.uint16) * 256)


def cmyk(root: Path) -> None:
    Image.fromarray(noise(2)).convert("CMYK").save(root / "s2.jpg")
    (root / "s2.png").unlink()


def pages(root: Path) -> None:
    page = Image.fromarray(noise(2))
    page.save(root / "s2.tif", save_all=True, append_images=[page])
    (root / "s2.png").unlink()


def outside(root: Path) -> None:
    (root / "s1.txt").write_text("0 1.5 0.5 0.1 0.1\n")


def no_such_class(root: Path) -> None:
    (root / "s1.txt").write_text("7 0.5 0.5 0.1 0.1\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lacks_classes, "nothing says what its classes are called"),
        (lacks_an_image, r"s3\.txt: labels of no image; 1 of 9 label files have none"),
        (lacks_labels, "none of 8 images has an object"),
        (lacks_images, "no image"),
        (a_slide, r"scan\.svs: whole-slide files are not read"),
        (sixteen_bits, r"s2\.png: its values have 16 bits"),
        (sixteen_grey_bits, r"s2\.png: its values have 16 bits"),
        (cmyk, r"s2\.jpg: its colours are CMYK"),
        (pages, r"s2\.tif: it has 2 pages"),
        (outside, r"s1\.txt, line 1: coordinates are fractions"),
        (no_such_class, r"s1\.txt, line 1: class 7 is none of 0\.\.1"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    write_slides(tmp_path / "slides")
    damage(tmp_path / "slides")
    with pytest.raises(UsageError, match=says):
        load_whole(tmp_path / "slides")


def test_a_json_that_lists_a_slide_names_it(tmp_path: Path) -> None:
    listed = write_slides(tmp_path / "slides")
    file = write_json(tmp_path / "slides" / "whole.json", {**listed, "scan.svs": boxes(9)})
    shutil.copy(tmp_path / "slides" / "s0.png", tmp_path / "slides" / "scan.svs")
    with pytest.raises(UsageError, match=r"scan\.svs: whole-slide files"):
        load_whole(file)


def test_a_slide_in_a_folder_that_a_data_yaml_lists_is_counted(tmp_path: Path) -> None:
    file = write_whole_splits(tmp_path / "set", {"train": 4, "val": 2, "test": 2})
    (tmp_path / "set" / "images" / "train" / "scan.svs").write_bytes(b"II*\0")
    (told,) = load_whole(file).mended
    assert told.startswith(".svs files left out")


# What is converted: a tile will show what a detector sees


def turned(root: Path) -> Path:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(2)).save(root / "s2.jpg", exif=exif, quality=95)
    return root / "s2.jpg"


def turned_tiff(root: Path) -> Path:
    Image.fromarray(noise(2)).save(root / "s2.tif", tiffinfo={274: 6})
    return root / "s2.tif"


def palette(root: Path) -> Path:
    Image.fromarray(noise(2)).quantize(16).save(root / "s2.png")
    return root / "s2.png"


def transparent(root: Path) -> Path:
    Image.fromarray(np.dstack([noise(2), noise(3)[..., :1]])).save(root / "s2.png")
    return root / "s2.png"


def grey(root: Path) -> Path:
    Image.fromarray(noise(2)[..., 0]).save(root / "s2.png")
    return root / "s2.png"


@pytest.mark.parametrize("make", [turned, turned_tiff, palette, transparent, grey])
def test_a_header_says_the_size_that_is_decoded(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    root = tmp_path / "slides"
    write_slides(root)
    (root / "s2.png").unlink()
    file = make(root)
    size = SIZE[::-1] if file.suffix in {".jpg", ".tif"} else SIZE
    (root / "s2.txt").write_text(yolo_text(boxes(2, size=size), size))
    images = {image.name: image for found in load_whole(root).splits.values() for image in found}
    pixels = read_pixels(file)
    assert pixels is not None
    assert images[file.name].size == pixels.shape[:2] == (size[1], size[0])


def test_an_image_larger_than_pillow_opens_has_a_header_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slides(tmp_path / "slides")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert len(objects(load_whole(tmp_path / "slides"))) == 8
    assert Image.MAX_IMAGE_PIXELS == 100

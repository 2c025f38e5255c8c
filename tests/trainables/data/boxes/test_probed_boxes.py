"""What is found out about a detector's image files before anything is trained."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from detection_files import coco, plain, write_coco, write_yolo
from drawn_images import cut_short
from PIL import Image
from tiny_detector import draw_tiles, tiny_spec
from trials import report_of

from spaces.errors import UsageError
from trainables.contract.predictions import load_predictions
from trainables.data import probing
from trainables.data.boxes.data_set import describe_detection, load_detection
from trainables.data.boxes.decoding import read_pixels
from trainables.data.sources import describe
from trainables.data.summary import rare_classes

CLUSTER = "1 0.5 0.5 0.2 0.2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "looks"


def yolo(root: Path, train: int = 120, val: int = 30) -> Path:
    """A data.yaml of so many images of 20 x 10 pixels, one object in each."""
    labels = {
        split: {f"{split}{i:03}": CLUSTER for i in range(n)} for split, n in (("train", train), ("val", val))
    }
    return write_yolo(root, labels)


# Files that cannot be read


def test_a_cut_image_is_left_out_and_named_and_more_than_one_percent_are_refused(tmp_path: Path) -> None:
    data = yolo(tmp_path)
    cut_short(tmp_path / "images" / "train" / "train007.png")
    summary = describe_detection(data)
    assert summary.mended == {"unreadable images left out, e.g. images/train/train007.png": 1}
    assert summary.splits["train"].images == 119
    assert load_detection(data).fingerprint == summary.listed_as
    cut_short(tmp_path / "images" / "val" / "val003.png")
    with pytest.raises(
        UsageError, match=r"2 of 150 images cannot be read, e\.g\. images/train/train007\.png: it is"
    ):
        describe_detection(data)


def test_splits_do_not_hang_on_what_can_be_read(tmp_path: Path) -> None:
    data = yolo(tmp_path)
    before = {
        split: [image.name for image in images] for split, images in load_detection(data).splits.items()
    }
    cut_short(tmp_path / "images" / "val" / "val003.png")
    after = {split: [image.name for image in images] for split, images in load_detection(data).splits.items()}
    gone = "images/val/val003.png"
    assert after == {split: [name for name in names if name != gone] for split, names in before.items()}


def test_an_image_of_a_coco_file_that_is_cut_is_left_out_with_its_boxes(tmp_path: Path) -> None:
    file = write_coco(tmp_path, "all.json", coco({f"{i:03}.png": [(7, [4, 2, 8, 4])] for i in range(150)}))
    cut_short(tmp_path / "000.png")
    summary = describe_detection(file)
    assert summary.mended == {"unreadable images left out, e.g. 000.png": 1}
    assert sum(split.images for split in summary.splits.values()) == 149


def test_a_detector_trains_although_one_jpeg_is_cut(tmp_path: Path) -> None:
    data = draw_tiles(tmp_path, {"train": 110, "val": 12})
    for split in ("train", "val"):
        for file in (tmp_path / "images" / split).iterdir():
            Image.open(file).save(file.with_suffix(".jpg"), quality=95)
            file.unlink()
    cut_short(tmp_path / "images" / "train" / "train_3.jpg")
    report = report_of(tiny_spec(data, {}, steps=2, eval_every=1), tmp_path / "run")
    assert report.applied["images_kept"] == 109


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0"], ids=["empty", "text", "a begin"])
def test_other_content_is_unreadable_too(tmp_path: Path, content: bytes) -> None:
    data = yolo(tmp_path)
    (tmp_path / "images" / "val" / "val000.png").write_bytes(content)
    assert describe_detection(data).mended == {"unreadable images left out, e.g. images/val/val000.png": 1}


# What was seen is kept


def test_only_what_has_changed_is_looked_at_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = yolo(tmp_path)
    seen: list[Path] = []
    decode = cv2.imdecode

    def counted(content: Any, how: int) -> Any:
        seen.append(Path())
        return decode(content, how)

    monkeypatch.setattr(cv2, "imdecode", counted)
    first = describe_detection(data)
    assert len(seen) == 150
    assert describe_detection(data) == first
    assert len(seen) == 150
    changed = tmp_path / "images" / "train" / "train007.png"
    plain((30, 40), "another").save(changed)
    loaded = load_detection(data)
    assert len(seen) == 151
    assert [image.size for image in loaded.splits["train"] if image.path == changed] == [(40, 30)]
    for file in cache.iterdir():
        file.unlink()
    load_detection(data)
    assert len(seen) == 301


# Bits


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)], ids=["grey", "colour"])
def test_pixel_max_is_white_and_without_it_the_high_byte_is_kept(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    deep = np.random.default_rng(0).integers(0, 5000, shape, dtype=np.uint16)
    file = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(file), deep)
    stored = deep if deep.ndim == 3 else np.repeat(deep[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_pixels(file), stored >> 8)
    white = read_pixels(file, 4095)
    np.testing.assert_array_equal(white, np.rint(np.minimum(stored, 4095) / 4095 * 255).astype(np.uint8))
    eight = tmp_path / f"eight.{suffix}"
    cv2.imwrite(str(eight), (deep >> 8).astype(np.uint8))
    np.testing.assert_array_equal(read_pixels(eight, 4095), read_pixels(eight))


def with_deep(root: Path, highest: int) -> Path:
    """Two of 150 images have 16 bits, of which `highest` is the largest value."""
    data = yolo(root)
    for name, value in (("train000", highest), ("train001", highest // 2)):
        cv2.imwrite(str(root / "images" / "train" / f"{name}.png"), np.full((10, 20), value, np.uint16))
    return data


def test_dark_16_bit_images_are_told_with_what_to_set(tmp_path: Path) -> None:
    data = with_deep(tmp_path, 4012)
    assert describe_detection(data).warnings == (
        "warning: 2 of 150 images have 16 bits, and no value in them is above 4012 of 65535: they are seen "
        "as (almost) black; set `pixel_max: 4095` in the study file, the value that is to be white",
    )
    assert describe_detection(data, 4095).warnings == ()
    assert describe_detection(data, 4000).warnings == (
        "warning: 2 of 150 images have 16 bits, 1 with values above pixel_max 4000, up to 4012: white",
    )


def test_16_bit_images_that_use_their_range_are_fine_and_pixel_max_without_any_is_told(
    tmp_path: Path,
) -> None:
    assert describe_detection(with_deep(tmp_path / "deep", 60000)).warnings == ()
    assert describe_detection(yolo(tmp_path / "flat"), 4095).warnings == (
        "pixel_max 4095 changes nothing: no image has 16 bits",
    )
    with pytest.raises(UsageError, match="pixel_max: for 16-bit images, and demo:cytology has none"):
        describe("demo:cytology", "detection", 4095)


def test_other_pixels_are_other_data(tmp_path: Path) -> None:
    data = with_deep(tmp_path, 4012)
    prints = {load_detection(data, pixel_max).fingerprint for pixel_max in (None, 4095, 4000)}
    assert len(prints) == 3
    plain_spec = tiny_spec(data, {})
    scaled = plain_spec.model_copy(update={"data": plain_spec.data.model_copy(update={"pixel_max": 4095})})
    assert plain_spec.key != scaled.key
    assert "pixel_max" not in plain_spec.data.keyed()  # so that stored runs keep their names


# Names


def test_predictions_name_images_by_their_path_so_that_equal_stems_differ(tmp_path: Path) -> None:
    data = draw_tiles(tmp_path, {"train": 12, "val": 8})
    for split in ("train", "val"):
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            for i in range(2, 4):  # a/0.png and b/0.png …
                for part in ("a", "b"):
                    source = tmp_path / kind / split / f"{split}_{i + 2 * (part == 'b')}.{suffix}"
                    target = tmp_path / kind / split / part / f"{i}.{suffix}"
                    target.parent.mkdir(exist_ok=True)
                    source.rename(target)
    report_of(tiny_spec(data, {}, steps=2, eval_every=1), tmp_path / "run")
    names = load_predictions(tmp_path / "run" / "result" / "predictions.npz").image.tolist()
    assert len(set(names)) == len(names)
    assert {"images/val/a/2.png", "images/val/b/2.png"} & set(names)
    assert all((tmp_path / name).is_file() for name in names)


def test_images_outside_the_data_files_folder_are_named_from_what_they_share(tmp_path: Path) -> None:
    yolo(tmp_path / "there", 4, 4)
    (tmp_path / "here").mkdir()
    described = {"path": str(tmp_path / "there"), "train": "images/train", "val": "images/val"}
    (tmp_path / "here" / "data.yaml").write_text(yaml.safe_dump(described | {"names": ["cell", "cluster"]}))
    data = load_detection(tmp_path / "here" / "data.yaml")
    assert data.splits["train"][0].name == "train/train000.png"


# Pictures that are there twice, and other formats


def test_identical_pictures_are_counted_and_told_where_they_leak(tmp_path: Path) -> None:
    data, images = yolo(tmp_path), tmp_path / "images"
    shutil.copy(images / "train" / "train000.png", images / "train" / "train001.png")
    within = describe_detection(data)
    assert within.mended == {"images repeat another one's content, e.g. images/train/train001.png": 1}
    assert within.warnings == ()
    shutil.copy(images / "train" / "train002.png", images / "val" / "val000.png")
    summary = describe_detection(data)
    assert list(summary.mended.values()) == [2]
    (told,) = summary.warnings
    assert told.startswith(
        "warning: identical images in more than one split: 1, e.g. images/train/train002.png in "
    )
    assert "images/val/val000.png in " in told
    assert told in summary.notes()


def test_empty_background_in_two_splits_is_counted_but_no_leak(tmp_path: Path) -> None:
    data = yolo(tmp_path)
    for split in ("train", "val"):
        Image.new("RGB", (20, 10), "white").save(tmp_path / "images" / split / "blank.png")
    summary = describe_detection(data)
    assert list(summary.mended) == ["images repeat another one's content, e.g. images/val/blank.png"]
    assert summary.warnings == ()


def test_pictures_that_differ_where_the_digest_does_not_look_are_not_identical(tmp_path: Path) -> None:
    data, folder = yolo(tmp_path), tmp_path / "images" / "train"
    for i in range(2):
        pixels = np.zeros((200, 200, 3), np.uint8)
        pixels[50, 7] = 200 + i  # a quarter down: beside begin, middle and end of an uncompressed file
        Image.fromarray(pixels).save(folder / f"large{i}.bmp")
    looks = [image.look for image in load_detection(data).splits["train"] if "large" in image.name]
    assert looks[0].digest == looks[1].digest
    assert describe_detection(data).mended == {}


def test_gifs_in_a_folder_are_counted(tmp_path: Path) -> None:
    data = yolo(tmp_path)
    for split, name in (("train", "a.gif"), ("train", "B.GIF"), ("val", "c.gif"), ("val", "d.heic")):
        Image.new("P", (20, 10)).save(tmp_path / "images" / split / name, format="GIF")
    read = ".bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp"
    assert describe_detection(data).mended == {
        f".gif files left out: only {read} are read": 3,
        f".heic files left out: only {read} are read": 1,
    }


# Foreign exports


def test_roboflows_layout_is_read_and_its_empty_category_is_not_rare(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for i in range(30):
            plain((20, 10), f"{split}{i}").save(tmp_path / split / "images" / f"{i}_jpg.rf.{i:032x}.JPG")
            label = "1 0.5 0.5 0.2 0.2\n" + "2 0.2 0.2 0.1 0.1" * (i == 0)
            (tmp_path / split / "labels" / f"{i}_jpg.rf.{i:032x}.txt").write_text(label)
    described = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    names = {"nc": 3, "names": ["cells-cells", "cell", "cluster"]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(described | names))
    summary = describe_detection(tmp_path / "data.yaml")
    assert {split: counted.images for split, counted in summary.splits.items()} == dict.fromkeys(
        ("train", "val", "test"), 30
    )
    assert rare_classes(summary) == ("cluster",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".Png", ".tif", ".TIFF", ".webp", ".bmp"])
def test_every_kind_of_picture_is_read_as_ultralytics_reads_it(
    tmp_path: Path, suffix: str, mode: str
) -> None:
    from ultralytics.utils.patches import imread  # noqa: PLC0415  (loads torch)

    file = tmp_path / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    try:
        Image.fromarray(pixels).convert(mode).save(file)
    except OSError:
        pytest.skip("no such file")
    ours = read_pixels(file)
    np.testing.assert_array_equal(ours, imread(str(file)))


def test_files_that_vanish_are_the_persons_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    with pytest.raises(UsageError, match="No such file"):
        probing.look_at([gone], probing.Eye(lambda path: probing.Look(), "test"))

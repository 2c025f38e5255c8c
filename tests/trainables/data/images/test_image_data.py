import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_images import cut_short, draw, write_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as F

from spaces.errors import UsageError
from trainables.data.images.data_set import describe_classification, load_classification
from trainables.data.images.decoding import decode, probe
from trainables.data.images.listed import ImageFile
from trainables.data.sources import describe

THREE_SPLITS = {
    f"{split}/{name}": count
    for split, counts in {"train": (6, 3), "val": (2, 1), "test": (3, 2)}.items()
    for name, count in zip(("cell", "scratch"), counts, strict=True)
}


def split_sizes(path: Path) -> dict[str, int]:
    return {split: counted.images for split, counted in describe(str(path), "classification").splits.items()}


def listed(file: Path) -> ImageFile:
    return ImageFile(file, file.name, "all", "a", file.name)


# Layouts


def test_class_folders_in_three_splits_are_counted(tmp_path: Path) -> None:
    summary = describe_classification(write_folder(tmp_path, THREE_SPLITS))
    assert summary.class_names == ("cell", "scratch")
    assert {split: counted.objects for split, counted in summary.splits.items()} == {
        "train": {"cell": 6, "scratch": 3},
        "val": {"cell": 2, "scratch": 1},
        "test": {"cell": 3, "scratch": 2},
    }
    assert summary.splits["val"].classes_per_image == (frozenset({0}), frozenset({0}), frozenset({1}))
    assert (summary.one_piece, summary.test_from_val, summary.mended) == (False, False, {})


def test_class_folders_in_one_piece_are_cut_in_every_class(tmp_path: Path) -> None:
    summary = describe_classification(write_folder(tmp_path, {"cell": 40, "scratch": 20}))
    assert summary.one_piece
    assert {split: tuple(counted.objects.values()) for split, counted in summary.splits.items()} == {
        "train": (28, 14),
        "val": (6, 3),
        "test": (6, 3),
    }


def test_without_a_test_split_half_of_val_is_set_aside(tmp_path: Path) -> None:
    summary = describe_classification(
        write_folder(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 6, "val/b": 4})
    )
    assert summary.test_from_val
    assert [tuple(summary.splits[split].objects.values()) for split in ("val", "test")] == [(3, 2), (3, 2)]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, THREE_SPLITS)
    before = split_sizes(tmp_path)
    cell = tmp_path / "train" / "cell"
    for hidden in (".checkpoints/000.jpg", ".000.jpg"):
        (cell / hidden).parent.mkdir(exist_ok=True)
        shutil.copy(cell / "000.jpg", cell / hidden)
    assert split_sizes(tmp_path) == before


def test_groups_beside_the_folders_stay_whole(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cell": 30, "scratch": 30})
    rows = [f"{name}/{i:03}.jpg,part {i // 3}" for name in ("cell", "scratch") for i in range(30)]
    (tmp_path / "groups.csv").write_text("\n".join(["image,group", *rows]))
    data = load_classification(tmp_path)
    parts = {split: {image.source for image in images} for split, images in data.splits.items()}
    assert {split: len(found) for split, found in parts.items()} == {"train": 7, "val": 2, "test": 1}
    assert len(set.union(*parts.values())) == 10
    assert sum(len(images) for images in data.splits.values()) == 60


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12345678")), min_size=8, max_size=16),
    rank=st.randoms(use_true_random=False),
)
def test_a_csv_is_cut_by_group_whatever_the_order_of_its_rows(
    tmp_path: Path, rows: list[tuple[str, str]], rank: object
) -> None:
    rows = [("a", "1"), ("b", "1"), ("a", "2"), ("b", "3"), *rows]
    lines = []
    for i, (label, group) in enumerate(rows):
        (tmp_path / f"{i}.png").write_bytes(b"not looked at")
        lines.append(f"{i}.png,{label},{group}")
    found = []
    for order in (lines, rank.sample(lines, len(lines))):  # type: ignore[attr-defined]
        (tmp_path / "data.csv").write_text("\n".join(["path,label,group", *order]))
        found.append(load_classification(tmp_path / "data.csv"))
    assert found[0].splits == found[1].splits
    assert found[0].fingerprint == found[1].fingerprint
    where = [{image.source for image in images} for images in found[0].splits.values()]
    assert sum(map(len, where)) == len(set.union(*where))
    assert sum(map(len, found[0].splits.values())) == len(rows)


def test_a_csv_says_label_split_and_group(tmp_path: Path) -> None:
    write_folder(tmp_path, {"pool": 6})
    (tmp_path / "sub").mkdir()
    rows = ["train,a,g1", "train,b,g1", "val,a,", "val,b,g2", "test,b,g3", "test,a,"]
    lines = [f"../pool/{i:03}.jpg,{row},ignored" for i, row in enumerate(rows)]
    (tmp_path / "sub" / "data.csv").write_text("\n".join(["path,split,label,group,note", *lines]))
    data = load_classification(tmp_path / "sub" / "data.csv")
    assert {split: [image.label for image in images] for split, images in data.splits.items()} == {
        "train": ["a", "b"],
        "val": ["a", "b"],
        "test": ["b", "a"],
    }
    assert [image.source for image in data.splits["train"]] == ["g1", "g1"]
    assert data.splits["val"][0].source == data.splits["val"][0].name


def test_a_class_that_val_or_test_lacks_counts_zero_and_is_told(tmp_path: Path) -> None:
    counts = {"train/a": 3, "train/b": 3, "train/c": 3, "val/a": 2, "val/b": 1, "test/a": 2, "test/c": 1}
    summary = describe_classification(write_folder(tmp_path, counts))
    assert summary.splits["test"].objects == {"a": 2, "b": 0, "c": 1}
    assert summary.notes() == ["val has no object of c", "test has no object of b"]


def test_the_fingerprint_says_names_sizes_labels_and_groups(tmp_path: Path) -> None:
    write_folder(tmp_path, THREE_SPLITS)
    before = load_classification(tmp_path)
    (tmp_path / "train/cell/000.jpg").touch()
    touched = load_classification(tmp_path)
    assert touched.fingerprint == before.fingerprint
    assert touched.stamp != before.stamp
    (tmp_path / "train/cell/000.jpg").rename(tmp_path / "train/scratch/100.jpg")
    assert load_classification(tmp_path).fingerprint != before.fingerprint


# Bad input

LAYOUTS = {
    "an empty class folder in train": (
        lambda root: (root / "train/empty").mkdir(),
        "class folder .*empty holds no image",
    ),
    "a class of val that train lacks": (
        lambda root: write_folder(root, {"val/new": 2}),
        r"class new has no image in train \(images: train 0, val 2, test 0\)",
    ),
    "no val": (lambda root: (root / "val").rename(root / "valid"), "folder train, but no folder val"),
    "a link to nothing": (
        lambda root: (root / "train/cell/x.jpg").symlink_to(root / "gone.jpg"),
        "x.jpg is a link to a file that is not there",
    ),
    "splits by other names": (
        lambda root: [(root / each).rename(root / each.title()) for each in ("train", "val")],
        "no folder train, but Train, Val",
    ),
    "an image in two groups": (
        lambda root: (root / "groups.csv").write_text(
            "image,group\ntrain/cell/000.jpg,g\ntrain/cell/000.jpg,h\n"
        ),
        "line 3: train/cell/000.jpg already has another group",
    ),
    "an image that groups.csv lacks": (
        lambda root: (root / "groups.csv").write_text("image,group\ntrain/cell/000.jpg,g\n"),
        "16 of 17 images have no group, e.g. ",
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_folders_that_are_wrong_are_refused(tmp_path: Path, case: str) -> None:
    spoil, message = LAYOUTS[case]
    spoil(write_folder(tmp_path, THREE_SPLITS))  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        describe(str(tmp_path), "classification")


def test_one_class_only_and_no_class_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one class only, cell"):
        describe(str(write_folder(tmp_path, {"one/cell": 4}) / "one"), "classification")
    with pytest.raises(UsageError, match="holds no folder"):
        describe(str(tmp_path / "one" / "cell"), "classification")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("path,label,split\n0.jpg,a,valid", "line 2: no such split 'valid'", id="unknown split"),
        pytest.param("path,label,split\n0.jpg,a,", "line 2: no such split ''", id="empty split"),
        pytest.param("path,class\n0.jpg,a", "no column label; got .*class", id="missing column"),
        pytest.param("path;label\n0.jpg;a", "no column path and no column label", id="semicolons"),
        pytest.param("path,label\n0.jpg, ", "line 2: label is empty", id="empty label"),
        pytest.param("path,label\n0.jpg,a\n9.jpg,b", "1 of 2 images do not exist.*9.jpg", id="missing file"),
        pytest.param("path,label\n0.jpg,a\n./0.jpg,b", "0.jpg is listed 2 times", id="listed twice"),
        pytest.param("path,label\n0.jpg", "line 2: other columns", id="short row"),
        pytest.param("path,label\n0.jpg,a,b", "line 2: other columns", id="long row"),
        pytest.param("path,label\n", "no row", id="no row"),
        pytest.param("path,label,split\n0.jpg,a,train\n1.jpg,b,train", "no image in val", id="no val"),
        pytest.param(
            "path,label,split,group\n0.jpg,a,train,g\n1.jpg,b,val,g",
            "1 groups have images in more than one split, e.g. g in train and val",
            id="group in two splits",
        ),
        pytest.param("path,label,group\n0.jpg,a,g\n1.jpg,b,g", "belong to one group, g", id="one group"),
    ],
)
def test_a_csv_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    for i in range(2):
        draw(i, 100).save(tmp_path / f"{i}.jpg")
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        describe(str(tmp_path / "data.csv"), "classification")


def test_a_csv_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes("path,label\nä.jpg,a".encode("latin-1"))
    with pytest.raises(UsageError, match="no CSV in UTF-8"):
        describe(str(tmp_path / "data.csv"), "classification")


def test_other_files_are_no_classification_data(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").touch()
    with pytest.raises(UsageError, match="neither a folder of images nor a CSV"):
        describe(str(tmp_path / "data.yaml"), "classification")


# Unreadable images


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(cut_short, id="cut short"),
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_text("no image"), id="text"),
    ],
)
def test_one_unreadable_image_of_a_hundred_is_left_out_and_two_are_refused(
    tmp_path: Path, spoil: object
) -> None:
    write_folder(tmp_path, {"train/a": 60, "train/b": 20, "val/a": 10, "val/b": 10})
    before = split_sizes(tmp_path)
    spoil(tmp_path / "train/a/007.jpg")  # type: ignore[operator]
    summary = describe_classification(tmp_path)
    assert summary.mended == {"unreadable images left out, e.g. train/a/007.jpg": 1}
    assert {split: counted.images for split, counted in summary.splits.items()} == before | {"train": 79}
    spoil(tmp_path / "train/b/003.jpg")  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"2 of 100 images cannot be read, e\.g\. train/a/007\.jpg: "):
        describe_classification(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_with_more_behind_its_end_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    draw(0, 100).save(file)
    file.write_bytes(file.read_bytes() + bytes(5000))
    assert probe([listed(file)]).problems == {}


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_an_image_cut_short_is_unreadable(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    draw(0, 100, size=(60, 60)).save(file)
    cut_short(file)
    assert probe([listed(file)]).problems.keys() == {file.name}


def test_a_class_whose_only_training_image_is_unreadable_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/a": 120, "train/b": 1, "val/a": 2, "val/b": 2})
    cut_short(tmp_path / "train/b/000.jpg")
    with pytest.raises(UsageError, match="class b has no image in train"):
        describe_classification(tmp_path)


# Decoding


@pytest.mark.parametrize("size", [(20, 14), (300, 200), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_agrees_with_torchvision(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    mode = "L" if channels == 1 else "RGB"
    draw(1, 120, size=size, mode=mode).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        theirs = F.resize(F.pil_to_tensor(image), [32, 32], antialias=True).numpy()
    ours = decode(tmp_path / "a.jpg", 32, channels)
    assert ours.shape == ((32, 32) if channels == 1 else (32, 32, 3))
    assert np.abs(ours.reshape(32, 32, channels).transpose(2, 0, 1).astype(int) - theirs).max() <= 1


def test_the_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8, :8] = 255  # top left
    exif = Image.Exif()
    exif[274] = 6  # shown turned by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 16, 3), np.rot90(pixels, -1))


def test_every_mode_becomes_bytes_of_grey_or_rgb(tmp_path: Path) -> None:
    deep = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", 2, 1), [[0, 1], [128, 255]])
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", 2, 3)[..., 2], [[0, 1], [128, 255]])
    red = Image.new("RGB", (2, 2), (200, 10, 30))
    red.putalpha(128)
    red.save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(decode(tmp_path / "alpha.png", 2, 3)[0, 0], [200, 10, 30])
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 99, 199])
    palette.save(tmp_path / "palette.png", transparency=b"\x00\xff")
    np.testing.assert_array_equal(decode(tmp_path / "palette.png", 2, 3)[0, 0], [9, 99, 199])
    Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(decode(tmp_path / "bits.png", 2, 1), np.full((2, 2), 255))
    Image.new("CMYK", (2, 2), (0, 0, 0, 0)).save(tmp_path / "ink.tif")
    np.testing.assert_array_equal(decode(tmp_path / "ink.tif", 2, 3), np.full((2, 2, 3), 255))
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "float.tif")
    grey = [listed(tmp_path / f"{name}.png") for name in ("deep", "bits")]
    assert probe(grey).grey
    assert not probe([*grey, listed(tmp_path / "palette.png")]).grey
    with pytest.raises(Exception, match="floating-point pixels have no known range"):
        decode(tmp_path / "float.tif", 2, 1)

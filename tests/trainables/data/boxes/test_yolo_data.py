from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from detection_files import write_yolo
from PIL import Image

from spaces.errors import UsageError
from trainables.data.boxes.data_set import describe_detection, load_detection

GOOD = {
    "train": {"a_0": "0 .5 .5 .2 .2\n0 .1 .1 .1 .1", "a_1": "1 .5 .5 .4 .4\n0 .2 .2 .1 .1", "b_0": ""},
    "val": {"c_0": "1 .5 .5 .2 .2"},
}


def test_counts_images_objects_and_sources(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, GOOD)
    (tmp_path / "manifest.csv").write_text(
        "image,source\nimages/train/a_0.png,a\nimages/train/a_1.png,a\nb_0.png,b\nc_0.png,c\n"
    )
    summary = describe_detection(path)
    assert summary.class_names == ("cell", "cluster")
    assert set(summary.splits) == {"train", "val"}
    train = summary.splits["train"]
    assert (train.images, train.sources) == (3, 2)
    assert train.objects == {"cell": 3, "cluster": 1}
    assert train.classes_per_image == (frozenset({0}), frozenset({0, 1}), frozenset())


def test_without_a_manifest_each_image_is_its_own_source(tmp_path: Path) -> None:
    data = load_detection(write_yolo(tmp_path, GOOD))
    names = ["images/train/a_0.png", "images/train/a_1.png", "images/train/b_0.png"]
    assert [image.source for image in data.splits["train"]] == names


def test_a_manifest_may_say_group_and_a_pattern_names_what_it_leaves_out(tmp_path: Path) -> None:
    data_yaml = write_yolo(tmp_path, GOOD, source_pattern=r"(.+)_\d+")
    (tmp_path / "manifest.csv").write_text("image,group\nimages/train/a_0.png,patient 1\n")
    data = load_detection(data_yaml)
    assert [image.source for image in data.splits["train"]] == ["patient 1", "a", "b"]


FOUR_SLIDES = {f"s{slide}_{tile}": "0 .5 .5 .2 .2" for slide in range(4) for tile in range(3)}


def test_without_a_test_split_half_of_val_is_set_aside_by_source(tmp_path: Path) -> None:
    labels = FOUR_SLIDES | {"s0_1": "1 .5 .5 .2 .2", "s2_0": "1 .5 .5 .2 .2", "s2_2": "1 .5 .5 .2 .2"}
    path = write_yolo(tmp_path, {**GOOD, "val": labels}, source_pattern=r"(\w+)_\d")
    data = load_detection(path)
    sources = {split: {image.source for image in data.splits[split]} for split in ("val", "test")}
    assert not sources["val"] & sources["test"]
    assert sources["val"] | sources["test"] == {"s0", "s1", "s2", "s3"}
    summary = describe_detection(path)
    assert summary.test_from_val
    for split in ("val", "test"):
        assert (summary.splits[split].images, summary.splits[split].sources) == (6, 2)
        assert summary.splits[split].objects["cluster"] > 0
    (note,) = summary.notes()
    assert "half of val is set aside as test: 2 of 4 sources, 6 of 12 images" in note


@pytest.mark.parametrize(
    ("splits", "images"),
    [
        pytest.param({"val": GOOD["val"]}, {"train": 3, "val": 1}, id="a val of one source is not halved"),
        pytest.param(
            {"val": FOUR_SLIDES, "test": {"t_0": "1 .5 .5 .2 .2\n0 .1 .1 .1 .1"}},
            {"train": 3, "val": 12, "test": 1},
            id="a test split is left as it is, and val too",
        ),
    ],
)
def test_val_is_halved_only_where_it_must_and_can_be(
    tmp_path: Path, splits: dict[str, dict[str, str]], images: dict[str, int]
) -> None:
    summary = describe_detection(write_yolo(tmp_path, {**GOOD, **splits}))
    assert {split: counted.images for split, counted in summary.splits.items()} == images
    assert not summary.test_from_val
    assert not [note for note in summary.notes() if "set aside" in note]


def test_a_set_in_one_piece_is_cut_by_source(tmp_path: Path) -> None:
    labels = {
        f"s{slide:02}_{tile}": "0 .5 .5 .2 .2\n1 .2 .2 .1 .1" for slide in range(20) for tile in range(2)
    }
    path = write_yolo(tmp_path, {"all": labels}, source_pattern=r"(\w+)_\d")
    summary = describe_detection(path)
    assert {split: counted.sources for split, counted in summary.splits.items()} == {
        "train": 14,
        "val": 3,
        "test": 3,
    }
    assert summary.shared_sources == {}
    assert (summary.one_piece, summary.test_from_val) == (True, False)
    assert summary.notes() == [
        "the data is in one piece; it is split by source image: train 14, val 3, test 3 sources"
    ]


def test_a_source_in_two_splits_is_told_with_an_example(tmp_path: Path) -> None:
    labels = {"train": {"a_0": "0 .5 .5 .2 .2"}, "val": {"a_1": "1 .5 .5 .2 .2"}, "test": {"b_0": ""}}
    summary = describe_detection(write_yolo(tmp_path, labels, source_pattern=r"(\w+)_\d"))
    assert summary.shared_sources == {"a": ("train", "val")}
    warning, *absent = summary.notes()
    assert "warning: sources with images in more than one split: 1, e.g. a in train and val" in warning
    assert absent == ["val has no object of cell", "test has no object of cell"]


def test_one_and_the_same_name_in_two_splits_is_no_shared_source(tmp_path: Path) -> None:
    labels = {split: {"0001": "0 .5 .5 .2 .2"} for split in ("train", "val", "test")}
    assert describe_detection(write_yolo(tmp_path, labels)).shared_sources == {}


def test_reads_list_files_and_names_as_a_mapping(tmp_path: Path) -> None:
    write_yolo(tmp_path, GOOD)
    (tmp_path / "train.txt").write_text("./images/train/a_1.png\nimages/train/a_0.png\n")
    described = {"train": "train.txt", "val": ["images/val"], "names": {0: "cell", 1: "cluster"}, "nc": 2}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(described))
    data = load_detection(tmp_path / "other.yaml")
    assert [image.path.name for image in data.splits["train"]] == ["a_0.png", "a_1.png"]
    assert data.class_names == ("cell", "cluster")


def test_a_polygon_stands_for_its_bounding_box_and_a_repeated_line_counts_once(tmp_path: Path) -> None:
    polygon = "1 .2 .2 .6 .2 .6 .4 .2 .4"
    data = load_detection(write_yolo(tmp_path, {**GOOD, "val": {"c": f"{polygon}\n{polygon}"}}))
    (image,) = data.splits["val"]
    np.testing.assert_allclose(image.boxes, [[0.4, 0.3, 0.4, 0.2]], rtol=1e-6)


def test_image_size_is_height_and_width(tmp_path: Path) -> None:
    data = load_detection(write_yolo(tmp_path, GOOD))
    assert data.splits["val"][0].size == (10, 20)


def relabelled(root: Path) -> None:
    (root / "labels" / "val" / "c_0.txt").write_text("0 .5 .5 .2 .2")


def moved_a_box(root: Path) -> None:
    (root / "labels" / "val" / "c_0.txt").write_text("1 .5 .5 .2 .3")


def repainted(root: Path) -> None:
    Image.effect_noise((20, 10), 50).save(root / "images" / "val" / "c_0.png")


def grouped(root: Path) -> None:
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + "source_pattern: '(.).*'\n")


def swapped(root: Path) -> None:
    described = yaml.safe_load((root / "data.yaml").read_text())
    (root / "data.yaml").write_text(
        yaml.safe_dump(described | {"train": described["val"], "val": described["train"]})
    )


@pytest.mark.parametrize("change", [relabelled, moved_a_box, repainted, grouped, swapped])
def test_the_fingerprint_follows_the_data(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write_yolo(tmp_path, GOOD)
    before = describe_detection(path).fingerprint
    assert describe_detection(path).fingerprint == before
    change(tmp_path)
    assert describe_detection(path).fingerprint != before


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        pytest.param({"train": GOOD["train"]}, {}, "key 'val' is missing", id="no val"),
        pytest.param(GOOD, {"val": "images/nowhere"}, "val: no such folder", id="a folder that is not there"),
        pytest.param({**GOOD, "val": {}}, {}, "val: no image", id="an empty split"),
        pytest.param(GOOD, {"names": None}, "'names' is missing", id="no names"),
        pytest.param(GOOD, {"nc": 3}, "nc is 3", id="nc contradicts names"),
        pytest.param(
            {**GOOD, "val": {"c": "2 .5 .5 .1 .1"}}, {}, "c.txt, line 1: class 2", id="unknown class"
        ),
        pytest.param(
            {**GOOD, "val": {"c": "\n0 .5 .5 .1"}}, {}, "line 2: 'class x y w h'", id="a column short"
        ),
        pytest.param({**GOOD, "val": {"c": "0 50 50 10 10"}}, {}, "fractions", id="pixels"),
        pytest.param({**GOOD, "val": {"c": "0 .5 .5 x .1"}}, {}, "numbers expected", id="no number"),
        pytest.param({**GOOD, "val": {"c": "nan .5 .5 .1 .1"}}, {}, "class nan is none of", id="no class"),
        pytest.param(
            GOOD,
            {"test": "images/val"},
            "data.yaml: 1 images are listed more than once, e.g. .*c_0.png in val and test",
            id="val is test",
        ),
        pytest.param(
            GOOD,
            {"train": ["images/train", "images/train"]},
            "3 images are listed more than once",
            id="a folder twice in a split",
        ),
        pytest.param(GOOD, {"all": "images"}, "either 'all', or splits, got train, val, all", id="too much"),
        pytest.param(
            {"all": GOOD["val"]}, {}, "one source, .*c_0.png, so they cannot be split", id="one image"
        ),
        pytest.param(
            GOOD, {"source_pattern": "(.+)_x"}, r"finds no source in 'a_0', of image", id="no match"
        ),
        pytest.param(GOOD, {"source_pattern": "(x)?.*"}, r"finds no source in 'a_0'", id="an empty match"),
        pytest.param(GOOD, {"source_pattern": ".+"}, "'.\\+' has no group for the source", id="no group"),
        pytest.param(GOOD, {"source_pattern": "(.+"}, "is no regular expression: missing \\)", id="no regex"),
        pytest.param(GOOD, {"source_pattern": 7}, "a regular expression, got 7", id="no text"),
    ],
)
def test_bad_data_is_the_persons_error_and_says_where(
    tmp_path: Path, labels: dict[str, dict[str, str]], more: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        describe_detection(write_yolo(tmp_path, labels, **more))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        describe_detection(tmp_path / "data.yaml")


def test_a_manifest_without_its_columns(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, GOOD)
    (tmp_path / "manifest.csv").write_text("tile,slide\na,b\n")
    with pytest.raises(UsageError, match="columns image and source"):
        describe_detection(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param("a_0.png,a\na_1.png,a\n", "no source for image images/train/b_0.png", id="a row short"),
        pytest.param("a_0.png,a\na_0.png,b\n", "image a_0.png has two sources, a and b", id="two sources"),
    ],
)
def test_a_manifest_that_does_not_name_each_image_once(tmp_path: Path, rows: str, message: str) -> None:
    path = write_yolo(tmp_path, GOOD)
    (tmp_path / "manifest.csv").write_text("image,source\n" + rows)
    with pytest.raises(UsageError, match=message):
        describe_detection(path)

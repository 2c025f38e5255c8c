from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from spaces.errors import UsageError
from trainables.yolo_data import image_size, load_yolo, read_yolo


def write_data(
    root: Path, labels: dict[str, dict[str, str]], names: object = ("cell", "cluster"), **more: object
) -> Path:
    """A data set of 20 x 10 images: split -> image name -> label text; returns its data.yaml."""
    for split, images in labels.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for name, text in images.items():
            Image.new("RGB", (20, 10)).save(root / "images" / split / f"{name}.png")
            (root / "labels" / split / f"{name}.txt").write_text(text)
    described = {split: f"images/{split}" for split in labels} | {
        "names": list(names) if isinstance(names, tuple) else names
    }
    (root / "data.yaml").write_text(yaml.safe_dump(described | more))
    return root / "data.yaml"


GOOD = {
    "train": {"a_0": "0 .5 .5 .2 .2\n0 .1 .1 .1 .1", "a_1": "1 .5 .5 .4 .4\n0 .2 .2 .1 .1", "b_0": ""},
    "val": {"c_0": "1 .5 .5 .2 .2"},
}


def test_counts_images_objects_and_sources(tmp_path: Path) -> None:
    path = write_data(tmp_path, GOOD)
    (tmp_path / "manifest.csv").write_text(
        "image,source\nimages/train/a_0.png,a\nimages/train/a_1.png,a\nb_0.png,b\n"
    )
    summary = read_yolo(path)
    assert summary.class_names == ("cell", "cluster")
    assert set(summary.splits) == {"train", "val"}
    train = summary.splits["train"]
    assert (train.images, train.sources) == (3, 2)
    assert train.objects == {"cell": 3, "cluster": 1}
    assert train.classes_per_image == (frozenset({0}), frozenset({0, 1}), frozenset())


def test_without_a_manifest_each_image_is_its_own_source(tmp_path: Path) -> None:
    data = load_yolo(write_data(tmp_path, GOOD))
    assert [image.source for image in data.splits["train"]] == ["a_0", "a_1", "b_0"]


def test_reads_list_files_and_names_as_a_mapping(tmp_path: Path) -> None:
    write_data(tmp_path, GOOD)
    (tmp_path / "train.txt").write_text("./images/train/a_1.png\nimages/train/a_0.png\n")
    described = {"train": "train.txt", "val": ["images/val"], "names": {0: "cell", 1: "cluster"}, "nc": 2}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(described))
    data = load_yolo(tmp_path / "other.yaml")
    assert [image.path.name for image in data.splits["train"]] == ["a_0.png", "a_1.png"]
    assert data.class_names == ("cell", "cluster")


def test_a_polygon_stands_for_its_bounding_box_and_a_repeated_line_counts_once(tmp_path: Path) -> None:
    polygon = "1 .2 .2 .6 .2 .6 .4 .2 .4"
    data = load_yolo(write_data(tmp_path, {**GOOD, "val": {"c": f"{polygon}\n{polygon}"}}))
    (image,) = data.splits["val"]
    np.testing.assert_allclose(image.boxes, [[0.4, 0.3, 0.4, 0.2]], rtol=1e-6)


def test_image_size_is_height_and_width(tmp_path: Path) -> None:
    data = load_yolo(write_data(tmp_path, GOOD))
    assert image_size(data.splits["val"][0].path) == (10, 20)


def test_the_fingerprint_follows_the_labels(tmp_path: Path) -> None:
    path = write_data(tmp_path, GOOD)
    before = read_yolo(path).fingerprint
    assert read_yolo(path).fingerprint == before
    (tmp_path / "labels" / "val" / "c_0.txt").write_text("0 .5 .5 .2 .2")
    assert read_yolo(path).fingerprint != before


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
    ],
)
def test_bad_data_is_the_persons_error_and_says_where(
    tmp_path: Path, labels: dict[str, dict[str, str]], more: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_yolo(write_data(tmp_path, labels, **more))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_yolo(tmp_path / "data.yaml")


def test_a_manifest_without_its_columns(tmp_path: Path) -> None:
    path = write_data(tmp_path, GOOD)
    (tmp_path / "manifest.csv").write_text("tile,slide\na,b\n")
    with pytest.raises(UsageError, match="columns image and source"):
        read_yolo(path)

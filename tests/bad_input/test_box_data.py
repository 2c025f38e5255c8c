"""Detection data that no study can be made of."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from detection_files import CATEGORIES, coco, rewrite, write_coco, write_yolo
from refusals import refused

LINE = "0 0.5 0.5 0.2 0.2\n"
RARE = "1 0.5 0.5 0.2 0.2\n"
STUDY = {
    "name": "boxes",
    "task": "detection",
    "data": "data.yaml",
    "minority": ["cluster"],
    "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "steps": 2, "eval_every": 1},
}
Damage = Callable[[Path], Any]


def checked(root: Path, data: Path, capsys: pytest.CaptureFixture[str], says: str) -> None:
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY | {"data": str(data.relative_to(root))}))
    refused(["check", str(root / "study.yaml")], root, capsys, says)


def label(content: str | bytes) -> Damage:
    """Replaces the label of the first training image."""
    text = content.encode() if isinstance(content, str) else content
    return lambda root: (root / "labels/train/a.txt").write_bytes(text)


def described(**changes: object) -> Damage:
    """Changes keys of the data.yaml; None takes one away."""

    def change(root: Path) -> None:
        file = root / "data.yaml"
        keys = yaml.safe_load(file.read_text()) | changes
        file.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}))

    return change


def data_yaml(content: str | bytes) -> Damage:
    text = content.encode() if isinstance(content, str) else content
    return lambda root: (root / "data.yaml").write_bytes(text)


def a_pipe(name: str) -> Damage:
    def replace(root: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return replace


def image(content: bytes) -> Damage:
    return lambda root: (root / "images/train/a.png").write_bytes(content)


def a_list(content: str | bytes) -> Damage:
    """The training images come from a list file."""
    text = content.encode() if isinstance(content, str) else content

    def change(root: Path) -> None:
        (root / "list.txt").write_bytes(text)
        described(train="list.txt")(root)

    return change


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(label("0 0.5 0.5 0.2\n"), "a.txt, line 1", id="a label of four numbers"),
        pytest.param(
            label("0 0.5 nan 0.2 0.2\n"), "coordinates are fractions", id="a coordinate that is nan"
        ),
        pytest.param(
            label("0 0.5 1e400 0.2 0.2\n"), "coordinates are fractions", id="an infinite coordinate"
        ),
        pytest.param(label("0 10 10 40 40\n"), "coordinates are fractions", id="coordinates in pixels"),
        pytest.param(label("0 0.5 0.5 0 0.2\n"), "sizes above 0", id="a box without width"),
        pytest.param(label("2 0.5 0.5 0.2 0.2\n"), "class 2 is none of 0..1", id="a class out of range"),
        pytest.param(label("-1 0.5 0.5 0.2 0.2\n"), "class -1", id="a negative class"),
        pytest.param(label("nan 0.5 0.5 0.2 0.2\n"), "class nan", id="a class that is nan"),
        pytest.param(label("0.5 0.5 0.5 0.2 0.2\n"), "class 0.5", id="half a class"),
        pytest.param(label("cell 0.5 0.5 0.2 0.2\n"), "numbers expected", id="a class by name"),
        pytest.param(label("0 0.5 0.5 0.2 0.2 " * 1_000_000), "line 1", id="a label line of 18 MB"),
        pytest.param(label(b"\xff\xfe\x00\x1b[31m" * 9), "numbers expected", id="a binary label"),
        pytest.param(label("0 ½ 0.5 0.2 0.2\n".encode("latin-1")), "numbers expected", id="a latin-1 label"),
        pytest.param(a_pipe("labels/train/a.txt"), "a.txt", id="a label that is a pipe"),
        pytest.param(a_pipe("images/train/a.png"), "image", id="an image that is a pipe"),
        pytest.param(image(b""), "a.png", id="an empty image"),
        pytest.param(image(b"\x89PNG\r\n\x1a\n"), "a.png", id="an image that is cut off"),
        pytest.param(image(b"not a picture"), "a.png", id="an image that is text"),
        pytest.param(data_yaml(""), "a mapping with", id="an empty data.yaml"),
        pytest.param(data_yaml("[train, val]"), "a mapping with", id="a data.yaml that is a list"),
        pytest.param(data_yaml("a: &a [*a]"), "yaml", id="a circle of aliases"),
        pytest.param(
            data_yaml(
                "a: &a [x,x]\n"
                + "".join(
                    f"{n}: &{n} [{','.join(['*' + m] * 9)}]\n"
                    for m, n in zip("abcdefghi", "bcdefghij", strict=True)
                )
                + "names: *j\ntrain: x\nval: x\n"
            ),
            "yaml",
            id="an alias bomb as names",
        ),
        pytest.param(described(nc=int("9" * 4000)), "nc", id="a number of classes of 4,000 digits"),
        pytest.param(data_yaml("nc: " + "9" * 5000), "digits", id="a number of 5,000 digits"),
        pytest.param(data_yaml("? [a]\n: b"), "yaml", id="a list as a key of the data.yaml"),
        pytest.param(a_pipe("data.yaml"), "data.yaml", id="a data.yaml that is a pipe"),
        pytest.param(described(names=None), "names", id="no names"),
        pytest.param(described(names=["cell", "cell"]), "each class needs its own name", id="a name twice"),
        pytest.param(described(names={1: "cell", 2: "cluster"}), "ids must run from 0", id="ids from 1"),
        pytest.param(described(names={"a": "cell"}), "ids must run from 0", id="ids that are words"),
        pytest.param(described(names="cell"), "names", id="names that are a word"),
        pytest.param(
            described(names=["cell", "cluster", "\x1b[31mred"]),
            "control character",
            id="terminal escapes in a name",
        ),
        pytest.param(described(names=["cell", ["cluster"]]), "names", id="a name that is a list"),
        pytest.param(described(nc=3), "nc is 3", id="another number of classes"),
        pytest.param(described(train=None), "'train' is missing", id="no training images"),
        pytest.param(described(train="nowhere"), "no such folder", id="a folder that is not there"),
        pytest.param(described(train=7), "no such folder", id="a folder that is a number"),
        pytest.param(described(train={"a": "b"}), "train", id="a folder that is a mapping"),
        pytest.param(described(train="images/train\0"), "control character", id="NUL in a folder's name"),
        pytest.param(described(train="images/val"), "listed more than once", id="train and val are one"),
        pytest.param(described(path="x" * 5000), "no path", id="a path of 5,000 letters"),
        pytest.param(
            a_list("images/train/a.png\nimages/train/gone.png\n"),
            "do not exist",
            id="a listed image is missing",
        ),
        pytest.param(a_list("images/train/\xe9.png\n".encode("latin-1")), "list.txt", id="a latin-1 list"),
        pytest.param(a_list("images/train/a.png\0\n"), "list.txt", id="NUL in a list"),
        pytest.param(a_list(""), "no image in", id="an empty list"),
        pytest.param(described(source_pattern="("), "source_pattern", id="a source pattern that is none"),
        pytest.param(described(source_pattern=7), "source_pattern", id="a source pattern that is a number"),
    ],
)
def test_yolo(damage: Damage, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"train": {"a": LINE + RARE, "b": LINE}, "val": {"c": LINE + RARE, "d": LINE}}
    data = write_yolo(tmp_path, labels)
    damage(tmp_path)
    checked(tmp_path, data, capsys, says)


def of(kind: str, **changes: object) -> Callable[[Any], None]:
    """Changes the first image, annotation or category."""
    return lambda stored: stored[kind][0].update(changes)


def without(kind: str, key: str) -> Callable[[Any], None]:
    def change(stored: Any) -> None:
        del stored[kind][0][key]

    return change


def text(content: str | bytes) -> Damage:
    return lambda file: file.write_bytes(content.encode() if isinstance(content, str) else content)


SLIDES = {f"s{i}_x0_y0.png": [(7, [4, 2, 8, 4]), (90, [20, 10, 10, 10])] for i in range(12)}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda stored: [], "coco", id="a list"),
        pytest.param(lambda stored: {}, "lists of images", id="an empty mapping"),
        pytest.param(lambda stored: stored | {"images": {}}, "images", id="images that are a mapping"),
        pytest.param(lambda stored: stored | {"images": [7]}, "images", id="an image that is a number"),
        pytest.param(
            lambda stored: stored | {"annotations": None}, "annotations", id="annotations that are null"
        ),
        pytest.param(lambda stored: stored | {"categories": []}, "categor", id="no categories"),
        pytest.param(of("images", id=[]), "id", id="an image's id is a list"),
        pytest.param(of("categories", id={}), "id", id="a category's id is a mapping"),
        pytest.param(of("annotations", image_id=[]), "image_id", id="an annotation's image is a list"),
        pytest.param(of("annotations", category_id=[]), "category", id="an annotation's category is a list"),
        pytest.param(of("annotations", image_id=999), "999", id="an annotation of no image"),
        pytest.param(of("annotations", category_id=999), "999", id="an annotation of no category"),
        pytest.param(of("annotations", bbox=[1, 2, 3]), "bbox", id="a box of three numbers"),
        pytest.param(of("annotations", bbox="1 2 3 4"), "bbox", id="a box that is a word"),
        pytest.param(of("annotations", bbox=[1, 2, float("nan"), 4]), "bbox", id="a box that is nan"),
        pytest.param(of("annotations", bbox=[1, 2, None, 4]), "bbox", id="a box with null"),
        pytest.param(of("images", file_name=7), "file_name", id="a file name that is a number"),
        pytest.param(of("images", file_name="a\0.png"), "file_name", id="NUL in a file name"),
        pytest.param(of("images", file_name="gone.png"), "gone.png", id="an image that is not there"),
        pytest.param(of("images", width=0), "the file says 0 x 20", id="an image without width"),
        pytest.param(of("images", width="wide"), "width", id="a width that is a word"),
        pytest.param(without("images", "id"), "id", id="an image without an id"),
        pytest.param(without("annotations", "bbox"), "bbox", id="an annotation without a box"),
        pytest.param(of("categories", name="cluster\x1b[2J"), "control", id="terminal escapes in a category"),
        pytest.param(of("categories", name=["cluster"]), "name", id="a category's name is a list"),
        pytest.param(of("categories", id=7), "id", id="two categories of one id"),
        pytest.param(lambda stored: stored | {"images": stored["images"] * 2}, "id", id="every image twice"),
    ],
)
def test_coco(
    change: Callable[[Any], Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_coco(tmp_path, "all.json", coco(SLIDES, CATEGORIES))
    rewrite(data, change)
    checked(tmp_path, data, capsys, says)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "json", id="empty"),
        pytest.param('{"images": [', "json", id="cut off"),
        pytest.param("[" * 100_000, "json", id="nested 100,000 times"),
        pytest.param('{"images": ' + "9" * 5000 + "}", "json", id="an integer of 5,000 digits"),
        pytest.param(b'{"images": "\xe9"}', "json", id="latin-1"),
    ],
)
def test_a_coco_json_that_is_none(
    content: str | bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "all.json"
    text(content)(data)
    checked(tmp_path, data, capsys, says)


def test_json_is_what_python_writes() -> None:
    assert json.dumps(float("nan")) == "NaN"  # so the box that is nan above is one as it is met

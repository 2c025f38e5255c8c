"""Classification data that no study can be made of."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from drawn_images import write_folder
from refusals import refused

STUDY = {
    "name": "images",
    "task": "classification",
    "data": "data",
    "minority": ["crack"],
    "train": {"model": "small_cnn", "imgsz": 32, "steps": 2, "eval_every": 1},
}
COUNTS = {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in ("crack", "fine")}


def checked(
    root: Path, data: str, capsys: pytest.CaptureFixture[str], says: str, minority: str = "crack"
) -> None:
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY | {"data": data, "minority": [minority]}))
    refused(["check", str(root / "study.yaml")], root, capsys, says)


def a_pipe(root: Path) -> None:
    (root / "train/crack/000.jpg").unlink()
    os.mkfifo(root / "train/crack/000.jpg")


def all_cut(root: Path) -> None:
    for file in root.rglob("*.jpg"):
        file.write_bytes(file.read_bytes()[:200])


def no_crack(root: Path) -> None:
    for file in (root / "train/crack").iterdir():
        file.unlink()


def one_class(root: Path) -> None:
    for split in ("train", "val", "test"):
        (root / split / "fine").rename(root / f"was_{split}")
        for file in (root / f"was_{split}").iterdir():
            file.unlink()
        (root / f"was_{split}").rmdir()


def a_steering_name(root: Path) -> None:
    for split in ("train", "val", "test"):
        (root / split / "crack").rename(root / split / "crack\x1b[2J")


def empty(root: Path) -> None:
    for file in sorted(root.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(a_pipe, "000.jpg", id="an image that is a pipe"),
        pytest.param(all_cut, "cannot be read", id="every image is cut off"),
        pytest.param(no_crack, "crack", id="a class without images"),
        pytest.param(one_class, "class", id="one class"),
        pytest.param(a_steering_name, "control", id="terminal escapes in a class"),
        pytest.param(empty, "data", id="an empty folder"),
    ],
)
def test_a_folder(
    damage: Callable[[Path], None], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(write_folder(tmp_path / "data", COUNTS))
    checked(tmp_path, "data", capsys, says)


HEAD = "path,label,split\n"
ROWS = "".join(
    f"{split}/{name}/{i:03}.jpg,{name},{split}\n"
    for split in ("train", "val", "test")
    for name in ("crack", "fine")
    for i in range(4)
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "csv", id="empty"),
        pytest.param(HEAD, "csv", id="a header alone"),
        pytest.param("a,b,c\n1,2,3\n", "column", id="other columns"),
        pytest.param(HEAD + ROWS + "gone.jpg,crack,train\n", "gone.jpg", id="an image that is not there"),
        pytest.param(HEAD + ROWS + "train/crack/000.jpg,crack,val\n", "000.jpg", id="an image twice"),
        pytest.param(HEAD + ROWS + "train/crack/000.jpg\n", "line", id="a row that is too short"),
        pytest.param(HEAD + ROWS + "a\0.jpg,crack,train\n", "csv", id="NUL in a path"),
        pytest.param((HEAD + ROWS + "\xe9.jpg,crack,train\n").encode("latin-1"), "utf-8", id="latin-1"),
        pytest.param(
            HEAD + ROWS + f"{'x' * 200_000}.jpg,crack,train\n",
            "field larger than",
            id="a field of 200,000 letters",
        ),
        pytest.param(HEAD + ROWS.replace(",train", ",practice"), "practice", id="no such split"),
        pytest.param(HEAD + ROWS.replace(",crack,", ",,"), "label", id="labels that are empty"),
    ],
)
def test_a_csv(content: str | bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "data", COUNTS)
    (root / "list.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    checked(tmp_path, "data/list.csv", capsys, says)

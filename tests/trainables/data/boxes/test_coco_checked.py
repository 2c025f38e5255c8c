"""What is said of COCO files: what is wrong with one, and by `rarecall check` how its splits came about."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from detection_files import SLIDES, coco, rewrite, write_coco, write_splits

from search.cli.main import main
from spaces.errors import UsageError
from trainables.data.boxes.data_set import describe_detection


def first(part: str, **fields: Any) -> Callable[[Any], None]:
    """Change fields of a part's first entry; None takes a field away."""

    def change(stored: Any) -> None:
        entry = stored[part][0]
        for key, value in fields.items():
            if value is None:
                del entry[key]
            else:
                entry[key] = value

    return change


def twice(part: str, **fields: Any) -> Callable[[Any], None]:
    """Repeat a part's first entry, with other fields."""
    return lambda stored: stored[part].append(stored[part][0] | fields)


def without(part: str) -> Callable[[Any], None]:
    return lambda stored: stored.pop(part) and None


BAD = [
    pytest.param(lambda stored: stored["annotations"], "needed, got list", id="a list of results"),
    pytest.param(without("images"), "needed, got annotations, categories", id="no images"),
    pytest.param(without("annotations"), "needed, got images, categories", id="no annotations"),
    pytest.param(lambda stored: stored | {"images": []}, "images: the list is empty", id="an empty list"),
    pytest.param(twice("images"), "images: id 0 is there twice", id="an image id twice"),
    pytest.param(
        twice("images", id=5), "1 images are listed more than once, e.g. .*d.png", id="a file twice"
    ),
    pytest.param(first("images", file_name=None), "id or file_name is missing", id="no file name"),
    pytest.param(
        first("images", file_name="x.png"), "1 of 1 images do not exist, e.g. .*x.png", id="no file"
    ),
    pytest.param(
        first("images", width=20, height=40),
        "image id 0: .*d.png has 40 x 20 pixels, the file says 20 x 40",
        id="an image turned",
    ),
    pytest.param(
        first("annotations", image_id=3), "annotation id 0: no such image_id: 3", id="no such image"
    ),
    pytest.param(first("annotations", image_id=[0]), r"no such image_id: \[0\]", id="a list for an image id"),
    pytest.param(
        first("annotations", category_id=8), "annotation id 0: no such category_id: 8", id="no such category"
    ),
    pytest.param(
        first("annotations", bbox=[1, 2, 3]),
        r"annotation id 0: bbox: \[x, y, width, height\] in pixels expected, got \[1, 2, 3\]",
        id="a bbox of three numbers",
    ),
    pytest.param(first("annotations", bbox=None), "got None", id="no bbox"),
    pytest.param(first("annotations", bbox=[1, 2, "3", 4]), "got .1, 2, '3', 4.", id="a text in a bbox"),
    pytest.param(
        first("annotations", bbox=[1, 2, float("nan"), 4]), "got .1, 2, nan, 4.", id="nan in a bbox"
    ),
    pytest.param(first("annotations", bbox=[9, 9, -2, 4]), "got .9, 9, -2, 4.", id="a negative width"),
    pytest.param(
        first("annotations", bbox=[40, 2, 3, 4]),
        r"annotation id 0: bbox \[40, 2, 3, 4\] lies outside its image, 40 x 20",
        id="a box outside",
    ),
    pytest.param(first("categories", id="cell"), "a whole number as its id", id="a text as category id"),
    pytest.param(first("categories", name="cell"), "a name of its own", id="a category name twice"),
    pytest.param(
        first("categories", name="debris"),
        "val.json: categories cell, debris, but .*train.json has cell, cluster",
        id="other categories than train",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_file_is_the_persons_error_and_says_where(
    tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    path = write_splits(tmp_path)
    rewrite(tmp_path / "val" / "val.json", change)
    with pytest.raises(UsageError, match=message):
        describe_detection(path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param({"val": "val/no.json"}, "val: no such COCO json: .*no.json", id="no such file"),
        pytest.param({"val": "val"}, "val: no such COCO json: .*val", id="a folder beside a json"),
        pytest.param({"images": "nowhere"}, "images: no such folder for train: nowhere", id="no such folder"),
        pytest.param(
            {"images": {"train": "train"}}, "images: no such folder for val: None", id="no folder for val"
        ),
        pytest.param(
            {"names": ["cluster", "cell"]}, "has categories cell, cluster", id="names in another order"
        ),
    ],
)
def test_a_bad_data_yaml_is_the_persons_error(tmp_path: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        describe_detection(write_splits(tmp_path, **more))


STUDY = {
    "name": "s",
    "task": "detection",
    "minority": ["cluster"],
    "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 4, "eval_every": 2},
    "objectives": ["minority_recall", "map50_95"],
    "space": "detection",
}


def check(root: Path, data: str, *arguments: str) -> int:
    """`rarecall check` of a study on `data`."""
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY | {"data": data}))
    return main(["check", str(root / "study.yaml"), *arguments])


def test_check_tells_how_the_splits_came_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path, "instances.json", coco(SLIDES))
    assert check(tmp_path, "instances.json") == 0
    assert "it is split by source image: train 28, val 6, test 6 sources" in capsys.readouterr().out
    assert check(tmp_path, "instances.json", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sources"] == {"train": 28, "val": 6, "test": 6}
    assert (shown["one_piece"], shown["test_from_val"]) == (True, False)
    assert (shown["shared_sources"], shown["mended"]) == ({}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "no valid json", id="no json"),
        pytest.param("\x00\udcff", "no valid json", id="no text"),
        pytest.param("[1]", "no COCO instances file: lists of images, annotations, categories", id="no COCO"),
    ],
)
def test_a_json_that_is_not_coco_is_one_message_and_exit_code_2(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "instances.json").write_text(text, errors="surrogateescape")
    assert check(tmp_path, "instances.json") == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"rarecall: study.yaml: {tmp_path / 'instances.json'}: {message}")
    assert said.out == ""

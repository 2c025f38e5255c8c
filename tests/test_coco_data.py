"""COCO instance files, against pycocotools and against the same data in YOLO's layout."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from search.cli import main
from spaces.errors import UsageError
from spaces.strategy import BASELINE
from trainables.detection_data import describe_detection, load_detection
from trainables.run import run_trial
from trainables.trial import DataSpec, TrainSpec, TrialFolder, TrialReport, TrialSpec
from trainables.yolo_data import YoloImage, image_size

CATEGORIES = {7: "cell", 90: "cluster"}  # ids are sparse
Boxes = list[tuple[int, list[float]]]  # category, x, y, width, height


def coco(images: dict[str, Boxes], categories: dict[int, str] = CATEGORIES) -> dict[str, Any]:
    """File name -> boxes, as an instances file; ids start at 0, images and annotations last to first."""
    files = list(images)
    annotations = [
        {"image_id": 10 * i, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
        for i, file in enumerate(files)
        for category, bbox in images[file]
    ]
    return {
        "images": [
            {"id": 10 * i, "file_name": file, "width": 40, "height": 20} for i, file in enumerate(files)
        ][::-1],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations)][::-1],
        "categories": [{"id": i, "name": name} for i, name in reversed(categories.items())],
    }


def write_coco(folder: Path, name: str, stored: Any) -> Path:
    """A file with its images, 40 x 20 pixels, beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in stored["images"]:
        Image.new("RGB", (40, 20)).save(folder / entry["file_name"])
    (folder / name).write_text(json.dumps(stored))
    return folder / name


TRAIN = {
    "a.png": [(7, [4, 2, 8, 4]), (90, [20, 10, 10, 10])],
    "b.png": [(7, [0, 0, 4, 2])],
    "c.png": [],
}
VAL: dict[str, Boxes] = {"d.png": [(90, [10, 5, 20, 10])]}


def write_splits(root: Path, **more: object) -> Path:
    """A data.yaml of two COCO files in folders of their own."""
    write_coco(root / "train", "train.json", coco(TRAIN))
    write_coco(root / "val", "val.json", coco(VAL))
    described = {"train": "train/train.json", "val": "val/val.json"}
    (root / "data.yaml").write_text(yaml.safe_dump(described | more))
    return root / "data.yaml"


def rewrite(file: Path, change: Callable[[Any], Any]) -> None:
    """Change what is stored in a json; `change` works in place, or returns what to store instead."""
    stored = json.loads(file.read_text())
    changed = change(stored)
    file.write_text(json.dumps(stored if changed is None else changed))


def test_boxes_are_fractions_and_classes_follow_the_order_of_the_ids(tmp_path: Path) -> None:
    data = load_detection(write_splits(tmp_path))
    assert data.class_names == ("cell", "cluster")
    a, b, c = data.splits["train"]
    assert [image.path.name for image in (a, b, c)] == ["a.png", "b.png", "c.png"]
    assert [image.source for image in (a, c)] == ["train/a.png", "train/c.png"]
    assert a.path.is_absolute()
    assert a.classes.tolist() == [1, 0]
    np.testing.assert_allclose(a.boxes, [[25 / 40, 15 / 20, 10 / 40, 10 / 20], [0.2, 0.2, 0.2, 0.2]])
    assert (c.classes.shape, c.boxes.shape) == ((0,), (0, 4))
    summary = describe_detection(tmp_path / "data.yaml")
    assert summary.splits["train"].objects == {"cell": 2, "cluster": 1}
    assert (summary.mended, summary.notes()) == ({}, ["val has no object of cell"])


def random_coco(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    images: dict[str, Boxes] = {}
    for i in range(12):
        corners = rng.uniform(0, [30, 15], (int(rng.integers(0, 5)), 2)).round(2)
        images[f"{i}.png"] = [
            (int(rng.choice(list(CATEGORIES))), [x, y, *rng.uniform(1, 5, 2).round(2)])
            for x, y in corners.tolist()
        ]
    return coco(images)


def corners(image: YoloImage) -> np.ndarray:
    """Class, x, y, width, height in pixels; (n, 5), sorted."""
    height, width = image_size(image.path)
    boxes = image.boxes * [width, height, width, height]
    rows = np.column_stack([image.classes, boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_reads_the_same_boxes(tmp_path: Path, seed: int) -> None:
    path = write_coco(tmp_path, "instances.json", random_coco(seed))
    data = load_detection(path)
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(path))
    class_of = {category: i for i, category in enumerate(sorted(oracle.getCatIds()))}
    ours = {image.path.name: image for images in data.splits.values() for image in images}
    assert len(ours) == len(oracle.getImgIds()) == 12
    for entry in oracle.loadImgs(oracle.getImgIds()):
        found = oracle.loadAnns(oracle.getAnnIds(imgIds=entry["id"]))
        rows = np.array([[class_of[one["category_id"]], *one["bbox"]] for one in found]).reshape(-1, 5)
        np.testing.assert_allclose(corners(ours[entry["file_name"]]), rows[np.lexsort(rows.T)], atol=2e-5)


def test_what_is_no_object_is_left_out_and_what_reaches_over_the_edge_is_clipped(tmp_path: Path) -> None:
    path = write_splits(tmp_path)
    boxes = [
        {"bbox": [0, 0, 40, 20], "iscrowd": 1},
        {"bbox": [4, 4, 0, 5]},
        {"bbox": [4, 4, 5, 0.0]},
        {"bbox": [1, 1, 2, 2]},
        {"bbox": [1, 1, 2, 2]},
        {"bbox": [-10, 10, 20, 40]},
        {"bbox": [39, 19, 1.5, 1]},  # half a pixel is rounding
    ]
    annotations = [{"id": i, "image_id": 0, "category_id": 7} | box for i, box in enumerate(boxes)]
    rewrite(tmp_path / "val" / "val.json", lambda stored: stored | {"annotations": annotations})
    (image,) = load_detection(path).splits["val"]
    assert sorted(map(tuple, corners(image)[:, 1:].round(4).tolist())) == [
        (0, 10, 10, 10),
        (1, 1, 2, 2),
        (39, 19, 1, 1),
    ]
    summary = describe_detection(path)
    assert summary.mended == {
        "crowd regions left out": 1,
        "boxes without an area left out": 2,
        "repeated annotations left out": 1,
        "boxes clipped to their image": 1,
    }
    assert "2 boxes without an area left out" in summary.notes()


def test_images_may_lie_in_folders_of_their_own_and_in_several_files(tmp_path: Path) -> None:
    for folder, name, stored in (
        ("pictures", "one.json", TRAIN),
        ("pictures", "two.json", {"e.png": []}),
        ("pictures/of_val", "val.json", VAL),
    ):
        write_coco(tmp_path / folder, name, coco(stored)).rename(tmp_path / name)
    root = tmp_path / "yaml"
    root.mkdir()
    described = {
        "path": "..",
        "train": ["one.json", "two.json"],
        "val": "val.json",
        "images": {"train": "pictures", "val": "pictures/of_val"},
    }
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    splits = load_detection(root / "data.yaml").splits
    assert [image.path.name for image in splits["train"]] == ["a.png", "b.png", "c.png", "e.png"]
    assert [image.path.name for image in splits["val"]] == ["d.png"]


def test_splits_may_number_the_same_categories_differently(tmp_path: Path) -> None:
    path = write_splits(tmp_path)
    other = {1: "cluster", 2: "cell"}
    write_coco(tmp_path / "val", "val.json", coco({"d.png": [(1, [10, 5, 20, 10])]}, other))
    (image,) = load_detection(path).splits["val"]
    assert image.classes.tolist() == [1]


SLIDES = {
    f"s{slide:02}_x{tile}_y0.png": [(7, [4, 2, 8, 4])] + [(90, [20, 10, 10, 10])] * (slide < 10 and tile == 0)
    for slide in range(20)
    for tile in range(2)
}


def slide_field(stored: Any) -> None:
    for entry in stored["images"]:
        entry["source"] = entry["file_name"][:3]


def group_field(stored: Any) -> None:
    for entry in stored["images"]:
        entry["group"] = int(entry["file_name"][1:3])


@pytest.mark.parametrize("change", [slide_field, group_field])
def test_a_file_without_splits_is_cut_by_the_source_of_its_entries(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    path = write_coco(tmp_path, "instances.json", coco(SLIDES))
    rewrite(path, change)
    summary = describe_detection(path)
    assert summary.one_piece
    assert summary.shared_sources == {}
    counted = {split: (found.sources, found.images) for split, found in summary.splits.items()}
    assert counted == {"train": (14, 28), "val": (3, 6), "test": (3, 6)}
    assert {split: found.objects["cluster"] for split, found in summary.splits.items()} == {
        "train": 7,
        "val": 2,
        "test": 1,
    }


def test_a_file_without_splits_may_have_a_pattern_for_its_sources(tmp_path: Path) -> None:
    write_coco(tmp_path / "pictures", "instances.json", coco(SLIDES)).rename(tmp_path / "instances.json")
    described = {"all": "instances.json", "images": "pictures", "source_pattern": r"(.+)_x\d+_y\d+"}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(described))
    summary = describe_detection(tmp_path / "data.yaml")
    assert [found.sources for found in summary.splits.values()] == [14, 3, 3]


def test_the_order_of_a_file_changes_nothing(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "instances.json", coco(SLIDES))
    before = describe_detection(path)
    rewrite(path, lambda stored: stored | {"images": stored["images"][::-1]})
    assert describe_detection(path) == before


def test_the_fingerprint_follows_annotations_and_sources(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "instances.json", coco(SLIDES))
    prints = [describe_detection(path).fingerprint]
    rewrite(path, lambda stored: stored["annotations"][0].update(bbox=[4, 2, 8, 5]))
    prints.append(describe_detection(path).fingerprint)
    rewrite(path, slide_field)
    prints.append(describe_detection(path).fingerprint)
    assert len(set(prints)) == 3


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


def as_yolo(file: Path, split: str, root: Path) -> None:
    """Write a COCO file's images and boxes in YOLO's layout."""
    (root / "labels" / split).mkdir(parents=True)
    shutil.copytree(file.parent, root / "images" / split)
    stored = json.loads(file.read_text())
    index = {category: i for i, category in enumerate(sorted(CATEGORIES))}
    for entry in stored["images"]:
        lines = []
        for one in stored["annotations"]:
            if one["image_id"] == entry["id"]:
                x, y, width, height = one["bbox"]
                box = (x + width / 2) / 64, (y + height / 2) / 64, width / 64, height / 64
                lines.append(" ".join(map(str, (index[one["category_id"]], *box))))
        (root / "labels" / split / f"{Path(entry['file_name']).stem}.txt").write_text("\n".join(lines))


@pytest.mark.slow
def test_a_detector_learns_the_same_from_coco_and_from_yolo(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images: dict[str, Boxes] = {}
        (tmp_path / split).mkdir()
        for i in range(12):
            pixels = rng.integers(100, 140, (64, 64, 3)).astype(np.uint8)
            boxes = [(7, [int(v) for v in rng.integers(0, 50, 2)] + [10, 10])]
            boxes += [(90, [int(v) for v in rng.integers(0, 30, 2)] + [28, 28])] * (i % 3 == 0)
            for category, (x, y, width, height) in boxes:
                pixels[y : y + height, x : x + width] = 20 if category == 7 else 240
            Image.fromarray(pixels).save(tmp_path / split / f"{split}{i}.png")
            images[f"{split}{i}.png"] = boxes
        stored = coco(images)
        for entry in stored["images"]:
            entry |= {"width": 64, "height": 64}
        (tmp_path / split / "coco.json").write_text(json.dumps(stored))
        as_yolo(tmp_path / split / "coco.json", split, tmp_path / "yolo")
    coco_yaml, yolo_yaml = tmp_path / "data.yaml", tmp_path / "yolo" / "data.yaml"
    coco_yaml.write_text(yaml.safe_dump({"train": "train/coco.json", "val": "val/coco.json"}))
    yolo_yaml.write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": list(CATEGORIES.values())})
    )
    reports = []
    for data in (coco_yaml, yolo_yaml):
        spec = TrialSpec.model_validate(
            {
                "task": "detection",
                "strategy": BASELINE,
                "data": DataSpec(source=str(data), minority=("cluster",)),
                "train": TrainSpec.model_validate(STUDY["train"]),
                "seed": 0,
                "split": "test",
            }
        )
        root = tmp_path / f"run{len(reports)}"
        root.mkdir()
        report = run_trial(spec, TrialFolder(root=root), lambda measured: None)
        assert isinstance(report, TrialReport), report
        reports.append(report)
    assert reports[0].metrics == reports[1].metrics
    assert reports[0].applied == reports[1].applied
    assert reports[0].curve == reports[1].curve

"""A detector's `predict.py` finds, without rarecall, what its run has measured: boxes, scores, recall."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import alone, bundle_of, found_by
from same_boxes import Rows, assert_same_boxes, coco_rows
from tiled_data import draw_tiled
from tiny_detector import draw_tiles, tiny_spec
from trials import report_of

import trainables
from search.cli.main import main
from search.export.contents.carried import CARRIED
from search.export.contents.converting import convert
from trainables.contract.predictions import DetectionPredictions, load_predictions
from trainables.contract.trial import TrialReport
from trainables.evaluation.matching import match

TRAIN = {"steps": 120, "eval_every": 60, "lr": 0.01}


def stored(file: Path) -> DetectionPredictions:
    found = load_predictions(file)
    assert isinstance(found, DetectionPredictions)
    assert found.shipped is not None
    assert len(found.shipped.image) > 0
    return found


def rows_of(predictions: DetectionPredictions, i: int) -> Rows:
    """(n, 6) class id, score, xyxy of what ships, on an image."""
    shipped = predictions.shipped
    assert shipped is not None
    mine = shipped.image == i
    return np.column_stack([shipped.label[mine], shipped.score[mine], shipped.box[mine]])


def recall_in(rows: list[Rows], predictions: DetectionPredictions) -> float:
    """Of the minority, at IoU .5, by what was found on each image."""
    image = np.repeat(np.arange(len(rows)), [len(of) for of in rows])
    every = np.concatenate(rows)
    order = np.argsort(-every[:, 1], kind="stable")
    label = every[:, 0].astype(np.int64)
    truth = predictions.true_image, predictions.true_class, predictions.true_box
    hits = match(image[order], label[order], every[order, 1], every[order, 2:].astype(np.float32), *truth)[
        :, 0
    ]
    rare = [int(c) for c in predictions.minority]
    return float(np.mean([hits[label[order] == c].sum() / (predictions.true_class == c).sum() for c in rare]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles that are neither square nor of the network's size."""
    file = draw_tiles(tmp_path_factory.mktemp("data"), {"train": 24, "val": 12, "test": 12}, rare_every=3)
    for i, image in enumerate(sorted((file.parent / "images").rglob("*.png"))):
        size = [(80, 52), (47, 71), (64, 64)][i % 3]
        cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), size))
    return file


@pytest.fixture(scope="module")
def on_test(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialReport]:
    """The bundle of a run that was measured on the test split, and its report."""
    root = tmp_path_factory.mktemp("run")
    report = report_of(tiny_spec(data, {}, split="test", imgsz=96, **TRAIN), root)
    return bundle_of(root / "result", root / "bundle"), report


@pytest.mark.parametrize(
    ("kind", "tolerance", "lacking"),
    [
        pytest.param("pt", 1e-4, (), id="weights.pt"),
        pytest.param("onnx", 1e-3, ("torch", "torchvision", "ultralytics", "onnx"), id="ONNX"),
    ],
)
def test_on_the_whole_test_split_it_finds_what_was_counted(
    kind: str,
    tolerance: float,
    lacking: tuple[str, ...],
    on_test: tuple[Path, TrialReport],
    data: Path,
    tmp_path: Path,
) -> None:
    made, report = on_test
    bundle = Path(shutil.copytree(made, tmp_path / "bundle"))
    if kind == "onnx":
        convert(bundle, {"onnx"})
    measured = stored(bundle / "predictions.npz")
    assert measured.split == "test"
    images = data.parent / "images" / "test"
    found = found_by(bundle, images, tmp_path / "out", lacking=lacking)
    rows = [coco_rows(found, Path(name).name) for name in measured.image.tolist()]
    for i, mine in enumerate(rows):
        wanted = rows_of(measured, i)
        assert_same_boxes(mine, wanted)
        np.testing.assert_allclose(np.sort(mine[:, 1]), np.sort(wanted[:, 1]), atol=tolerance)
    recall = report.metrics["deployed/minority_recall"]
    assert recall is not None
    assert recall > 0
    assert recall_in(rows, measured) == pytest.approx(recall)
    with (tmp_path / "out" / "predictions.csv").open() as table:
        assert len(list(csv.DictReader(table))) == len(found)
    pictures = sorted(file.name for file in (tmp_path / "out" / "pictures").iterdir())
    assert pictures == sorted(f"{Path(name).name}.jpg" for name in measured.image.tolist())


def test_rarecall_predict_and_the_script_agree(
    on_test: tuple[Path, TrialReport], data: Path, tmp_path: Path
) -> None:
    bundle, _ = on_test
    images = data.parent / "images" / "val"
    mine = found_by(bundle, images, tmp_path / "alone", "--no-pictures")
    assert main(["predict", str(bundle), str(images), "--out", str(tmp_path / "ours"), "--no-pictures"]) == 0
    ours = json.loads((tmp_path / "ours" / "predictions.json").read_text())
    for name in {one["file_name"] for one in ours}:
        assert_same_boxes(coco_rows(mine, name), coco_rows(ours, name))
    assert len(mine) == len(ours)


@pytest.mark.slow
def test_whole_images_are_cut_and_merged_as_they_were_judged(tmp_path: Path) -> None:
    draw_tiled(tmp_path)
    report_of(tiny_spec(tmp_path / "tiles" / "data.yaml", {}, batch=8, **TRAIN), tmp_path / "run")
    bundle = bundle_of(tmp_path / "run" / "result", tmp_path / "bundle")
    measured = stored(bundle / "merged.npz")
    found = found_by(bundle, tmp_path / "slides", tmp_path / "out", "--no-pictures")
    for i, name in enumerate(measured.image.tolist()):
        assert_same_boxes(coco_rows(found, name), rows_of(measured, i))


@pytest.mark.slow
def test_two_models_are_used_each_in_its_classes(data: Path, tmp_path: Path) -> None:
    spec = tiny_spec(data, {"dual_share": 0.5, "sampler_power": 1.0}, imgsz=96, **TRAIN | {"steps": 240})
    report_of(spec, tmp_path / "run")
    bundle = bundle_of(tmp_path / "run" / "result", tmp_path / "bundle")
    assert (bundle / "weights_minority.pt").is_file()
    measured = stored(bundle / "predictions.npz")
    found = found_by(bundle, data.parent / "images" / "val", tmp_path / "out", "--no-pictures")
    for i, name in enumerate(measured.image.tolist()):
        assert_same_boxes(coco_rows(found, Path(name).name), rows_of(measured, i))


def test_what_it_carries_is_our_source_byte_for_byte(on_test: tuple[Path, TrialReport]) -> None:
    bundle, _ = on_test
    carried = {
        path.relative_to(bundle / CARRIED).as_posix(): path.read_bytes()
        for path in (bundle / CARRIED).rglob("*.py")
    }
    source = Path(trainables.__file__).parent.parent
    assert carried == {name: (source / name).read_bytes() for name in carried}
    assert {"trainables/evaluation/merging.py", "trainables/data/boxes/tiling.py"} < carried.keys()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["nowhere", "--out", "new"], "no such image or folder: nowhere", id="no image"),
        pytest.param([".", "--out", "full"], "is there and not empty", id="a folder that holds something"),
        pytest.param(["full/a.png", "--out", "new", "--conf", "2"], "--conf: from 0", id="no confidence"),
        pytest.param(
            ["full/a.png", "--out", "new", "--weights", "w.pt"], "--weights: no file", id="no weights"
        ),
    ],
)
def test_what_it_cannot_do_it_says_in_a_line(
    on_test: tuple[Path, TrialReport], tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "full").mkdir()
    cv2.imwrite(str(tmp_path / "full" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    done = alone(on_test[0] / "predict.py", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()

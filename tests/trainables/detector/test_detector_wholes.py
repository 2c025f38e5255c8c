"""A detector trained on tiles: its whole images are measured, and it predicts on them what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from same_boxes import assert_same_boxes, coco_rows
from tiled_data import GRID, draw_tiled
from tiny_detector import tiny_spec
from trials import report_of

from search.cli.main import main
from trainables.contract.predictions import DetectionPredictions, load_predictions
from trainables.contract.trial import TrialReport
from trainables.data.boxes.data_set import load_detection
from trainables.evaluation.whole_images import merged_metrics


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    draw_tiled(folder)
    return folder


@pytest.fixture(scope="module")
def report(root: Path) -> TrialReport:
    spec = tiny_spec(root / "tiles" / "data.yaml", {}, batch=8, steps=120, eval_every=60, lr=0.01)
    return report_of(spec, root / "run")


@pytest.fixture
def whole(root: Path, report: TrialReport) -> DetectionPredictions:
    found = load_predictions(root / "run" / "result" / "merged.npz")
    assert isinstance(found, DetectionPredictions)
    return found


def test_the_report_has_the_metrics_of_whole_images(
    root: Path, report: TrialReport, whole: DetectionPredictions
) -> None:
    data = load_detection(root / "tiles" / "data.yaml")
    val = [source for source in data.wholes.values() if source.split == "val"]
    assert len(val) == len(whole.image) > 0
    assert len(whole.true_class) == sum(len(source.classes) for source in val)
    threshold = report.metrics["threshold"]
    assert threshold is not None
    again = merged_metrics(whole, threshold)
    assert again == {name: value for name, value in report.metrics.items() if name.startswith("merged/")}
    assert report.metrics["merging/core/minority_ap50"] == report.metrics["merged/minority_ap50"]


def test_predict_finds_what_was_measured(root: Path, whole: DetectionPredictions, tmp_path: Path) -> None:
    weights, images = root / "run" / "result" / "weights.pt", root / "slides"
    assert main(["predict", str(weights), str(images), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert whole.shipped is not None
    assert len(whole.shipped.image) > 0
    for i, name in enumerate(whole.image.tolist()):
        of_image = whole.shipped.image == i
        columns = (whole.shipped.label, whole.shipped.score, whole.shipped.box)
        assert_same_boxes(coco_rows(found, name), np.column_stack([column[of_image] for column in columns]))
    pictures = [file for file in (tmp_path / "out" / "pictures").iterdir() if file.suffix == ".jpg"]
    assert len(pictures) == 10


def test_the_weights_say_how_images_are_cut(root: Path, report: TrialReport, tmp_path: Path) -> None:
    slide = str(root / "slides" / "s0.png")
    weights = str(root / "run" / "result" / "weights.pt")
    coarse = [
        "predict",
        weights,
        slide,
        "--size",
        "512",
        "--overlap",
        "0",
        "--no-pictures",
        "--conf",
        "0.001",
    ]
    assert main([*coarse, "--out", str(tmp_path / "one")]) == 0
    assert not (tmp_path / "one" / "pictures").exists()
    fine = ["predict", weights, slide, "--size", str(GRID.size), "--overlap", str(GRID.overlap)]
    assert main([*fine, "--conf", "0.001", "--out", str(tmp_path / "same"), "--no-pictures"]) == 0
    own = ["predict", weights, slide, "--conf", "0.001", "--out", str(tmp_path / "own"), "--no-pictures"]
    assert main(own) == 0
    read = {name: (tmp_path / name / "predictions.csv").read_text() for name in ("one", "same", "own")}
    assert read["same"] == read["own"] != read["one"]

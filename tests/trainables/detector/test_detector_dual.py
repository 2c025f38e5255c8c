"""Two models in one run: what each learns, what is measured when, killed and gone on with, used as one."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from same_boxes import Rows, assert_same_boxes, coco_rows
from tiled_data import draw_tiled
from tiny_detector import different, tiny_spec
from trials import Seldom, killed_after, report_of
from ultralytics import YOLO

from search.cli.main import main
from search.export.bundle import _use
from spaces.strategy import Strategy
from trainables.contract.predictions import PREDICTIONS_FILE, DetectionPredictions, load_predictions
from trainables.contract.trial import FusionSpec, ReceiptMismatch, Saves, TrialReport, TrialSpec
from trainables.data.boxes.data_set import load_detection
from trainables.detector.ensemble import divided
from trainables.detector.settled import torch_safe_load
from trainables.worker.run import check_receipt

WEIGHTS = ("weights.pt", "weights_minority.pt")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dual")
    draw_tiled(folder)
    return folder


@pytest.fixture(scope="module")
def spec(root: Path) -> TrialSpec:
    data = root / "tiles" / "data.yaml"
    return tiny_spec(data, {"dual_share": 0.5, "sampler_power": 1.0}, steps=16, eval_every=4)


@pytest.fixture(scope="module")
def report(root: Path, spec: TrialSpec) -> TrialReport:
    return report_of(spec, root / "run")


def test_each_model_has_labels_of_its_classes_alone_and_the_strategy_is_the_minoritys(
    report: TrialReport,
) -> None:
    majority, minority = report.applied["majority_model"], report.applied["minority_model"]
    assert majority["labels"]["cluster"] == 0 < majority["labels"]["cell"]
    assert minority["labels"]["cell"] == 0 < minority["labels"]["cluster"]
    assert (majority["sampler_power"], minority["sampler_power"]) == (0.0, 1.0)
    assert majority["images_kept"] == minority["images_kept"]
    assert majority["seed"] != minority["seed"]
    assert (majority["steps"], minority["steps"], report.steps) == (8, 8, 16)
    assert report.applied["dual_share"] == 0.5
    assert majority["exposure"] == 0.0 < minority["exposure"]
    assert report.images_seen == 64


def test_the_minority_is_not_measured_before_its_model_begins(report: TrialReport) -> None:
    assert [point.epoch for point in report.curve] == [1, 2, 3, 4]
    assert [point.metrics["minority_recall"] is None for point in report.curve] == [True, True, False, False]
    assert all(point.metrics["map50_95"] is not None for point in report.curve)


@pytest.mark.parametrize(
    ("epoch", "saves"),
    [
        pytest.param(1, Saves(), id="in the first model"),
        pytest.param(2, Saves(), id="between the two"),
        pytest.param(3, Saves(), id="in the second"),
        pytest.param(3, Seldom(), id="in the second, from the end of the first"),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(
    epoch: int, saves: Saves, spec: TrialSpec, report: TrialReport, root: Path, tmp_path: Path
) -> None:
    killed = killed_after(epoch, spec, tmp_path / "killed", saves)
    resumed = report_of(spec, tmp_path / "resumed", resume=killed)
    timeless = {"seconds", "restarts"}
    assert resumed.model_dump(exclude=timeless) == report.model_dump(exclude=timeless)
    for name in WEIGHTS:
        one, other = (
            torch.load(folder / "result" / name, weights_only=False)["model"].state_dict()
            for folder in (root / "run", tmp_path / "resumed")
        )
        assert different(one, other) == []
    for array, value in vars(stored(root / "run")).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(stored(tmp_path / "resumed"), array), value)


def stored(folder: Path, name: str = "predictions.npz") -> DetectionPredictions:
    found = load_predictions(folder / "result" / name, "detection")
    assert isinstance(found, DetectionPredictions)
    return found


def test_each_file_says_which_classes_it_is_good_for(report: TrialReport, root: Path) -> None:
    said = [torch_safe_load(str(root / "run" / "result" / name))[0]["predict"] for name in WEIGHTS]
    assert [use["classes"] for use in said] == [[0], [1]]
    assert said[0]["conf"] == said[1]["conf"]


def test_predict_fuses_the_two_as_they_were_measured(report: TrialReport, root: Path, tmp_path: Path) -> None:
    weights, slides = str(root / "run" / "result" / "weights.pt"), str(root / "slides")
    assert main(["predict", weights, slides, "--out", str(tmp_path / "out"), "--no-pictures"]) == 0
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    whole = stored(root / "run", "merged.npz")
    assert whole.shipped is not None
    for i, name in enumerate(whole.image.tolist()):
        assert_same_boxes(coco_rows(found, name), shipped_rows(whole, i))


def shipped_rows(predictions: DetectionPredictions, image: int) -> Rows:
    """(n, 6) class id, score, xyxy that the weights that ship find on an image."""
    found = predictions.shipped
    assert found is not None
    mine = found.image == image
    return np.column_stack([found.label[mine], found.score[mine], found.box[mine]])


def test_the_steps_are_divided_in_whole_epochs(spec: TrialSpec) -> None:
    for share, epochs in ((0.2, (8, 2)), (0.34, (7, 3)), (0.7, (3, 7))):
        strategy = Strategy.from_knobs({"dual_share": share})
        train = spec.train.model_copy(update={"steps": 40, "eval_every": 4})
        of_a, of_b = divided(spec.model_copy(update={"strategy": strategy, "train": train}))
        assert (of_a.train.epochs, of_b.train.epochs) == epochs
        assert of_a.strategy == of_b.strategy == Strategy()


@pytest.fixture(scope="module")
def pair(root: Path) -> TrialSpec:
    """Two models in full, of strategies of their own."""
    data = root / "tiles" / "data.yaml"
    alone = tiny_spec(data, {"sampler_power": 1.0}, steps=8, eval_every=4)
    other = FusionSpec(majority=Strategy.from_knobs({"retention": 0.5}), suppress=0.8)
    return alone.model_copy(update={"fusion": other})


def test_a_fusion_trains_both_models_in_full_on_all_labels(pair: TrialSpec, root: Path) -> None:
    report = report_of(pair, root / "pair")
    rest, rare = report.applied["majority_model"], report.applied["minority_model"]
    assert (rest["steps"], rare["steps"], report.steps) == (8, 8, 16)
    assert rest["labels"] == rare["labels"]
    assert all(count > 0 for count in rest["labels"].values())
    assert rest["retention"] == pytest.approx(0.5, abs=0.02)
    assert (rest["sampler_power"], report.applied["sampler_power"]) == (0.0, 1.0)
    assert report.applied["suppress"] == 0.8
    assert [point.epoch for point in report.curve] == [1, 2, 3, 4]
    said = [torch_safe_load(str(root / "pair" / "result" / name))[0] for name in WEIGHTS]
    assert [(one["predict"]["classes"], one["suppress"]) for one in said] == [([0], 0.8), ([1], 0.8)]


@pytest.mark.parametrize(
    "epoch", [pytest.param(2, id="between the two"), pytest.param(3, id="in the second")]
)
def test_a_killed_fusion_goes_on_bit_for_bit(epoch: int, pair: TrialSpec, root: Path, tmp_path: Path) -> None:
    resumed = report_of(pair, tmp_path / "resumed", resume=killed_after(epoch, pair, tmp_path / "killed"))
    whole = report_of(pair, tmp_path / "whole")
    assert resumed.metrics == whole.metrics
    assert resumed.applied == whole.applied


def test_a_majority_model_that_was_not_trained_as_asked_fails_the_run(pair: TrialSpec, root: Path) -> None:
    report = report_of(pair, root / "again")
    wrong = report.applied["majority_model"] | {"focal_gamma": 2.0}
    with pytest.raises(ReceiptMismatch, match=r"focal_gamma: asked 0\.0, applied 2\.0"):
        check_receipt(pair, report.applied | {"majority_model": wrong})


def test_plain_ultralytics_finds_with_both_files_what_was_measured(report: TrialReport, root: Path) -> None:
    measured = stored(root / "run")
    assert measured.shipped is not None
    files = [root / "run" / "result" / name for name in WEIGHTS]
    models = [(YOLO(file), torch_safe_load(str(file))[0]["predict"]) for file in files]
    images = load_detection(root / "tiles" / "data.yaml").splits["val"]
    for i, image in enumerate(images):
        found = [
            model.predict(image.path, verbose=False, **use)[0].boxes.data.numpy() for model, use in models
        ]
        rows = np.concatenate(found)[:, [5, 4, 0, 1, 2, 3]]
        assert_same_boxes(rows, shipped_rows(measured, i))


def test_the_bundle_says_how_each_of_two_files_is_used(report: TrialReport, root: Path) -> None:
    stored = load_predictions(root / "run" / "result" / PREDICTIONS_FILE, "detection")
    assert isinstance(stored, DetectionPredictions)
    use = _use(root / "run" / "result", stored, 64)
    said = {name: torch_safe_load(str(root / "run" / "result" / name))[0]["predict"] for name in WEIGHTS}
    assert use == {"predict.yaml": said["weights.pt"], "predict_minority.yaml": said["weights_minority.pt"]}

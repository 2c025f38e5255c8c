"""What the exported weights find under plain Ultralytics is what the table says, to the object."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_detector import set_up, tiny_spec
from trials import report_of
from ultralytics import YOLO

from trainables.contract.predictions import DetectionPredictions, load_predictions
from trainables.data.boxes.data_set import detection_once
from trainables.data.boxes.listed import BoxImage
from trainables.detector.measuring.evaluator import fold_bias
from trainables.detector.strategy_run import StrategyRun
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.matching import match

SHAPES = ((64, 64), (150, 90), (48, 120), (200, 200), (40, 40))


@pytest.fixture(scope="module")
def odd_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of images of many shapes, larger and smaller than the network's input."""
    root, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(1)
    for split, count in {"train": 20, "val": 15}.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            height, width = SHAPES[i % len(SHAPES)]
            pixels, lines = rng.integers(100, 140, (height, width, 3)), []
            for label, side, light in [(0, 10, 20)] * 2 + [(1, 24, 240)] * (i % 3 == 0):
                x, y = rng.integers(0, width - side), rng.integers(0, height - side)
                pixels[y : y + side, x : x + side] = light
                centre = (x + side / 2) / width, (y + side / 2) / height, side / width, side / height
                lines.append(" ".join(map(str, [label, *centre])))
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / split / f"{i:02}.png")
            (root / "labels" / split / f"{i:02}.txt").write_text("\n".join(lines))
    described = {split: f"images/{split}" for split in ("train", "val")} | {"names": ["cell", "cluster"]}
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "data.yaml"


def counted_by_ultralytics(weights: Path, images: tuple[BoxImage, ...]) -> tuple[int, int, int]:
    """Rare objects that plain `predict` finds as it is to be used, its rare boxes, and the rare objects."""
    use = torch.load(weights, weights_only=False)["predict"]
    model, hits, boxes, objects = YOLO(weights), 0, 0, 0
    for image in images:
        (result,) = model.predict(image.path, verbose=False, **use)
        size = np.tile(result.orig_shape[::-1], 2)
        corners = image.boxes[:, [0, 1, 0, 1]] + image.boxes[:, [2, 3, 2, 3]] * [-0.5, -0.5, 0.5, 0.5]
        found, n = result.boxes.data.numpy(), len(image.classes)
        matched = match(
            np.zeros(len(found), int),
            found[:, 5].astype(int),
            found[:, 4],
            found[:, :4],
            np.zeros(n, int),
            image.classes,
            (corners * size).astype(np.float32),
        )[:, 0]
        hits += int(matched[found[:, 5] == 1].sum())
        boxes += int((found[:, 5] == 1).sum())
        objects += int((image.classes == 1).sum())
    return hits, boxes, objects


@pytest.mark.parametrize(
    "model",
    ["yolo_tiny.yaml", pytest.param("yolo26n.yaml", marks=pytest.mark.slow)],
    ids=["nms", "end to end"],
)
def test_plain_predict_finds_what_deployed_says(odd_shapes: Path, tmp_path: Path, model: str) -> None:
    spec = tiny_spec(odd_shapes, {"sampler_power": 1.0}, model=model, steps=60, eval_every=30, lr=0.01)
    metrics = report_of(spec, tmp_path).metrics
    val = detection_once(odd_shapes).splits["val"]
    hits, boxes, objects = counted_by_ultralytics(tmp_path / "result" / "weights.pt", val)
    assert metrics["deployed/minority_recall"] == hits / objects
    assert metrics["deployed/minority_precision"] == (hits / boxes if boxes else None)
    assert metrics["deployed/false_alarms"] == (boxes - hits) / len(val)


def untrained(data: Path, root: Path, batch: int) -> DetectionPredictions:
    root.mkdir()
    run: StrategyRun = set_up(tiny_spec(data, {}, batch=batch, steps=2, eval_every=1), root)
    return run.predict_split("val")


def test_what_is_measured_of_an_image_does_not_depend_on_its_neighbours(
    odd_shapes: Path, tmp_path: Path
) -> None:
    one, many = (untrained(odd_shapes, tmp_path / str(batch), batch) for batch in (1, 8))
    assert len(one.pred_score) == len(many.pred_score)
    np.testing.assert_allclose(np.sort(one.pred_score), np.sort(many.pred_score), rtol=1e-4)
    a, b = detection_metrics(one), detection_metrics(many)
    assert a["map50_95"] == pytest.approx(b["map50_95"], abs=1e-4)


def test_a_bias_moves_the_logits_of_its_class_alone(odd_shapes: Path, tmp_path: Path) -> None:
    run = set_up(tiny_spec(odd_shapes, {}), tmp_path)
    before = run.predict_split("val")
    fold_bias(run.ema.ema, np.array([0.0, 1.5]))
    after = run.predict_split("val")

    def logits(of: DetectionPredictions, label: int) -> np.ndarray:
        score = np.sort(of.pred_score[of.pred_class == label].astype(np.float64))[-20:]
        return np.log(score / (1 - score))

    np.testing.assert_allclose(logits(after, 1), logits(before, 1) + 1.5, atol=1e-3)
    np.testing.assert_allclose(logits(after, 0), logits(before, 0), atol=1e-3)


def test_the_stored_predictions_give_the_reported_metrics(odd_shapes: Path, tmp_path: Path) -> None:
    report = report_of(tiny_spec(odd_shapes, {}, steps=4), tmp_path)
    stored = load_predictions(tmp_path / "result" / "predictions.npz")
    assert isinstance(stored, DetectionPredictions)
    again = detection_metrics(stored, threshold=report.metrics["threshold"])
    assert {name: value for name, value in report.metrics.items() if name in again} == again
    assert "deployed/minority_recall" in again

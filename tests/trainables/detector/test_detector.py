"""Whole trials of a detector: what they leave, measure, report and refuse."""

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import random
import socket
from collections.abc import Callable, Sized
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detector import EVERYTHING, check_resumed, different, tiny_spec, weights_in
from trials import killed_after, outcome_of, report_of
from ultralytics import YOLO

from trainables.contract.predictions import DetectionPredictions, load_predictions
from trainables.contract.trial import TRAIN_RECALL, TrialFailure
from trainables.data.boxes.data_set import detection_once
from trainables.detector.strategy_run import StrategyRun
from trainables.evaluation.detection import detection_metrics


def test_killed_and_resumed_is_bit_equal_and_the_receipt_holds(three_splits: Path, tmp_path: Path) -> None:
    spec = tiny_spec(three_splits, EVERYTHING, steps=6, close_mosaic=0.5)
    report = check_resumed(spec, killed_after(2, spec, tmp_path / "killed"), tmp_path)
    applied = report.applied
    assert [applied[f"{group}_images"] for group in ("majority", "minority")] == [20, 4]
    assert applied["images_kept"] == 14
    assert applied["augmented_images"] > 24  # the tiles drawn, and mosaic's partners
    assert applied["boxes_augmented"] > 24 + 6
    assert applied["objects_pasted"] > 0
    assert applied["mixed_steps"] == 3
    assert report.steps == 6
    assert report.images_seen == 24
    assert report.unique_images <= 14
    assert 1 < applied["focal_scale"][0] <= applied["focal_scale"][1]
    assert applied["alpha"][1] > applied["alpha"][0]
    assert applied["max_det"] == 100


@pytest.mark.slow
@pytest.mark.parametrize("model", ["yolo11n.yaml", "yolo26n.yaml"])
def test_killed_and_resumed_is_bit_equal_with_other_heads(
    model: str, three_splits: Path, tmp_path: Path
) -> None:
    spec = tiny_spec(three_splits, EVERYTHING, steps=6, model=model)
    check_resumed(spec, killed_after(2, spec, tmp_path / "killed"), tmp_path)


def global_states() -> tuple[object, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def test_same_seed_same_result_other_seed_another_and_nothing_leaks(
    three_splits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    threads = torch.get_num_threads()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    states = global_states()

    first = report_of(tiny_spec(three_splits, {}, steps=6), tmp_path / "first")
    report_of(tiny_spec(three_splits, EVERYTHING, steps=6, seed=1), tmp_path / "other")
    again = report_of(tiny_spec(three_splits, {}, steps=6), tmp_path / "again")

    assert global_states() == states
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert different(weights_in(tmp_path / "first"), weights_in(tmp_path / "again")) == []
    assert first.metrics == again.metrics
    assert different(weights_in(tmp_path / "first"), weights_in(tmp_path / "other"))
    assert capfd.readouterr() == ("", "")
    assert not list(three_splits.parent.rglob("*.cache"))
    assert not list(three_splits.parent.rglob("*.npy"))


def test_a_finished_checkpoint_gives_the_result_without_training(three_splits: Path, tmp_path: Path) -> None:
    spec = tiny_spec(three_splits, {}, steps=2)
    whole = report_of(spec, tmp_path / "whole")
    again = report_of(spec, tmp_path / "again", resume=tmp_path / "whole" / "checkpoint")
    assert different(weights_in(tmp_path / "whole"), weights_in(tmp_path / "again")) == []
    assert again.metrics == whole.metrics
    assert again.steps == 2


def test_the_test_split_is_measured_once_at_the_threshold_that_val_chose(
    three_splits: Path, tmp_path: Path
) -> None:
    report = report_of(tiny_spec(three_splits, {}, steps=4, split="test"), tmp_path / "t")
    assert report.metrics["threshold"] == report.curve[-1].metrics["threshold"]
    assert report.curve[-1].metrics["support/cluster"] == 2
    assert report.metrics["support/cluster"] == 1
    stored = load_predictions(tmp_path / "t" / "result" / "predictions.npz")
    assert stored.split == "test"
    assert len(stored.image) == 6
    measured = detection_metrics(stored, threshold=report.metrics["threshold"])
    assert report.metrics == measured | {TRAIN_RECALL: report.metrics[TRAIN_RECALL]}


def test_weights_load_in_ultralytics_and_predict_what_was_stored(three_splits: Path, tmp_path: Path) -> None:
    report_of(tiny_spec(three_splits, {}, steps=2), tmp_path / "t")
    stored = load_predictions(tmp_path / "t" / "result" / "predictions.npz")
    model = YOLO(tmp_path / "t" / "result" / "weights.pt")
    image = three_splits.parent / str(stored.image[0])
    limits = {"conf": stored.conf, "iou": stored.iou, "max_det": stored.max_det, "imgsz": 64}
    (found,) = model.predict(image, verbose=False, **limits)
    mine = stored.pred_score[stored.pred_image == 0]
    assert len(mine) > 0
    np.testing.assert_allclose(found.boxes.conf.numpy(), mine[: len(found.boxes)], atol=1e-4)


def test_a_loss_that_is_not_finite_is_a_diverged_trial(three_splits: Path, tmp_path: Path) -> None:
    report_of(tiny_spec(three_splits, {}, steps=2), tmp_path / "sound")
    stored = torch.load(tmp_path / "sound" / "result" / "weights.pt", weights_only=False)
    next(stored["model"].parameters()).data[:] = torch.nan
    torch.save(stored, tmp_path / "poisoned.pt")
    outcome = outcome_of(tiny_spec(three_splits, {}, steps=6, model=str(tmp_path / "poisoned.pt")), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "diverged"
    assert "not finite" in outcome.reason


def uniform(classes: Sized, **recipe: float) -> np.ndarray:
    return np.full(len(classes), 1 / len(classes))


def ones(counts: Sized, **recipe: float) -> np.ndarray:
    return np.ones(len(counts))


@pytest.mark.parametrize(
    ("broken", "stand_in", "knob"),
    [
        pytest.param(
            "trainables.detector.feeding.dataset.draw_weights", uniform, "sampler_power", id="uniform draws"
        ),
        pytest.param("trainables.detector.criterion.class_alpha", ones, "alpha_power", id="no class weights"),
    ],
)
def test_a_strategy_that_was_not_applied_fails_by_its_receipt(
    broken: str,
    stand_in: Callable[..., np.ndarray],
    knob: str,
    three_splits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broken, stand_in)
    outcome = outcome_of(tiny_spec(three_splits, EVERYTHING, steps=6), tmp_path)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert f"{knob}: asked 0.5, applied None" in outcome.reason


def test_recall_on_the_training_images_is_that_of_the_stored_weights(
    three_splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted: dict[str, DetectionPredictions] = {}
    plain = StrategyRun.predict_split

    def recorded(run: StrategyRun, split: str) -> DetectionPredictions:
        predicted[split] = plain(run, split)
        return predicted[split]

    monkeypatch.setattr(StrategyRun, "predict_split", recorded)
    knobs = {"sampler_power": 1.0, "retention": 0.2, "augment_rest": 1.0}
    report = report_of(tiny_spec(three_splits, knobs, steps=6, split="test"), tmp_path / "t")
    held = [image for image in detection_once(three_splits).splits["train"] if 1 in image.classes]
    found = predicted["train"]
    assert found.image.tolist() == [image.name for image in held]
    metrics = detection_metrics(found, threshold=report.metrics["threshold"])
    assert report.metrics[TRAIN_RECALL] == metrics["minority_recall"]
    model = YOLO(tmp_path / "t" / "result" / "weights.pt")
    for i, image in enumerate(held):  # as they are stored, not augmented
        (boxes,) = (each.boxes for each in model.predict(image.path, verbose=False, imgsz=64, conf=0.001))
        assert found.pred_score[found.pred_image == i].max() == pytest.approx(
            float(boxes.conf.max()), rel=0.01
        )

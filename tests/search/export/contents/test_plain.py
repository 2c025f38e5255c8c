"""A training once more in plain Ultralytics: what it is asked, and what cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search.export.chosen import Chosen
from search.export.contents.listing import Listed
from search.export.contents.plain import LACKING, arguments, lacking, write_plain
from search.request.config import StudyConfig
from spaces.strategy import Strategy
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.tasks import TASKS
from trainables.contract.trial import TrainSpec, TrialReport
from trainables.detector.settled import ultralytics_version

TRAIN: dict[str, Any] = {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 8, "steps": 120, "eval_every": 30}


def chosen(**knobs: float) -> Chosen:
    report = TrialReport(
        key="k", metrics={}, curve=(), applied={}, exposure=0, images_seen=0, unique_images=0, steps=120,
        seconds=1, device="cpu",
    )  # fmt: skip
    return Chosen("trial 1", Strategy.from_knobs(knobs), 7, report)


def config(**changes: Any) -> StudyConfig:
    request = {"name": "s", "task": "detection", "data": "d.yaml", "minority": ["cluster"], "train": TRAIN}
    return StudyConfig.model_validate(request | changes)


def predictions() -> DetectionPredictions:
    none, boxes = np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=np.float32)
    flags = np.zeros((0, 10), dtype=bool)
    return DetectionPredictions(
        split="val", class_names=np.array(["cell", "cluster"]), minority=np.array([1]),
        image=np.zeros(0, dtype=np.str_), source=np.zeros(0, dtype=np.str_),
        size=np.zeros((0, 2), dtype=np.int64),
        pred_image=none, pred_class=none, pred_score=boxes[:, 0], pred_box=boxes, pred_match=flags,
        pred_ignored=flags[:, 0], true_image=none, true_class=none, true_box=boxes, max_det=100, conf=0.001,
        iou=0.7,
    )  # fmt: skip


def test_as_many_steps_are_asked_in_passes_over_the_images() -> None:
    # 20 images are 3 batches of 8, so 120 steps are 40 passes, and a warm-up of 30 steps is 10.
    asked = arguments(TrainSpec(**TRAIN), chosen(retention=0.5, mosaic=0.3), 20, 100)
    assert (asked["epochs"], asked["warmup_epochs"], asked["close_mosaic"]) == (40, 10.0, 4)
    assert (asked["mosaic"], asked["seed"], asked["batch"], asked["nbs"]) == (0.3, 7, 8, 8)
    halves = arguments(TrainSpec(**TRAIN, accumulate=2), chosen(), 20, 100)  # 5 halves of a batch a pass
    assert (halves["epochs"], halves["batch"], halves["nbs"]) == (48, 4, 8)


def test_every_knob_of_a_detector_is_either_expressed_or_said_to_be_lacking() -> None:
    bounds = {"max_repeat", "alpha_cap", "alpha_prior"}  # of other knobs, without effect by themselves
    expressed = {"retention", "mosaic", "mixup"}
    knobs = set(Strategy().knobs()) - set(TASKS["detection"].lacks)
    assert knobs - bounds == expressed | set(LACKING)


def listed(unfit: str = "") -> Listed:
    return Listed({"train": ["/data/images/a.png"] * 20, "val": ["/data/images/b.png"]}, unfit)


@pytest.mark.parametrize(
    ("knobs", "unfit", "says"),
    [
        pytest.param({"focal_gamma": 1.5}, "", "`focal_gamma`: it has no focal loss", id="focal loss"),
        pytest.param({}, "the boxes are elsewhere", "cannot train so: the boxes are elsewhere", id="labels"),
    ],
)
def test_what_cannot_be_expressed_is_said_and_nothing_is_written(
    tmp_path: Path, knobs: dict[str, float], unfit: str, says: str
) -> None:
    (said,) = write_plain(tmp_path, config(), chosen(**knobs), predictions(), listed(unfit))
    assert says in said
    assert list(tmp_path.iterdir()) == []


def test_pixels_that_it_reads_otherwise_are_said() -> None:
    assert lacking(config(pixel_max=4095), chosen()) == [
        "`pixel_max`: it keeps the high byte of 16-bit images"
    ]


def test_what_is_written_is_what_ultralytics_reads(tmp_path: Path) -> None:
    assert ultralytics_version
    from ultralytics.cfg import get_cfg  # noqa: PLC0415  (settled above)

    write_plain(tmp_path, config(), chosen(retention=0.5), predictions(), listed())
    asked = yaml.safe_load((tmp_path / "train.yaml").read_text())
    assert get_cfg(overrides=asked).epochs == 40
    assert (tmp_path / "train.txt").read_text().splitlines() == ["/data/images/a.png"] * 20
    assert asked["model"] == "carried/trainables/detector/yolo_tiny.yaml"
    assert yaml.safe_load((tmp_path / asked["data"]).read_text())["names"] == {0: "cell", 1: "cluster"}

"""Studies of 12-bit images in 16-bit files: trained with `pixel_max`, exported, and used elsewhere."""

import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from in_process import Here
from rich.console import Console
from tiny_detector import draw_tiles

from search.export.bundle import export_run
from search.export.chosen import chosen_trial
from search.pipeline.searching import search
from trainables.contract.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    load_predictions,
)

LEVELS = {"cat": (300, 1200), "dog": (1500, 4000)}  # of 4095
CLASSIFIER = {
    "name": "deep",
    "task": "classification",
    "minority": ["dog"],
    "train": {"model": "small_cnn", "imgsz": 12, "batch": 8, "steps": 40, "eval_every": 20, "lr": 0.003},
}
DETECTOR = {
    "name": "deep",
    "task": "detection",
    "minority": ["cluster"],
    "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 80, "eval_every": 40, "lr": 0.01},
}
# What the comment in `predict.yaml` says, as a person would do it.
READS_PIXELS = """
import json, sys
import cv2, numpy as np, yaml
from ultralytics import YOLO
bundle, *images = sys.argv[1:]
text = open(f"{bundle}/predict.yaml").read()
use = yaml.safe_load(text)
model = YOLO(f"{bundle}/weights.pt")
predict = "\\n".join(line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   "))
said = {}
for file in images:
    exec(predict.replace("**use", "verbose=False, **use"))
    said[file] = found[0].boxes.data.tolist()
print("FOUND" + json.dumps(said))
"""


def exported(root: Path, request: dict[str, object], data: Path) -> Path:
    """The bundle of the first trial."""
    request = request | {
        "data": str(data),
        "pixel_max": 4095,
        "baseline": {"strategy": "plain", "seeds": 1},
        "search": {"trials": 1, "seed": 0},
        "keep": "all",
    }
    (root / "study.yaml").write_text(yaml.safe_dump(request))
    quiet = Console(file=io.StringIO())
    folder = search(root / "study.yaml", root / "runs", cluster=Here(), resume=False, console=quiet).folder
    assert folder.config.pixel_max == 4095
    study = folder.open()
    return export_run(folder, study, chosen_trial(study, study.trials()[0].number), root / "bundle")


def test_a_classifiers_script_reads_them_as_the_training_did(tmp_path: Path) -> None:
    rng, data = np.random.default_rng(0), tmp_path / "data"
    for split, counts in {"train": (30, 10), "val": (10, 6), "test": (4, 4)}.items():
        for (name, levels), count in zip(LEVELS.items(), counts, strict=True):
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(
                    str(data / split / name / f"{i}.png"), rng.integers(*levels, (14, 20), dtype=np.uint16)
                )
    bundle = exported(tmp_path, CLASSIFIER, data)
    stored = load_predictions(bundle / "predictions.npz")
    assert isinstance(stored, ClassificationPredictions)
    files = [str(data / name) for name in stored.image]
    done = subprocess.run(
        [sys.executable, str(bundle / "predict.py"), "--untuned", *files],
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line.split("\t") for line in done.stdout.splitlines()]
    scaled = stored.logits / stored.temperature
    shares = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    assert [name for _, name, _ in said] == stored.class_names[stored.logits.argmax(axis=1)].tolist()
    np.testing.assert_allclose([float(share) for *_, share in said], shares.max(axis=1), atol=1e-4)
    assert (stored.logits.argmax(axis=1) == stored.label).mean() > 0.9
    assert yaml.safe_load((bundle / "config.yaml").read_text())["pixel_max"] == 4095


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_detectors_bundle_says_how_plain_ultralytics_sees_what_the_training_saw(tmp_path: Path) -> None:
    data = draw_tiles(tmp_path / "data", {"train": 20, "val": 8, "test": 4})
    for file in (tmp_path / "data" / "images").rglob("*.png"):
        cv2.imwrite(str(file), np.rint(cv2.imread(str(file)) * (4095 / 255)).astype(np.uint16))
    bundle = exported(tmp_path, DETECTOR, data)
    stored = load_predictions(bundle / "predictions.npz")
    assert isinstance(stored, DetectionPredictions)
    assert stored.shipped is not None
    files = [str(tmp_path / "data" / name) for name in stored.image]
    done = subprocess.run(
        [sys.executable, "-c", READS_PIXELS, str(bundle), *files], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout.partition("FOUND")[2])
    found = np.array([[*row, i] for i, file in enumerate(files) for row in said[file]]).reshape(-1, 7)
    found = found[np.lexsort((found[:, 6], -found[:, 4]))]
    assert len(found) == len(stored.shipped.score) > 0
    np.testing.assert_allclose(np.sort(found[:, 4]), np.sort(stored.shipped.score), atol=1e-3)

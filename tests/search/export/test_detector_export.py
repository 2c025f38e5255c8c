"""A detector's bundle, used by plain Ultralytics in a process that has none of our packages."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from in_process import Here
from rich.console import Console

from search.export.bundle import export_run
from search.export.chosen import chosen_trial
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from trainables.contract.predictions import DetectionPredictions, load_predictions

STUDY = """
name: tiles
task: detection
data: {data}
minority: [cluster]
train: {{model: yolo_tiny.yaml, imgsz: 64, batch: 4, steps: 80, eval_every: 40, lr: 0.01}}
objectives: [minority_recall, map50_95]
guards: [{{metric: map50_95, max_drop: 0.9}}]
baseline: {{strategy: plain, seeds: 1}}
space: detection
search: {{trials: 1, seed: 0}}
keep: all
"""
PLAIN_ULTRALYTICS = """
import json, sys
ours = {"search", "spaces", "trainables", "rarecall"}
sys.meta_path.insert(0, type("Refuses", (), {"find_spec": staticmethod(
    lambda name, *_: exec('raise ImportError(name)') if name.split('.')[0] in ours else None)}))
import yaml
from ultralytics import YOLO
bundle, *images = sys.argv[1:]
use = yaml.safe_load(open(f"{bundle}/predict.yaml"))
model = YOLO(f"{bundle}/weights.pt")
found = {image: model.predict(image, verbose=False, **use)[0].boxes.data.tolist() for image in images}
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, three_splits: Path) -> StudyFolder:
    root = tmp_path_factory.mktemp("export")
    (root / "tiles.yaml").write_text(STUDY.format(data=three_splits))
    quiet = Console(file=io.StringIO())
    return search(root / "tiles.yaml", root, cluster=Here(), resume=False, console=quiet).folder


def test_the_bundle_says_how_to_predict_and_plain_ultralytics_finds_the_boxes_that_were_counted(
    folder: StudyFolder, three_splits: Path, tmp_path: Path
) -> None:
    study = folder.open()
    trial = chosen_trial(study, 1)
    bundle = export_run(folder, study, trial, tmp_path / "bundle")
    use = yaml.safe_load((bundle / "predict.yaml").read_text())
    assert set(use) == {"conf", "iou", "max_det", "imgsz", "rect"}
    assert trial.report.metrics["deployed/threshold"] == use["conf"]

    stored = load_predictions(bundle / "predictions.npz")
    assert isinstance(stored, DetectionPredictions)
    shipped = stored.shipped
    assert shipped is not None
    assert len(shipped.image) > 0
    images = [str(three_splits.parent / name) for name in stored.image]
    process = subprocess.run(
        [sys.executable, "-c", PLAIN_ULTRALYTICS, str(bundle), *images],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(process.stdout.partition("FOUND")[2])
    for i, image in enumerate(images):
        mine = shipped.image == i
        boxes = np.array(found[image]).reshape(-1, 6)
        np.testing.assert_array_equal(boxes[:, 5], shipped.label[mine])
        np.testing.assert_allclose(boxes[:, 4], shipped.score[mine], atol=1e-4)
        np.testing.assert_allclose(boxes[:, :4], shipped.box[mine], atol=0.05)

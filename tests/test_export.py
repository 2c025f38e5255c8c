"""What a bundle says of a classifier, from a study of real, very short trainings."""

import io
import json
from pathlib import Path

import numpy as np
from in_process import Here
from rich.console import Console
from sklearn.metrics import confusion_matrix

from search.export import choose, export_trial
from search.pipeline.searching import search
from trainables.predictions import ClassificationPredictions, load_predictions

STUDY = """
name: digits
task: classification
data: demo:digits
minority: ["1", "8", "9"]
train: {model: small_cnn, imgsz: 8, batch: 16, steps: 12, eval_every: 6, lr: 0.0025}
objectives: [minority_recall, macro_f1]
guards: [{metric: accuracy, max_drop: 0.9}]
baseline: {strategy: plain, seeds: 2}
space: classification
search: {trials: 1, seed: 0}
"""


def test_the_metrics_of_an_exported_classifier_hold_its_confusion_matrix(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(STUDY)
    quiet = Console(file=io.StringIO())
    folder = search(tmp_path / "digits.yaml", tmp_path, cluster=Here(), resume=False, console=quiet)
    study = folder.open()
    bundle = export_trial(folder, study, choose(study, 1), tmp_path / "bundle")
    shown = json.loads((bundle / "metrics.json").read_text())["confusion_matrix"]
    stored = load_predictions(bundle / "predictions.npz")
    assert isinstance(stored, ClassificationPredictions)
    assert shown["class_names"] == [str(digit) for digit in range(10)]
    for name, decided in {"untouched": stored.logits.argmax(axis=1), "tuned": stored.tuned}.items():
        expected = confusion_matrix(stored.label, decided, labels=range(10), normalize="true")
        np.testing.assert_allclose(shown[name], expected)

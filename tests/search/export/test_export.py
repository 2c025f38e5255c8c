"""What a bundle says of a classifier, from a study of real, very short trainings."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from in_process import Here
from rich.console import Console
from sklearn.metrics import confusion_matrix

from search.cli.main import main
from search.export.bundle import export_run
from search.export.chosen import chosen_trial
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from spaces.errors import UsageError
from trainables.contract.predictions import ClassificationPredictions, load_predictions

STUDY = """
name: digits
task: classification
data: demo:digits
minority: auto
train: {model: small_cnn, imgsz: 8, batch: 16, steps: 12, eval_every: 6, lr: 0.0025}
objectives: [minority_recall, macro_f1]
guards: [{metric: accuracy, max_drop: 0.9}]
baseline: {strategy: plain, seeds: 2}
space: classification
search: {trials: 1, seed: 0}
keep: all
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    root = tmp_path_factory.mktemp("export")
    (root / "digits.yaml").write_text(STUDY)
    quiet = Console(file=io.StringIO())
    return search(root / "digits.yaml", root, cluster=Here(), resume=False, console=quiet).folder


def exported(folder: StudyFolder, target: Path) -> Path:
    study = folder.open()
    return export_run(folder, study, chosen_trial(study, 1), target)


def test_the_metrics_of_an_exported_classifier_hold_its_confusion_matrix(
    folder: StudyFolder, tmp_path: Path
) -> None:
    bundle = exported(folder, tmp_path)
    shown = json.loads((bundle / "metrics.json").read_text())["confusion_matrix"]
    stored = load_predictions(bundle / "predictions.npz")
    assert isinstance(stored, ClassificationPredictions)
    assert shown["class_names"] == [str(digit) for digit in range(10)]
    for name, decided in {"untouched": stored.logits.argmax(axis=1), "tuned": stored.tuned}.items():
        expected = confusion_matrix(stored.label, decided, labels=range(10), normalize="true")
        np.testing.assert_allclose(shown[name], expected)


def test_the_classes_that_auto_meant_are_named_in_the_bundle_and_counted_in_the_notes(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.config.minority == "auto"
    train = yaml.safe_load((exported(folder, tmp_path) / "config.yaml").read_text())
    assert train["minority"] == ["1", "8", "9"]
    assert main(["pareto", str(folder.path), "--all"]) == 0
    assert "the val split holds 133 minority objects" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["gone", "written over"])
def test_weights_that_are_gone_or_damaged_are_an_error_and_nothing_is_written(
    folder: StudyFolder, tmp_path: Path, how: str
) -> None:
    copied = StudyFolder(Path(shutil.copytree(folder.path, tmp_path / "study")))
    chosen = chosen_trial(copied.open(), 1)
    files = copied.files.result(chosen.report.key)
    assert files is not None
    weights = files / "weights.pt"
    if how == "gone":
        weights.unlink()
    else:
        weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(UsageError, match=r"the weights of trial 1 are gone from .*, or damaged"):
        exported(copied, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_weights_that_no_report_of_an_older_version_names_must_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Path(__file__).parents[2] / "studies" / "0.1.0" / "finished"
    study = Path(shutil.copytree(made, tmp_path / "study"))
    for weights in study.rglob("weights.pt"):
        weights.unlink()
    assert main(["export", str(study), "--out", str(tmp_path / "bundle")]) == 2
    assert "the weights of trial 0 are gone" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()

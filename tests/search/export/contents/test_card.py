"""What goes with the weights: the card says what the record says, for a confirmed run and for others."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from search.export.bundle import export_run
from search.export.chosen import chosen_baseline, chosen_confirmed
from search.export.contents.card import requirements
from search.record.folder import StudyFolder
from search.request.config import StudyConfig


def card_of(bundle: Path) -> tuple[dict[str, object], str]:
    """Front matter and text."""
    _, front, text = (bundle / "MODEL_CARD.md").read_text().split("---\n", 2)
    read = yaml.safe_load(front)
    assert isinstance(read, dict)
    return read, text


@pytest.fixture
def folder(confirmed_study: Path, tmp_path: Path) -> StudyFolder:
    return StudyFolder(Path(shutil.copytree(confirmed_study, tmp_path / "study")))


def test_the_card_of_a_confirmed_run_has_its_verdict_bounds_and_alpha(
    folder: StudyFolder, tmp_path: Path
) -> None:
    study = folder.open()
    chosen = chosen_confirmed(study)
    front, text = card_of(export_run(folder, study, chosen, tmp_path / "bundle"))
    assert chosen.judged is not None
    bounds = chosen.judged.result.verdict.bounds[0]
    assert f"**accepted** in {chosen.judged.experiment}" in text
    assert f"at most {study.config.confirm.alpha:g}" in text
    assert f"at least {bounds.lower:+.3f} | {bounds.lower_level:.2%} |" in text
    (model,) = front["model-index"]  # type: ignore[misc]
    (result,) = model["results"]  # type: ignore[has-type]
    assert result["dataset"]["split"] == "test"
    assert result["dataset"]["revision"] == folder.provenance.data_fingerprint
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    for name in study.config.objectives:
        assert values[name] == pytest.approx(chosen.report.metrics[name], abs=1e-6)


def test_a_run_that_nobody_confirmed_says_so(folder: StudyFolder, tmp_path: Path) -> None:
    study = folder.open()
    bundle = export_run(folder, study, chosen_baseline(study), tmp_path / "bundle")
    _, text = card_of(bundle)
    assert "**Not confirmed.**" in text
    assert "| metric | baseline, 3 seeds | these weights |" in text
    said = json.loads((bundle / "provenance.json").read_text())
    assert (said["of"], said["run"]) == ("baseline", chosen_baseline(study).report.key)


def asked(task: str, data: str, model: str) -> StudyConfig:
    train = {"model": model, "steps": 1, "eval_every": 1}
    return StudyConfig.model_validate(
        {"name": "s", "task": task, "data": data, "minority": ["1"], "train": train}
    )


def test_requirements_name_what_each_script_and_each_kind_of_weights_needs() -> None:
    written = requirements(asked("detection", "d.yaml", "yolo11n.yaml"), ())
    assert set(written) == {"requirements.txt", "requirements-train.txt"}
    assert "ultralytics==8.4.190\n" in written["requirements.txt"]
    converted = requirements(asked("classification", "demo:digits", "small_cnn"), {"torchscript"})
    assert "torchvision" not in converted["requirements-torchscript.txt"]
    assert "scikit-learn==" in converted["requirements-train.txt"]

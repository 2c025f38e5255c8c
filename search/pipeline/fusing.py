"""Fusing: every finished model of a search beside every other, on what they predicted on val; no training."""

import os
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from search.judging.fusion import Fusion, Model, fusions, ranked
from search.record.folder import StudyFolder
from search.record.study import Study
from search.show.common import bar
from spaces.errors import RunError, UsageError
from spaces.strategy import Strategy
from trainables.contract.predictions import (
    MERGED_FILE,
    PREDICTIONS_FILE,
    DetectionPredictions,
    load_predictions,
)
from trainables.contract.tasks import MERGED
from trainables.contract.trial import TrialReport

FILE = "fusions.json"  # in the study's folder: what was found last, in its order
_STORED: TypeAdapter[list[Fusion]] = TypeAdapter(list[Fusion])


def fuse(folder: StudyFolder, console: Console) -> tuple[Study, list[Fusion]]:
    """Rank all pairs of a study's finished models, and keep the ranking in the study's folder.

    Args:
        folder: The study's.
        console: For the bar.

    Returns:
        The study, and the pairs, best first.

    Raises:
        UsageError: It is no detector's study, or has no finished models.
        RunError: A finished run's predictions are damaged, or the ranking cannot be written.
    """
    study = folder.open("look")
    if study.config.task != "detection":
        raise UsageError(f"fuse: for detection, the study's task is {study.config.task}")
    baseline = study.baseline()
    models = _models(folder, study)
    if baseline is None or len(models) < 2:
        raise UsageError(
            f"{folder.path} has {len(models)} finished models: nothing to fuse", "search it first"
        )
    pairs = [(i, j) for i in range(len(models)) for j in range(len(models)) if i != j]
    found = []
    with bar(console, "fusing pairs") as watch:
        for done, pair in enumerate(pairs, start=1):
            found += fusions(models, study.config, baseline.metrics, [pair])
            watch(done, len(pairs))
    best = ranked(found, study.config.objectives)
    partial = folder.path / f".{FILE}.tmp"
    try:
        partial.write_bytes(_STORED.dump_json(best))
        os.replace(partial, folder.path / FILE)
    except OSError as error:
        raise RunError(f"{folder.path / FILE}: {error.strerror or error}") from error
    return study, best


def stored_fusion(folder: Path, number: int) -> Fusion:
    """A pair that `fuse` has ranked.

    Raises:
        UsageError: There is none of that number, or nothing was fused.
    """
    try:
        found = _STORED.validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"--fusion: nothing was fused in {folder}", f"rarecall fuse {folder}") from None
    except ValidationError as error:
        raise UsageError(f"{folder / FILE}: damaged", f"rarecall fuse {folder}") from error
    chosen = next((one for one in found if one.number == number), None)
    if chosen is None:
        raise UsageError(f"--fusion {number}: there are {len(found)}, from 0", f"rarecall fuse {folder}")
    return chosen


def _models(folder: StudyFolder, study: Study) -> list[Model]:
    """The first seed of the baseline and every finished trial that is one model, with their predictions."""
    runs = [("baseline", trial) for trial in study.baseline_trials() if trial.report is not None][:1]
    runs += [(f"trial {trial.number}", trial) for trial in study.trials() if trial.report is not None]
    return [
        _model(folder, name, trial.strategy, trial.report)
        for name, trial in runs
        if trial.report is not None and trial.strategy.division.dual_share == 0
    ]


def _model(folder: StudyFolder, name: str, strategy: Strategy, report: TrialReport) -> Model:
    files = folder.files.result(report.key)
    if files is None:
        raise RunError(
            f"the predictions of {name} are gone from {folder.files.root / report.key}, or damaged"
        )
    found = {"": _detections(files / PREDICTIONS_FILE)}
    if (files / MERGED_FILE).is_file():
        found[MERGED] = _detections(files / MERGED_FILE)
    return Model(name, strategy, report.seconds, found)


def _detections(file: Path) -> DetectionPredictions:
    stored = load_predictions(file, "detection")
    assert isinstance(stored, DetectionPredictions)
    return replace(stored, shipped=None)

"""A trial's strategy, training arguments, metrics and weights, as files that need no rarecall to read."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search.judging.front import best_feasible
from search.record.experiments import CONFIRMATIONS
from search.record.folder import StudyFolder
from search.record.study import Study, StudyTrial
from spaces.errors import UsageError
from trainables.contract.predictions import ClassificationPredictions, load_predictions
from trainables.evaluation.classification import confusion_matrix


def verdicts(study: Study) -> dict[int, dict[str, Any]]:
    """The last verdict on each trial that was confirmed, by trial number, as plain values.

    Read from the record as it is: the statistics that wrote it take a second to load.
    """
    found = {}
    for name in study.experiments():
        if name.startswith(CONFIRMATIONS):
            for text in study.experiment(name).conclusions[-1:]:
                for result in json.loads(text, parse_constant=lambda _: None)["results"]:
                    if result["candidate"]["trial"] is not None:
                        found[result["candidate"]["trial"]] = {"experiment": name, **result["verdict"]}
    return found


def choose(study: Study, number: int | None) -> StudyTrial:
    """The trial to export: the one asked for, else the best accepted one, else the best feasible one.

    Of accepted trials the best is the one whose gain in the first objective has the highest lower bound.

    Raises:
        UsageError: There is no such finished trial.
    """
    trials = study.trials()
    if number is None:
        accepted = {of: said for of, said in verdicts(study).items() if said["outcome"] == "accepted"}
        if accepted:
            surest = max(accepted, key=lambda of: float(accepted[of]["bounds"][0]["lower"]))
            return next(trial for trial in trials if trial.number == surest)
        best = best_feasible(trials, study.config.objectives[0])
        if best is None:
            raise UsageError("no trial is feasible yet, so none is best", "name one with --trial N")
        return best
    chosen = next((trial for trial in trials if trial.number == number), None)
    if chosen is None or chosen.report is None:
        state = "no such trial" if chosen is None else f"it is {chosen.state}"
        numbers = ", ".join(str(trial.number) for trial in trials if trial.report is not None)
        raise UsageError(f"--trial {number}: {state}", f"finished trials: {numbers or 'none'}")
    return chosen


def export_trial(folder: StudyFolder, study: Study, trial: StudyTrial, target: Path | None) -> Path:
    """Write the bundle of `trial`.

    Args:
        folder: The study's.
        study: Its record.
        trial: A finished trial.
        target: Where to; `export/trial-<number>` in the study's folder if None. Files there are replaced.

    Returns:
        The bundle's folder: `strategy.yaml`, `train.yaml`, `metrics.json` (a classifier's has its confusion
        matrix), the weights and predictions, and `verdict.json` if the trial was confirmed.

    Raises:
        UsageError: The trial's files are gone, or `target` cannot be written.
    """
    assert trial.report is not None
    config = study.config
    files = folder.result(trial.report.key)
    if files is None:
        raise UsageError(
            f"the files of trial {trial.number} are gone from {folder.trials / trial.report.key}"
        )
    bundle = target if target is not None else folder.export / f"trial-{trial.number}"
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        _write_yaml(bundle / "strategy.yaml", trial.strategy.knobs())
        minority = list(folder.minority())
        what = {"task": config.task, "data": config.data, "minority": minority, "seed": trial.seed}
        _write_yaml(bundle / "train.yaml", what | config.train.model_dump(mode="json"))
        measured = {
            "metrics": trial.report.metrics,
            "guards": trial.violations,
            "applied": trial.report.applied,
        }
        if config.task == "classification":
            measured["confusion_matrix"] = _confusion(files / "predictions.npz")
        (bundle / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
        verdict = verdicts(study).get(trial.number)
        if verdict is not None:
            (bundle / "verdict.json").write_text(json.dumps(verdict, indent=2) + "\n")
        for path in files.iterdir():
            if not path.name.startswith("."):  # Ray keeps a note of its own beside a checkpoint
                shutil.copy(path, bundle / path.name)
    except OSError as error:
        raise UsageError(f"cannot write {bundle}: {error}", "choose another folder with --out") from None
    return bundle


def _confusion(file: Path) -> dict[str, Any]:
    """Share of the images of each class (rows) that are called each class, as trained and by tuned biases.

    The row of a class without an image is null.
    """
    stored = load_predictions(file)
    assert isinstance(stored, ClassificationPredictions)
    decisions = {"untouched": confusion_matrix(stored), "tuned": confusion_matrix(stored, tuned=True)}
    return {"class_names": stored.class_names.tolist()} | {
        name: [None if np.isnan(row).any() else row.tolist() for row in shares]
        for name, shares in decisions.items()
    }


def _write_yaml(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False))

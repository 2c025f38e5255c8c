"""A trial's strategy, training arguments, metrics and weights, as files that need no rarecall to read."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from search.config import StudyConfig
from search.folder import StudyFolder
from search.pareto import best_feasible
from search.study import Study, StudyTrial
from spaces.errors import UsageError


def choose(study: Study, number: int | None) -> StudyTrial:
    """The trial to export: the one asked for, else the feasible one with the highest first objective.

    Raises:
        UsageError: There is no such finished trial.
    """
    trials = study.trials()
    if number is None:
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


def export_trial(folder: StudyFolder, config: StudyConfig, trial: StudyTrial, target: Path | None) -> Path:
    """Write the bundle of `trial`.

    Args:
        folder: The study's.
        config: The study's.
        trial: A finished trial.
        target: Where to; `export/trial-<number>` in the study's folder if None. Files there are replaced.

    Returns:
        The bundle's folder: `strategy.yaml`, `train.yaml`, `metrics.json`, the weights and predictions.

    Raises:
        UsageError: The trial's files are gone, or `target` cannot be written.
    """
    assert trial.report is not None
    files = folder.result(trial.report.key)
    if files is None:
        raise UsageError(
            f"the files of trial {trial.number} are gone from {folder.trials / trial.report.key}"
        )
    bundle = target if target is not None else folder.export / f"trial-{trial.number}"
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        _write_yaml(bundle / "strategy.yaml", trial.strategy.knobs())
        minority = config.minority if config.minority == "auto" else list(config.minority)
        what = {"task": config.task, "data": config.data, "minority": minority, "seed": trial.seed}
        _write_yaml(bundle / "train.yaml", what | config.train.model_dump(mode="json"))
        measured = {
            "metrics": trial.report.metrics,
            "guards": trial.violations,
            "applied": trial.report.applied,
        }
        (bundle / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
        for path in files.iterdir():
            if not path.name.startswith("."):  # Ray keeps a note of its own beside a checkpoint
                shutil.copy(path, bundle / path.name)
    except OSError as error:
        raise UsageError(f"cannot write {bundle}: {error}", "choose another folder with --out") from None
    return bundle


def _write_yaml(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False))

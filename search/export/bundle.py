"""A trial's strategy, training arguments, metrics and weights, as files that need no rarecall to read."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search.export.standalone import write_classifier
from search.judging.confirmation import Judged, verdicts
from search.record.folder import StudyFolder
from search.record.study import Study, StudyTrial
from spaces.errors import UsageError
from trainables.contract.predictions import (
    MINORITY_WEIGHTS,
    PREDICTIONS_FILE,
    ClassificationPredictions,
    DetectionPredictions,
    load_predictions,
)
from trainables.contract.tasks import TASKS
from trainables.contract.trial import REPORT, WholeImages
from trainables.evaluation.classification import confusion_matrix


def export_trial(folder: StudyFolder, study: Study, trial: StudyTrial, target: Path | None) -> Path:
    """Write the bundle of `trial`.

    Args:
        folder: The study's.
        study: Its record.
        trial: A finished trial.
        target: Where to; `export/trial-<number>` in the study's folder if None. Files there are replaced.

    Returns:
        The bundle's folder: `strategy.yaml`, `train.yaml`, `metrics.json` (a classifier's has its confusion
        matrix), the weights and predictions, what it takes to use them (a detector's arguments in
        `predict.yaml`, for a classifier a script that needs only torch), and `verdict.json` if the trial was
        confirmed.

    Raises:
        UsageError: The trial's files are gone, or `target` cannot be written.
        RunError: Its predictions are damaged; nothing is written then.
    """
    assert trial.report is not None
    config = study.config
    files = folder.files.result(trial.report.key, hashed=True)
    if files is None:
        place = folder.files.root / trial.report.key
        raise UsageError(f"the files of trial {trial.number} are gone from {place}, or damaged")
    bundle = target if target is not None else folder.export / f"trial-{trial.number}"
    measured = {
        "metrics": trial.report.metrics,
        "guards": trial.violations,
        "applied": trial.report.applied,
    }
    shipped = None
    if TASKS[config.task].one_class_per_image:
        measured["confusion_matrix"] = _confusion(files / "predictions.npz")
    else:
        shipped = _use(files, config.train.imgsz)
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        _write_yaml(bundle / "strategy.yaml", trial.strategy.knobs())
        what = {
            "task": config.task,
            "data": _plain(config.data),
            "minority": list(study.minority),
            "seed": trial.seed,
        } | ({} if config.pixel_max is None else {"pixel_max": config.pixel_max})
        _write_yaml(bundle / "train.yaml", what | config.train.model_dump(mode="json"))
        if TASKS[config.task].one_class_per_image:
            write_classifier(bundle, config.train.model)
        if shipped is not None:
            for name, use in shipped.items():
                _write_yaml(bundle / name, use, _how_to_read(config.pixel_max))
        (bundle / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
        judged = verdicts(study).get(trial.number)
        if judged is not None:
            (bundle / "verdict.json").write_text(json.dumps(_verdict(judged), indent=2) + "\n")
        for path in files.iterdir():
            # Ray keeps a note of its own beside a checkpoint; the report is in `metrics.json`.
            if not path.name.startswith(".") and path.name != REPORT:
                shutil.copy(path, bundle / path.name)
    except OSError as error:
        raise UsageError(f"cannot write {bundle}: {error}", "choose another folder with --out") from None
    return bundle


def _plain(data: str | WholeImages) -> str | dict[str, Any]:
    """As a study file has it."""
    return data if isinstance(data, str) else data.model_dump(mode="json", exclude_none=True)


def _verdict(judged: Judged) -> dict[str, Any]:
    """As plain values; infinite degrees of freedom are null."""
    plain = json.loads(judged.result.model_dump_json(include={"verdict"}), parse_constant=lambda _: None)
    return {"experiment": judged.experiment, **plain["verdict"]}


def _use(files: Path, imgsz: int) -> dict[str, dict[str, Any]] | None:
    """Arguments of `YOLO.predict` under which the weights find what `deployed/...` counts, by file.

    Of two models those of each, and the classes to take from it. None where there are no predictions, or they
    are of 0.1.0, which chose none.
    """
    file = files / PREDICTIONS_FILE
    stored = load_predictions(file) if file.exists() else None
    if not isinstance(stored, DetectionPredictions) or stored.shipped is None:
        return None
    use = {"conf": stored.shipped.conf, "iou": stored.iou, "imgsz": imgsz, "rect": False}
    if not (files / MINORITY_WEIGHTS).is_file():
        return {"predict.yaml": use | {"max_det": stored.max_det}}
    use |= {"max_det": stored.max_det // 2}  # of both models together
    minority: list[int] = stored.minority.tolist()
    majority = [i for i in range(len(stored.class_names)) if i not in minority]
    return {
        "predict.yaml": use | {"classes": majority},
        "predict_minority.yaml": use | {"classes": minority},
    }


def _how_to_read(pixel_max: int | None) -> str:
    """What plain Ultralytics does not do by itself with 16-bit images, as comments of a yaml."""
    if pixel_max is None:
        return ""
    return (
        f"# Of 16-bit values {pixel_max} was white in the training, but `YOLO.predict` of a file keeps the\n"
        "# high byte of each. Give it the pixels instead:\n"
        "#   pixels = cv2.imread(file, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)\n"
        f"#   pixels = np.rint(np.minimum(pixels, {pixel_max}) * (255 / {pixel_max})).astype(np.uint8)\n"
        "#   found = model.predict(pixels, **use)\n"
    )


def _confusion(file: Path) -> dict[str, Any]:
    """Share of the images of each class (rows) that are called each class, as trained and by tuned biases.

    The row of a class without an image is null.
    """
    stored = load_predictions(file, "classification")
    assert isinstance(stored, ClassificationPredictions)
    decisions = {"untouched": confusion_matrix(stored), "tuned": confusion_matrix(stored, tuned=True)}
    return {"class_names": stored.class_names.tolist()} | {
        name: [None if np.isnan(row).any() else row.tolist() for row in shares]
        for name, shares in decisions.items()
    }


def _write_yaml(path: Path, value: Mapping[str, object], comment: str = "") -> None:
    path.write_text(comment + yaml.safe_dump(dict(value), sort_keys=False))

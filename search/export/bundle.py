"""A run's configuration, metrics and weights, as files that need no rarecall to read."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search.export.chosen import Chosen
from search.export.contents.card import CARD, PROVENANCE, model_card, provenance, requirements
from search.export.contents.converting import MLFLOW, check_formats, convert
from search.export.contents.retraining import write_training
from search.export.contents.standalone import (
    SCRIPT,
    write_classifier,
    write_detector,
    write_template,
)
from search.export.writing import MARK, new_folder
from search.judging.confirmation import Judged
from search.record.folder import StudyFolder
from search.record.study import Study
from spaces.strategy import Strategy
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

CONFIG = "config.yaml"  # what `--best-config` prints


def export_run(
    folder: StudyFolder,
    study: Study,
    chosen: Chosen,
    target: Path | None = None,
    *,
    force: bool = False,
    formats: Collection[str] = (),
) -> Path:
    """Write the bundle of a run.

    Args:
        folder: The study's.
        study: Its record.
        chosen: Which run.
        target: Where to; `export/<its name>` in the study's folder if None.
        force: Take the place of another bundle.
        formats: Of the weights besides `.pt`; of `converting.FORMATS`.

    Returns:
        The bundle's folder: `config.yaml`, `metrics.json` (a classifier's has its confusion matrix), the
        weights and predictions, `predict.py` and `train.py` that use and train them without rarecall (also,
        for plain Ultralytics, a detector's `predict.yaml`, and `train.yaml` if it can express the training),
        `MODEL_CARD.md`, `provenance.json`, requirements, and `verdict.json` if it was confirmed.

    Raises:
        UsageError: The run's weights were removed or are gone, or `target` cannot be written or holds
            something.
        RunError: Its predictions are damaged, or its weights cannot be written in one of `formats`; there is
            no bundle then.
    """
    task, train = study.config.task, study.config.train
    check_formats(formats)
    leaves = TASKS[task].leaves_predictions
    files = folder.files.to_use(chosen.report.key, chosen.name, weights=leaves, hashed=True)
    measured = {
        "of": chosen.name,
        "split": chosen.split,
        "metrics": chosen.report.metrics,
        "guards": chosen.violations,
        "applied": chosen.report.applied,
    }
    one_class = TASKS[task].one_class_per_image
    if one_class:
        measured["confusion_matrix"] = _confusion(files / PREDICTIONS_FILE)
    found = None if one_class else _predictions(files)
    shipped = None if found is None else _use(files, found, train.imgsz)
    bundle = folder.export / chosen.folder if target is None else target
    with new_folder(bundle, force=force) as partial:
        (partial / CONFIG).write_text(as_yaml(configuration(study, chosen)))
        if one_class:
            write_classifier(partial, train.model)
        elif shipped is not None:
            write_detector(partial)
        for name, use in (shipped or {}).items():
            (partial / name).write_text(_how_to_read(study.config.pixel_max) + as_yaml(use))
        (partial / MARK).write_text(json.dumps(measured, indent=2) + "\n")
        if chosen.judged is not None:
            (partial / "verdict.json").write_text(json.dumps(_verdict(chosen.judged), indent=2) + "\n")
        for path in files.iterdir():
            # Ray keeps a note of its own beside a checkpoint; the report is in `metrics.json`.
            if not path.name.startswith(".") and path.name != REPORT:
                shutil.copy(path, partial / path.name)
        (partial / PROVENANCE).write_text(provenance(folder, study, chosen))
        usable = (partial / SCRIPT).is_file()
        again = ["`rarecall search` and `rarecall confirm` train it, by `config.yaml`."]
        if usable:  # else the toy, or a detector's of 0.1.0
            for name, content in requirements(study.config, formats).items():
                (partial / name).write_text(content)
            again = write_training(partial, folder, study, chosen, found)
        (partial / CARD).write_text(model_card(folder, study, chosen, again, usable=usable))
        if "mlflow" in formats and usable:
            write_template(partial, MLFLOW, MLFLOW)
        if formats:
            convert(partial, formats)
    return bundle


def configuration(study: Study, chosen: Chosen) -> dict[str, Any]:
    """A run's whole configuration as plain values, for a pipeline of one's own."""
    config, lacks = study.config, TASKS[study.config.task].lacks
    fusion = {} if chosen.fusion is None else {"fusion": chosen.fusion.model_dump(mode="json")}
    if chosen.fusion is not None:
        fusion["fusion"]["majority"] = _knobs(chosen.fusion.majority, lacks)
    pixels = {} if config.pixel_max is None else {"pixel_max": config.pixel_max}
    return {
        "task": config.task,
        "data": _plain(config.data),
        "minority": list(study.minority),
        **pixels,
        "seed": chosen.seed,
        "strategy": _knobs(chosen.strategy, lacks),
        **fusion,
        "train": config.train.model_dump(mode="json"),
    }


def _knobs(strategy: Strategy, lacks: Collection[str]) -> dict[str, float]:
    return {knob: value for knob, value in strategy.knobs().items() if knob not in lacks}


def _plain(data: str | WholeImages) -> str | dict[str, Any]:
    """As a study file has it."""
    return data if isinstance(data, str) else data.model_dump(mode="json", exclude_none=True)


def _verdict(judged: Judged) -> dict[str, Any]:
    """As plain values; infinite degrees of freedom are null."""
    plain = json.loads(judged.result.model_dump_json(include={"verdict"}), parse_constant=lambda _: None)
    return {"experiment": judged.experiment, **plain["verdict"]}


def _predictions(files: Path) -> DetectionPredictions | None:
    """A detector's; None where there are none, or they are of 0.1.0, which chose no use of the weights."""
    file = files / PREDICTIONS_FILE
    stored = load_predictions(file) if file.exists() else None
    return stored if isinstance(stored, DetectionPredictions) and stored.shipped is not None else None


def _use(files: Path, stored: DetectionPredictions, imgsz: int) -> dict[str, dict[str, Any]]:
    """Arguments of `YOLO.predict` under which the weights find what `deployed/...` counts, by file.

    Of two models those of each, and the classes to take from it.
    """
    assert stored.shipped is not None
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


def as_yaml(value: Mapping[str, object]) -> str:
    """In the order of its keys."""
    return yaml.safe_dump(dict(value), sort_keys=False)

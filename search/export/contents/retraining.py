"""What trains a run once more: `train.py` with our source, exactly; `train.yaml`, in plain Ultralytics.

And the list of the images that it is trained on, after undersampling.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from search.export.chosen import Chosen
from search.export.contents.carried import CARRIED, START, carry, source
from search.export.contents.plain import write_plain
from search.export.contents.standalone import write_template
from search.record.folder import StudyFolder
from search.record.study import Study
from spaces.errors import UsageError
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.tasks import Task
from trainables.contract.trial import TrainSpec
from trainables.detector.models import OUR_DETECTORS, own_file
from trainables.storage.reading import StorageAway

SCRIPT, SETTINGS, LIST = "train.py", "train.json", "train.txt"
# Task -> what of our source the others need alone.
WITHOUT: dict[Task, Collection[str]] = {
    "detection": ("trainables.classifier", "trainables.worker.toy"),
    "classification": ("trainables.detector", "trainables.worker.toy"),
}


def write_training(
    bundle: Path,
    folder: StudyFolder,
    study: Study,
    chosen: Chosen,
    found: DetectionPredictions | None,
) -> list[str]:
    """Write all that trains a run once more.

    Args:
        bundle: A folder that exists.
        folder: The study's.
        study: Its record.
        chosen: The run.
        found: Predictions of a detector; None for a classifier.

    Returns:
        Paragraphs on how it is trained.

    Raises:
        OSError: A file cannot be written.
    """
    config = study.config
    script = write_template(bundle, SCRIPT, SCRIPT)
    carry(bundle, [script], WITHOUT[config.task])
    ours = OUR_DETECTORS / config.train.model
    if own_file(config.train.model) is None and ours.is_file():
        name = f"trainables/detector/{config.train.model}"
        (bundle / CARRIED / name).write_bytes(source(name))
    gone = _copy_start(bundle, config.train)
    (bundle / SETTINGS).write_text(json.dumps(_settings(folder, study, chosen), indent=2) + "\n")
    same = "the same metrics" if chosen.report.device == "cpu" else "about the same metrics"
    said = [
        f"`pip install -r requirements-train.txt && python {SCRIPT} --out again` trains it as it was, by "
        f"`{SETTINGS}`: the same data, strategy and seed, so that it ends with {same}; `--data` says where "
        "the data are now.",
        *(f"`{file}`, which it starts from, was gone: put it into `{START}`." for file in gone),
    ]
    return [*said, *_listed(bundle, study, chosen, found)]


def _settings(folder: StudyFolder, study: Study, chosen: Chosen) -> dict[str, Any]:
    """What `train.py` reads."""
    return {
        "spec": chosen.spec(study).model_dump(mode="json"),
        "threads": max(1, int(study.resources.cpu)),  # as `cluster.here` has it; sums depend on them
        "device": "cpu" if chosen.report.device == "cpu" else "cuda",
        "data_fingerprint": folder.provenance.data_fingerprint,
        "shown": study.config.shown_metrics,
    }


def _copy_start(bundle: Path, train: TrainSpec) -> list[str]:
    """Copy a person's own model and weights; names of those that are gone."""
    gone = []
    for name in (train.model, train.weights):
        if name is None or not Path(name).is_absolute():
            continue  # what we or a library ship
        if not Path(name).is_file():
            gone.append(Path(name).name)
            continue
        (bundle / START).mkdir(exist_ok=True)
        shutil.copy(name, bundle / START)
    return gone


def _listed(bundle: Path, study: Study, chosen: Chosen, found: DetectionPredictions | None) -> list[str]:
    """Write which images are kept, and what plain Ultralytics needs; paragraphs that say so."""
    # Other commands, too, load this file, and need not wait for what reads images.
    from search.export.contents.listing import images_of_run  # noqa: PLC0415

    try:
        listed = images_of_run(chosen.spec(study))
    except (UsageError, StorageAway) as error:
        return [f"There is no list of its training images: {error.message}."]
    images = listed.splits["train"]
    (bundle / LIST).write_text("".join(f"{name}\n" for name in images))
    said = [f"`{LIST}` names the {len(images)} training images that the strategy keeps."]
    return said if found is None else [*said, *write_plain(bundle, study.config, chosen, found, listed)]

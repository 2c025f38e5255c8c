"""Telling a tracker by its name, at the place that a person named, or else at its usual one."""

import os
from pathlib import Path

from search.export.trackers.runs import TrackedStudy
from search.export.trackers.to_mlflow import SQLITE, to_mlflow
from search.export.trackers.to_tensorboard import to_tensorboard
from search.export.trackers.to_wandb import to_wandb
from search.export.trackers.told import Told
from search.request.config import TrackerName


def tell(tracker: TrackerName, study: TrackedStudy, folder: Path, uri: str | None = None) -> Told:
    """Tell a tracker what it does not know yet.

    Args:
        tracker: By name.
        study: What to tell.
        folder: For the study, where a tracker keeps its files unless something else is said.
        uri: Where else: a server, a database or, for TensorBoard, a folder. None for what the tracker's own
            environment variables say.

    Raises:
        UsageError: Its package is not installed.
        RunError: It cannot be reached, or refuses.
    """
    match tracker:
        case "mlflow":
            place = uri or os.environ.get("MLFLOW_TRACKING_URI")
            if not place:
                folder.mkdir(exist_ok=True)  # of a study on a storage it is none of the study's
                place = f"{SQLITE}{folder / 'mlflow.db'}"
            return to_mlflow(study, place)
        case "wandb":
            return to_wandb(study, uri, folder)
        case "tensorboard":
            return to_tensorboard(study, uri or str(folder / "tensorboard"))

"""Ultralytics, settled before it is loaded. The only importer of it: these are all the names that are used.

Ultralytics reads its environment when it is first imported, so that is set here: no network, no installing,
no messages, no code that a file of weights or a model yaml names, and a settings file of this node in which
every integration is off. Its bundled Ray callback would report each epoch a second time, and a settings file
that several workers write at once can be torn.
"""

import json
import os
import tempfile
from pathlib import Path

from trainables.contract.node import cache_folder

_QUIET = {
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "YOLO_VERBOSE": "0",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
# Of Ultralytics 8.4.190; a file with other keys would be rewritten by every worker.
_SETTINGS_VERSION = "0.0.8"


def _settle() -> None:
    """Set the environment and write the settings file once, unless another process has."""
    os.environ.update(_QUIET)
    home = cache_folder() / "ultralytics"
    os.environ["YOLO_CONFIG_DIR"] = str(home)
    folder = home / "Ultralytics"  # the name that Ultralytics appends
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "settings.json").exists():
        return
    settings = {
        "settings_version": _SETTINGS_VERSION,
        **{f"{kind}_dir": str(home / kind) for kind in ("datasets", "weights", "runs")},
        "uuid": "",
        "sync": False,
        "api_key": "",
        "openai_api_key": "",
        **dict.fromkeys(_INTEGRATIONS, False),
        "vscode_msg": False,
        "openvino_msg": False,
    }
    handle, partial = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w") as stored:
        json.dump(settings, stored, indent=2)
    Path(partial).replace(folder / "settings.json")


_settle()

# ruff: noqa: E402
from ultralytics import __version__ as ultralytics_version
from ultralytics.data.augment import LetterBox, MixUp, Mosaic, RandomHSV, RandomPerspective
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn import modules as layers
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import guess_model_scale, parse_model, torch_safe_load
from ultralytics.utils import LOGGER, nms, ops
from ultralytics.utils.instance import Instances
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.torch_utils import unset_deterministic, unwrap_model

# It may have been imported before, under another environment: then a model yaml's code would be evaluated.
tasks.SAFE_LOAD = True
LAYERS = frozenset(layers.__all__)

__all__ = [
    "LAYERS",
    "LOGGER",
    "Conv",
    "DetectionTrainer",
    "E2ELoss",
    "InfiniteDataLoader",
    "Instances",
    "LetterBox",
    "MixUp",
    "Mosaic",
    "RandomHSV",
    "RandomPerspective",
    "YOLODataset",
    "guess_model_scale",
    "nms",
    "ops",
    "parse_model",
    "seed_worker",
    "torch_safe_load",
    "ultralytics_version",
    "unset_deterministic",
    "unwrap_model",
    "v8DetectionLoss",
]

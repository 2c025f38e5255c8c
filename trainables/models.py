"""Which models a study may name, checked before anything is loaded. No torch, no Ultralytics."""

import re
from importlib.util import find_spec
from pathlib import Path

from spaces.errors import UsageError
from trainables.trial import Task

CLASSIFIERS = ("small_cnn",)
OUR_DETECTORS = Path(__file__).parent / "detector"


def check_model(model: str, task: Task) -> None:
    """Refuse a model that no worker could build.

    Args:
        model: `small_cnn`; for a detector a path to a yaml or to weights, or the name of a yaml that we
            (`yolo_tiny.yaml`) or Ultralytics (`yolo11n.yaml`) ship. Nothing is ever downloaded.
        task: The study's.

    Raises:
        UsageError: There is no such model.
    """
    if task == "classification" and model not in CLASSIFIERS:
        raise UsageError(
            f"train.model: '{model}' is not yet in this version", f"models: {', '.join(CLASSIFIERS)}"
        )
    if task == "detection" and not (
        Path(model).is_file() or (OUR_DETECTORS / model).is_file() or _ultralytics_ships(model)
    ):
        raise UsageError(
            f"train.model: no such file: {model}",
            "a path to a model yaml or to weights, or a name such as yolo11n.yaml; nothing is downloaded",
        )


def _ultralytics_ships(model: str) -> bool:
    """Whether `model` is one of Ultralytics' detection yamls, with or without its scale letter."""
    package = find_spec("ultralytics")
    assert package is not None
    assert package.origin is not None
    unscaled = re.sub(r"^(yolo\D*\d+)[a-z](.*\.yaml)$", r"\1\2", model)
    shipped = {path.name for path in (Path(package.origin).parent / "cfg" / "models").glob("*/*.yaml")}
    return model in shipped or unscaled in shipped

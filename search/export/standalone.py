"""What a classifier's bundle needs to run on plain torch: a script, and the source of `small_cnn`.

The script is a file of `templates`, copied as it is: all that differs between models is in `weights.pt`.
"""

from importlib.resources import files
from pathlib import Path

from trainables.classifier.models import SMALL_CNN

SCRIPT, MODEL = "predict.py", "model.py"


def write_classifier(bundle: Path, model: str) -> None:
    """Write `predict.py` beside the weights and, for `small_cnn`, `model.py` with its class.

    Args:
        bundle: A folder that exists.
        model: As `train.model` names it.

    Raises:
        OSError: A file cannot be written.
    """
    template = files("search.export") / "templates" / "classifier.py"
    (bundle / SCRIPT).write_text(template.read_text())
    if model == SMALL_CNN:  # torchvision and timm ship their own
        source = files("trainables.classifier") / "small_cnn.py"  # read, not imported: that would load torch
        (bundle / MODEL).write_text(source.read_text())

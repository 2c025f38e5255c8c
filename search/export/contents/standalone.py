"""What a bundle needs to run without rarecall: a script, and the files of our source that it uses.

Scripts are files of `templates`, copied as they are: all that differs between models is in their weights.
"""

from importlib.resources import files
from pathlib import Path

from search.export.contents.carried import carry, source
from search.export.contents.converting import CONVERT
from trainables.classifier.models import SMALL_CNN

SCRIPT, NETWORKS, MODEL = "predict.py", "networks.py", "model.py"


def write_classifier(bundle: Path, model: str) -> None:
    """Write `predict.py` beside the weights and, for `small_cnn`, `model.py` with its class.

    Args:
        bundle: A folder that exists.
        model: As `train.model` names it.

    Raises:
        OSError: A file cannot be written.
    """
    write_template(bundle, "classifier.py", SCRIPT)
    write_template(bundle, CONVERT, CONVERT)
    if model == SMALL_CNN:  # torchvision and timm ship their own
        (bundle / MODEL).write_bytes(source("trainables/classifier/small_cnn.py"))


def write_detector(bundle: Path) -> None:
    """Write `predict.py` beside the weights, and into `carried` what it uses of our source.

    That is NumPy and OpenCV alone, with the packages that it is in.

    Args:
        bundle: A folder that exists.

    Raises:
        OSError: A file cannot be written.
    """
    scripts = [write_template(bundle, "detector.py", SCRIPT), write_template(bundle, NETWORKS, NETWORKS)]
    write_template(bundle, CONVERT, CONVERT)
    carry(bundle, scripts)


def write_template(bundle: Path, template: str, name: str) -> str:
    """Copy a script into a bundle; its text.

    Raises:
        OSError: It cannot be written.
    """
    text = (files("search.export.contents") / "templates" / template).read_text()
    (bundle / name).write_text(text)
    return text

"""What a bundle needs to run without rarecall: a script, and the files of our source that it uses.

Scripts are files of `templates`, copied as they are: all that differs between models is in their weights. Our
source is copied byte for byte, so that what is found is what was measured.
"""

from importlib.resources import files
from pathlib import Path

from search.export.converting import CONVERT
from trainables.classifier.models import SMALL_CNN

SCRIPT, NETWORKS, MODEL, CARRIED = "predict.py", "networks.py", "model.py", "carried"
# NumPy and OpenCV alone, with the packages that they are in.
OF_A_DETECTOR = (
    "trainables/__init__.py",
    "trainables/contract/__init__.py",
    "trainables/contract/merging.py",
    "trainables/data/__init__.py",
    "trainables/data/boxes/__init__.py",
    "trainables/data/boxes/pixels.py",
    "trainables/data/boxes/tiling.py",
    "trainables/evaluation/__init__.py",
    "trainables/evaluation/merging.py",
    "trainables/evaluation/overlaps.py",
    "trainables/evaluation/weighted_boxes.py",
)


def write_classifier(bundle: Path, model: str) -> None:
    """Write `predict.py` beside the weights and, for `small_cnn`, `model.py` with its class.

    Args:
        bundle: A folder that exists.
        model: As `train.model` names it.

    Raises:
        OSError: A file cannot be written.
    """
    _write_template(bundle, "classifier.py", SCRIPT)
    _write_template(bundle, CONVERT, CONVERT)
    if model == SMALL_CNN:  # torchvision and timm ship their own
        (bundle / MODEL).write_bytes(_source("trainables/classifier/small_cnn.py"))


def write_detector(bundle: Path) -> None:
    """Write `predict.py` beside the weights, and into `carried` what it uses of our source.

    Args:
        bundle: A folder that exists.

    Raises:
        OSError: A file cannot be written.
    """
    _write_template(bundle, "detector.py", SCRIPT)
    _write_template(bundle, NETWORKS, NETWORKS)
    _write_template(bundle, CONVERT, CONVERT)
    for name in OF_A_DETECTOR:
        place = bundle / CARRIED / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_source(name))


def _write_template(bundle: Path, template: str, name: str) -> None:
    (bundle / name).write_bytes((files("search.export") / "templates" / template).read_bytes())


def _source(name: str) -> bytes:
    """Of a file of our packages; read, not imported: that would load torch."""
    package, _, path = name.partition("/")
    return files(package).joinpath(path).read_bytes()

"""Which models a detection study may name, checked before anything is loaded. No torch, no Ultralytics.

Of a weights file only the names of the classes in its pickle are read; nothing in it is run.
"""

import difflib
import pickletools
import re
import zipfile
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import UsageError

OUR_DETECTORS = Path(str(files("trainables.detector")))
HEADS = ("Detect", "v10Detect")  # what a strategy's class loss fits
# How Ultralytics pickles a detector; the second is YOLOv10's in versions before 8.3.
DETECTORS = {"DetectionModel", "YOLOv10DetectionModel"}
KINDS = "a path to a model yaml or to weights (.pt), or a name such as yolo11n.yaml; nothing is downloaded"


def check_detector(model: str) -> None:
    """Refuse a model that no worker could build, or that no strategy could be applied to.

    Args:
        model: A path to a yaml or to weights, or the name of a yaml that we (`yolo_tiny.yaml`) or Ultralytics
            (`yolo11n.yaml`) ship. Nothing is ever downloaded.

    Raises:
        UsageError: There is no such model, or it is no detector.
    """
    suffix = Path(model).suffix.lower()
    if suffix in {".yaml", ".yml"}:
        _check_yaml(model)
    elif suffix == ".pt":
        _check_weights(model)
    elif suffix and Path(model).exists():
        raise UsageError(
            f"train.model: neither a model yaml nor weights (.pt): {model}",
            "an exported model (ONNX, TensorRT, …) cannot be trained; name what it was exported from",
        )
    else:
        raise _missing(model)


def _missing(model: str) -> UsageError:
    stems = {Path(name).stem: name for name in _known_yamls()}
    close = difflib.get_close_matches(Path(model).stem.lower(), stems, n=1, cutoff=0.75)
    meant = f"did you mean '{stems[close[0]]}'? " if close else ""
    return UsageError(f"train.model: no such file: {model}", meant + KINDS)


def _known_yamls() -> list[str]:
    """The names of all detectors that we or Ultralytics ship, each with its letters of scale."""
    found = [file.name for file in OUR_DETECTORS.glob("*.yaml")]
    for name, file in _shipped_yamls().items():
        described = _read(file)
        if _head(described) in HEADS:
            scales = described.get("scales", {})
            scaled = [re.sub(r"^(yolov?\d+)(?=[-.])", rf"\g<1>{scale}", name) for scale in scales]
            found += scaled or [name]
    return found


def _check_yaml(model: str) -> None:
    """Raise unless the yaml describes a detector that a strategy's loss fits."""
    places = (OUR_DETECTORS / model, Path(model), _shipped_yaml(model))
    file = next((place for place in places if place is not None and place.is_file()), None)
    if file is None:
        raise _missing(model)
    head = _head(_read(file))
    if head is None:
        raise UsageError(
            f"train.model: {model} describes no model: keys nc, backbone and head expected", KINDS
        )
    if head not in HEADS:
        raise UsageError(
            f"train.model: {model} has the head {head}, which is not that of a YOLO detector",
            f"a model whose last layer is {' or '.join(HEADS)}, such as yolo11n.yaml",
        )


def _shipped_yaml(name: str) -> Path | None:
    """The file of a yaml that Ultralytics ships, by its name with or without its letter of scale."""
    shipped = _shipped_yamls()
    scaled = re.fullmatch(r"(yolov?\d+)([a-z])(.*\.yaml)", name)
    if name in shipped or scaled is None:
        return shipped.get(name)
    file = shipped.get(scaled[1] + scaled[3])
    # Ultralytics would build a model without scales whatever the letter, and call it by that name.
    return file if file is not None and scaled[2] in _read(file).get("scales", {}) else None


def _shipped_yamls() -> dict[str, Path]:
    package = find_spec("ultralytics")
    assert package is not None
    assert package.origin is not None
    return {file.name: file for file in (Path(package.origin).parent / "cfg" / "models").glob("*/*.yaml")}


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"train.model: {file}: no valid yaml: {error}") from error


def _head(described: Any) -> str | None:
    """The last layer's kind in a model yaml, `[from, repeats, kind, arguments]` each; None if it is none."""
    complete = isinstance(described, dict) and {"nc", "backbone", "head"} <= described.keys()
    layers = described["head"] if complete else None
    last = layers[-1] if isinstance(layers, list) and layers else None
    return str(last[2]) if isinstance(last, list) and len(last) > 2 else None


def _check_weights(model: str) -> None:
    """Raise unless the file holds a detector as Ultralytics stores it."""
    file = Path(model)
    if not file.is_file():
        raise _missing(model)
    stored = _pickled_classes(file)
    networks = {name for module, name in stored if module == "ultralytics.nn.tasks"}
    if networks and networks <= DETECTORS:
        return
    if any(module == "models.yolo" for module, _ in stored):
        raise UsageError(
            f"train.model: weights of the YOLOv5 repository, whose anchors Ultralytics lacks: {model}",
            "start from yolov5s.yaml, or from Ultralytics' own yolov5su.pt",
        )
    if networks:
        found = ", ".join(sorted(networks - DETECTORS))
        raise UsageError(
            f"train.model: weights of a {found}, not of a detector: {model}",
            "weights of a DetectionModel, such as yolo11n.pt",
        )
    raise UsageError(
        f"train.model: no weights of an Ultralytics detector: {model}",
        "a .pt file as Ultralytics' training or `rarecall export` writes it; no TorchScript",
    )


@lru_cache(maxsize=8)
def _pickled_classes(file: Path) -> set[tuple[str, str]]:
    """(module, name) of everything that a file written by torch would import; empty if it is no such file."""
    if not zipfile.is_zipfile(file):
        return set()
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        opcodes = [code for name in pickles for code in pickletools.genops(archive.read(name))]
    named = (str(argument).split(" ") for opcode, argument, _ in opcodes if opcode.name == "GLOBAL")
    return {(module, name) for module, name in named}

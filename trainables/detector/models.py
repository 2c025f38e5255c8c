"""Which models a detection study may name, checked before anything is loaded. No torch, no Ultralytics.

Of a weights file only the names in its pickle are read; nothing in it is run. `arguments` loads it.
"""

import difflib
import pickletools
import re
from collections.abc import Collection
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spaces.errors import UsageError
from spaces.yaml_file import read_yaml
from trainables.contract.trust import pickles_in

OUR_DETECTORS = Path(str(files("trainables.detector")))
HEADS = ("Detect", "v10Detect")  # what a strategy's class loss fits
# How Ultralytics pickles a detector; the second is YOLOv10's in versions before 8.3.
DETECTORS = {"DetectionModel", "YOLOv10DetectionModel"}
# What a description may hold; what Ultralytics ships has less than a tenth of the first two.
MOST_NODES, MOST_REPEATS, MOST_DEPTH, MOST_NUMBER = 10_000, 100, 10.0, 10_000
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


def own_file(model: str) -> Path | None:
    """The file of a model that a person names by its path; None for one that we or Ultralytics ship."""
    file, ours = Path(model), OUR_DETECTORS / model  # of an absolute path both are the same
    return file if file.is_file() and (file == ours or not ours.is_file()) else None


def _missing(model: str) -> UsageError:
    stems = {Path(name).stem: name for name in _known_yamls()}
    close = difflib.get_close_matches(Path(model).stem.lower(), stems, n=1, cutoff=0.75)
    meant = f"did you mean '{stems[close[0]]}'? " if close else ""
    return UsageError(f"train.model: no such file: {model}", meant + KINDS)


def _known_yamls() -> list[str]:
    """The names of all detectors that we or Ultralytics ship, each with its letters of scale."""
    found = [file.name for file in OUR_DETECTORS.glob("*.yaml")]
    for name, file in _shipped_yamls().items():
        described = read_description(file)
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
    head = _head(read_description(file))
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
    return file if file is not None and scaled[2] in read_description(file).get("scales", {}) else None


def _shipped_yamls() -> dict[str, Path]:
    package = find_spec("ultralytics")
    assert package is not None
    assert package.origin is not None
    return {file.name: file for file in (Path(package.origin).parent / "cfg" / "models").glob("*/*.yaml")}


def read_description(file: Path) -> Any:
    """What a model yaml says.

    Raises:
        UsageError: It is no yaml, or no reasonable one.
    """
    try:
        return read_yaml(file)
    except UsageError as error:
        raise UsageError(f"train.model: {error.message}", error.hint) from None


def check_layers(described: Any, layers: Collection[str], where: str) -> None:
    """Refuse a description that does more than name layers, so often and so large as a detector has them.

    Args:
        described: As a model yaml or weights hold it; scales, repeats and arguments may be anything.
        layers: Names of Ultralytics' own layers; torch's and torchvision's are known by their prefix.
        where: The file, for the error.

    Raises:
        UsageError: It does.
    """
    complete = _head(described) is not None and isinstance(described["backbone"], list)
    if not complete or not _is_small(described):
        raise UsageError(f"train.model: {where}: no description of a detector, or one without end")
    depths = [described.get("depth_multiple") or 1.0, *_depths(described.get("scales"))]
    if not all(isinstance(depth, int | float) and 0 < depth <= MOST_DEPTH for depth in depths):
        raise UsageError(f"train.model: {where}: a depth multiple must be a number up to {MOST_DEPTH:g}")
    for number, layer in enumerate([*described["backbone"], *described["head"]]):
        wrong = _wrong_with(layer, layers)
        if wrong is not None:
            raise UsageError(
                f"train.model: {where}: layer {number}: {wrong}", "[from, repeats, kind, arguments]"
            )


def _depths(scales: Any) -> list[Any]:
    """The depth of each scale, `[depth, width, most channels]`; None for what is no scale."""
    each = scales.values() if isinstance(scales, dict) else () if scales is None else (None,)
    return [scale[0] if isinstance(scale, list) and scale else None for scale in each]


def _is_small(described: Any) -> bool:
    """Whether it has few nodes and no huge numbers; an alias counts each time that it is used."""
    left, seen = [described], 0
    while left and seen <= MOST_NODES:
        node, seen = left.pop(), seen + 1
        if isinstance(node, dict):
            left += node.values()
        elif isinstance(node, list | tuple):
            left += node
        elif isinstance(node, int) and abs(node) > MOST_NUMBER:
            return False
    return seen <= MOST_NODES


def _wrong_with(layer: Any, layers: Collection[str]) -> str | None:
    """Why a layer is none that a description may name, or None."""
    if not isinstance(layer, list) or len(layer) != 4 or not isinstance(layer[3], list):
        return "four entries expected"
    _, repeats, kind, arguments = layer
    if not isinstance(repeats, int) or not 0 < repeats <= MOST_REPEATS:
        return f"from 1 to {MOST_REPEATS} repeats expected"
    if not isinstance(kind, str) or not (kind in layers or re.fullmatch(r"(nn|torchvision\.ops)\.\w+", kind)):
        return f"no such layer: {str(kind)[:80]}"
    if kind == "TorchVision" and (len(arguments) < 3 or arguments[2] not in (None, "None")):
        return "TorchVision would download weights: None expected in the place of DEFAULT"
    return None


def _head(described: Any) -> str | None:
    """The last layer's kind in a model yaml, `[from, repeats, kind, arguments]` each; None if it is none."""
    complete = isinstance(described, dict) and {"nc", "backbone", "head"} <= described.keys()
    layers = described["head"] if complete else None
    last = layers[-1] if isinstance(layers, list) and layers else None
    kind = last[2] if isinstance(last, list) and len(last) > 2 else None
    return kind if isinstance(kind, str) else None


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


def _pickled_classes(file: Path) -> set[tuple[str, str]]:
    """(module, name) of everything that a file written by torch would import; empty if it is no such file."""
    found = set()
    for pickled in pickles_in(file):
        try:
            for opcode, argument, _ in pickletools.genops(pickled):
                if opcode.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    found.add((module, name))
        except ValueError as error:
            raise UsageError(f"train.model: {file}: its pickle is cut or damaged: {error}") from None
    return found

"""What Ultralytics is asked for a run: its arguments, and a model that it finds without the network.

A model of one's own, weights or a yaml, comes in here only, by `own_model`: it runs no code, unless its
weights are trusted, and takes a bounded memory to read.
"""

import pickle
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from spaces.errors import UsageError
from trainables.contract.memory import is_out_of_memory
from trainables.contract.node import own_threads
from trainables.contract.trial import TrialFolder, TrialSpec
from trainables.contract.trust import bounded_memory, trust_hint, trusts_weights
from trainables.data.boxes.listed import BoxData
from trainables.detector.models import OUR_DETECTORS, check_detector, check_layers, read_description
from trainables.detector.settled import LAYERS, Conv, guess_model_scale, parse_model, torch_safe_load

MOST_PARAMETERS = 10**9  # the largest that is shipped has 173 million
BYTES_EACH = 20  # in training: weights, their average, gradients and AdamW's two moments, four bytes each
LEAST_MAX_DET = 100  # COCO's limit per image


def arguments(spec: TrialSpec, folder: TrialFolder, data: BoxData, device: torch.device) -> dict[str, Any]:
    """Ultralytics' arguments.

    Its augmentations keep their defaults, but mosaic and mixup are the strategy's, and `augmentations` (blur,
    grey, CLAHE, applied silently) is off.
    """
    train, on_gpu = spec.train, device.type == "cuda"
    return {
        "task": "detect",
        "mode": "train",
        "model": resolve_model(train.model),
        "data": spec.data.source,
        "imgsz": train.imgsz,
        "batch": train.batch // train.accumulate,  # what goes through the network at once
        "nbs": train.batch,  # of an optimizer step; the weight decay is scaled to it
        "epochs": train.epochs,
        "optimizer": "AdamW",  # "auto" would ignore lr0 and change with the data set's size
        "lr0": train.lr,
        "lrf": train.lr_final,
        "weight_decay": train.weight_decay,
        "warmup_epochs": 1.0,
        "warmup_bias_lr": 0.0,
        "mosaic": spec.strategy.augmentation.mosaic,
        "mixup": spec.strategy.augmentation.mixup,
        "close_mosaic": 0,  # in epochs; the data set closes it at a step
        "augmentations": [],
        "amp": "bf16" if on_gpu and train.amp == "bf16" else False,
        "device": "0" if on_gpu else "cpu",
        "workers": own_threads() if on_gpu else 0,  # a CPU's threads have enough to do
        "max_det": max_detections(data),
        "seed": spec.seed,
        "deterministic": True,
        "patience": 0,
        "plots": False,
        "verbose": False,
        "save_dir": str(folder.root / "ultralytics"),
        "exist_ok": True,
    }


def max_detections(data: BoxData) -> int:
    """Predictions kept per image: twice the objects of the fullest, so that the limit never caps recall."""
    return max(LEAST_MAX_DET, 2 * data.most_objects())


def resolve_model(name: str) -> str:
    """The file or name by which Ultralytics finds a model without asking the network.

    Raises:
        UsageError: There is no such model, or it is no detector.
    """
    check_detector(name)
    file = next((place for place in (OUR_DETECTORS / name, Path(name)) if place.is_file()), None)
    return name if file is None else str(file.resolve())


def own_model(file: Path) -> tuple[dict[str, Any], Any]:
    """The description of a model of one's own, and the module that holds its weights, or None of a yaml.

    Raises:
        UsageError: It would run code, is no detector, or is too large to train.
    """
    if file.suffix.lower() == ".pt":
        stored = stored_weights(file)
        weights = (stored.get("ema") or stored["model"]).float()
        described = weights.yaml
    else:
        weights, described = None, read_description(file)
        described |= {"scale": guess_model_scale(file.resolve()), "yaml_file": str(file)}
    check_layers(described, LAYERS, str(file))
    parameters = _parameters(described, file)
    if parameters > MOST_PARAMETERS:
        taken = f"{BYTES_EACH * parameters / 1e9:,.0f} GB"
        raise UsageError(
            f"train.model: {file}: {parameters:,} parameters, which take {taken} in training before any "
            f"image; at most {MOST_PARAMETERS:,} are trained",
            "lower its width and depth multiples",
        )
    return described, weights


def stored_weights(file: Path) -> dict[str, Any]:
    """What a file of weights holds: a module, `ema` or else `model`, and what was stored with it.

    Raises:
        UsageError: It names what is no part of a model and is not trusted, or cannot be read.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, bounded_memory(file):
            # By its own name a yolov5s.pt would be sought as yolov5su.pt, on the network.
            link = Path(folder) / "weights.pt"
            link.symlink_to(file.resolve())
            stored, _ = torch_safe_load(link, safe_only=not trusts_weights())
            described = (stored.get("ema") or stored["model"]).yaml
            if not isinstance(described, dict):
                raise TypeError(f"its model describes itself by a {type(described).__name__}")
    except UsageError:
        raise
    except Exception as error:  # whatever the pickle of a stranger leads to
        raise _not_loaded(file, error) from error
    return dict(stored)


def _not_loaded(file: Path, error: Exception) -> UsageError:
    """What to raise for a file of weights whose loading raised."""
    foreign = [] if trusts_weights() else _foreign_names(file)
    if not foreign:
        return UsageError(f"train.model: {file}: these weights cannot be loaded: {_said(error)}")
    shown = ", ".join(sorted(foreign)[:5]) + (", …" if len(foreign) > 5 else "")
    return UsageError(
        f"train.model: {file}: not loaded, for it names what no model needs and may run code: {shown}",
        trust_hint(),
    )


def _foreign_names(file: Path) -> list[str]:
    """What a file that was not loaded names beyond torch's and Ultralytics' own."""
    try:
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except (
        ValueError,
        EOFError,
        RuntimeError,
        pickle.UnpicklingError,
    ):  # damaged: what the loading raised says so
        return []


def _parameters(described: dict[str, Any], file: Path) -> int:
    """The parameters of the model that is described, built on torch's meta device, where none has a value.

    Raises:
        UsageError: No model can be built from it.
    """
    usual = Conv.default_act  # of the process; Ultralytics sets it back only where all goes well
    try:
        with torch.device("meta"), bounded_memory(file):
            model, _ = parse_model({**deepcopy(described), "nc": 1}, ch=3, verbose=False)
    except UsageError:
        raise
    except Exception as error:  # of torch or Ultralytics, by what the layers' arguments are
        raise UsageError(f"train.model: no model can be built from {file}: {_said(error)}") from error
    finally:
        Conv.default_act = usual
    return sum(parameter.numel() for parameter in model.parameters())


def _said(error: Exception) -> str:
    """The first line of what an error says, without Ultralytics' ornaments."""
    if is_out_of_memory(error):
        return "out of memory"
    lines = str(error).removeprefix("ERROR ❌️ ").splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"

"""The one file that a trial leaves about what it predicted: `predictions.npz`.

Common arrays (N images, C classes):
    version         ()      int      schema version
    task            ()      str      `classification` or `detection`
    split           ()      str      `val` or `test`
    class_names     (C,)    str
    minority        (M,)    int      class ids of the minority
    image           (N,)    str      path relative to the data set, with `/`
    source          (N,)    str      source image, slide or group of each image: the unit of a jackknife

Classification:
    label           (N,)    int
    logits          (N, C)  float32
    weight          (N,)    float64  evaluation weight (1 unless weighted to the training prevalence)
    bias            (C,)    float64  added to the logits to decide, tuned on all of val; 0 untouched
    temperature     ()      float    divides the logits, fitted on all of val; 1 untouched
    tuned           (N,)    int      the tuned decision: on val out of fold, else argmax(logits + bias)
    image_temperature (N,)  float64  on val that of the fit without the image's fold, else `temperature`

Detection (P predictions, T true objects; image columns index 0..N-1; boxes are xyxy pixels of the image):
    size            (N, 2)  int      height, width
    pred_image      (P,)    int
    pred_class      (P,)    int
    pred_score      (P,)    float32  sorted descending
    pred_box        (P, 4)  float32
    pred_match      (P, 10) bool     true positive at IoU .50, .55, … .95, within class and image
    pred_ignored    (P,)    bool     on an object of its class of which the tile shows too little for a label,
                                     and nowhere a true positive: counts neither as true nor as false there,
                                     but where tiles are merged
    true_image      (T,)    int
    true_class      (T,)    int
    true_box        (T, 4)  float32
    max_det         ()      int      evaluator limit of predictions per image
    conf            ()      float    lowest score kept
    iou             ()      float    NMS threshold

and, once the weights that ship are known (S boxes that these find, one label each):
    tuned           (P,)    bool     which predictions count at tuned thresholds: on val out of fold
    bias            (C,)    float64  added to the class logits of the weights that ship
    shipped_conf    ()      float    the confidence that ships: boxes above it count
    shipped_image   (S,)    int
    shipped_class   (S,)    int
    shipped_score   (S,)    float32  sorted descending
    shipped_box     (S, 4)  float32
    shipped_match   (S,)    bool     true positive at IoU .50
    shipped_ignored (S,)    bool     as `pred_ignored`

Pure NumPy; written once, atomically. Version 2, of 0.1.0, lacks what ships; it is read. Up to version 4
nothing is ignored. Up to version 3 a detector's images are named by their stems, which need not differ:
whoever sets two files side by side goes by `source` or by the order of the images, which is that of their
paths in all versions.
"""

import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from spaces.errors import RunError, UsageError
from trainables.contract.shapes import check_shapes
from trainables.contract.trust import refuse_bomb

# Of tiles or of images as they are; and, where there are tiles, of the whole images, likewise.
PREDICTIONS_FILE, MERGED_FILE = "predictions.npz", "merged.npz"
WEIGHTS, MINORITY_WEIGHTS = "weights.pt", "weights_minority.pt"  # the second of a run of two models
MADE_BY_A_RUN = "take it from a copy; only the run itself makes it anew, in another study"
# What NumPy, zipfile and zlib raise of a file that is cut or was written over.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError)
# Boolean matches, class ids and names of images may shrink to a thirtieth; a bomb, to a thousandth.
MOST_SHRUNK = 30
VERSION, OLDEST = 5, 2

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class _Common:
    split: str
    class_names: Strings
    minority: Ints
    image: Strings
    source: Strings


@dataclass(frozen=True)
class ClassificationPredictions(_Common):
    """Logits and labels of one split; fields as in the module's header."""

    label: Ints
    logits: Floats
    weight: Floats
    bias: Floats
    temperature: float
    tuned: Ints
    image_temperature: Floats

    @classmethod
    def untouched(
        cls,
        *,
        split: str,
        class_names: Strings,
        minority: Ints,
        image: Strings,
        source: Strings,
        label: Ints,
        logits: Floats,
        weight: Floats,
    ) -> Self:
        """Before anything is tuned: the largest logit decides, at temperature 1."""
        return cls(
            split=split,
            class_names=class_names,
            minority=minority,
            image=image,
            source=source,
            label=label,
            logits=logits,
            weight=weight,
            bias=np.zeros(len(class_names)),
            temperature=1.0,
            tuned=logits.argmax(axis=1),
            image_temperature=np.ones(len(label)),
        )


@dataclass(frozen=True, eq=False)
class ShippedBoxes:
    """What the weights that ship find, and which predictions count when tuned; as in the module's header.

    Attributes:
        tuned: (P,).
        bias: (C,).
        conf: `shipped_conf`; the other fields likewise.
        image: (S,).
        label: (S,) `shipped_class`.
        score: (S,).
        box: (S, 4).
        match: (S,).
        ignored: (S,).
    """

    tuned: Bools
    bias: Floats
    conf: float
    image: Ints
    label: Ints
    score: Floats
    box: Floats
    match: Bools
    ignored: Bools

    def restricted(self, pred: Bools, keep: Bools) -> "ShippedBoxes":
        """As `predictions.restricted`: (P,) which predictions stay, (N,) which images."""
        kept, index = keep[self.image], np.cumsum(keep) - 1
        return replace(
            self,
            tuned=self.tuned[pred],
            image=index[self.image[kept]],
            label=self.label[kept],
            score=self.score[kept],
            box=self.box[kept],
            match=self.match[kept],
            ignored=self.ignored[kept],
        )


_SHIPPED = {  # field of `ShippedBoxes` -> array in the file
    "tuned": "tuned",
    "bias": "bias",
    "conf": "shipped_conf",
    "image": "shipped_image",
    "label": "shipped_class",
    "score": "shipped_score",
    "box": "shipped_box",
    "match": "shipped_match",
    "ignored": "shipped_ignored",
}


@dataclass(frozen=True)
class DetectionPredictions(_Common):
    """Boxes, scores, matches and truth of one split; fields as in the module's header."""

    size: Ints
    pred_image: Ints
    pred_class: Ints
    pred_score: Floats
    pred_box: Floats
    pred_match: Bools
    pred_ignored: Bools
    true_image: Ints
    true_class: Ints
    true_box: Floats
    max_det: int
    conf: float
    iou: float
    shipped: ShippedBoxes | None = None


Predictions = ClassificationPredictions | DetectionPredictions
_BY_TASK: dict[str, type[ClassificationPredictions] | type[DetectionPredictions]] = {
    "classification": ClassificationPredictions,
    "detection": DetectionPredictions,
}


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` to `path` (npz); a reader sees the whole file or none."""
    task = next(name for name, kind in _BY_TASK.items() if isinstance(predictions, kind))
    values = vars(predictions).copy()
    shipped = values.pop("shipped", None)
    if shipped is not None:
        values |= {name: getattr(shipped, field) for field, name in _SHIPPED.items()}
    partial = path.with_name(f".{path.name}.tmp.npz")
    np.savez_compressed(partial, version=VERSION, task=task, **values)
    os.replace(partial, path)


def load_predictions(path: Path, task: str | None = None) -> Predictions:
    """Read what `save_predictions` wrote.

    Args:
        path: The file.
        task: That it has to be of; None for any.

    Raises:
        UsageError: A newer version of rarecall wrote the file, or it unpacks to more than predictions can.
        RunError: It is gone, damaged, or of another task.
    """
    try:
        refuse_bomb(path, ratio=MOST_SHRUNK)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            version = int(stored["version"])
            if version > VERSION:
                raise UsageError(
                    f"{path}: predictions schema version {version}, this rarecall reads {VERSION}",
                    "it was made by a newer rarecall: install that one",
                )
            predictions = _read(stored)
        check_shapes(predictions)
    except FileNotFoundError:
        raise RunError(f"{path} is gone", MADE_BY_A_RUN) from None
    except (*_DAMAGE, BadZipFile, zlib.error, struct.error) as error:
        raise RunError(f"{path} is damaged: {str(error) or type(error).__name__}", MADE_BY_A_RUN) from None
    if task is not None and not isinstance(predictions, _BY_TASK[task]):
        raise RunError(f"{path} holds no predictions of {task}", MADE_BY_A_RUN)
    return predictions


def _read(stored: Mapping[str, npt.NDArray[Any]]) -> Predictions:
    if int(stored["version"]) < OLDEST:
        raise ValueError(f"schema version {stored['version']}")
    kind = _BY_TASK[str(stored["task"])]
    if kind is DetectionPredictions and int(stored["version"]) < 5:
        stored = {**stored, **_nothing_ignored(stored)}
    names = [field.name for field in fields(kind) if field.name != "shipped"]
    values: dict[str, Any] = {name: _plain(stored[name]) for name in names}
    if kind is DetectionPredictions and _SHIPPED["conf"] in stored:
        shipped = {field: _plain(stored[name]) for field, name in _SHIPPED.items()}
        values["shipped"] = ShippedBoxes(**shipped)
    return kind(**values)


def _nothing_ignored(stored: Mapping[str, npt.NDArray[Any]]) -> dict[str, Bools]:
    """What a detector's file lacks up to version 4."""
    of = {"pred_ignored": "pred_score", "shipped_ignored": "shipped_score"}
    return {name: np.zeros(len(stored[like]), dtype=bool) for name, like in of.items() if like in stored}


def _plain(value: npt.NDArray[Any]) -> Any:
    """An array without dimensions as its number or text."""
    return value.item() if value.ndim == 0 else value


def restricted(predictions: Predictions, keep: Bools) -> Predictions:
    """The same predictions on some of the images, as if the others had never been in the split.

    Args:
        predictions: Of one split.
        keep: (N,) the images that stay. Image columns are re-indexed; predictions and objects keep order.
    """
    image, source = predictions.image[keep], predictions.source[keep]
    if isinstance(predictions, ClassificationPredictions):
        return replace(
            predictions,
            image=image,
            source=source,
            label=predictions.label[keep],
            logits=predictions.logits[keep],
            weight=predictions.weight[keep],
            tuned=predictions.tuned[keep],
            image_temperature=predictions.image_temperature[keep],
        )
    pred, true = keep[predictions.pred_image], keep[predictions.true_image]  # (P,), (T,)
    index = np.cumsum(keep) - 1  # (N,) new index of each image that stays
    return replace(
        predictions,
        image=image,
        source=source,
        size=predictions.size[keep],
        pred_image=index[predictions.pred_image[pred]],
        pred_class=predictions.pred_class[pred],
        pred_score=predictions.pred_score[pred],
        pred_box=predictions.pred_box[pred],
        pred_match=predictions.pred_match[pred],
        pred_ignored=predictions.pred_ignored[pred],
        true_image=index[predictions.true_image[true]],
        true_class=predictions.true_class[true],
        true_box=predictions.true_box[true],
        shipped=None if predictions.shipped is None else predictions.shipped.restricted(pred, keep),
    )

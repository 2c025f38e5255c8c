"""Whether the arrays of a `predictions.npz` fit each other, as `predictions` describes them. Pure NumPy."""

from typing import Any

import numpy as np

# Letters are lengths that have to agree wherever they stand.
_IMAGES = {"class_names": "C", "minority": "M", "image": "N", "source": "N"}
_CLASSIFICATION = {
    "label": "N",
    "logits": "NC",
    "weight": "N",
    "bias": "C",
    "temperature": "",
    "tuned": "N",
    "image_temperature": "N",
}
_DETECTION = {
    "size": "N2",
    "pred_image": "P",
    "pred_class": "P",
    "pred_score": "P",
    "pred_box": "P4",
    "pred_match": "Pi",
    "pred_ignored": "P",
    "true_image": "T",
    "true_class": "T",
    "true_box": "T4",
    "max_det": "",
    "conf": "",
    "iou": "",
}
_SHIPPED = {
    "tuned": "P",
    "bias": "C",
    "conf": "",
    "image": "S",
    "label": "S",
    "score": "S",
    "box": "S4",
    "match": "S",
    "ignored": "S",
}
_INDICES = {  # array -> length of what it counts
    "minority": "C",
    "label": "C",
    "pred_image": "N",
    "pred_class": "C",
    "true_image": "N",
    "true_class": "C",
    "image": "N",  # of the boxes that ship; of the predictions it is a name
}


def check_shapes(predictions: Any) -> None:
    """Compare the shapes of all arrays, and what indices point to.

    Args:
        predictions: A `predictions.Predictions`.

    Raises:
        ValueError: An array has another shape than it should, or an index points nowhere.
    """
    lengths: dict[str, int] = {}
    own = _CLASSIFICATION if hasattr(predictions, "logits") else _DETECTION
    _check(vars(predictions), _IMAGES | own, lengths)
    shipped = getattr(predictions, "shipped", None)
    if shipped is not None:
        _check(vars(shipped), _SHIPPED, lengths)


def _check(arrays: dict[str, Any], shapes: dict[str, str], lengths: dict[str, int]) -> None:
    for name, wanted in shapes.items():
        shape = np.shape(arrays[name])
        fits = len(shape) == len(wanted) and all(
            length == (int(letter) if letter.isdigit() else lengths.setdefault(letter, length))
            for letter, length in zip(wanted, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"its array '{name}' has the shape {shape}, which does not fit the others")
    for name in shapes.keys() & _INDICES.keys():
        index, count = np.asarray(arrays[name]), lengths[_INDICES[name]]
        if index.dtype.kind != "U" and index.size and not 0 <= index.min() <= index.max() < count:
            raise ValueError(f"its array '{name}' points beyond the {count} that there are")

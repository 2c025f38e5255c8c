"""Drawn labels and logits of a classifier, for tests of what is set after training."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import ClassificationPredictions

Array = npt.NDArray[Any]


def drawn(
    seed: int, images: tuple[int, ...], *, shift: float = 0.0, sharpness: float = 1.0
) -> tuple[Array, Array]:
    """Labels, and logits that are the true log-likelihoods but for what is done to them.

    Args:
        seed: Of the draw.
        images: Of each class.
        shift: Added to the logit of class 0: what training on another prevalence does.
        sharpness: Factor of the logits: above 1 they are overconfident.
    """
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(images)), images)
    seen = rng.normal(size=(len(label), len(images))) + 2.2 * np.eye(len(images))[label]
    return label, sharpness * (2.2 * seen + shift * np.eye(len(images))[0])


def split(label: Array, logits: Array, **changed: Any) -> ClassificationPredictions:
    n = len(label)
    given_: dict[str, Any] = {
        "split": "val",
        "class_names": np.array([f"c{i}" for i in range(logits.shape[1])]),
        "minority": np.array([0]),
        "image": np.array([f"i{i:04}" for i in range(n)]),
        "source": np.array([f"i{i:04}" for i in range(n)]),
        "label": label,
        "logits": logits.astype(np.float32),
        "weight": np.ones(n),
    }
    return ClassificationPredictions.untouched(**given_ | changed)

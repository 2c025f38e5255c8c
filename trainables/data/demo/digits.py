"""`demo:digits`: scikit-learn's 1,797 real handwritten digits, with three classes made rare in train only.

Half of each class goes to train and a quarter each to val and test, the same way for every study. Val and
test keep all their images, to have something to measure; each of them carries an evaluation weight that
restores the training prevalence, so that rebalancing is no free lunch. NumPy only: neither torch nor
scikit-learn is imported.
"""

import gzip
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.images.listed import LabelledImages
from trainables.data.images.pixels import ImageData, resized
from trainables.data.summary import DataSummary, SplitSummary

CLASS_NAMES = tuple("0123456789")
RARE = ("1", "8", "9")
RARE_TRAIN_IMAGES = 8
SHARES = {"train": 0.5, "val": 0.25, "test": 0.25}
SPLIT_SEED = 0
LEVELS = 16  # grey values of the source, 0 to 16


@cache
def load() -> dict[str, LabelledImages]:
    """Read the digits and split them; split name -> its images, read-only."""
    images, labels = _read()
    members = _split(labels)
    prior = np.bincount(labels[members["train"]], minlength=len(CLASS_NAMES)) / len(members["train"])
    splits = {}
    for split, index in members.items():
        here = np.bincount(labels[index], minlength=len(CLASS_NAMES)) / len(index)  # (n_classes,)
        weight = (prior / here)[labels[index]]
        ids = np.array([f"digit_{i:04d}" for i in index])
        splits[split] = LabelledImages(images[index], labels[index], ids, ids, weight / weight.mean())
    for data in splits.values():  # shared by every caller, hence frozen
        for array in (data.images, data.labels, data.ids, data.weight):
            array.setflags(write=False)
    return splits


def at_side(side: int) -> ImageData:
    """All splits, resized to `side` x `side`."""
    splits = {
        name: LabelledImages(resized(data.images, side), data.labels, data.ids, data.sources, data.weight)
        for name, data in load().items()
    }
    return ImageData(splits, CLASS_NAMES, unreadable=0)


def describe() -> DataSummary:
    """Count the splits."""
    splits = load()
    digest = hashlib.sha256()
    for data in splits.values():
        digest.update(data.images.tobytes() + data.labels.tobytes() + data.ids.tobytes())
    summaries = {
        split: SplitSummary(
            images=len(data.labels),
            objects={name: int((data.labels == c).sum()) for c, name in enumerate(CLASS_NAMES)},
            classes_per_image=tuple(frozenset({int(label)}) for label in data.labels),
            sources=len(data.labels),
        )
        for split, data in splits.items()
    }
    return DataSummary(CLASS_NAMES, summaries, digest.hexdigest()[:16])


def _read() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (n, 8, 8), 0 to 255, and labels (n,)."""
    # `sklearn.datasets.load_digits` reads this very file, but importing it costs every command more than a
    # second.
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt") as text:
        rows: npt.NDArray[Any] = np.loadtxt(text, delimiter=",", dtype=np.int64)  # (n, 65)
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / LEVELS)).astype(np.uint8)
    return images, rows[:, -1]


def _split(labels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
    """Stratified by class; rare classes lose all but a few of their training images."""
    rng = np.random.default_rng(SPLIT_SEED)
    members: dict[str, list[npt.NDArray[np.int64]]] = {split: [] for split in SHARES}
    for class_id, name in enumerate(CLASS_NAMES):
        order = rng.permutation(np.flatnonzero(labels == class_id))
        ends = np.rint(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
        for split, part in zip(SHARES, np.split(order, ends[:-1]), strict=True):
            rare = split == "train" and name in RARE
            members[split].append(part[:RARE_TRAIN_IMAGES] if rare else part)
    return {split: np.sort(np.concatenate(parts)) for split, parts in members.items()}

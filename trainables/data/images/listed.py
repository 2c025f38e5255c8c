"""An image of a classification data set, as it is listed on disk; and a split of them, as arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ImageFile:
    """One image, not opened yet.

    Attributes:
        path: Absolute path.
        name: Path relative to the data set, with `/`; in predictions and messages.
        split: One of `files.SPLITS`, or `files.ALL`.
        label: Name of its class.
        source: Its group: what it was cut or photographed from; its own name unless stated.
    """

    path: Path
    name: str
    split: str
    label: str
    source: str


@dataclass(frozen=True)
class LabelledImages:
    """One split of a classification data set.

    Attributes:
        images: (n, height, width) or (n, height, width, 3) uint8, grey or RGB; perhaps mapped from a file
            that all trials of a node share, so it is read by batches and never copied as a whole.
        labels: (n,) class ids.
        ids: (n,) image ids.
        sources: (n,) group of each image.
        weight: (n,) evaluation weight, mean 1; other than 1 where a split has another prevalence than the one
            it is measured for.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    weight: npt.NDArray[np.float64]

"""Images as Ultralytics' `predict` sees them with `rect=False`: each by itself, padded to the square.

Its validation pads a batch to its members' common shape, so that what is measured of an image depends on its
neighbours, and shrinks by another interpolation than `predict` does.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.data.boxes.listed import BoxImage
from trainables.detector.settled import LetterBox

# Pixels (side, side, 3) BGR, and the image's own height and width.
Square = tuple[npt.NDArray[np.uint8], tuple[int, int]]


@lru_cache(maxsize=1)
def _store(fingerprint: str, side: int) -> dict[str, Square]:
    """Padded images by file, shared read-only by all trials of a worker; another data set drops them."""
    return {}


class Squares(Dataset[tuple[int, torch.Tensor]]):
    """Some images of a data set, padded to the square.

    Args:
        images: Which.
        fingerprint: Of the data set.
        side: Of the square, pixels.

    Raises:
        UsageError: An image cannot be decoded.
    """

    def __init__(self, images: tuple[BoxImage, ...], fingerprint: str, side: int) -> None:
        self.images, self._letterbox = images, LetterBox((side, side))
        store = _store(fingerprint, side)
        for image in images:
            if str(image.path) not in store:
                store[str(image.path)] = self._read(image)
        self._squares = [store[str(image.path)] for image in images]

    def _read(self, image: BoxImage) -> Square:
        pixels = image.pixels()
        return np.ascontiguousarray(self._letterbox(image=pixels)), pixels.shape[:2]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[int, torch.Tensor]:
        """Its index, and (3, side, side) RGB uint8."""
        return i, torch.from_numpy(self._squares[i][0]).permute(2, 0, 1).flip(0)

    def shape(self, i: int) -> tuple[int, int]:
        """(height, width) of an image as it is."""
        return self._squares[i][1]


def square_loader(squares: Squares, batch: int, workers: int, *, pin: bool) -> Any:
    """Batches of them, in order."""
    return DataLoader(squares, batch_size=batch, num_workers=workers, pin_memory=pin)

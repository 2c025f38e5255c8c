"""Images as Ultralytics' `predict` sees them with `rect=False`: each by itself, padded to the square.

Its validation pads a batch to its members' common shape, so that what is measured of an image depends on its
neighbours, and shrinks by another interpolation than `predict` does.
"""

from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.contract.node import loader_start
from trainables.data.boxes.listed import BoxImage
from trainables.data.boxes.stored import Tiles


class Squares(Dataset[tuple[int, torch.Tensor]]):
    """Some images of a data set, padded to the square.

    Args:
        images: Which.
        pixels: Where their pixels come from.
    """

    def __init__(self, images: tuple[BoxImage, ...], pixels: Tiles) -> None:
        self.images, self._pixels = images, pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[int, torch.Tensor]:
        """Its index, and (3, side, side) RGB uint8.

        Raises:
            UsageError: It cannot be decoded.
        """
        blue, green, red = cv2.split(self._pixels.squared(self.images[i]))
        return i, torch.from_numpy(np.stack([red, green, blue]))

    def shape(self, i: int) -> tuple[int, int]:
        """(height, width) of an image as it is."""
        return self.images[i].size


def square_loader(squares: Squares, batch: int, workers: int, *, pin: bool) -> Any:
    """Batches of them, in order."""
    start = loader_start(workers)
    return DataLoader(
        squares, batch_size=batch, num_workers=workers, pin_memory=pin, multiprocessing_context=start
    )

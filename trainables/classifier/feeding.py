"""What a classifier's training is fed: parts of batches, transformed; beside a GPU by other processes.

What is drawn and how it is transformed depends on the seed and on the place in the run alone, so that any
number of processes, and a run that goes on, make the same.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.classifier.applied import MAJORITY, MINORITY, AppliedStrategy
from trainables.contract.node import loader_start, own_threads
from trainables.contract.trial import TrainSpec
from trainables.data.images.listed import LabelledImages
from trainables.strategy.augmentation import seed_pipeline, transform_image

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


class Parts(Dataset[tuple[Ints, Pixels]]):
    """What goes through the network at once, in the run's order; `accumulate` parts to an optimizer step."""

    def __init__(self, strategy: AppliedStrategy, images: LabelledImages, train: TrainSpec) -> None:
        # Not the strategy itself: its criteria are on the device, where another process has nothing to do.
        self._pixels, self._kept, self._rare = images.images, strategy.kept, strategy.rare
        self._draws, self._pipelines = strategy.draws, strategy.pipelines
        self.per_epoch = train.eval_every * train.accumulate
        self._size = train.batch // train.accumulate
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._draws) * self.per_epoch

    def __getitem__(self, number: int) -> tuple[Ints, Pixels]:
        """Indices into the images kept (n,), and these, (n, side, side) or (n, side, side, 3)."""
        epoch, part = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._draws[epoch].epoch(epoch)
        index = self._order[part * self._size : (part + 1) * self._size]
        return index, self.images(index, self._draws[epoch].seed, number * self._size)

    def images(self, index: Ints, seed: int, first: int) -> Pixels:
        """Images kept, each freshly transformed by its group's pipeline.

        Args:
            index: Which.
            seed: Of the run.
            first: How many the run has drawn before them.
        """
        batch = self._pixels[self._kept[index]]
        for at, is_rare in enumerate(self._rare[index].tolist()):
            stream = MINORITY if is_rare else MAJORITY
            pipeline = self._pipelines[stream]
            if pipeline is not None:
                seed_pipeline(pipeline, seed, stream, first + at)
                batch[at] = transform_image(pipeline, batch[at])
        return batch


def fed(
    parts: Parts, start: int, *, on_gpu: bool, workers: int | None = None
) -> Iterator[tuple[Ints, torch.Tensor]]:
    """The parts of a run from one on: indices, and images that lie in pinned memory beside a GPU.

    Args:
        parts: Of the run.
        start: The first epoch, from 0.
        on_gpu: Whether it trains there.
        workers: Processes that make them; None for the run's CPUs beside a GPU, and this process elsewhere.
    """
    if workers is None:
        workers = own_threads() if on_gpu else 0
    loader = DataLoader(
        parts,
        batch_size=None,
        sampler=range(start * parts.per_epoch, len(parts)),
        num_workers=workers,
        pin_memory=on_gpu,
        multiprocessing_context=loader_start(workers),
        generator=torch.Generator(),  # else it would draw from the state that dropout draws from
    )
    for index, images in loader:
        yield index.numpy(), images

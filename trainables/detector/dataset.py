"""Ultralytics' data set under a strategy: which tiles are kept, how each is augmented, in which order.

Labels come from `trainables.detection_data`, so that Ultralytics' label cache, a file that concurrent workers
fight over, is neither read nor written. Every sample's randomness is a function of (seed, position in the
run), so that a resumed run sees the same pixels.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler
from ultralytics.data.augment import Mosaic
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils.instance import Instances

from spaces.augmentation import Augmentation
from spaces.sampling import Sampling
from trainables.augmentation import box_pipeline, seed_pipeline, transform_boxes
from trainables.detection_data import load_detection
from trainables.sampling import Draws, draw_weights, holds_minority, retain, sampled_counts
from trainables.yolo_data import YoloData, YoloImage, image_size

# How Ultralytics loads an image: pixels (BGR), original size, size after resizing to `imgsz`.
Loaded = tuple[npt.NDArray[np.uint8], tuple[int, int], tuple[int, int]]


@lru_cache(maxsize=1)
def load_once(data_file: Path) -> YoloData:
    """`load_detection`, read once for all trials of a worker: they share one study's data."""
    return load_detection(data_file)


@lru_cache(maxsize=1)
def _pixels_of(fingerprint: str, imgsz: int) -> dict[str, Loaded]:
    """Decoded images by file, shared read-only by all trials of a worker; another data set drops them."""
    return {}


class TileDataset(YOLODataset):  # type: ignore[misc]
    """All images of one split, in order, as they are."""

    def __init__(self, images: tuple[YoloImage, ...], fingerprint: str, **kwargs: Any) -> None:
        self.images = images
        self.fingerprint = fingerprint
        super().__init__(img_path="", task="detect", cache="ram", **kwargs)

    def get_img_files(self, img_path: str) -> list[str]:
        """The files of `images`."""
        return [str(image.path) for image in self.images]

    def get_labels(self) -> list[dict[str, Any]]:
        """The labels of `images`, in Ultralytics' form."""
        return [
            {
                "im_file": str(image.path),
                "shape": image_size(image.path),
                "cls": image.classes[:, None].astype(np.float32),  # (n, 1)
                "bboxes": image.boxes,  # (n, 4)
                "segments": [],
                "keypoints": None,
                "normalized": True,
                "bbox_format": "xywh",
            }
            for image in self.images
        ]

    def cache_images(self) -> None:
        """Take decoded images from the worker's store, and put there those that it lacks."""
        store = _pixels_of(self.fingerprint, self.imgsz)
        for i, file in enumerate(self.im_files):
            if file not in store:
                store[file] = self.load_image(i)
            self.ims[i], self.im_hw0[i], self.im_hw[i] = store[file]


class TrainingTiles(TileDataset):
    """The training images that a strategy keeps, augmented as it says.

    Attributes:
        classes: For each image kept, the set of class ids in it.
        rare: (n,) which images kept hold a minority object.
        majority_images: Images without a minority object before undersampling.
        class_counts: (n_classes,) objects before undersampling.
        sampled_counts: (n_classes,) objects that a pass of draws from the images kept meets on average.
        weights: (n,) probability per draw, or None for shuffled passes.
        sampling: The recipe that `weights` was computed with.
        index_of: File -> position among the images kept.
        boxes: Of the sample in the making: how many boxes entered `pipelines`, and how many were lost there.
    """

    def __init__(
        self,
        images: tuple[YoloImage, ...],
        fingerprint: str,
        *,
        minority: tuple[int, ...],
        sampling: Sampling,
        augmentation: Augmentation,
        seed: int,
        **kwargs: Any,
    ) -> None:
        classes = [frozenset(image.classes.tolist()) for image in images]
        kept = retain(classes, minority, retention=sampling.retention, seed=seed)
        self.classes = [classes[i] for i in kept]
        self.rare = holds_minority(self.classes, minority)
        self.majority_images = int((~holds_minority(classes, minority)).sum())
        self.class_counts = np.bincount(
            np.concatenate([image.classes for image in images]), minlength=len(kwargs["data"]["names"])
        )
        self.sampling, self.seed = sampling, seed
        self.weights = draw_weights(
            self.classes,
            power=sampling.sampler_power,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
        )
        self.sampled_counts = sampled_counts(
            [images[i].classes for i in kept], self.weights, n_classes=len(self.class_counts)
        )
        self.pipelines = {
            True: box_pipeline(augmentation.augment_minority),
            False: box_pipeline(augmentation.augment_rest),
        }
        super().__init__(tuple(images[i] for i in kept), fingerprint, augment=True, **kwargs)
        self.index_of = {file: i for i, file in enumerate(self.im_files)}
        self.boxes = np.zeros(2, dtype=np.int64)

    def build_transforms(self, hyp: Any) -> Any:
        """Ultralytics' transforms; mosaic draws its partners with the sampler's weights, not uniformly."""
        transforms = super().build_transforms(hyp)
        for step in transforms.transforms[0].transforms:
            if isinstance(step, Mosaic):
                step.get_indexes = self._partners
        return transforms

    def _partners(self) -> list[int]:
        weights = None if self.weights is None else self.weights.tolist()
        return random.choices(range(len(self)), weights, k=3)

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """The sample of one draw: `position in the run * len(self) + image`.

        It carries its own count of boxes, as `augmented_boxes`: what a worker process counts by itself never
        reaches the trainer, and samples that are prepared ahead of a checkpoint must not be in it.
        """
        position, image = divmod(draw, len(self))
        for_python, for_numpy = np.random.SeedSequence((self.seed, 4, position)).generate_state(2)
        random.seed(int(for_python))
        np.random.seed(for_numpy)  # noqa: NPY002  (Ultralytics' transforms draw from the global states)
        self.boxes = np.zeros(2, dtype=np.int64)
        sample: dict[str, Any] = super().__getitem__(image)
        return sample | {"augmented_boxes": self.boxes}

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """One tile, augmented before any mixing; called for the tile drawn and for each mosaic partner."""
        label: dict[str, Any] = super().get_image_and_label(index)
        label["img"] = label["img"].copy()  # some transforms write in place, and the pixels are shared
        pipeline = self.pipelines[bool(self.rare[index])]
        if pipeline is None:
            return label
        seed_pipeline(pipeline, random.getrandbits(32))
        height, width = label["img"].shape[:2]
        instances = label["instances"]
        instances.convert_bbox("xyxy")
        instances.denormalize(width, height)
        rgb = np.ascontiguousarray(label["img"][..., ::-1])
        pixels, boxes, left = transform_boxes(pipeline, rgb, instances.bboxes)
        self.boxes += (len(instances), len(instances) - len(left))
        height, width = pixels.shape[:2]
        moved = Instances(boxes, instances.segments, bbox_format="xyxy", normalized=False)
        moved.convert_bbox("xywh")
        moved.normalize(width, height)
        label.update(
            img=np.ascontiguousarray(pixels[..., ::-1]),
            cls=label["cls"][left],
            instances=moved,
            resized_shape=(height, width),  # mosaic reads this, not the pixels' shape
        )
        return label


class DrawOrder(Sampler[int]):
    """The order of draws, epoch after epoch, as the indices that `TrainingTiles` takes.

    It counts its epochs itself: Ultralytics' endless loader asks for the next epoch before the trainer says
    that one has begun.

    Args:
        draws: Of the whole run.
        start: The first epoch, from 0.
        rank: Which of `world` processes this is. Each takes every `world`-th draw, so that their batches of a
            step are together the batch of a single process.
        world: Number of processes that train together; a divisor of `draws.per_epoch`.
    """

    def __init__(self, draws: Draws, start: int = 0, *, rank: int = 0, world: int = 1) -> None:
        assert 0 <= rank < world
        assert draws.per_epoch % world == 0, "with unequal shares one process would wait for ever"
        self.draws = draws
        self.epoch = start
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.draws.per_epoch // self.world

    def __iter__(self) -> Iterator[int]:
        images = self.draws.epoch(self.epoch)  # (per_epoch,)
        position = self.epoch * self.draws.per_epoch + np.arange(len(images))
        self.epoch += 1
        yield from (position * self.draws.n + images)[self.rank :: self.world].tolist()

"""Ultralytics' data set under a strategy: which tiles are kept, how each is augmented, in which order.

Labels come from `data.boxes.data_set`, so that Ultralytics' label cache, a file that concurrent workers fight
over, is neither read nor written. Every sample's randomness is a function of (seed, position in the
run), so that a resumed run sees the same pixels.
"""

import random
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from spaces.augmentation import Augmentation
from spaces.sampling import Sampling
from trainables.data.boxes.listed import BoxImage
from trainables.data.boxes.stored import Tiles, fitted, fitted_size
from trainables.detector.copies.renewing import Renewing
from trainables.detector.feeding.steps import Colours, OneWarp
from trainables.detector.settled import Instances, MixUp, Mosaic, RandomHSV, RandomPerspective, YOLODataset
from trainables.strategy.augmentation import Change, clip_boxes, draw_change
from trainables.strategy.copy_paste import MOST_PASTED, Tile, paste_objects
from trainables.strategy.sampling import Draws, draw_weights, holds_minority, retain, sampled_counts

# What a sample counts of itself, in the order of its `counts`.
COUNTS = (
    "augmented_images",
    "boxes_augmented",
    "boxes_lost",
    "objects_pasted",
    "renewed_tiles",
    "minority_draws",
    "minority_samples",
)

# How Ultralytics loads an image: pixels (BGR), original size, size after resizing to `imgsz`.
Loaded = tuple[npt.NDArray[np.uint8], tuple[int, int], tuple[int, int]]


class TileDataset(YOLODataset):  # type: ignore[misc]
    """Some images, in order, as they are.

    Attributes:
        images: Which.
        pixels: Where their pixels come from.
    """

    def __init__(self, images: tuple[BoxImage, ...], pixels: Tiles, **kwargs: Any) -> None:
        self.images, self.pixels = images, pixels
        # Of Ultralytics' ways to cache this is the one in which mosaic keeps no buffer of its own.
        super().__init__(img_path="", task="detect", cache="ram", **kwargs)
        self.im_files = [str(image.path) for image in images]

    def check_cache_ram(self, safety_margin: float = 1.0) -> bool:
        """No: nothing is cached in this process."""
        return False

    def get_img_files(self, img_path: str) -> list[str]:
        """None yet: of each Ultralytics would make the path of a `.npy` that nobody asks for."""
        return []

    def get_labels(self) -> list[dict[str, Any]]:
        """The labels of `images`, in Ultralytics' form."""
        return [
            {
                "im_file": str(image.path),
                "shape": image.size,
                "cls": image.classes[:, None].astype(np.float32),  # (n, 1)
                "bboxes": image.boxes,  # (n, 4)
                "segments": [],
                "keypoints": None,
                "normalized": True,
                "bbox_format": "xywh",
            }
            for image in self.images
        ]

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> Loaded:
        """As Ultralytics does by default, but by our decoder, and of an image alone: no `.npy` beside it."""
        assert rect_mode
        assert not resize_short
        image = self.images[i]
        pixels = self.pixels(image)
        return pixels, image.size, pixels.shape[:2]


class TrainingTiles(TileDataset):
    """The training images that a strategy keeps, augmented as it says.

    Attributes:
        copies: How many of the images are tiles of copies; they are the last ones, and all are kept.
        classes: For each image kept, the set of class ids in it, whether learnt or not.
        rare: (n,) which images kept hold a minority object.
        majority_images: Images without a minority object before undersampling.
        class_counts: (n_classes,) labels before undersampling, without those of copies.
        sampled_counts: (n_classes,) objects that a pass of draws from the images kept meets on average.
        weights: (n,) probability per draw, or None for shuffled passes.
        sampling: The recipe that `weights` was computed with.
        index_of: File -> position among the images kept.
        strengths: Of the augmentation of tiles that hold a minority object, and of all others, when drawn.
        variants: Fixed transforms of an image, of which each draw takes one; 0 if each draw has its own.
        renewing: Draws the tiles of copies anew; None if these are as they are.
        copy_paste: Probability that minority objects are pasted into a tile; 0 if there are none to paste.
        donors: For each minority class the objects that are pasted, (n, 2): image kept, and row in it.
        colours_later: Whether a sample's colours are left to the device, by `strategy.colours`.
        counts: Of the sample in the making, by COUNTS: tiles augmented, boxes that entered there and were
            lost there, minority objects pasted, tiles of copies made anew; 1 if the tile drawn holds a
            minority object after pasting; 1 if the sample does so in the end, with all that is mixed in,
            shifted and scaled.
    """

    def __init__(
        self,
        images: tuple[BoxImage, ...],
        pixels: Tiles,
        *,
        learns: Collection[int],
        copies: tuple[BoxImage, ...] = (),
        renewing: Renewing | None = None,
        minority: tuple[int, ...],
        sampling: Sampling,
        augmentation: Augmentation,
        mixed_draws: int,
        seed: int,
        colours_later: bool = False,
        **kwargs: Any,
    ) -> None:
        self.class_counts = np.bincount(
            np.concatenate([image.classes for image in images]), minlength=len(kwargs["data"]["names"])
        )
        self.class_counts[np.setdiff1d(np.arange(len(self.class_counts)), list(learns))] = 0
        # Each tile of a copy holds a minority object, so that undersampling leaves it.
        images, self.copies, self.renewing = (*images, *copies), len(copies), renewing
        self.learns = list(learns)
        classes = [frozenset(image.classes.tolist()) for image in images]
        if len(learns) < len(self.class_counts):
            images = tuple(labelled(image, learns) for image in images)
        kept = retain(classes, minority, retention=sampling.retention, seed=seed)
        self.classes = [classes[i] for i in kept]
        self.rare = holds_minority(self.classes, minority)
        self.majority_images = int((~holds_minority(classes, minority)).sum())
        self.sampling, self.seed = sampling, seed
        self.minority, self.mixed_draws = minority, mixed_draws
        self.weights = draw_weights(
            self.classes,
            power=sampling.sampler_power,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
        )
        self.sampled_counts = sampled_counts(
            [images[i].classes for i in kept], self.weights, n_classes=len(self.class_counts)
        )
        at_draws = augmentation.augment_minority if augmentation.pretile_copies == 0 else 0.0
        self.strengths = {True: at_draws, False: augmentation.augment_rest}
        self.variants = augmentation.augment_variants
        self.colours_later = colours_later
        pixels.hold(copies)  # another trial has others
        self._cumulated = None if self.weights is None else np.cumsum(self.weights).tolist()
        super().__init__(tuple(images[i] for i in kept), pixels, augment=True, **kwargs)
        self.index_of = {file: i for i, file in enumerate(self.im_files)}
        self.counts: Counter[str] = Counter()
        pasted = minority if augmentation.copy_paste else ()
        self.donors = [found for c in pasted if len(found := self._objects_of(c))]
        self.copy_paste = augmentation.copy_paste if self.donors else 0.0
        closed = copy(kwargs["hyp"])
        closed.mosaic = closed.mixup = 0.0
        self.mixed, self.unmixed = self.build_transforms(kwargs["hyp"]), self.build_transforms(closed)
        self._mixed_at_all = any(self.mixing().values())

    def build_transforms(self, hyp: Any) -> Any:
        """Ultralytics' transforms, some of them ours; partners are drawn with the sampler's weights."""
        transforms = super().build_transforms(hyp)
        for step in _mixing_steps(transforms):
            step.get_indexes = partial(self._partners, 3 if isinstance(step, Mosaic) else 1)
        for steps in (transforms.transforms[0].transforms, transforms.transforms):
            steps[:] = [self._own(step) for step in steps]
        return transforms

    def _own(self, step: Any) -> Any:
        if isinstance(step, RandomPerspective):
            return OneWarp(**vars(step))
        return Colours(step, lambda: self.colours_later) if isinstance(step, RandomHSV) else step

    def mixing(self) -> dict[str, float]:
        """Probability of `mosaic` and of `mixup`, as the transforms have it."""
        return {type(step).__name__.lower(): step.p for step in _mixing_steps(self.mixed)}

    @property
    def _mixes(self) -> bool:
        """Whether the sample in the making may be of several tiles."""
        return self.transforms is self.mixed and self._mixed_at_all

    def _partners(self, k: int) -> list[int]:
        return random.choices(range(len(self)), cum_weights=self._cumulated, k=k)

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """The sample of one draw: `position in the run * len(self) + image`.

        It carries its own `counts`, by COUNTS: what a worker process counts by itself never reaches the
        trainer, and samples that are prepared ahead of a checkpoint must not be in it. They are a tuple,
        since torch, to pin a batch's memory for a GPU, copies a mapping and then updates the copy with it,
        and a `Counter`'s `update` adds.
        """
        position, image = divmod(draw, len(self))
        for_python, for_numpy = np.random.SeedSequence((self.seed, 4, position)).generate_state(2)
        random.seed(int(for_python))
        np.random.seed(for_numpy)  # noqa: NPY002  (Ultralytics' transforms draw from the global states)
        self.counts = Counter()
        self.transforms = self.mixed if position < self.mixed_draws else self.unmixed
        sample: dict[str, Any] = super().__getitem__(image)
        self.counts["minority_samples"] = int(np.isin(sample["cls"], self.minority).any())
        return sample | {"counts": tuple(self.counts[name] for name in COUNTS)}

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """One tile, before any mixing; called for the tile drawn and for each partner."""
        label: dict[str, Any] = super().get_image_and_label(index)
        tile, change = self._altered(index)
        if "minority_draws" not in self.counts:  # the tile drawn comes first, then mosaic's and mixup's
            classes = self.images[index].classes if tile is None else tile.classes
            self.counts["minority_draws"] = int(np.isin(classes, self.minority).any())
        if tile is None:
            return label
        height, width = tile.image.shape[:2] if change is None else change.size_after
        segments = label["instances"].segments  # none, in the form that is wanted
        instances = Instances(tile.boxes.astype(np.float32), segments, bbox_format="xyxy", normalized=False)
        instances.convert_bbox("xywh")
        instances.normalize(width, height)
        label.update(
            img=tile.image,
            change=change,
            cls=tile.classes[:, None].astype(np.float32),
            instances=instances,
            resized_shape=(height, width),  # mosaic reads this, not the pixels' shape
        )
        return label

    def tile(self, index: int) -> Tile:
        """An image kept, in BGR, as it is; not to be written to."""
        pixels, _, (height, width) = self.load_image(index)
        return Tile(pixels, self._boxes(index, height, width), self.images[index].classes)

    def _boxes(self, index: int, height: int, width: int) -> npt.NDArray[np.float64]:
        """(n, 4) left, top, right, bottom in pixels of an image kept."""
        centre, half = np.split(self.images[index].boxes * [1, 1, 0.5, 0.5], 2, axis=1)
        return np.hstack([centre - half, centre + half]) * [width, height, width, height]

    def _altered(self, index: int) -> tuple[Tile | None, Change | None]:
        """The tile after the strategy's copy-paste and augmentation; None if neither befalls it.

        Where nothing will be mixed in, of the augmentation its boxes alone: the pixels' change goes with it.
        """
        pasting = self.copy_paste > 0 and random.random() < self.copy_paste
        anew = self.renewing is not None and self.images[index].is_copy
        if not pasting and not anew and self.strengths[bool(self.rare[index])] == 0:
            return None, None
        rng = np.random.default_rng(random.getrandbits(64))
        tile = self._renewed(index, rng) if anew else self.tile(index)
        if pasting:
            tile, pasted = paste_objects(tile, self._draw_donors(index, rng), rng)
            self.counts["objects_pasted"] += pasted
        rare = np.isin(tile.classes, self.minority)
        strength = self.strengths[bool(rare.any())]
        if strength == 0:
            return tile, None
        if self.variants:
            rng = self._fixed(index, int(rng.integers(self.variants)))
        size = (tile.image.shape[0], tile.image.shape[1])
        inside = clip_boxes(tile.boxes, size)
        change = draw_change(size, inside, strength=strength, rng=rng, rare=rare)
        boxes, row, lost = change.see(inside)
        self.counts.update(augmented_images=1, boxes_augmented=len(rare), boxes_lost=lost)
        if self._mixes:
            changed = change.applied(cv2.cvtColor(tile.image, cv2.COLOR_BGR2RGB))
            return Tile(cv2.cvtColor(changed, cv2.COLOR_RGB2BGR), boxes, tile.classes[row]), None
        return Tile(tile.image, boxes, tile.classes[row]), change

    def _renewed(self, index: int, rng: np.random.Generator) -> Tile:
        """A tile of another copy of the same whole image; the stored one if no other shows the minority."""
        own = self.images[index].tile
        assert self.renewing is not None
        assert own is not None
        fresh = self.renewing.draw(own.augmented_from, rng)
        if fresh is None:
            return self.tile(index)
        self.counts["renewed_tiles"] += 1
        bgr = cv2.cvtColor(fresh.image, cv2.COLOR_RGB2BGR)
        image, learnt = fitted(bgr, self.imgsz), np.isin(fresh.classes, self.learns)
        scale = np.tile(np.divide(image.shape[1::-1], fresh.image.shape[1::-1]), 2)  # (4,)
        return Tile(image, fresh.boxes[learnt] * scale, fresh.classes[learnt])

    def _fixed(self, index: int, variant: int) -> np.random.Generator:
        """What one variant of an image is drawn from, whatever else is kept."""
        name = zlib.crc32(self.images[index].name.encode())
        return np.random.default_rng((self.seed, 6, name, variant))

    def _draw_donors(self, index: int, rng: np.random.Generator) -> list[tuple[Tile, int]]:
        """Up to MOST_PASTED objects of other images, each of a minority class that is drawn first."""
        drawn = []
        for _ in range(int(rng.integers(1, MOST_PASTED + 1))):
            objects = self.donors[int(rng.integers(len(self.donors)))]
            others = objects[objects[:, 0] != index]
            if len(others):
                image, row = others[int(rng.integers(len(others)))].tolist()
                drawn.append((self.tile(image), row))
        return drawn

    def _objects_of(self, class_id: int) -> npt.NDArray[np.int64]:
        """Objects of a class, (n, 2): image kept, row. Those that no border cuts off, if there are such."""
        found, whole = [], []
        for image in np.flatnonzero(self.rare).tolist():
            height, width = fitted_size(self.images[image].size, self.imgsz)
            boxes = self._boxes(image, height, width)
            for row in np.flatnonzero(self.images[image].classes == class_id).tolist():
                x1, y1, x2, y2 = boxes[row]
                if min(x2 - x1, y2 - y1) >= 1:
                    found.append((image, row))
                    whole.append(min(x1, y1, width - x2, height - y2) >= 1)
        objects = np.array(found, dtype=np.int64).reshape(-1, 2)
        return objects[whole] if any(whole) else objects


def labelled(image: BoxImage, classes: Collection[int]) -> BoxImage:
    """An image with the labels of some classes alone."""
    learnt = np.isin(image.classes, list(classes))
    if learnt.all():
        return image
    return replace(image, classes=image.classes[learnt], boxes=image.boxes[learnt])


def _mixing_steps(transforms: Any) -> list[Any]:
    """Mosaic and mixup among Ultralytics' transforms of a training image."""
    steps = (*transforms.transforms[0].transforms, *transforms.transforms[1:])
    return [step for step in steps if isinstance(step, Mosaic | MixUp)]


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

"""What is transformed, how strongly: whole images by Albumentations, tiles with boxes here.

Albumentations 2.0.8 has no turn that spares the minority's objects and makes up no pixels, and its change of
stain takes 3 ms for a 128 px tile and changes it even at scale 1. No global random state is read or written.
"""

import os
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read at import, which otherwise asks the network
import albumentations as A

from trainables.strategy.stain import jittered_light

Pixels = npt.NDArray[np.uint8]

# Limits of the image pipeline at strength 1.
ROTATE_DEGREES = 25.0
SHIFT = 0.12  # of the side
SCALE = 0.2
BRIGHTNESS = CONTRAST = 0.3


def image_pipeline(strength: float) -> A.Compose | None:
    """Geometric and photometric transforms of whole images, grey or RGB.

    Args:
        strength: In [0, 1]; scales every limit.

    Returns:
        None for strength 0.
    """
    if strength == 0:
        return None
    affine = A.Affine(
        rotate=(-ROTATE_DEGREES * strength, ROTATE_DEGREES * strength),
        translate_percent=(-SHIFT * strength, SHIFT * strength),
        scale=(1 - SCALE * strength, 1 + SCALE * strength),
        border_mode=cv2.BORDER_REPLICATE,
        p=1.0,
    )
    light = A.RandomBrightnessContrast(
        brightness_limit=BRIGHTNESS * strength, contrast_limit=CONTRAST * strength, p=1.0
    )
    return A.Compose([affine, light], seed=0)


def image_strength(pipeline: A.Compose | None) -> float:
    """The strength that `pipeline` really has, from its own rotation limits; 0 for None."""
    return 0.0 if pipeline is None else float(pipeline.transforms[0].rotate[1]) / ROTATE_DEGREES


def seed_pipeline(pipeline: A.Compose | None, *key: int) -> None:
    """Start the pipeline's generator anew; the same `key` (seed, epoch, …) gives the same transforms."""
    if pipeline is not None:
        pipeline.set_random_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def transform_image(pipeline: A.Compose | None, image: Pixels) -> Pixels:
    """One freshly drawn transform of `image`, (height, width) or (height, width, 3); itself for None."""
    return image if pipeline is None else pipeline(image=image)["image"]


def contrast_kept(pipeline: A.Compose | None, images: Pixels) -> float | None:
    """How much contrast of small structures is left after the pipeline: 1 is all, 0 none.

    That contrast is the standard deviation of an image without its low frequencies (a Gaussian of 1/32 of the
    side, at least a pixel); what counts is the median ratio of after to before.

    Args:
        pipeline: It draws from its generator here.
        images: (n, height, width) or (n, height, width, 3).

    Returns:
        None without a pipeline, or if no image has such structures.
    """
    if pipeline is None:
        return None
    before = np.array([_small_contrast(image) for image in images])
    after = np.array([_small_contrast(transform_image(pipeline, image)) for image in images])
    return float(np.median(after[before > 0] / before[before > 0])) if before.any() else None


def _small_contrast(image: Pixels) -> float:
    pixels = image.astype(np.float32)
    return float((pixels - cv2.GaussianBlur(pixels, (0, 0), max(1.0, image.shape[0] / 32))).std())


# Limits for tiles with boxes at strength 1.
ROTATE_TILE_DEGREES = 10.0  # beside the right angles
CROP = 0.15  # of the side of the largest window that fits
BRIGHTNESS_TILE = 0.06  # of white
CONTRAST_TILE = 0.15
STAIN_SCALE = 0.25  # of each stain's density
STAIN_SHIFT = 0.02  # in units of optical density

VISIBLE = 0.4  # an object keeps its label if at least this share of its box is left
WHOLE = 0.75  # and a minority object must keep this share
WINDOWS = 8  # that are tried

Boxes = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Change:
    """A transform as it was drawn, for images of one size.

    Attributes:
        size: (height, width) of these images.
        matrix: (2, 3) the map from the image to a window of it, enlarged to the image's size.
        symmetry: Of the square, after that; as of `turn`.
        stain_scale: (3,) factor of each stain's density.
        stain_shift: (3,) added to it.
        contrast: Factor about the mean.
        brightness: Added to each value.
    """

    size: Size
    matrix: Boxes
    symmetry: int
    stain_scale: Boxes
    stain_shift: Boxes
    contrast: float
    brightness: float

    @property
    def size_after(self) -> Size:
        """(height, width) of the changed image."""
        height, width = self.size
        return (width, height) if self.symmetry % 2 else (height, width)

    def see(self, boxes: Boxes) -> tuple[Boxes, Rows, int]:
        """What boxes (n, 4) xyxy within the image are after it.

        Returns:
            (m, 4) xyxy in pixels, clipped to the image; (m,) which of the n boxes they were; how many have
            lost their label though a part of the object is still to be seen, or lay outside from the start.
        """
        moved, share = _see(self.matrix[None], boxes, self.size)
        row = np.flatnonzero(share[0] >= VISIBLE)
        lost = int((box_areas(boxes) == 0).sum() + ((share[0] > 0) & (share[0] < VISIBLE)).sum())
        return turn_boxes(moved[0, row], self.size, self.symmetry), row, lost

    def whole_map(self) -> Boxes:
        """(3, 3) the map of coordinates from the image to the changed one: `matrix`, then the symmetry."""
        height, width = self.size
        whole = np.vstack([self.matrix, [0, 0, 1]])
        if self.symmetry >= 4:
            whole = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]]) @ whole
        for _ in range(self.symmetry % 4):
            whole = np.array([[0, 1, 0], [-1, 0, width], [0, 0, 1]]) @ whole
            height, width = width, height
        return whole

    def applied(self, image: Pixels) -> Pixels:
        """The changed image, (height, width, 3) RGB, the sides swapped after a quarter turn."""
        return self.recoloured(turn_image(warp(image, self.matrix, self.size), self.symmetry))

    def recoloured(self, image: Pixels, mean: float | None = None) -> Pixels:
        """(height, width, 3) RGB in another stain and light; contrast about `mean`, None for its own."""
        light = self._light(image)
        mean = _mean_value(light) if mean is None else mean
        added = mean * (1 - self.contrast) + self.brightness - 0.5 * self.contrast
        return np.asarray(
            cv2.addWeighted(light, 256 * self.contrast, light, 0, added, dtype=cv2.CV_8U), dtype=np.uint8
        )

    def mean_of(self, image: Pixels) -> float:
        """What `recoloured` takes for the mean of (height, width, 3) RGB."""
        return _mean_value(self._light(image))

    def _light(self, image: Pixels) -> npt.NDArray[np.float32]:
        return jittered_light(image, scale=self.stain_scale, shift=self.stain_shift)


def _mean_value(light: npt.NDArray[np.float32]) -> float:
    return 256 * float(np.mean(cv2.mean(light)[:3])) - 0.5


def draw_change(
    size: Size,
    boxes: Boxes,
    *,
    strength: float,
    rng: np.random.Generator,
    rare: npt.NDArray[np.bool_],
    spare_all: bool = True,
) -> Change:
    """Draw a transform: a window of a tile, the square's eight symmetries, stain, and light.

    The window is turned a little, lies wholly inside the tile and is enlarged to the tile's size, so that no
    pixel is made up. A symmetry of the square keeps boxes tight; for the small turn each box is taken for the
    ellipse in it, where turning its corners would inflate it.

    Args:
        size: (height, width) of the tile.
        boxes: (n, 4) xyxy in pixels, within it.
        strength: In [0, 1]; scales every limit, and is the probability of a symmetry drawn from the eight.
        rng: What all is drawn from.
        rare: (n,) which boxes hold a minority object: a window that cuts one off is not taken.
        spare_all: As of `draw_window`.
    """
    matrix = draw_window(size, boxes, strength=strength, rng=rng, rare=rare, spare_all=spare_all)
    return Change(
        size=size,
        matrix=matrix,
        symmetry=int(rng.integers(8)) if rng.random() < strength else 0,
        stain_scale=1 + STAIN_SCALE * strength * rng.uniform(-1, 1, 3),
        stain_shift=STAIN_SHIFT * strength * rng.uniform(-1, 1, 3),
        contrast=1 + CONTRAST_TILE * strength * rng.uniform(-1, 1),
        brightness=255 * BRIGHTNESS_TILE * strength * rng.uniform(-1, 1),
    )


def turn(image: Pixels, boxes: Boxes, symmetry: int) -> tuple[Pixels, Boxes]:
    """One of the square's eight symmetries; exact for pixels and boxes.

    Args:
        image: (height, width, channels).
        boxes: (n, 4) xyxy in pixels.
        symmetry: 0..7: quarter turns anticlockwise, and from 4 on mirrored left to right before them.
    """
    return turn_image(image, symmetry), turn_boxes(boxes, (image.shape[0], image.shape[1]), symmetry)


def turn_image(image: Pixels, symmetry: int) -> Pixels:
    """The pixels of `turn`."""
    if symmetry >= 4:
        image = cv2.flip(image, 1)
    for _ in range(symmetry % 4):
        image = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return np.asarray(image)


def turn_boxes(boxes: Boxes, size: Size, symmetry: int) -> Boxes:
    """The boxes of `turn`; `size` is (height, width) of the image before."""
    height, width = size
    if symmetry >= 4:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    for _ in range(symmetry % 4):
        boxes = np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], axis=1)
        height, width = width, height
    return boxes


def clip_boxes(boxes: Boxes, size: Size) -> Boxes:
    """Boxes (…, 4) xyxy, cut off at the border of an image of (height, width)."""
    height, width = size
    return np.clip(boxes, 0, [width, height, width, height])


def box_areas(boxes: Boxes) -> Boxes:
    """Areas of boxes (…, 4) xyxy; (…,)."""
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def turned_boxes(matrices: Boxes, boxes: Boxes) -> Boxes:
    """The boxes of the ellipses in `boxes` under affine maps; (n_maps, n, 4) xyxy.

    Args:
        matrices: (n_maps, 2, 3).
        boxes: (n, 4) xyxy.
    """
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2  # (n, 2)
    linear = matrices[:, :, :2]
    moved = centre @ linear.transpose(0, 2, 1) + matrices[:, None, :, 2]  # (n_maps, n, 2)
    reach = np.sqrt(half**2 @ (linear**2).transpose(0, 2, 1))  # (n_maps, n, 2)
    return np.concatenate([moved - reach, moved + reach], axis=2)


def _see(matrices: Boxes, boxes: Boxes, size: Size) -> tuple[Boxes, Boxes]:
    """Boxes after each map, clipped (n_maps, n, 4), and which share of each is still inside (n_maps, n)."""
    moved = turned_boxes(matrices, boxes)
    seen = clip_boxes(moved, size)
    return seen, box_areas(seen) / np.maximum(box_areas(moved), 1e-9)


def draw_window(
    size: Size,
    boxes: Boxes,
    *,
    strength: float,
    rng: np.random.Generator,
    rare: npt.NDArray[np.bool_],
    spare_all: bool = True,
) -> Boxes:
    """The map (2, 3) from an image of (height, width) to a window of it.

    Of those tried it is the one that cuts off the fewest minority objects, and then leaves the fewest objects
    cut to less than they need for a label. It is the whole image if each of them cuts off a minority object;
    or if not `spare_all`, as for an image that holds many, if it would cut off all.
    """
    height, width = size
    side = np.array([width, height])
    angle = np.radians(ROTATE_TILE_DEGREES * strength) * rng.uniform(-1, 1, WINDOWS)
    cos, sin = np.cos(angle), np.sin(angle)
    # Width and height that a turned window of the tile's size takes up; (WINDOWS, 2).
    span = np.stack([width * cos + height * abs(sin), width * abs(sin) + height * cos], axis=1)
    scale = (side / span).min(axis=1) * (1 - CROP * strength * rng.random(WINDOWS))
    room = (side - scale[:, None] * span) / 2
    centre = side / 2 + room * rng.uniform(-1, 1, (WINDOWS, 2))
    linear = np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 1) / scale[:, None, None]  # (WINDOWS, 2, 2)
    shift = side / 2 - (linear @ centre[:, :, None])[:, :, 0]
    matrices = np.concatenate([linear, shift[:, :, None]], axis=2)
    share = _see(matrices, boxes, size)[1]
    slivers = ((share > 0) & (share < VISIBLE)).sum(axis=1)
    cut_off = (share[:, rare] < WHOLE).sum(axis=1)
    best = int(np.argmin(slivers + (len(boxes) + 1) * cut_off))
    most = 0 if spare_all else max(0, int(rare.sum()) - 1)
    return np.eye(2, 3) if cut_off[best] > most else np.asarray(matrices[best])


def warp(image: Pixels, matrix: Boxes, size: Size) -> Pixels:
    """The image under a map of coordinates in which pixel i covers [i, i + 1); (height, width) of it."""
    height, width = size
    return np.asarray(
        cv2.warpAffine(image, of_middles(matrix), (width, height), borderMode=cv2.BORDER_REFLECT_101),
        dtype=np.uint8,
    )


def of_middles(matrix: Boxes) -> Boxes:
    """A map (2, 3) or (3, 3) for OpenCV, whose coordinates are those of the pixels' middles."""
    matrix = matrix.copy()
    matrix[:2, 2] += matrix[:2, :2].sum(axis=1) / 2 - 0.5
    return matrix

"""What is transformed, for whom, how strongly, made to happen by Albumentations.

A pipeline draws from its own generator, never from NumPy's or Python's global state.
"""

import os

import cv2
import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read at import, which otherwise asks the network
import albumentations as A

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


# Limits of the box pipeline at strength 1.
STAIN = 0.35  # of the tone curve of each colour channel

Boxes = npt.NDArray[np.floating]


def box_pipeline(strength: float) -> A.Compose | None:
    """Transforms of an RGB tile together with its boxes: the square's eight symmetries, light, and stain.

    A symmetry of the square keeps boxes tight, where a rotation by any other angle inflates them. A stain of
    another strength bends the tone curve of each channel by itself.

    Args:
        strength: In [0, 1]; the probability of a symmetry other than the identity is 7/8 of it, and it scales
            the other limits.

    Returns:
        None for strength 0.
    """
    if strength == 0:
        return None
    turn = A.D4(p=strength)
    light = A.RandomBrightnessContrast(
        brightness_limit=BRIGHTNESS / 2 * strength, contrast_limit=CONTRAST / 2 * strength, p=1.0
    )
    stain = A.RandomToneCurve(scale=STAIN * strength, per_channel=True, p=1.0)
    kept = A.BboxParams(format="pascal_voc", label_fields=["row"], clip=True, filter_invalid_bboxes=True)
    return A.Compose([turn, light, stain], bbox_params=kept, seed=0)


def box_strength(pipeline: A.Compose | None) -> float:
    """The strength that `pipeline` really has, from its own probability of a symmetry; 0 for None."""
    return 0.0 if pipeline is None else float(pipeline.transforms[0].p)


def transform_boxes(
    pipeline: A.Compose, image: Pixels, boxes: Boxes
) -> tuple[Pixels, Boxes, npt.NDArray[np.int64]]:
    """One freshly drawn transform of a tile.

    Args:
        pipeline: From `box_pipeline`.
        image: (height, width, 3) RGB.
        boxes: (n, 4) xyxy in pixels.

    Returns:
        The new image, the boxes that are left (m, 4), and which of the n they were (m,).
    """
    done = pipeline(image=image, bboxes=boxes, row=np.arange(len(boxes)))
    left = np.asarray(done["bboxes"], dtype=np.float32).reshape(-1, 4)
    return done["image"], left, np.asarray(done["row"], dtype=np.int64)

"""Stains of a bright-field picture: pixels to densities and back, and a jitter of each stain. Pure.

Light falls off exponentially with the amount of stain (Beer-Lambert), so the logarithm of a pixel is a
weighted sum of its stains: colour deconvolution, Ruifrok & Johnston 2001, with their vectors for
haematoxylin, eosin and DAB. The jitter, each stain scaled and shifted, is that of Tellez et al. 2018: the
same slide stained more or less. A picture that is not stained gets a mild change of colour.
"""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Density of haematoxylin, eosin and DAB in red, green and blue.
HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
FROM_HED: Floats = (HED / np.linalg.norm(HED, axis=1, keepdims=True)).astype(np.float32)  # (3 stains, rgb)
TO_HED: Floats = np.linalg.inv(FROM_HED).astype(np.float32)
# Density of each pixel value, which stands for the middle of a range of light, so that 0 has a density too.
DENSITY: Floats = -np.log((np.arange(256) + 0.5) / 256).astype(np.float32)


def jittered_light(image: Pixels, *, scale: npt.ArrayLike, shift: npt.ArrayLike) -> Floats:
    """The light of the picture with each stain's density scaled and shifted.

    Args:
        image: (height, width, 3) RGB.
        scale: (3,) factor of each stain; 1 leaves it.
        shift: (3,) added to each stain's density; 0 leaves it.

    Returns:
        (height, width, 3) of red, green and blue; 1 is all light, and less stain than none makes more of it.
        A pixel's value is `256 * light - .5`.
    """
    mix, added = density_map(scale, shift)
    return _through(_mixed(cv2.LUT(image, DENSITY), mix, added))


def density_map(scale: npt.ArrayLike, shift: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The jitter of a pixel's densities in red, green, blue: `densities @ mix + added`, (3, 3) and (3,)."""
    mix = TO_HED @ (np.asarray(scale, dtype=np.float32)[:, None] * FROM_HED)
    return np.asarray(mix), np.asarray(np.asarray(shift, dtype=np.float32) @ FROM_HED)


def _mixed(planes: Floats, matrix: Floats, shift: Floats | None = None) -> Floats:
    """`planes @ matrix + shift`, over the last axis of (height, width, 3)."""
    added = np.zeros(3, dtype=np.float32) if shift is None else shift
    return np.asarray(cv2.transform(planes, np.column_stack([matrix.T, added])))


def _through(density: Floats) -> Floats:
    """The share of light that passes."""
    return np.asarray(cv2.exp(cv2.multiply(density, -1)))

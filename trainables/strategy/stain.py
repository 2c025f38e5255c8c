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


def stain_densities(image: Pixels) -> Floats:
    """How much of each stain there is in each pixel.

    Args:
        image: (height, width, 3) RGB.

    Returns:
        (height, width, 3) of haematoxylin, eosin and DAB, in natural units of optical density; what the three
        cannot explain makes one of them negative.
    """
    return _mixed(cv2.LUT(image, DENSITY), TO_HED)


def stained(densities: Floats) -> Pixels:
    """The picture with these stains, (height, width, 3) RGB: the inverse of `stain_densities`."""
    return _light(_mixed(densities, FROM_HED))


def jitter_stains(image: Pixels, *, scale: npt.ArrayLike, shift: npt.ArrayLike) -> Pixels:
    """The picture with each stain's density scaled and shifted.

    Args:
        image: (height, width, 3) RGB.
        scale: (3,) factor of each stain; 1 leaves it.
        shift: (3,) added to each stain's density; 0 leaves it.
    """
    mix = TO_HED @ (np.asarray(scale, dtype=np.float32)[:, None] * FROM_HED)  # (rgb, rgb)
    return _light(_mixed(cv2.LUT(image, DENSITY), mix, np.asarray(shift, dtype=np.float32) @ FROM_HED))


def _mixed(planes: Floats, matrix: Floats, shift: Floats | None = None) -> Floats:
    """`planes @ matrix + shift`, over the last axis of (height, width, 3)."""
    added = np.zeros(3, dtype=np.float32) if shift is None else shift
    return np.asarray(cv2.transform(planes, np.column_stack([matrix.T, added])))


def _light(density: Floats) -> Pixels:
    """RGB from its optical density, the inverse of `DENSITY`."""
    return np.asarray(cv2.convertScaleAbs(cv2.exp(-density), alpha=256, beta=-0.5))

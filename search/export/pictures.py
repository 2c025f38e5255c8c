"""Boxes drawn on an image: a colour for each class, the score beside each box."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError
from trainables.data.boxes.decoding import read_pixels

# BGR, told apart by colour-blind people too; Okabe and Ito 2008. The first is of class 0.
COLOURS = (
    (178, 114, 0),
    (0, 94, 213),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (233, 180, 86),
    (66, 228, 240),
)
JPEG_QUALITY = 90
LARGEST = 30_000  # pixels a side; a JPEG holds no more than 65,535


def draw_boxes(
    image: Path,
    picture: Path,
    boxes: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
) -> None:
    """Write a JPEG of an image with boxes; one that is too large for that is made smaller.

    Args:
        image: Its file.
        picture: File to write; its folder is made.
        boxes: (n, 4) left, top, right, bottom; pixels.
        labels: (n,) class ids.
        scores: (n,) in [0, 1].

    Raises:
        UsageError: The image cannot be read.
        OSError: The picture cannot be written.
    """
    pixels = read_pixels(image)
    if pixels is None:
        raise UsageError(f"{image}: no image that can be read")
    scale = min(1.0, LARGEST / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]  # a line stays one
    shown = pixels.copy() if scale == 1 else cv2.resize(pixels, size)
    thickness = max(1, round(max(shown.shape[:2]) / 1000))
    for box, label, score in zip((boxes * scale).round().astype(int), labels, scores, strict=True):
        left, top, right, bottom = box.tolist()
        colour = COLOURS[int(label) % len(COLOURS)]
        cv2.rectangle(shown, (left, top), (right, bottom), colour, thickness)
        place = (left, top - 3 if top > 12 else bottom + 12)
        cv2.putText(shown, f"{score:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA)
    encoded, content = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(content.tobytes())

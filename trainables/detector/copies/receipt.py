"""What a receipt says of copies: counted from the images that were trained on."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from spaces.augmentation import Augmentation
from trainables.data.boxes.listed import BoxImage
from trainables.strategy.receipt import if_so


def of_copies(
    images: Sequence[BoxImage], wanted: Sequence[BoxImage], asked: Augmentation, *, at_draws: float
) -> dict[str, Any]:
    """How many copies of whole images were trained on, and how strongly the minority was augmented.

    Args:
        images: That were trained on.
        wanted: The tiles of the copies that the strategy asks for, found anew.
        asked: The strategy's.
        at_draws: With which strength tiles that hold a minority object were augmented when drawn.

    Returns:
        `pretile_copies` is the number of copies of that whole image which has the most: one of which no tile
        shows a minority object has no trace. `augment_minority` is None unless the copies are as asked, and
        nothing is augmented again.
    """
    used = [image for image in images if image.is_copy]
    of_original: dict[str, set[str]] = defaultdict(set)
    for image in used:
        assert image.tile is not None
        of_original[image.tile.augmented_from].add(image.tile.source)
    strength = {"augment_minority": at_draws}
    if asked.pretile_copies:
        as_asked = at_draws == 0 and _same(used, wanted)
        strength = if_so(as_asked, {"augment_minority": asked.augment_minority})
    return {
        "pretile_copies": max(map(len, of_original.values()), default=0),
        "copied_images": len(of_original),
        "copied_tiles": len(used),
        **strength,
    }


def _same(used: Sequence[BoxImage], wanted: Sequence[BoxImage]) -> bool:
    """Whether they are the same files, which are named by what they are made of, with the same objects."""
    return len(used) == len(wanted) and all(
        one.path == other.path
        and np.array_equal(one.classes, other.classes)
        and np.array_equal(one.boxes, other.boxes)
        for one, other in zip(used, wanted, strict=True)
    )

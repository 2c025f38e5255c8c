"""Crops of what was found, missed, lost and called for nothing, as JPEGs inside the page."""

import base64
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from search.pipeline.looking.before_after import BeforeAfter
from search.pipeline.looking.found_missed import GROUPS, Case, boxes_in, cases
from trainables.contract.predictions import DetectionPredictions, Predictions
from trainables.contract.trial import DataSpec
from trainables.data.boxes.decoding import read_pixels
from trainables.data.sources import boxes_of, images_of

MOST = 12  # of a group
SIDE = 220  # pixels of a crop on the page
LEAST, AROUND = 48, 2.4  # px that a crop shows at least; and how many sides of the object
QUALITY = 82
BLACK, WHITE, ORANGE = (
    (0, 0, 0),
    (255, 255, 255),
    (0, 140, 255),
)  # BGR: around both; what is there; what was called
FONT = cv2.FONT_HERSHEY_SIMPLEX

Pixels = npt.NDArray[np.uint8]


def pictures(pair: BeforeAfter, data: DataSpec, imgsz: int, *, anonymous: bool) -> dict[str, Any] | None:
    """What a page shows of them: a note, and for each group its title, how many there are, and some.

    None of runs that 0.1.0 made, which do not know what their exported weights find.

    Args:
        pair: The two runs.
        data: Of the study.
        imgsz: Side that a classifier's images are resized to.
        anonymous: Whether images go without their names.

    Raises:
        UsageError: The images cannot be read.
        RunError: A file of predictions is damaged.
    """
    before, after = pair.predictions()
    if isinstance(after, DetectionPredictions):
        assert isinstance(before, DetectionPredictions)
        if before.shipped is None or after.shipped is None:
            return None
        shown, as_what = _crops(before, after, data, pair, anonymous), "as exported"
        drawn = "White: what is there. Orange: what was called so, with its score. Left the baseline, right "
        unlike = "exported weights have a threshold of their own and one name for a box"
    else:
        shown = _images(before, after, data, pair.split, imgsz, anonymous)
        # A classifier's biases, which are exported, were tuned on val: there each image goes by others'.
        as_what = "as exported" if pair.split == "test" else "by biases that were tuned on val's other images"
        drawn = "Each image with its class, what the baseline called it and what it is called by "
        unlike = "biases help the baseline, too, and the verdict is about models without"
    found = cases(before, after)
    return {
        "note": f"On {pair.split}: one training of the baseline beside one of {pair.name}, {as_what}. "
        f"{drawn}{pair.name}. The most telling first, at most {MOST} of each kind. So the counts are not "
        f"those of the answer: {unlike}.",
        "groups": [
            {
                "name": group,
                "title": title,
                "count": len(found[group]),
                "items": [shown(case) for case in found[group][:MOST]],
            }
            for group, title in GROUPS.items()
        ],
    }


Shown = Callable[[Case], dict[str, Any]]


def _crops(
    before: DetectionPredictions,
    after: DetectionPredictions,
    data: DataSpec,
    pair: BeforeAfter,
    anonymous: bool,
) -> Shown:
    boxes = boxes_of(data.place, data.pixel_max)
    tiles, rare = boxes.splits[pair.split], after.minority.tolist()

    @lru_cache(maxsize=4)
    def pixels(image: int) -> Pixels:
        if pair.whole_images:
            assert boxes.images_in is not None
            read = read_pixels(boxes.images_in / str(after.image[image]))
            assert read is not None, "it was read when it was cut"
            return read
        return tiles[image].pixels()

    def shown(case: Case) -> dict[str, Any]:
        whole = pixels(case.image)
        window = _window(case, whole)
        images = [
            {"src": _encoded(_drawn(whole, window, one, case.image, rare)), "alt": f"{_where(case)}: {whose}"}
            for one, whose in ((before, "baseline"), (after, pair.name))
        ]
        name = "" if anonymous else f"{after.image[case.image]}, "
        return {"images": images, "caption": f"{name}{_where(case)}"}

    return shown


def _where(case: Case) -> str:
    assert case.box is not None
    left, top, right, bottom = case.box
    return f"at {left:.0f}, {top:.0f}, {right - left:.0f} x {bottom - top:.0f} px"


def _window(case: Case, whole: Pixels) -> tuple[int, int, int]:
    """Left, top and side of a square around a case, within the image."""
    assert case.box is not None
    left, top, right, bottom = case.box
    height, width = whole.shape[:2]
    side = int(min(max(LEAST, AROUND * max(right - left, bottom - top)), height, width))
    x = int(np.clip((left + right - side) / 2, 0, width - side))
    y = int(np.clip((top + bottom - side) / 2, 0, height - side))
    return x, y, side


def _drawn(
    whole: Pixels, window: tuple[int, int, int], found: DetectionPredictions, image: int, rare: list[int]
) -> Pixels:
    x, y, side = window
    scale = SIDE / side
    shown = cv2.resize(whole[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    true, called, scores = boxes_in(found, image, rare)
    for boxes, colour in ((true, WHITE), (called, ORANGE)):
        for left, top, right, bottom in ((boxes - [x, y, x, y]) * scale).round().astype(int).tolist():
            cv2.rectangle(shown, (left, top), (right, bottom), BLACK, 4)  # seen on any ground
            cv2.rectangle(shown, (left, top), (right, bottom), colour, 2)
    for (left, top, right, bottom), score in zip((called - [x, y, x, y]) * scale, scores, strict=True):
        if min(right, bottom) > 0 and max(left, top) < SIDE:
            place = max(2, int(left)), int(top) - 4 if top > 16 else min(SIDE - 4, int(bottom) + 14)
            for colour, thick in ((BLACK, 3), (ORANGE, 1)):
                cv2.putText(shown, f"{score:.2f}", place, FONT, 0.5, colour, thick, cv2.LINE_AA)
    return np.asarray(shown, dtype=np.uint8)


def _images(
    before: Predictions, after: Predictions, data: DataSpec, split: str, imgsz: int, anonymous: bool
) -> Shown:
    stored = images_of(data.source, imgsz, data.pixel_max).splits[split]
    names, calls = after.class_names.tolist(), (vars(before)["tuned"], vars(after)["tuned"])

    def shown(case: Case) -> dict[str, Any]:
        pixels = np.asarray(stored.images[case.image])
        scale = max(1, SIDE // max(pixels.shape[:2]))
        large = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        large = large[..., ::-1] if large.ndim == 3 else large  # stored as RGB
        label, (was, now) = (
            names[int(stored.labels[case.image])],
            (names[int(of[case.image])] for of in calls),
        )
        name = "" if anonymous else f"{stored.ids[case.image]}: "
        caption = f"{name}{label}; before called {was}, now {now}"
        return {"images": [{"src": _encoded(large), "alt": caption}], "caption": caption}

    return shown


def _encoded(pixels: npt.NDArray[Any]) -> str:
    """A JPEG as a `data:` address."""
    good, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert good
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"

"""Two of Ultralytics' transforms, for tiles that a strategy changes: one warp, and colours that may wait.

A label carries the `change` of its tile from `TrainingTiles` to here: its boxes have gone through it, its
pixels have not. That is so where nothing is mixed in; a tile of a mosaic is changed before.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from trainables.detector.settled import RandomHSV, RandomPerspective
from trainables.strategy.augmentation import Change, of_middles
from trainables.strategy.colours import packed

GREY = (114, 114, 114)  # of what no picture covers, as in Ultralytics


class OneWarp(RandomPerspective):  # type: ignore[misc]
    """Ultralytics' affine map and the tile's own in one: pixels are interpolated once."""

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Drawn as if the tile had been changed before."""
        change: Change | None = labels.get("change")
        if change is None:
            found: dict[str, Any] = super().get_params(labels)
            return found
        changed = np.broadcast_to(np.uint8(0), change.size_after)  # its shape is looked at
        matrix, scale = self._compute_affine_matrix(changed, self.size)
        return {"M": matrix, "scale": scale, "orig_shape": change.size_after, "size": self.size}

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        """What the tile's window does not show stays hidden, for its objects have no label."""
        change: Change | None = labels.get("change")
        if change is None:
            warped: dict[str, Any] = super().apply_image(labels, params)
            return warped
        matrix, (width, height) = params["M"], params["size"]
        whole = matrix @ of_middles(change.whole_map())
        image = cv2.warpAffine(labels["img"], whole[:2], (width, height), borderValue=GREY)
        down, across = change.size_after
        corners = np.array([[0, 0, 1], [across, 0, 1], [across, down, 1], [0, down, 1]]) - [0.5, 0.5, 0]
        window = (corners @ matrix.T)[:, :2]
        labels["img"] = _outside_filled(image, window)
        labels["resized_shape"] = labels["img"].shape[:2]
        return labels


def _outside_filled(image: Any, window: Any) -> Any:
    """The image, grey outside of a convex polygon (n, 2)."""
    height, width = image.shape[:2]
    frame = np.array([[-1, -1], [width, -1], [width, height], [-1, height]])
    shift = 4  # bits behind the point
    polygons = [np.rint(points * 2**shift).astype(np.int32) for points in (frame, window)]
    return cv2.fillPoly(image, polygons, GREY, shift=shift)  # what both cover is outside of it, by parity


class Colours(RandomHSV):  # type: ignore[misc]
    """The tile's stain and light, then Ultralytics' hue, saturation and value.

    Args:
        hsv: Ultralytics' own step.
        later: Says whether they are left to the device, as a label's `colours`, by `strategy.colours`.
    """

    def __init__(self, hsv: Any, later: Callable[[], bool]) -> None:
        super().__init__(hsv.hgain, hsv.sgain, hsv.vgain)
        self._later = later

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Drawn in the same way here and there."""
        change: Change | None = labels.pop("change", None)
        if self._later():
            most = [self.hgain, self.sgain, self.vgain]
            gains = np.random.uniform(-1, 1, 3) * most if any(most) else np.zeros(3)  # noqa: NPY002
            labels["colours"] = packed(change, gains)
            return labels
        if change is not None:
            rgb = change.recoloured(cv2.cvtColor(labels["img"], cv2.COLOR_BGR2RGB))
            labels["img"] = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        turned: dict[str, Any] = super().apply_image(labels, params)
        return turned

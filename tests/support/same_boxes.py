"""Whether two lists of found boxes are the same, whatever their order."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Rows = npt.NDArray[np.floating[Any]]

TOLERANCE = {"score": 1e-3, "box": 0.01}  # box: pixels


def coco_rows(found: list[dict[str, Any]], name: str) -> Rows:
    """(n, 6) class id, score, xyxy of one image in `predictions.json`."""
    mine = [one for one in found if one["file_name"] == name]
    boxes = np.array([one["bbox"] for one in mine]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return np.column_stack(
        [[one["category_id"] - 1 for one in mine], [one["score"] for one in mine], boxes]
    ).reshape(-1, 6)


def assert_same_boxes(got: Rows, wanted: Rows) -> None:
    """Each of (n, 6) class id, score, xyxy has a counterpart of its own.

    Scores that all but tie may change places with the batch that a tile is in, so boxes are paired as they
    fit best.
    """
    assert len(got) == len(wanted)
    apart = np.abs(got[:, None] - wanted[None])  # (n, n, 6)
    row, column = linear_sum_assignment(apart.sum(axis=2))
    of_pairs = apart[row, column]
    assert (of_pairs[:, 0] == 0).all()
    assert of_pairs[:, 1].max(initial=0.0) <= TOLERANCE["score"]
    assert of_pairs[:, 2:].max(initial=0.0) <= TOLERANCE["box"]

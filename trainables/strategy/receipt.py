"""What both trainers say of a strategy in their receipts: read back from what was used.

Where a knob leaves no trace that could be read back, what was used is computed anew from it and compared: if
it is the same the receipt holds the knob's value, else None, which fails the run.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from spaces.sampling import Sampling
from spaces.strategy import PLAIN
from trainables.contract.tasks import TASKS, Task

Floats = npt.NDArray[np.float64]
Value = TypeVar("Value")


def if_so(holds: bool, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, or None for each of them unless it holds that they were used."""
    return {name: value if holds else None for name, value in values.items()}


def of_sampling(
    sampling: Sampling, *, rare: npt.NDArray[np.bool_], majority_images: int, drawn_as_asked: bool
) -> dict[str, Any]:
    """Which images were kept, and how they were drawn.

    Args:
        sampling: As asked.
        rare: (n,) which of the images kept hold a minority object.
        majority_images: Images without one before undersampling.
        drawn_as_asked: Whether the draws' weights are those of `sampling`.
    """
    asked = {name: getattr(sampling, name) for name in ("sampler_power", "repeat_threshold", "max_repeat")}
    return {
        "retention": int((~rare).sum()) / max(1, majority_images),
        "majority_images": majority_images,
        "minority_images": int(rare.sum()),
        **if_so(drawn_as_asked, asked),
    }


def of_lacking(task: Task) -> dict[str, float]:
    """The knobs that the task's trainable does not have, off."""
    return {knob: PLAIN.knobs()[knob] for knob in TASKS[task].lacks}


def same_weights(used: Floats | None, wanted: Floats | None) -> bool:
    """Whether draws have the same weights; None are those of shuffled passes."""
    return used is wanted if used is None or wanted is None else bool(np.array_equal(used, wanted))


def close(used: Tensor, wanted: Floats) -> bool:
    """Whether a criterion's tensor is what the strategy asks for."""
    return bool(np.allclose(used.cpu().numpy(), wanted, rtol=1e-5))


def common(values: Iterable[Value]) -> Value | None:
    """The one value that all of them are; None if they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None

"""Which training images are drawn, in which order. Pure NumPy; the order is a function of (seed, epoch).

Images are known by the set of class ids in them, so that a classifier (one class each) and a detector (any
number, also none) share this. Validation and test data never come here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spaces.errors import UsageError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
ClassSets = Sequence[Collection[int]]

ROUNDING = 1e-9  # of a sum of weights


def holds_minority(classes: ClassSets, minority: Collection[int]) -> npt.NDArray[np.bool_]:
    """Which images hold at least one minority object; (n_images,)."""
    rare = set(minority)
    return np.array([not rare.isdisjoint(found) for found in classes], dtype=bool)


def retain(classes: ClassSets, minority: Collection[int], *, retention: float, seed: int) -> Ints:
    """Undersample the images without a minority object.

    Images with the same class set are thinned alike, so that no majority class vanishes before another.

    Args:
        classes: Class ids in each image.
        minority: Class ids of the minority.
        retention: Fraction kept, in [0, 1]. The total kept is exactly `round(retention * n)`.
        seed: Of the trial.

    Returns:
        Indices kept, ascending; every image with a minority object is among them.
    """
    rare = holds_minority(classes, minority)
    pool = np.flatnonzero(~rare)
    target = round(retention * len(pool))
    rng = np.random.default_rng((seed, 1))
    order = rng.permutation(pool)
    # Position of each image within its own class set, as a fraction: keeping the lowest thins all sets alike.
    seen: dict[frozenset[int], int] = {}
    sizes: dict[frozenset[int], int] = {}
    for image in order:
        group = frozenset(classes[image])
        sizes[group] = sizes.get(group, 0) + 1
    place = np.empty(len(order))
    for position, image in enumerate(order):
        group = frozenset(classes[image])
        seen[group] = seen.get(group, 0) + 1
        place[position] = (seen[group] - 0.5) / sizes[group]
    kept = order[np.argsort(place, kind="stable")[:target]]
    return np.sort(np.concatenate([np.flatnonzero(rare), kept])).astype(np.int64)


def draw_weights(classes: ClassSets, *, power: float, max_repeat: float) -> Floats | None:
    """Probability of each image per draw, with replacement.

    w_i = max over the classes c in image i of (share of images with c) ^ -power; an image without objects
    weighs as the most frequent class does. Then capped, so that none is drawn more than `max_repeat` times as
    often as uniformly.

    Returns:
        (n_images,), sum 1; or None for power 0, which is drawing without replacement.
    """
    if power == 0:
        return None
    present, counts = np.unique([c for found in classes for c in set(found)], return_counts=True)
    weight_of = dict(zip(present.tolist(), (counts / len(classes)) ** -power, strict=True))
    lowest = min(weight_of.values(), default=1.0)
    weights = np.array(
        [max((weight_of[c] for c in found), default=lowest) for found in classes], dtype=np.float64
    )
    return _capped(weights / weights.sum(), max_repeat / len(classes))


def _capped(p: Floats, cap: float) -> Floats:
    """`p` with no entry above `cap`, the excess spread over the others in proportion; cap >= 1 / len(p)."""
    over = np.zeros(len(p), dtype=bool)
    while (p > cap * (1 + 1e-12)).any():
        over |= p >= cap
        rest = 1 - cap * over.sum()
        p = np.where(over, cap, p * rest / p[~over].sum()) if not over.all() else np.full(len(p), 1 / len(p))
    return p


def expected_exposure(
    classes: ClassSets, minority: Collection[int], *, retention: float, power: float, max_repeat: float
) -> float:
    """Share of the drawn images that hold a minority object, in [0, 1], as it is expected.

    Weights after undersampling depend on which majority images are kept. Seed 0's stand for them: `retain`
    thins all class sets alike, so two seeds keep as many images of each set, give or take one.

    Args:
        classes: Class ids in each image.
        minority: Class ids of the minority.
        retention: As in `retain`; it must leave an image.
        power: As in `draw_weights`.
        max_repeat: Likewise.
    """
    kept = retain(classes, minority, retention=retention, seed=0)
    return _exposure([classes[image] for image in kept], minority, power=power, max_repeat=max_repeat)


def matched_power(
    classes: ClassSets, minority: Collection[int], *, retention: float, max_repeat: float
) -> float:
    """The sampler power that exposes the minority, on all images, as undersampling to `retention` does.

    By bisection, and rounded to 6 digits: it becomes part of a run's key, which must not hang on last bits.

    Raises:
        UsageError: Not even power 1 reaches that exposure.
    """
    target = expected_exposure(classes, minority, retention=retention, power=0.0, max_repeat=max_repeat)
    most = _exposure(classes, minority, power=1.0, max_repeat=max_repeat)
    if most < target - ROUNDING:
        raise UsageError(
            f"retention {retention:g} gives an exposure of {target:.1%}; a weighted sampler with max_repeat "
            f"{max_repeat:g} gives {most:.1%} at most",
            "compare with another retention, or leave out the arm that is to match it",
        )
    low, high = 0.0, 1.0
    while high - low > 1e-7:
        power = (low + high) / 2
        enough = _exposure(classes, minority, power=power, max_repeat=max_repeat) >= target
        low, high = (low, power) if enough else (power, high)
    return round(high, 6)


def _exposure(classes: ClassSets, minority: Collection[int], *, power: float, max_repeat: float) -> float:
    weights = draw_weights(classes, power=power, max_repeat=max_repeat)
    return float(np.average(holds_minority(classes, minority), weights=weights))


@dataclass(frozen=True)
class Draws:
    """The stream of image indices that a training run sees.

    Attributes:
        n: Number of images to draw from.
        per_epoch: Draws per epoch (`eval_every * batch`).
        weights: (n,) probabilities with replacement, or None: shuffled passes, whatever the epochs.
        seed: Of the trial.
    """

    n: int
    per_epoch: int
    weights: Floats | None
    seed: int

    def epoch(self, epoch: int) -> Ints:
        """Indices of epoch `epoch`, counted from 0; (per_epoch,)."""
        if self.weights is not None:
            return np.random.default_rng((self.seed, 2, epoch)).choice(self.n, self.per_epoch, p=self.weights)
        start = epoch * self.per_epoch
        passes = range(start // self.n, (start + self.per_epoch - 1) // self.n + 1)
        stream = np.concatenate(
            [np.random.default_rng((self.seed, 3, k)).permutation(self.n) for k in passes]
        )
        offset = start - passes.start * self.n
        return stream[offset : offset + self.per_epoch].astype(np.int64)

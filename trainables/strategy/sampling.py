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


def draw_weights(
    classes: ClassSets, *, power: float, repeat_threshold: float = 0.0, max_repeat: float
) -> Floats | None:
    """Probability of each image per draw, with replacement.

    With f_c the share of images that hold class c, image i weighs the largest, over the classes c in it, of

        f_c ^ -power * max(1, sqrt(repeat_threshold / f_c))

    where the second factor is the repeat factor of LVIS v2, App. B.2. An image without objects has the first
    of the most frequent class, and the second 1. Then no image is drawn more than `max_repeat` times as often
    as uniformly; what that takes away goes to the others in proportion.

    Args:
        classes: Class ids in each image.
        power: In [0, 1].
        repeat_threshold: In [0, 1].
        max_repeat: >= 1.

    Returns:
        (n_images,), sum 1; or None, which is drawing without replacement: the power is 0, and each class at
        least as frequent as the threshold.
    """
    present, counts = np.unique([c for found in classes for c in set(found)], return_counts=True)
    share = counts / len(classes)  # (n_present,)
    repeat = np.maximum(1.0, np.sqrt(repeat_threshold / share))
    if power == 0 and (repeat == 1).all():
        return None
    weight_of = dict(zip(present.tolist(), share**-power * repeat, strict=True))
    empty = share.max(initial=1 / len(classes)) ** -power  # a class is in at least one image
    weights = np.array(
        [max((weight_of[c] for c in found), default=empty) for found in classes], dtype=np.float64
    )
    return _capped(weights / weights.sum(), max_repeat / len(classes))


def sampled_counts(labels: Sequence[Ints], weights: Floats | None, *, n_classes: int) -> Floats:
    """Objects of each class that as many draws as there are images meet on average.

    Args:
        labels: For each image the class id of each object in it.
        weights: (n_images,) of `draw_weights`.
        n_classes: Class ids are below it.

    Returns:
        (n_classes,); without weights they are just counted.
    """
    n = len(labels)
    each = np.ones(n) if weights is None else n * weights  # (n_images,), draws of it to expect
    per_object = np.repeat(each, [len(found) for found in labels])
    counts = np.bincount(np.concatenate(labels), weights=per_object, minlength=n_classes)
    return counts.astype(np.float64)


def minority_share(rare: npt.NDArray[np.bool_], weights: Floats | None) -> float:
    """The exposure to expect: probability that a draw holds a minority object, in [0, 1].

    Args:
        rare: (n_images,) of `holds_minority`.
        weights: (n_images,) of `draw_weights`.
    """
    return float(np.average(rare, weights=weights))


def _capped(p: Floats, cap: float) -> Floats:
    """`p` with no entry above `cap`, the excess spread over the others in proportion; cap >= 1 / len(p)."""
    over = np.zeros(len(p), dtype=bool)
    while (p > cap * (1 + 1e-12)).any():
        over |= p >= cap
        rest = 1 - cap * over.sum()
        p = np.where(over, cap, p * rest / p[~over].sum()) if not over.all() else np.full(len(p), 1 / len(p))
    return p


def expected_exposure(
    classes: ClassSets,
    minority: Collection[int],
    *,
    retention: float,
    power: float,
    repeat_threshold: float = 0.0,
    max_repeat: float,
) -> float:
    """Share of the drawn images that hold a minority object, in [0, 1], as it is expected.

    Weights after undersampling depend on which majority images are kept. Seed 0's stand for them: `retain`
    thins all class sets alike, so two seeds keep as many images of each set, give or take one.

    Args:
        classes: Class ids in each image.
        minority: Class ids of the minority.
        retention: As in `retain`; it must leave an image.
        power: As in `draw_weights`.
        repeat_threshold: Likewise.
        max_repeat: Likewise.
    """
    kept = [classes[image] for image in retain(classes, minority, retention=retention, seed=0)]
    return _exposure(kept, minority, power=power, repeat_threshold=repeat_threshold, max_repeat=max_repeat)


def matched_power(
    classes: ClassSets,
    minority: Collection[int],
    *,
    retention: float,
    repeat_threshold: float = 0.0,
    max_repeat: float,
    copied: ClassSets = (),
) -> float:
    """The sampler power that alone, on all images, exposes the minority as another sampling does.

    That one undersamples to `retention`, repeats by `repeat_threshold`, and has `copied` images beside those
    of `classes`. By bisection, and rounded to 6 digits: the power becomes part of a run's key, which must not
    hang on last bits.

    Raises:
        UsageError: Not even power 1 reaches that exposure.
    """
    target = expected_exposure(
        [*classes, *copied],
        minority,
        retention=retention,
        power=0.0,
        repeat_threshold=repeat_threshold,
        max_repeat=max_repeat,
    )
    most = _exposure(classes, minority, power=1.0, max_repeat=max_repeat)
    if most < target - ROUNDING:
        cause = f"{len(copied)} copied images and " if copied else ""
        raise UsageError(
            f"{cause}retention {retention:g} gives an exposure of {target:.1%}; a weighted sampler with "
            f"max_repeat {max_repeat:g} gives {most:.1%} at most",
            "compare with another one, or leave out the arm that is to match it",
        )
    low, high = 0.0, 1.0
    while high - low > 1e-7:
        power = (low + high) / 2
        enough = _exposure(classes, minority, power=power, max_repeat=max_repeat) >= target
        low, high = (low, power) if enough else (power, high)
    return round(high, 6)


def _exposure(classes: ClassSets, minority: Collection[int], **recipe: float) -> float:
    return minority_share(holds_minority(classes, minority), draw_weights(classes, **recipe))


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

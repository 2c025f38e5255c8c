"""What biases are tuned for: the score of a set of decisions, and of many that change image by image.

Images are called a class `c` one after the other. Each move changes what is counted of two classes, so the
scores after all numbers of moves are running sums; the least precision is a minimum over ranges of moves.
Pure NumPy.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.contract.predictions import Floats, Ints
from trainables.contract.trial import Goal

MIN_GAP = 1e-9  # weights below are none; between two thresholds that a bias can tell apart


@dataclass(frozen=True, eq=False)
class Counts:
    """What a score is made of, for one set of decisions; all are (n_classes,).

    Attributes:
        images: Images of each class; `true` their weight.
        found: Weight of the images of each class that are called so; `recalled` their number.
        called: Weight of all images that are called so.
    """

    images: Ints
    true: Floats
    found: Floats
    recalled: Floats
    called: Floats

    @classmethod
    def of(cls, labels: Ints, guess: Ints, weight: Floats, n_classes: int) -> "Counts":
        """Of true labels (n,) and what images are called, (n,)."""
        hit = guess == labels

        def weighed(which: Ints, weight: Floats) -> npt.NDArray[np.float64]:
            return np.bincount(which, weights=weight, minlength=n_classes).astype(np.float64)

        return cls(
            images=np.bincount(labels, minlength=n_classes),
            true=weighed(labels, weight),
            found=weighed(labels[hit], weight[hit]),
            recalled=weighed(labels, hit),
            called=weighed(guess, weight),
        )

    def without(self, c: int, labels: Ints, other: Ints, weight: Floats) -> "Counts":
        """Once all images that are called `c`, (k,), are called otherwise, (k,)."""
        found, recalled, called = self.found.copy(), self.recalled.copy(), self.called.copy()
        found[c] = recalled[c] = called[c] = 0
        hit = other == labels
        np.add.at(found, other[hit], weight[hit])
        np.add.at(recalled, other[hit], 1)
        np.add.at(called, other, weight)
        return Counts(self.images, self.true, found, recalled, called)


@dataclass(frozen=True, eq=False)
class Moves:
    """Images that one after the other are called `c`, and what they were called before.

    Attributes:
        c: Class id.
        before: (n,) class ids.
        label: (n,) class ids.
        weight: (n,).
        counts: Before the first of them.
    """

    c: int
    before: Ints
    label: Ints
    weight: Floats
    counts: Counts

    def some(self, which: Ints) -> "Moves":
        """These alone, in this order."""
        return Moves(self.c, self.before[which], self.label[which], self.weight[which], self.counts)

    def gained(self, of_class: Floats) -> Floats:
        """(n + 1,) sum over the classes of `of_class` (n_classes,), which each image wins or loses."""
        won = (self.label == self.c) * of_class[self.c]
        return _running(won - (self.label == self.before) * of_class[self.before])

    def of_c(self) -> tuple[Floats, Floats]:
        """(n + 1,) what c has found, and what is called c; weights."""
        found = _running((self.label == self.c) * self.weight) + self.counts.found[self.c]
        return found, _running(self.weight) + self.counts.called[self.c]

    def of_others(self) -> "_Others":
        """The same of the class that loses each image, before and after that."""
        order = np.argsort(
            self.before.astype(np.uint16 if len(self.counts.images) < 2**16 else int), kind="stable"
        )
        c, weight = self.before[order], self.weight[order]
        lost = (self.label[order] == c) * weight
        first = np.flatnonzero(np.diff(c, prepend=-1))  # where the next class begins
        lengths = np.diff(first, append=len(c))

        def left(start: Floats, taken: Floats) -> tuple[Floats, Floats]:
            total = taken.cumsum()
            total -= np.repeat(total[first] - taken[first], lengths)  # of each class by itself
            return start[c] - (total - taken), start[c] - total

        return _Others(order, c, left(self.counts.found, lost), left(self.counts.called, weight))


@dataclass(frozen=True, eq=False)
class _Others:
    """What classes lose, class by class, in the order in which they lose it.

    Attributes:
        move: (n,) which move it is.
        c: (n,) that class.
        found: (n,) before the move, (n,) after it; `called` likewise.
    """

    move: Ints
    c: Ints
    found: tuple[Floats, Floats]
    called: tuple[Floats, Floats]


@dataclass(frozen=True, eq=False)
class Target:
    """What is maximised, over the classes with an image; negative below the precision floor."""

    goal: Goal
    minority: Ints
    floor: float

    def _held(self, images: Ints) -> Ints:
        classes = self.minority if self.goal == "minority_recall" else np.arange(len(images))
        return np.asarray(classes[images[classes] > 0])

    def of(self, counts: Counts) -> float:
        """Of one set of decisions."""
        held = self._held(counts.images)
        if len(held) == 0:
            return 0.0
        if self.goal == "macro_f1":
            return float(_f1(counts.found, counts.called, counts.true)[held].mean())
        recall = float((counts.recalled[held] / counts.images[held]).mean())
        if self.goal == "balanced_accuracy":
            return recall
        return float(self._or_short(recall, _precision(counts.found, counts.called)[held].min()))

    def at_most(self, moves: Moves, score: float) -> tuple[float, Floats]:
        """The score before any move, and what each move adds to it, (n,): both at most, in whatever order.

        Before: as if class c had the best F1 or recall already, 1. What moves add may be summed over any few.
        F1 = 2 found / (called + true) of a class that loses right images of weight r and wrong ones of m is
        convex in m: below the chord to where no wrong one is left. It is concave in r: below the tangent at
        r = 0, and at the other end of that chord it falls no less steeply.

        Args:
            moves: In any order.
            score: To be surpassed. While it is below 0 a precision is too low, and recalls bound nothing: the
                first is infinite.
        """
        counts = moves.counts
        if self.goal == "minority_recall" and score < 0:
            return np.inf, np.zeros(len(moves.label))
        if self.goal == "macro_f1":
            both = np.maximum(counts.called + counts.true, MIN_GAP)
            before = _f1(counts.found, counts.called, counts.true)
            right = -2 * (both - counts.found) / both**2
            wrong = before / np.maximum(counts.found + counts.true, MIN_GAP)
            weight = moves.weight
        else:
            right = -1 / np.maximum(counts.images, 1)
            before, wrong, weight = -counts.recalled * right, np.zeros(len(right)), np.ones(1)
        before[moves.c] = 1.0
        held = self._held(counts.images)
        share = np.zeros(len(right))
        share[held] = 1 / max(1, len(held))
        of_class = np.concatenate([wrong * share, right * share])
        change = of_class[moves.before + len(share) * (moves.before == moves.label)]
        return float((before * share).sum()), change * weight

    def on_the_way(self, moves: Moves) -> Floats:
        """(n + 1,) after each number of moves: in time n log n, whatever the number of classes."""
        counts, c = moves.counts, moves.c
        is_held = np.zeros(len(counts.images), dtype=bool)
        is_held[self._held(counts.images)] = True
        if not is_held.any():
            return np.zeros(len(moves.label) + 1)
        others = np.flatnonzero(is_held & (np.arange(len(is_held)) != c))
        if self.goal == "macro_f1":
            lost = moves.of_others()
            before, after = (
                _f1(*both, counts.true[lost.c]) for both in zip(lost.found, lost.called, strict=True)
            )
            change = np.empty(len(moves.label))
            change[lost.move] = np.where(is_held[lost.c], after - before, 0.0)
            total = _running(change) + _f1(counts.found, counts.called, counts.true)[others].sum()
            if is_held[c]:
                total += _f1(*moves.of_c(), counts.true[c])
            return np.asarray(total / is_held.sum())
        share = np.where(is_held, 1 / np.maximum(counts.images, 1), 0.0)
        recall = (moves.gained(share) + (counts.recalled * share).sum()) / is_held.sum()
        if self.goal == "balanced_accuracy":
            return np.asarray(recall)
        precision = self._least_precision(moves, is_held, others)
        return self._or_short(recall, precision)

    def _least_precision(self, moves: Moves, is_held: npt.NDArray[np.bool_], others: Ints) -> Floats:
        """(n + 1,) of the classes that count; that of each holds until its next move."""
        n, lost = len(moves.label), moves.of_others()
        mine = is_held[lost.c]
        c, start = lost.c[mine], lost.move[mine] + 1
        last = np.append(c[1:] != c[:-1], True)[: len(c)]
        end = np.where(last, n + 1, np.append(start[1:], n + 1)[: len(c)])
        still = _precision(moves.counts.found[others], moves.counts.called[others])
        until = np.full(len(is_held), n + 1)
        np.minimum.at(until, c, start)
        least = _least_over(
            np.concatenate([np.zeros(len(others), dtype=np.int64), start]),
            np.concatenate([until[others], end]),
            np.concatenate([still, _precision(lost.found[1][mine], lost.called[1][mine])]),
            n + 1,
        )
        return np.minimum(least, _precision(*moves.of_c())) if is_held[moves.c] else least

    def _or_short(self, recall: Floats | float, precision: Floats) -> Floats:
        """The recall; where a precision is below the floor, by how much, negative."""
        shortfall = self.floor - precision
        return np.asarray(np.where(shortfall > MIN_GAP, -shortfall, recall))


def _f1(found: Floats, called: Floats, true: Floats) -> Floats:
    """0 of a class without an image that nothing is called."""
    return np.asarray(2 * found / np.maximum(called + true, MIN_GAP))


def _precision(found: Floats, called: Floats) -> Floats:
    """Nothing called so is no imprecision. Running sums of weights may miss 0 by rounding."""
    return np.asarray(np.where(called > MIN_GAP, found / np.maximum(called, MIN_GAP), 1.0))


def _running(change: Floats) -> Floats:
    """(n + 1,) sums of the first 0, 1, … n."""
    return np.append(0.0, change).cumsum()


def _least_over(start: Ints, end: Ints, value: Floats, n: int) -> Floats:
    """(n,) the least value of the ranges [start, end) that hold each place; infinite where none does.

    A range is covered by two, which may overlap, of the greatest power of two in it; from the longest on each
    is then handed to its halves.
    """
    some = end > start
    start, end, value = start[some], end[some], value[some]
    level = np.frexp(end - start)[1] - 1
    least = np.full((int(level.max(initial=0)) + 1, n), np.inf)
    np.minimum.at(least, (level, start), value)
    np.minimum.at(least, (level, end - (1 << level)), value)
    for k in range(len(least) - 1, 0, -1):
        half = 1 << (k - 1)
        np.minimum(least[k - 1], least[k], out=least[k - 1])
        np.minimum(least[k - 1, half:], least[k, : n - half], out=least[k - 1, half:])
    return np.asarray(least[0])

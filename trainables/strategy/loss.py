"""How errors are weighted, made to happen."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]


def mixed_counts(train: npt.ArrayLike, sampled: npt.ArrayLike, *, share: float) -> Floats:
    """The counts that class weights and logit adjustment start from: train ^ (1 - share) * sampled ^ share.

    Args:
        train: Objects per class in the training set, (n_classes,).
        sampled: Those that a pass over what is really drawn meets, (n_classes,); only their ratios matter.
        share: In [0, 1].

    Returns:
        (n_classes,); a class with less than one object counts as one.
    """
    own, drawn = (np.maximum(np.asarray(counts, dtype=np.float64), 1.0) for counts in (train, sampled))
    mixed: Floats = own ** (1 - share) * drawn**share
    return mixed


def effective_prior(alpha: npt.ArrayLike, sampled: npt.ArrayLike, adjustment: npt.ArrayLike = 0.0) -> Floats:
    """The class prior that the trained scores stand for, (n_classes,), sum 1.

    A class's weight times its share of what is drawn; logit adjustment takes exp(adjustment) out of it.

    Args:
        alpha: Weight of each class, (n_classes,).
        sampled: Objects that a pass over what is really drawn meets, (n_classes,).
        adjustment: (n_classes,) of `logit_adjustment`.
    """
    weighed = np.asarray(alpha, dtype=np.float64) * np.asarray(sampled, dtype=np.float64)
    weighed = weighed * np.exp(-np.asarray(adjustment, dtype=np.float64))
    prior: Floats = weighed / weighed.sum()
    return prior


def class_alpha(counts: npt.ArrayLike, *, power: float, cap: float, balance: float = 0.0) -> Floats:
    """Per-class weights from counts.

    alpha_c is proportional to prior_c ^ -power / effective_numbers_c; no two differ by more than the factor
    `cap`; their mean is 1.

    Args:
        counts: Objects per class, (n_classes,). A class without objects gets the largest weight.
        power: In [0, 1].
        cap: Largest ratio, >= 1.
        balance: Strength of `effective_numbers`. With it and `power` 0 all weights are 1.

    Returns:
        (n_classes,).
    """
    prior = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    effective = effective_numbers(prior, strength=balance)
    raw = (prior / prior.max()) ** -power * (effective.max() / effective)  # the most frequent class has 1
    raw = np.minimum(raw, cap)
    alpha: Floats = raw / raw.mean()
    return alpha


def effective_numbers(counts: npt.ArrayLike, *, strength: float) -> Floats:
    """How many objects of each class count as different: (1 - beta ^ n) / (1 - beta); Cui et al. 2019, eq. 2.

    The paper names values of beta = (N - 1) / N. Here N = n_max ^ strength, so that a strength means the same
    on small and large data: 0 gives 1 for each class, and 1 nearly n for all but the most frequent.

    Args:
        counts: Objects per class, (n_classes,), each >= 1.
        strength: In [0, 1].
    """
    n = np.asarray(counts, dtype=np.float64)
    beta = 1 - n.max() ** -strength
    effective: Floats = (1 - beta**n) / (1 - beta)
    return effective


def logit_adjustment(counts: npt.ArrayLike, *, tau: float) -> Floats:
    """What is added to the logits in the loss, tau * log prior; Menon et al. 2021, eq. 10.

    Args:
        counts: Objects per class, (n_classes,); a class with less than one counts as one.
        tau: 0 gives all zeros.

    Returns:
        (n_classes,).
    """
    n = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    added: Floats = tau * np.log(n / n.sum())
    return added


class Range:
    """The least and the largest value of a factor over a training; on its device, so that nothing waits."""

    def __init__(self) -> None:
        self._ends: torch.Tensor | None = None  # (2,)

    def add(self, value: torch.Tensor) -> None:
        """Widen it by a scalar."""
        ends = torch.stack([value, value]) if self._ends is None else self._ends
        self._ends = torch.stack([torch.minimum(ends[0], value), torch.maximum(ends[1], value)])

    def stored(self) -> list[float] | None:
        """`[low, high]`, or None if there was no value; `restore` takes it back, to the bit."""
        return None if self._ends is None else [float(end) for end in self._ends]

    def restore(self, stored: list[float] | None, device: torch.device) -> None:
        """Go on from what `stored` returned."""
        self._ends = None if stored is None else torch.tensor(stored, device=device)


def widest(ranges: Iterable[Range]) -> list[float]:
    """`[low, high]` over all of them; a factor that was never applied is 1."""
    stored = [each.stored() for each in ranges]
    ends = [[1.0, 1.0] if each is None else each for each in stored]
    return [min(low for low, _ in ends), max(high for _, high in ends)]


def as_much_as(plain: torch.Tensor, changed: torch.Tensor, factors: Range) -> torch.Tensor:
    """`changed`, times the factor that makes its sum that of `plain`; nothing is learnt from the factor.

    Args:
        plain: Losses, any shape.
        changed: The same shape.
        factors: Widened by the factor, which is 1 where there is nothing to share out.
    """
    wanted, had = (losses.detach().sum(dtype=torch.float32) for losses in (plain, changed))
    factor = torch.where(had > 0, wanted / had, 1.0)
    factors.add(factor)
    return changed * factor


class FocalCrossEntropy(nn.Module):
    """Softmax focal loss of smoothed labels on adjusted logits, mean over the batch.

        scale * alpha_y * sum over c of q_c * (1 - p_c)^gamma * -log p_c,   p = softmax(logits + adjustment)

    with q the true class y, smoothed: a share of it goes evenly to all classes. So it is the focal loss (Lin
    et al. 2017, eq. 5) expected over labels that are redrawn that often. Alpha stays that of the true class:
    with their own, the wrong classes of the many common images would drown the rare ones. With gamma 0,
    alpha 1, no adjustment and no smoothing it is the plain cross-entropy. The average divides by the number
    of images and not by the sum of their alpha, so that a class's weight does not depend on who else is in
    the batch.

    The scale makes each batch's loss what it is with gamma 0. Without it the loss falls faster than the plain
    one, by a hundred times on digits, and so do the steps: AdamW divides by how large the gradients were over
    its last thousand steps. Focal loss would have been judged together with another learning rate.

    Args:
        alpha: Weight of each class, (n_classes,).
        gamma: Exponent of the modulation, >= 0.
        adjustment: (n_classes,) of `logit_adjustment`.
        smoothing: The share, in [0, 1].
        focal_scale: Widened by the scale of each batch.
    """

    alpha: Tensor
    adjustment: Tensor

    def __init__(
        self,
        alpha: npt.ArrayLike,
        gamma: float,
        adjustment: npt.ArrayLike = 0.0,
        smoothing: float = 0.0,
        focal_scale: Range | None = None,
    ) -> None:
        super().__init__()
        weights = np.asarray(alpha)
        added = np.broadcast_to(np.asarray(adjustment), weights.shape)
        self.register_buffer("alpha", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("adjustment", torch.tensor(added, dtype=torch.float32))
        self.gamma = gamma
        self.smoothing = smoothing
        self.focal_scale = Range() if focal_scale is None else focal_scale

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch, scalar; `logits` (batch, n_classes), `labels` (batch,) int64."""
        log_p = (logits + self.adjustment).log_softmax(dim=1)  # (batch, n_classes)
        loss = self._weighed(-log_p, labels)
        if self.gamma:
            # At p = 1 the slope of (1 - p)^gamma is infinite for gamma < 1; times log p = 0, it would be NaN.
            miss = (-log_p.expm1()).clamp_min(1e-7)  # 1 - p
            loss = as_much_as(loss, self._weighed(miss**self.gamma * -log_p, labels), self.focal_scale)
        return loss.mean()

    def _weighed(self, each: Tensor, labels: Tensor) -> Tensor:
        """Loss of each image, (batch,); `each` (batch, n_classes) is what it were if that class were true."""
        true = each.gather(1, labels[:, None]).squeeze(1)  # (batch,)
        return self.alpha[labels] * torch.lerp(true, each.mean(dim=1), self.smoothing)

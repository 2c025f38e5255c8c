"""How errors are weighted, made to happen."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]


def mixed_counts(train: npt.ArrayLike, sampled: npt.ArrayLike, *, share: float) -> Floats:
    """The counts that `class_alpha` starts from: train ^ (1 - share) * sampled ^ share.

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


def effective_prior(alpha: npt.ArrayLike, sampled: npt.ArrayLike) -> Floats:
    """What the loss sees of each class: its weight times its share of what is drawn, (n_classes,), sum 1.

    Args:
        alpha: Weight of each class, (n_classes,).
        sampled: Objects that a pass over what is really drawn meets, (n_classes,).
    """
    weighed = np.asarray(alpha, dtype=np.float64) * np.asarray(sampled, dtype=np.float64)
    prior: Floats = weighed / weighed.sum()
    return prior


def class_alpha(counts: npt.ArrayLike, *, power: float, cap: float) -> Floats:
    """Per-class weights from counts.

    alpha_c is proportional to prior_c ^ -power; no two differ by more than the factor `cap`; their mean is 1.

    Args:
        counts: Objects per class, (n_classes,). A class without objects gets the largest weight.
        power: In [0, 1]; 0 gives all ones.
        cap: Largest ratio, >= 1.

    Returns:
        (n_classes,).
    """
    prior = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    raw = (prior / prior.max()) ** -power  # (n_classes,), the most frequent class has 1
    raw = np.minimum(raw, cap)
    alpha: Floats = raw / raw.mean()
    return alpha


class FocalCrossEntropy(nn.Module):
    """Softmax focal loss, alpha_y (1 - p_y)^gamma * -log p_y, mean over the batch; Lin et al. 2017, eq. 5.

    With gamma 0 and alpha 1 it is the plain cross-entropy. The average divides by the number of images and
    not by the sum of their alpha, so that an image's weight does not depend on who else is in its batch.

    Args:
        alpha: Weight of each class, (n_classes,).
        gamma: Exponent of the modulation, >= 0.
    """

    alpha: Tensor

    def __init__(self, alpha: npt.ArrayLike, gamma: float) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.as_tensor(np.asarray(alpha), dtype=torch.float32))
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch, scalar; `logits` (batch, n_classes), `labels` (batch,) int64."""
        log_p = logits.log_softmax(dim=1).gather(1, labels[:, None]).squeeze(1)  # (batch,), of the true class
        # At p = 1 the slope of (1 - p)^gamma is infinite for gamma < 1; times log p = 0 that would be NaN.
        miss = (-log_p.expm1()).clamp_min(1e-7)  # (batch,), 1 - p
        return (self.alpha[labels] * miss**self.gamma * -log_p).mean()

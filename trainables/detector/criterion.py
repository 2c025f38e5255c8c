"""The class loss of a strategy: focal modulation and per-class weights on Ultralytics' soft targets."""

from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from spaces.loss import Loss
from trainables.detector.settled import E2ELoss, v8DetectionLoss
from trainables.strategy.loss import class_alpha, mixed_counts


class ImbalanceBCE(nn.Module):
    """Binary cross-entropy per anchor and class; the plain one if gamma is 0 and all alpha are 1.

    The task-aligned assigner's targets t are soft, so the modulation is |t - p| ^ gamma (Li et al. 2020, eq.
    6). Alpha weights the positive entries of a class alone.

    Modulation shrinks the class loss, and with it its share against the box loss, which would be a second
    change. So it is multiplied by the one factor that leaves the very first batch's class loss as it was.
    """

    def __init__(self, loss: Loss, alpha: torch.Tensor) -> None:
        super().__init__()
        self.gamma = loss.focal_gamma
        self.power, self.prior, self.cap = loss.alpha_power, loss.alpha_prior, loss.alpha_cap
        self.alpha = alpha  # (n_classes,)
        self.scale: float | None = None  # set by the first batch

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each entry.

        Args:
            logits: (batch, anchors, n_classes).
            targets: The same shape, in [0, 1].
        """
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if self.gamma:
            # At t = p the slope of |t - p|^gamma is infinite for gamma < 1, and 0 times that would be NaN.
            miss = (targets - logits.sigmoid()).abs().clamp_min(1e-7)
            focal = loss * miss.pow(self.gamma)
            if self.scale is None:
                self.scale = float(loss.detach().sum() / focal.detach().sum())
            loss = focal * self.scale
        if self.power:
            loss = loss * torch.where(targets > 0, self.alpha.to(loss.dtype), 1.0)
        return loss


class ImbalanceLoss(v8DetectionLoss):  # type: ignore[misc]
    """Ultralytics' detection loss with `ImbalanceBCE` for the classes."""

    def __init__(self, model: Any, *args: Any, loss: Loss, counts: npt.ArrayLike, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        alpha = class_alpha(counts, power=loss.alpha_power, cap=loss.alpha_cap)
        self.bce = ImbalanceBCE(loss, torch.tensor(alpha, dtype=torch.float32, device=self.device))


def build_criterion(model: Any, loss: Loss, train: npt.ArrayLike, sampled: npt.ArrayLike) -> Any:
    """The criterion of `model`; end-to-end heads get it on both of their branches.

    Args:
        model: A detection model with `args`.
        loss: The strategy's.
        train: (n_classes,) objects in the training set.
        sampled: (n_classes,) objects that a pass over what is really drawn meets.
    """
    counts = mixed_counts(train, sampled, share=loss.alpha_prior)
    branch = partial(ImbalanceLoss, loss=loss, counts=counts)
    return E2ELoss(model, branch) if _end_to_end(model) else branch(model)


def class_losses(criterion: Any) -> list[ImbalanceBCE]:
    """The class losses inside `criterion`, one per branch."""
    branches = [criterion.one2many, criterion.one2one] if isinstance(criterion, E2ELoss) else [criterion]
    return [branch.bce for branch in branches]


def _end_to_end(model: Any) -> bool:
    return getattr(model.model[-1], "one2one_cv2", None) is not None

"""The class loss of a strategy: focal modulation and per-class weights on Ultralytics' soft targets."""

from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from spaces.loss import Loss
from trainables.detector.settled import E2ELoss, v8DetectionLoss
from trainables.strategy.device import dtype_name
from trainables.strategy.loss import Range, as_much_as, class_alpha, mixed_counts


class ImbalanceBCE(nn.Module):
    """Binary cross-entropy per anchor and class; the plain one if gamma is 0 and all alpha are 1.

    The task-aligned assigner's targets t are soft, so the modulation is |t - p| ^ gamma (Li et al. 2020, eq.
    6). Alpha weights the positive entries of a class alone.

    Both change how much the classes weigh against the boxes, which would be a second change, and one that
    grows as the targets do. So in every batch the modulated loss is multiplied by the one factor that makes
    its sum the plain one's, and the weighted positives by the one that leaves their sum as it was: all that
    is left of a strategy is which entries the class loss is made of.

    Attributes:
        focal_scale: The range of the first factor over the training.
        alpha_scale: The range of the second.
        forward_dtype: What the network computes in, by its last logits; None before the first.
    """

    def __init__(self, loss: Loss, alpha: torch.Tensor) -> None:
        super().__init__()
        self.gamma = loss.focal_gamma
        self.power, self.prior, self.cap = loss.alpha_power, loss.alpha_prior, loss.alpha_cap
        self.alpha = alpha  # (n_classes,)
        self.focal_scale, self.alpha_scale = Range(), Range()
        self.forward_dtype: str | None = None

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each entry.

        Args:
            logits: (batch, anchors, n_classes).
            targets: The same shape, in [0, 1].
        """
        self.forward_dtype = dtype_name(logits)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if self.gamma:
            # At t = p the slope of |t - p|^gamma is infinite for gamma < 1, and 0 times that would be NaN.
            miss = (targets - logits.sigmoid()).abs().clamp_min(1e-7)
            loss = as_much_as(loss, loss * miss.pow(self.gamma), self.focal_scale)
        if self.power:
            positive = targets > 0
            weighted = loss * self.alpha.to(loss.dtype)
            kept = as_much_as(loss.where(positive, 0.0), weighted.where(positive, 0.0), self.alpha_scale)
            loss = torch.where(positive, kept, loss)
        return loss

    def stored(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "gamma": self.gamma,
            "alpha": self.alpha,
            "focal_scale": self.focal_scale.stored(),
            "alpha_scale": self.alpha_scale.stored(),
            "forward_dtype": self.forward_dtype,
        }

    def restore(self, stored: dict[str, Any]) -> None:
        """Go on from what `stored` returned.

        Raises:
            ValueError: That was another loss.
        """
        if stored["gamma"] != self.gamma or not torch.equal(stored["alpha"], self.alpha):
            raise ValueError(f"the checkpoint was trained with another class loss: {stored}")
        self.focal_scale.restore(stored["focal_scale"], self.alpha.device)
        self.alpha_scale.restore(stored["alpha_scale"], self.alpha.device)
        self.forward_dtype = stored["forward_dtype"]


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

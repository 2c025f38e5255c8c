"""A strategy on a classifier's training images: what each epoch draws, how it is transformed and weighed.

The sampler, the loss and the augmentation of a run are made here, and here its receipt reads them back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spaces.strategy import Strategy
from trainables.contract.trial import TrialSpec
from trainables.data.images.listed import LabelledImages
from trainables.strategy.augmentation import (
    contrast_kept,
    image_pipeline,
    image_strength,
    seed_pipeline,
)
from trainables.strategy.loss import (
    FocalCrossEntropy,
    Range,
    class_alpha,
    effective_prior,
    logit_adjustment,
    mixed_counts,
    widest,
)
from trainables.strategy.receipt import close, common, if_so, of_lacking, of_sampling, same_weights
from trainables.strategy.sampling import (
    Draws,
    draw_weights,
    holds_minority,
    minority_share,
    retain,
    sampled_counts,
)

MAJORITY, MINORITY = 0, 1  # keys of the augmentation streams
CONTRAST_IMAGES = 128  # of each group, or up to twice as many: what augmentation does to them is looked at


class AppliedStrategy:
    """The strategy of a run, as it is applied.

    Attributes:
        kept: (n,) rows of the training images that are drawn from.
        labels: (n,) their classes.
        rare: (n,) which of them are of the minority.
        draws: Of each epoch; epochs under the same strategy share theirs, as they do their criteria.
        criteria: Of each epoch.
        pipelines: Of the minority's images and of the others; None changes nothing.
        focal_scale: Of all criteria together: what they have multiplied their batches' losses with.
    """

    def __init__(
        self,
        spec: TrialSpec,
        images: LabelledImages,
        names: Sequence[str],
        minority: Sequence[int],
        device: torch.device,
    ) -> None:
        self._spec, self._images, self._names, self._device = spec, images, names, device
        strategy = spec.strategy
        classes = [frozenset({int(label)}) for label in images.labels]
        self._majority_images = int((~holds_minority(classes, minority)).sum())
        self.kept = retain(classes, minority, retention=strategy.sampling.retention, seed=spec.seed)
        self._classes = [classes[i] for i in self.kept]
        self.labels = images.labels[self.kept]
        self.rare = holds_minority(self._classes, minority)
        self.focal_scale = Range()
        plan = self._plan()
        draws = {each: self._draws(each) for each in set(plan)}
        criteria = {each: self._criterion(each, draws[each]) for each in draws}
        self.draws, self.criteria = [draws[each] for each in plan], [criteria[each] for each in plan]
        self.pipelines = {
            MAJORITY: image_pipeline(strategy.augmentation.augment_rest),
            MINORITY: image_pipeline(strategy.augmentation.augment_minority),
        }

    def receipt(self, drawn: npt.NDArray[np.int64], epochs: int) -> dict[str, Any]:
        """What was applied, read from draws, criteria and pipelines.

        Draws and criteria of the first and the last epoch are held against what the strategy asks for then.
        Of what `defer` changes over time, `alpha` and `effective_prior` are the last epoch's, and
        `minority_share` the mean; `rarest_share` is the rarest class's share of each epoch's draws.

        Args:
            drawn: (n,) how often each image kept was drawn.
            epochs: That were run: patience may have ended the others.
        """
        asked = self._spec.strategy
        sampling, loss = asked.sampling, asked.loss
        plan, draws, criteria = self._plan()[:epochs], self.draws[:epochs], self.criteria[:epochs]
        ends = [(plan[end], draws[end], criteria[end]) for end in (0, -1)]
        drawn_as_asked = all(same_weights(used.weights, self._weights(each)) for each, used, _ in ends)
        weighted_as_asked = all(close(used.alpha, self._alpha(each, draws)) for each, draws, used in ends)
        adjusted_as_asked = all(
            close(used.adjustment, self._adjustment(each, draws)) for each, draws, used in ends
        )
        corrected_as_asked = weighted_as_asked and adjusted_as_asked
        alpha, adjustment = criteria[-1].alpha.cpu().numpy(), criteria[-1].adjustment.cpu().numpy()
        prior = effective_prior(alpha, self._sampled_counts(draws[-1]), adjustment)
        by_class = np.bincount(self.labels, weights=drawn, minlength=len(self._names))
        return {
            **of_sampling(
                sampling,
                rare=self.rare,
                majority_images=self._majority_images,
                drawn_as_asked=drawn_as_asked,
            ),
            **if_so(drawn_as_asked and corrected_as_asked, {"defer": sampling.defer}),
            "minority_share": float(np.mean([minority_share(self.rare, each.weights) for each in draws])),
            "rarest_share": [self._rarest_share(each) for each in draws],
            "focal_gamma": common(each.gamma for each in criteria),
            "focal_scale": widest([self.focal_scale]),
            **if_so(weighted_as_asked, {"alpha_power": loss.alpha_power}),
            **if_so(corrected_as_asked, {"alpha_prior": loss.alpha_prior}),
            **if_so(weighted_as_asked, {"alpha_cap": loss.alpha_cap, "class_balance": loss.class_balance}),
            **if_so(adjusted_as_asked, {"logit_tau": loss.logit_tau}),
            "label_smoothing": common(each.smoothing for each in criteria),
            "augment_minority": image_strength(self.pipelines[MINORITY]),
            "augment_rest": image_strength(self.pipelines[MAJORITY]),
            "contrast_kept": {
                "minority": self._contrast_kept(MINORITY),
                "rest": self._contrast_kept(MAJORITY),
            },
            **of_lacking("classification"),
            "seed": common(each.seed for each in draws),
            "alpha": dict(zip(self._names, alpha.tolist(), strict=True)),
            "effective_prior": dict(zip(self._names, prior.tolist(), strict=True)),
            "train_images": dict(zip(self._names, self._counts().tolist(), strict=True)),
            "drawn_images": dict(zip(self._names, by_class.astype(int).tolist(), strict=True)),
        }

    def _contrast_kept(self, group: int) -> float | None:
        """On some images of a group, by its pipeline, whose generator serves no epoch after this.

        They are evenly spaced: images are sorted by class, and every class must be among them.
        """
        seed_pipeline(self.pipelines[group], self.draws[-1].seed, group, self._spec.train.epochs)
        of_group = self.kept[self.rare == (group == MINORITY)]
        every = max(1, len(of_group) // CONTRAST_IMAGES)
        return contrast_kept(self.pipelines[group], self._images.images[of_group[::every]])

    def _rarest_share(self, draws: Draws) -> float:
        counts, drawn = self._counts(), self._sampled_counts(draws)
        rarest = np.argmin(np.where(counts > 0, counts, np.inf))
        return float(drawn[rarest] / drawn.sum())

    def _counts(self) -> npt.NDArray[np.int64]:
        """Training images per class that are drawn from, (n_classes,)."""
        return np.bincount(self.labels, minlength=len(self._names))

    def _plan(self) -> list[Strategy]:
        """The strategy in force in each epoch: a function of the epoch alone."""
        last = self._spec.train.epochs - 1
        return [self._spec.strategy.at(epoch / max(1, last)) for epoch in range(last + 1)]

    def _draws(self, strategy: Strategy) -> Draws:
        train = self._spec.train
        return Draws(len(self.kept), train.eval_every * train.batch, self._weights(strategy), self._spec.seed)

    def _criterion(self, strategy: Strategy, draws: Draws) -> FocalCrossEntropy:
        loss = strategy.loss
        alpha, adjustment = self._alpha(strategy, draws), self._adjustment(strategy, draws)
        return FocalCrossEntropy(
            alpha, loss.focal_gamma, adjustment, loss.label_smoothing, self.focal_scale
        ).to(self._device)

    def _weights(self, strategy: Strategy) -> npt.NDArray[np.float64] | None:
        """What the strategy draws each image with, (n,); None for shuffled passes."""
        sampling = strategy.sampling
        return draw_weights(
            self._classes,
            power=sampling.sampler_power,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
        )

    def _sampled_counts(self, draws: Draws) -> npt.NDArray[np.float64]:
        """Images of each class that a pass of the draws meets on average, (n_classes,)."""
        each = list(self.labels[:, None])  # an image has one label
        return sampled_counts(each, draws.weights, n_classes=len(self._names))

    def _corrected_counts(self, strategy: Strategy, draws: Draws) -> npt.NDArray[np.float64]:
        """The counts that the loss makes up for, (n_classes,)."""
        everything = np.bincount(self._images.labels, minlength=len(self._names))
        return mixed_counts(everything, self._sampled_counts(draws), share=strategy.loss.alpha_prior)

    def _alpha(self, strategy: Strategy, draws: Draws) -> npt.NDArray[np.float64]:
        """The strategy's weight of each class, (n_classes,)."""
        loss, counts = strategy.loss, self._corrected_counts(strategy, draws)
        return class_alpha(counts, power=loss.alpha_power, cap=loss.alpha_cap, balance=loss.class_balance)

    def _adjustment(self, strategy: Strategy, draws: Draws) -> npt.NDArray[np.float64]:
        """What the strategy's loss adds to each class's logit, (n_classes,)."""
        return logit_adjustment(self._corrected_counts(strategy, draws), tau=strategy.loss.logit_tau)

"""A strategy: everything that may differ between two trials, and the space it is searched in.

The space is flat: each knob has one name over all families, every trial has the same knobs, and a strength of
zero (one for `retention`) means *off*. That is what lets a Gaussian process model it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from spaces.augmentation import Augmentation
from spaces.division import Division
from spaces.errors import UsageError
from spaces.frozen import LATER, Frozen
from spaces.loss import ALPHA_PRIORS, Loss
from spaces.ranges import Dimension, Suggests
from spaces.sampling import Sampling


class Strategy(Frozen):
    """What one trial does about the imbalance; the default does nothing."""

    sampling: Sampling = Sampling()
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    division: Annotated[Division, LATER] = Division()

    def knobs(self) -> dict[str, float]:
        """Knob name -> value, over all families; the inverse of `from_knobs`."""
        return {knob: value for family in self.model_dump().values() for knob, value in family.items()}

    def changed(self) -> dict[str, float]:
        """The knobs that differ from the baseline; empty for the baseline itself."""
        plain = PLAIN.knobs()
        return {knob: value for knob, value in self.knobs().items() if value != plain[knob]}

    def at(self, progress: float) -> "Strategy":
        """What is in force when a share `progress` of the training is done; `self` if `defer` is 0.

        The knobs of the draws are multiplied by 1 - defer * progress, those of the loss's correction by
        1 - defer * (1 - progress). With `defer` 1 and equal powers, say, the sampler has it all in the first
        epoch, alpha in the last, and at any time the two multiply to the same correction of the prior.

        Args:
            progress: 0 in the first epoch, 1 in the last, linear between.

        Example:
            >>> deferred = Strategy.from_knobs({"sampler_power": 1, "alpha_power": 0.5, "defer": 1})
            >>> deferred.at(0.25).changed()
            {'sampler_power': 0.75, 'alpha_power': 0.125}
        """
        defer = self.sampling.defer
        if defer == 0:
            return self
        knobs = self.knobs()
        falling = {knob: knobs[knob] * (1 - defer * progress) for knob in DRAWN}
        rising = {knob: knobs[knob] * (1 - defer * (1 - progress)) for knob in CORRECTED}
        return Strategy.from_knobs(knobs | falling | rising | {"defer": 0.0})

    @classmethod
    def from_knobs(cls, knobs: Mapping[str, float]) -> "Strategy":
        """Build a strategy from flat knobs; those not named keep their *off* value.

        Raises:
            UsageError: A name is no knob.
            pydantic.ValidationError: A value is outside what the knob allows.
        """
        families: dict[str, dict[str, float]] = {}
        for knob, value in knobs.items():
            if knob not in FAMILY_OF:
                raise UsageError(f"no such knob '{knob}'", f"knobs: {', '.join(FAMILY_OF)}")
            families.setdefault(FAMILY_OF[knob], {})[knob] = value
        return cls.model_validate(families)


def _family_of() -> dict[str, str]:
    families: dict[str, Any] = {
        "sampling": Sampling,
        "loss": Loss,
        "augmentation": Augmentation,
        "division": Division,
    }
    return {knob: family for family, model in families.items() for knob in model.model_fields}


FAMILY_OF = _family_of()
PLAIN = Strategy()
# The knobs that `defer` lowers and raises over training.
DRAWN, CORRECTED = ("sampler_power", "repeat_threshold"), ("alpha_power", "class_balance", "logit_tau")
# The knobs that are numbers of something.
COUNTS = frozenset({"pretile_copies", "pretile_fresh", "augment_variants"})
# Knob -> words that a study file may write for its values.
WORDS: dict[str, dict[str, float]] = {"alpha_prior": ALPHA_PRIORS}

# The arms of the two notes, by the names that `baseline:`, `compare:` and a preset's `first:` use.
NAMED: dict[str, Strategy] = {
    name: Strategy.from_knobs(knobs)
    for name, knobs in {
        "plain": {},
        "all_tiles": {},  # the note's name for it
        "filtered": {"retention": 0.0},
        "filtered_weighted": {"retention": 0.0, "sampler_power": 1.0},
        "undersampled_30": {"retention": 0.3},
        "undersampled_40": {"retention": 0.4},
        "undersampled_50": {"retention": 0.5},
        "undersampled_30_augmented": {"retention": 0.3, "augment_minority": 0.5},
        "undersampled_40_augmented": {"retention": 0.4, "augment_minority": 0.5},
        "undersampled_50_augmented": {"retention": 0.5, "augment_minority": 0.5},
        "weighted": {"sampler_power": 1.0},
        "weighted_half": {"sampler_power": 0.5},
        "weighted_augmented": {"sampler_power": 1.0, "augment_minority": 0.5},
        "repeat_factor": {"repeat_threshold": 0.3},
        "focal": {"focal_gamma": 2.0},
        "class_weighted": {"alpha_power": 0.5},
        "focal_alpha": {"focal_gamma": 2.0, "alpha_power": 1.0, "sampler_power": 1.0},
        "class_balanced": {"class_balance": 1.0},
        "logit_adjusted": {"logit_tau": 1.0},
        # Without a sampler it would be `logit_adjusted`; at power 1, with a uniform prior, `weighted`.
        "balanced_softmax": {"logit_tau": 1.0, "alpha_prior": 1.0, "sampler_power": 0.5},
        "deferred": {"sampler_power": 1.0, "alpha_power": 1.0, "defer": 1.0},
        "minority_augmented": {"augment_minority": 0.5},
        "copy_paste": {"copy_paste": 0.5},
        "weighted_copy_paste": {"sampler_power": 0.5, "copy_paste": 0.5},
        "mosaic": {"mosaic": 0.5},
        "dual_model": {"dual_share": 0.5},
        "dual_model_weighted": {"dual_share": 0.5, "sampler_power": 1.0},
        "augmented_frozen_3": {"augment_minority": 0.5, "augment_variants": 3},
        "pretile_3": {"pretile_copies": 3, "augment_minority": 0.5},
        "pretile_fresh_3": {"pretile_copies": 3, "pretile_fresh": 1, "augment_minority": 0.5},
        "pretile_3_plain": {"pretile_copies": 3.0},
        "undersampled_40_pretile": {"retention": 0.4, "pretile_copies": 3, "augment_minority": 0.5},
    }.items()
}

# What each of them is, in a sentence.
SENTENCES = {
    "plain": "Nothing is done about the imbalance: what the others are measured against.",
    "all_tiles": "Plain, by the name that the note on tiles has for it.",
    "filtered": "Only the images that hold a minority object.",
    "filtered_weighted": "Only the images that hold a minority object, drawn by a weighted sampler.",
    "undersampled_30": "30% of the images without a minority object are kept.",
    "undersampled_40": "40% of the images without a minority object are kept.",
    "undersampled_50": "50% of the images without a minority object are kept.",
    "undersampled_30_augmented": "undersampled_30, and the images that hold a minority object are augmented.",
    "undersampled_40_augmented": "undersampled_40, and the images that hold a minority object are augmented.",
    "undersampled_50_augmented": "undersampled_50, and the images that hold a minority object are augmented.",
    "weighted": "A weighted sampler: images of rare classes are drawn more often, to class balance.",
    "weighted_half": "Half a weighted sampler: by the square root of how rare a class is.",
    "weighted_augmented": "A weighted sampler, and the images that hold a minority object are augmented.",
    "repeat_factor": "LVIS: classes that fewer than 30% of the images hold are drawn more often.",
    "focal": "Focal loss: what is predicted well counts less (Lin et al. 2017).",
    "class_weighted": "The loss weighs a class by one over the square root of its prior.",
    "focal_alpha": "Focal loss, class weights and a weighted sampler at once.",
    "class_balanced": "Class weights by the effective number of images (Cui et al. 2019).",
    "logit_adjusted": "The loss sees logits plus the log prior, for the balanced error (Menon et al. 2021).",
    "balanced_softmax": "Half a weighted sampler; its prior adjusts the logits (Ren et al. 2020).",
    "deferred": "The sampler hands over to class weights while it trains (after Cao et al. 2019).",
    "minority_augmented": "The images that hold a minority object are augmented.",
    "copy_paste": "Minority objects of other images are pasted in (Ghiasi et al. 2021).",
    "weighted_copy_paste": "Half a weighted sampler, and minority objects of other images are pasted in.",
    "mosaic": "Images become parts of four (Bochkovskiy et al. 2020).",
    "dual_model": "Half the steps for a model of the majority, half for one of the minority, fused late.",
    "dual_model_weighted": "dual_model, and the model of the minority has a weighted sampler.",
    "augmented_frozen_3": "Minority images are augmented, each in 3 fixed ways in place of fresh ones.",
    "pretile_3": "3 copies of each whole image with a minority object, augmented before they are cut.",
    "pretile_fresh_3": "pretile_3, but each time a copy's tile is drawn the copy is made anew.",
    "pretile_3_plain": "3 copies of each whole image with a minority object, as it is: exposure alone.",
    "undersampled_40_pretile": "undersampled_40, with the copies of pretile_3.",
}


class SearchSpace(Frozen):
    """The dimensions of a study, and the strategies to try first.

    Attributes:
        dimensions: Knob -> dimension. A knob not named stays *off*.
        first: Named strategies asked before the sampler decides; those outside the dimensions are left out.
    """

    dimensions: dict[str, Dimension]
    first: tuple[str, ...] = ()

    def suggest(self, trial: Suggests) -> Strategy:
        """The strategy that `trial` (an Optuna trial) proposes."""
        return Strategy.from_knobs({knob: dim.suggest(trial, knob) for knob, dim in self.dimensions.items()})

    def point_of(self, strategy: Strategy) -> dict[str, float] | None:
        """The point of this space that is `strategy`, or None if it lies outside."""
        knobs = strategy.knobs()
        if not set(strategy.changed()) <= set(self.dimensions):
            return None
        point = {knob: knobs[knob] for knob in self.dimensions}
        return point if all(dim.contains(point[knob]) for knob, dim in self.dimensions.items()) else None

    def first_points(self) -> list[dict[str, float]]:
        """The point of each strategy of `first` that lies inside the space, in order."""
        points = (self.point_of(NAMED[name]) for name in self.first)
        return [point for point in points if point is not None]

"""How errors are weighted. 0 means *off* for each knob: the plain loss of the trainable."""

from pydantic import Field

from spaces.frozen import Frozen

ALPHA_PRIORS = {"train": 0.0, "sampled": 1.0}  # what a study file may write for a value of `alpha_prior`


class Loss(Frozen):
    """Focal modulation, per-class weights, logit adjustment and smoothed labels.

    Class weights and logit adjustment each make up for the prior of a class; with two of them on, or one on
    top of a weighted sampler, see `alpha_prior`.

    Attributes:
        focal_gamma: Exponent of the focal modulation (1 - p_t) ^ gamma, in [0, 5]; Lin et al. 2017, eq. 4.
        alpha_power: Per-class weight alpha_c proportional to (prior of c) ^ -power, in [0, 1], with mean 1
            over the classes. A detector weights only the positive targets of a class with it.
        alpha_prior: Which prior class weights and logit adjustment start from, in [0, 1]: 0 (`train`) the
            training set's, whatever is drawn of it; 1 (`sampled`) the one that undersampling and weighted
            draws leave, so that nothing is corrected twice; between them a geometric mix. Idle where
            `alpha_power`, `class_balance` and `logit_tau` are 0, or nothing is sampled.
        alpha_cap: Largest ratio between two classes' alpha, >= 1.
        class_balance: Multiplies alpha_c by (1 - beta) / (1 - beta ^ n_c), in [0, 1]; Cui et al. 2019, eq. 2.
            beta = 1 - n_max ^ -class_balance, n_max being the most frequent class's count: 0 gives beta 0,
            all weights alike; towards 1 they become the inverse of the count. A classifier's.
        logit_tau: The loss is taken on logits + tau * log prior, in [0, 2], the decision on plain logits;
            Menon et al. 2021, eq. 10. 1 aims at the balanced error; with the sampled prior it is the balanced
            softmax of Ren et al. 2020, which without any sampling is the same. A classifier's.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 0.3]. A classifier's.
    """

    focal_gamma: float = Field(0.0, ge=0, le=5)
    alpha_power: float = Field(0.0, ge=0, le=1)
    alpha_prior: float = Field(0.0, ge=0, le=1)
    alpha_cap: float = Field(30.0, ge=1)
    class_balance: float = Field(0.0, ge=0, le=1)
    logit_tau: float = Field(0.0, ge=0, le=2)
    label_smoothing: float = Field(0.0, ge=0, le=0.3)

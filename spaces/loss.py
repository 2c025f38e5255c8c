"""How errors are weighted. 0 means *off* for each knob: the plain loss of the trainable."""

from pydantic import Field

from spaces.frozen import Frozen

ALPHA_PRIORS = {"train": 0.0, "sampled": 1.0}  # what a study file may write for a value of `alpha_prior`


class Loss(Frozen):
    """Focal modulation and per-class weights.

    Attributes:
        focal_gamma: Exponent of the focal modulation (1 - p_t) ^ gamma, in [0, 5]; Lin et al. 2017, eq. 4.
        alpha_power: Per-class weight alpha_c proportional to (prior of c) ^ -power, in [0, 1], with mean 1
            over the classes. A detector weights only the positive targets of a class with it.
        alpha_prior: Which prior that is, in [0, 1]: 0 (`train`) the training set's, whatever is drawn of it;
            1 (`sampled`) the one that undersampling and weighted draws leave, so that nothing is corrected
            twice; between them a geometric mix. Idle where `alpha_power` is 0, or nothing is sampled.
        alpha_cap: Largest ratio between two classes' alpha, >= 1.
    """

    focal_gamma: float = Field(0.0, ge=0, le=5)
    alpha_power: float = Field(0.0, ge=0, le=1)
    alpha_prior: float = Field(0.0, ge=0, le=1)
    alpha_cap: float = Field(30.0, ge=1)

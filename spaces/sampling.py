"""Which training images are seen and how often. Validation and test data are never sampled.

`retention = 1`, `sampler_power = 0` and `repeat_threshold = 0` mean *off*: every image once per pass. With
`defer = 0` the draws stay the same from the first epoch to the last.
"""

from pydantic import Field

from spaces.frozen import Frozen


class Sampling(Frozen):
    """Undersampling of the majority, then drawing by the class frequencies of what is left.

    What `sampler_power` and `repeat_threshold` give an image is multiplied, then capped by `max_repeat`.

    Attributes:
        retention: Fraction of the training images without a minority object that is kept, in [0, 1]; drawn
            once per seed, without replacement. 0 keeps only images with a minority object.
        sampler_power: An image is drawn with probability proportional to the largest, over the classes in it,
            of image frequency ^ -power, in [0, 1]. 0 is uniform without replacement, 1 class-balanced.
        repeat_threshold: An image is drawn with probability proportional to the largest, over the classes in
            it, of max(1, sqrt(threshold / image frequency)), in [0, 1]; LVIS v2, App. B.2. Unlike a power it
            leaves classes alone that at least this share of the images holds. 0 is off.
        max_repeat: Cap on how much more often than uniformly an image may be drawn, >= 1.
        defer: How much of the correction goes over from the draws to the loss during training, in [0, 1], as
            `Strategy.at` defines it: linearly, where Cao et al. 2019 (deferred re-weighting) take one step.
            A classifier's.
    """

    retention: float = Field(1.0, ge=0, le=1)
    sampler_power: float = Field(0.0, ge=0, le=1)
    repeat_threshold: float = Field(0.0, ge=0, le=1)
    max_repeat: float = Field(30.0, ge=1)
    defer: float = Field(0.0, ge=0, le=1)

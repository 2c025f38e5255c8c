"""What is transformed, for whom, how strongly. 0 means *off*."""

from pydantic import Field

from spaces.frozen import Frozen


class Augmentation(Frozen):
    """Strengths of the trainable's own list of transforms (rotation, brightness and contrast, colour, crop).

    Attributes:
        augment_minority: Strength for training images that hold a minority object, in [0, 1].
        augment_rest: Strength for all other training images, in [0, 1].
    """

    augment_minority: float = Field(0.0, ge=0, le=1)
    augment_rest: float = Field(0.0, ge=0, le=1)

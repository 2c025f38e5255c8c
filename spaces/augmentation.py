"""What is transformed, for whom, how strongly; and which images are mixed. 0 means *off*."""

from pydantic import Field

from spaces.frozen import Frozen


class Augmentation(Frozen):
    """Strengths of the trainable's own list of transforms, and probabilities of mixing images.

    The last three need boxes, so they are for detection only.

    Attributes:
        augment_minority: Strength for training images that hold a minority object, in [0, 1]: rotation, crop,
            brightness, contrast, and for a detector also flips and the strength of the stain.
        augment_rest: Strength for all other training images, in [0, 1].
        copy_paste: Probability that minority objects of other training images are pasted into an image, in
            [0, 1]; Ghiasi et al. 2021, here by boxes.
        mosaic: Probability that an image becomes a part of four, in [0, 1]; Bochkovskiy et al. 2020.
        mixup: Probability that an image is blended with another, in [0, 1]; Zhang et al. 2018.
    """

    augment_minority: float = Field(0.0, ge=0, le=1)
    augment_rest: float = Field(0.0, ge=0, le=1)
    copy_paste: float = Field(0.0, ge=0, le=1)
    mosaic: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0, le=1)

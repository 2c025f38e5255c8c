"""What is transformed, for whom, how strongly; and which images are mixed. 0 means *off*."""

from typing import Annotated

from pydantic import Field

from spaces.frozen import LATER, Frozen

MOST_COPIES, MOST_VARIANTS = 8, 64


class Augmentation(Frozen):
    """Strengths of the trainable's own list of transforms, and probabilities of mixing images.

    All but the first two are for detection only: they need boxes.

    Attributes:
        augment_minority: Strength for training images that hold a minority object, in [0, 1]: rotation, crop,
            brightness, contrast, and for a detector also flips and the strength of the stain.
        augment_rest: Strength for all other training images, in [0, 1].
        copy_paste: Probability that minority objects of other training images are pasted into an image, in
            [0, 1]; Ghiasi et al. 2021, here by boxes.
        mosaic: Probability that an image becomes a part of four, in [0, 1]; Bochkovskiy et al. 2020.
        mixup: Probability that an image is blended with another, in [0, 1]; Zhang et al. 2018.
        pretile_copies: Where tiles of whole images are trained on: so many copies are made of each whole
            training image that holds a minority object. Each is augmented as a whole, with strength
            `augment_minority`, and cut as the whole images were; those of its tiles that hold a minority
            object join the training tiles. While it is not 0, `augment_minority` acts there alone: a tile
            that holds a minority object, of an original or of a copy, is drawn as it is. With strength 0 the
            copies are duplicates. 0 is off.
        pretile_fresh: 1: whenever a tile of a copy is drawn, its whole image is augmented anew, and one of
            the tiles that then hold a minority object is shown; how often copies are drawn stays as it is.
            0: the copies are fixed.
        augment_variants: Of what is augmented when it is drawn: 0 is another transform at each draw; n is n
            fixed ones for each image, of which each draw takes one. What copy-paste adds stays fresh, and so
            do the shift, scale, flip and colour that all strategies of a detector have in common.
    """

    augment_minority: float = Field(0.0, ge=0, le=1)
    augment_rest: float = Field(0.0, ge=0, le=1)
    copy_paste: float = Field(0.0, ge=0, le=1)
    mosaic: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0, le=1)
    pretile_copies: Annotated[int, LATER, Field(ge=0, le=MOST_COPIES)] = 0
    pretile_fresh: Annotated[int, LATER, Field(ge=0, le=1)] = 0
    augment_variants: Annotated[int, LATER, Field(ge=0, le=MOST_VARIANTS)] = 0

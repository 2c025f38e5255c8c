"""How a run's steps are divided between models. 0 means *off*: one model learns all classes."""

from typing import Self

from pydantic import Field, model_validator

from spaces.frozen import Frozen

LEAST, MOST = 0.2, 0.7  # of the steps, for the model of the minority


class Division(Frozen):
    """Two models in the place of one, fused late: each finds the classes that it has learnt.

    Attributes:
        dual_share: Share of the steps, in whole epochs, for a model that learns the minority's classes alone;
            0, or from 0.2 to 0.7. Before it, with the rest of the steps, another one learns all others. Both
            see all training images; what has no label for a model is background to it. The strategy's other
            knobs are the minority model's; the other draws images as they come and does nothing about the
            imbalance. For a detector. In a study file `dual_share: {choices: [0, 0.3, 0.5]}`.
    """

    dual_share: float = Field(0.0, ge=0, le=MOST)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if 0 < self.dual_share < LEAST:
            raise ValueError(f"dual_share is 0, or from {LEAST:g} to {MOST:g}, got {self.dual_share:g}")
        return self

"""The ways of making what was found on tiles into what is on the whole image, by name.

Apart from the other values, so that a bundle can carry what merges without what describes runs.
"""

from typing import Literal

Merging = Literal["core", "nms", "ios", "wbf", "joined", "none"]  # what each is: `evaluation.merging`

"""Confusion matrices of a classifier, side by side: what is shown, and its drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from search.show.pictures.saving import save
from trainables.contract.predictions import ClassificationPredictions, Floats
from trainables.evaluation.classification import confusion_matrix

MOST_NUMBERED = 14  # classes; of more the numbers in the cells could not be read
PANEL_INCH, CELL_INCH = 2.2, 0.3
DARK = 0.55  # shares above it are written in white


@dataclass(frozen=True)
class ConfusionPicture:
    """What a picture of confusion matrices shows.

    Attributes:
        name: Of the study.
        class_names: In class-id order; those of the minority are marked.
        panels: Title, and the share of the images of each class (rows) that are called each class, (C, C);
            a row of nan where a class has no image.
    """

    name: str
    class_names: tuple[str, ...]
    panels: tuple[tuple[str, Floats], ...]


def confusion_picture(
    name: str, minority: Sequence[str], stored: Sequence[tuple[str, ClassificationPredictions]]
) -> ConfusionPicture:
    """What to draw of predictions on the same images; decided as trained, without tuned biases."""
    names = stored[0][1].class_names.tolist()
    return ConfusionPicture(
        name=name,
        class_names=tuple(f"{one} *" if one in minority else one for one in names),
        panels=tuple((title, confusion_matrix(one)) for title, one in stored),
    )


def draw_confusion(picture: ConfusionPicture, path: Path) -> None:
    """Write the picture; `path` as of `saving.save`."""
    save(lambda: _figure(picture), path)


def _figure(picture: ConfusionPicture) -> Figure:
    side = PANEL_INCH + CELL_INCH * min(len(picture.class_names), 2 * MOST_NUMBERED)
    figure = Figure(figsize=(side * len(picture.panels), side), facecolor="white", layout="constrained")
    grid = figure.subplots(1, len(picture.panels), squeeze=False)
    for axes, (title, shares) in zip(grid.flat, picture.panels, strict=True):
        _draw(axes, title, shares, picture.class_names)
    figure.suptitle(
        f"{picture.name}: share of each class's images that is called …, on val; * minority",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def _draw(axes: Axes, title: str, shares: Floats, names: Sequence[str]) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("called", fontsize=8)
    axes.set_ylabel("is", fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    if len(names) > MOST_NUMBERED:
        return
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:  # neither of nan nor of what would be .00
            colour = "white" if share > DARK else "black"
            said = f"{share:.2f}".removeprefix("0")
            axes.text(column, row, said, fontsize=6, ha="center", va="center", color=colour)

"""How a figure becomes a file, and its colours. The same values give the same file.

Matplotlib is used in this folder alone, by its object interface: no pyplot, no display, no state.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spaces.errors import UsageError

# Okabe and Ito's colours, which colour-blind people tell apart; shapes say the same.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
MORE_COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#8C564B")


def save(figure: Callable[[], Figure], path: Path) -> None:
    """Write a figure.

    Args:
        figure: Makes it.
        path: Ends in `.svg` or `.png`.

    Raises:
        UsageError: It ends in something else, or cannot be written.
    """
    if path.suffix not in {".svg", ".png"}:
        raise UsageError(f"a picture is written as .svg or .png, got {path.name}")
    # Without a salt the ids in an SVG, and without this the date, differ from file to file.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "rarecall", "font.family": "DejaVu Sans"}):
        made = figure()
        try:
            made.savefig(path, dpi=150, metadata=metadata)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def tidy(axes: Axes, title: str, better: str) -> None:
    """What all our panels have in common: a title, which way is better, a grid and few spines."""
    axes.set_title(title, fontsize=10, fontweight="bold", loc="left", pad=18)
    axes.annotate(
        better,
        (0, 1),
        (0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7.5,
        color="#555555",
    )
    axes.tick_params(labelsize=8)
    axes.grid(color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)

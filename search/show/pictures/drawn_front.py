"""A front, drawn."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from search.show.pictures.front import FrontPicture, FrontPoint, Group
from search.show.pictures.saving import BLUE, GREY, ORANGE, save, tidy

INCHES = (6.4, 5.0)
STYLE: dict[Group, dict[str, Any]] = {
    "best": {"marker": "D", "s": 36, "color": BLUE, "label": "front", "zorder": 4},
    "dominated": {"marker": "o", "s": 22, "color": GREY, "alpha": 0.6, "label": "dominated", "zorder": 2},
    "infeasible": {"marker": "x", "s": 26, "color": ORANGE, "label": "breaks a guard", "zorder": 2},
}


def draw_front(picture: FrontPicture, path: Path) -> None:
    """Write the picture; `path` as of `saving.save`."""
    save(lambda: front_figure(picture), path)


def front_figure(picture: FrontPicture) -> Figure:
    """The picture; its file is made of it by whoever wants one."""
    figure = Figure(figsize=INCHES, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for group, style in STYLE.items():
        points = [point for point in picture.points if point.group == group]
        if points:
            x, y = zip(*(point.at for point in points), strict=True)
            axes.scatter(x, y, **style)
    _step(axes, [point for point in picture.points if point.group == "best"])
    for point in picture.points:
        _name(axes, point)
    _baseline(axes, picture)
    for limit in picture.limits:
        line = axes.axhline if limit.axis else axes.axvline
        line(limit.value, color=ORANGE, linewidth=1, linestyle=(0, (4, 3)), label=f"guard: {limit.words}")
    tidy(axes, f"{picture.name}: front", "up and right is better")
    axes.set_xlabel(picture.objectives[0], fontsize=9)
    axes.set_ylabel(picture.objectives[1], fontsize=9)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    if picture.remarks:
        axes.annotate(
            "\n".join(picture.remarks),
            (1, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            fontsize=7,
            color=GREY,
        )
    return figure


def _step(axes: Axes, front: list[FrontPoint]) -> None:
    """The edge of what the front dominates."""
    if len(front) > 1:
        x, y = zip(*sorted(point.at for point in front), strict=True)
        axes.step(x, y, where="pre", color=BLUE, linewidth=0.8, alpha=0.6, zorder=3)


def _name(axes: Axes, point: FrontPoint) -> None:
    if point.recommended:
        axes.scatter(
            *point.at, marker="*", s=170, color=BLUE, edgecolors="black", label="recommended", zorder=5
        )
    if point.recommended or point.group == "best":
        axes.annotate(str(point.number), point.at, (6, 5), textcoords="offset points", fontsize=8, zorder=6)


def _baseline(axes: Axes, picture: FrontPicture) -> None:
    """Its mean, its seeds, and one sd to each side."""
    if picture.seeds:
        x, y = zip(*picture.seeds, strict=True)
        axes.scatter(x, y, marker="o", s=16, facecolors="none", edgecolors="black", label="baseline's seeds")
    if picture.baseline is not None:
        sd = (None, None) if picture.spread is None else picture.spread
        axes.errorbar(
            *picture.baseline,
            xerr=sd[0],
            yerr=sd[1],
            fmt="s",
            color="black",
            markersize=5,
            linewidth=1,
            label="baseline: mean ± sd",
            zorder=4,
        )

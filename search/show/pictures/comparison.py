"""A comparison as a picture. What it shows is computed apart from drawing it."""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from search.judging.comparison import ArmResult, Comparison, is_better
from search.show.comparison import MARK, caption, details
from search.show.pictures.saving import BLUE, GREY, ORANGE, save
from trainables.contract.tasks import LOWER_IS_BETTER

Mark = Literal["reference", "better", "worse", "unclear", "unclaimed"]

COLOUR: dict[Mark, str] = {
    "reference": "black",
    "better": BLUE,
    "worse": ORANGE,
    "unclear": GREY,
    "unclaimed": GREY,
}
SHAPE: dict[Mark, str] = {"reference": "o", "better": "D", "worse": "s", "unclear": "o", "unclaimed": "o"}
_DETAIL: dict[str, Any] = {"fontsize": 7, "color": GREY, "va": "center"}

ROW_INCH = 0.42
PANEL_INCH = 2.7
GAP_INCH = 0.3
LETTER_INCH = 0.085  # of a label in 9 points, wide enough for any
LINE_INCH = 0.17  # of the caption, in 7.5 points
CAPTION_LETTER_INCH = 0.06
HEAD_INCH = 0.6
LEGEND_INCH, LEGEND_ROW_INCH = 1.8, 0.22  # room for an entry
AXIS_INCH = 0.45


@dataclass(frozen=True)
class Point:
    """One arm in one panel.

    Attributes:
        mean: None if it cannot be told.
        interval: Of the mean, 95 %; None if it cannot be told.
        seeds: Each seed's value.
        mark: Which way the arm differs from the reference, in the deciding metric; `unclear` if it does not
            or in another metric, `unclaimed` if no gain is claimed of it.
    """

    mean: float | None
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]
    mark: Mark


@dataclass(frozen=True)
class Panel:
    """One metric: a point per arm.

    Attributes:
        metric: Its name.
        lower_is_better: Which way is up.
        reference: The reference's mean; None if it cannot be told.
        points: In the order of the picture's arms.
    """

    metric: str
    lower_is_better: bool
    reference: float | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class ComparisonPicture:
    """What the picture of a comparison shows.

    Attributes:
        labels: Two lines per arm, from the top: its name, and seeds and exposure.
        panels: One per metric.
        reference: Name of the reference.
        caption: Lines of text below.
    """

    labels: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    reference: str
    caption: tuple[str, ...]


def comparison_picture(comparison: Comparison) -> ComparisonPicture:
    """What to draw of a comparison."""
    return ComparisonPicture(
        labels=tuple(
            (f"{arm.name} {MARK}" if arm.differs else arm.name, details(arm)) for arm in comparison.arms
        ),
        panels=tuple(_panel(comparison, metric) for metric in comparison.metrics),
        reference=comparison.reference,
        caption=tuple(caption(comparison)),
    )


def _panel(comparison: Comparison, metric: str) -> Panel:
    means = {arm.name: arm.measured[metric].mean.value for arm in comparison.arms}
    return Panel(
        metric=metric,
        lower_is_better=metric in LOWER_IS_BETTER,
        reference=means[comparison.reference],
        points=tuple(_point(comparison, arm, metric) for arm in comparison.arms),
    )


def _point(comparison: Comparison, arm: ArmResult, metric: str) -> Point:
    measured = arm.measured[metric]
    return Point(
        mean=measured.mean.value,
        interval=measured.mean.interval,
        seeds=measured.values,
        mark=_mark(comparison, arm, metric),
    )


def _mark(comparison: Comparison, arm: ArmResult, metric: str) -> Mark:
    if arm.name == comparison.reference:
        return "reference"
    gain = arm.measured[metric].gain
    if gain is None or gain.value is None:
        return "unclaimed"
    if metric != comparison.deciding or not arm.differs:
        return "unclear"
    return "better" if is_better(metric, gain.value) else "worse"


def draw_comparison(picture: ComparisonPicture, path: Path) -> None:
    """Write the picture; `path` as of `saving.save`."""
    save(lambda: _figure(picture), path)


def _figure(picture: ComparisonPicture) -> Figure:
    n = len(picture.panels)
    gutter = LETTER_INCH * max(len(text) for label in picture.labels for text in label) + 0.1
    width = gutter + n * (PANEL_INCH + GAP_INCH)
    lines = [
        part for line in picture.caption for part in textwrap.wrap(line, int(width / CAPTION_LETTER_INCH))
    ]
    rows, foot = ROW_INCH * len(picture.labels), AXIS_INCH + LINE_INCH * len(lines)
    handles, columns = _legend(picture), max(1, int(width / LEGEND_INCH))
    height = LEGEND_ROW_INCH * math.ceil(len(handles) / columns) + HEAD_INCH + rows + foot
    figure = Figure(figsize=(width, height), facecolor="white")
    for i, panel in enumerate(picture.panels):
        left = gutter + i * (PANEL_INCH + GAP_INCH)
        axes = figure.add_axes((left / width, foot / height, PANEL_INCH / width, rows / height))
        _draw_panel(axes, panel)
        if i == 0:
            _label_rows(axes, picture.labels)
    figure.text(0.1 / width, 0.1 / height, "\n".join(lines), fontsize=7.5, va="bottom", linespacing=1.4)
    figure.legend(handles=handles, loc="upper left", ncols=columns, fontsize=8, frameon=False)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    if panel.reference is not None:
        axes.axvline(panel.reference, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for row, point in enumerate(panel.points):
        _draw_point(axes, row, point)
    axes.set_ylim(len(panel.points) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_title(panel.metric, fontsize=10, fontweight="bold", pad=18)
    better = "← lower is better" if panel.lower_is_better else "higher is better →"
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
    axes.annotate(better, (0.5, 1), (0, 6), fontsize=7.5, color="#555555", **above)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _draw_point(axes: Axes, row: int, point: Point) -> None:
    colour = COLOUR[point.mark]
    below = [row + 0.22] * len(point.seeds)
    axes.scatter(point.seeds, below, s=14, color=colour, alpha=0.35, linewidths=0, zorder=2)
    if point.interval is not None:
        axes.hlines(row, *point.interval, color=colour, linewidth=1.6, zorder=3)
    if point.mean is None:
        axes.text(0.5, row, "not measured", transform=axes.get_yaxis_transform(), **_DETAIL, ha="center")
    else:
        axes.plot(point.mean, row, zorder=4, **_marker(point.mark))


def _marker(mark: Mark) -> dict[str, Any]:
    face = "white" if mark == "unclaimed" else COLOUR[mark]
    return {"marker": SHAPE[mark], "markersize": 6, "color": COLOUR[mark], "markerfacecolor": face}


def _label_rows(axes: Axes, labels: tuple[tuple[str, str], ...]) -> None:
    beside = axes.get_yaxis_transform()
    for row, (name, detail) in enumerate(labels):
        axes.text(-0.04, row - 0.2, name, transform=beside, fontsize=9, va="center", ha="right")
        axes.text(-0.04, row + 0.2, detail, transform=beside, **_DETAIL, ha="right")


def _legend(picture: ComparisonPicture) -> list[Line2D]:
    """Of the marks that are there, and of what a line and a faint dot are."""
    words: dict[Mark, str] = {
        "reference": f"{picture.reference} (dashed: its mean)",
        "better": f"better {MARK}",
        "worse": f"worse {MARK}",
        "unclear": "mean",
        "unclaimed": "mean, no gain claimed",
    }
    marks = {point.mark for panel in picture.panels for point in panel.points}
    grey = COLOUR["unclear"]
    return [
        *(
            Line2D([], [], linestyle="", label=words[mark], **_marker(mark))
            for mark in words
            if mark in marks
        ),
        Line2D([], [], color=grey, linewidth=1.6, label="95% interval of the mean"),
        Line2D([], [], linestyle="", marker="o", markersize=4, alpha=0.35, color=grey, label="a seed"),
    ]

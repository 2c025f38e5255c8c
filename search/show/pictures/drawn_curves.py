"""Learning curves, drawn."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search.show.pictures.curves import Curve, CurvesPanel, CurvesPicture
from search.show.pictures.saving import MORE_COLOURS, save, tidy

PANEL_INCHES = (3.4, 2.9)
LEGEND_INCH = 0.7
COLUMNS = 3
DASHES = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 2, 1, 2)))


def draw_curves(picture: CurvesPicture, path: Path) -> None:
    """Write the picture, of one panel at least; `path` as of `saving.save`."""
    save(lambda: curves_figure(picture), path)


def curves_figure(picture: CurvesPicture) -> Figure:
    """The picture; its file is made of it by whoever wants one."""
    columns = 2 if len(picture.panels) == 4 else min(COLUMNS, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    size = (max(2, columns) * PANEL_INCHES[0], rows * PANEL_INCHES[1] + LEGEND_INCH)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, picture.panels, strict=False):
        _draw(axes, panel, picture)
    for axes in grid[len(picture.panels) :]:
        axes.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, fontsize=8, frameon=False)
    more = f"; {picture.left_out} more on the front" if picture.left_out else ""
    figure.suptitle(f"{picture.name}: learning, on val{more}", fontsize=10, x=0.01, ha="left")
    return figure


def _draw(axes: Axes, panel: CurvesPanel, picture: CurvesPicture) -> None:
    band = panel.baseline
    if band is not None:
        low = [mean - sd for mean, sd in zip(band.mean, band.sd, strict=True)]
        high = [mean + sd for mean, sd in zip(band.mean, band.sd, strict=True)]
        label = f"baseline: mean ± sd of {picture.seeds} seeds" if picture.seeds > 1 else "baseline"
        axes.fill_between(band.epochs, low, high, color="#bbbbbb", alpha=0.6, linewidth=0)
        axes.plot(band.epochs, band.mean, color="black", linewidth=1.4, label=label)
    for i, curve in enumerate(panel.curves):
        _draw_curve(axes, curve, i)
    tidy(axes, panel.metric, "lower is better" if panel.lower_is_better else "higher is better")
    axes.set_xlabel(f"epoch of {picture.steps} steps", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_curve(axes: Axes, curve: Curve, number: int) -> None:
    label = f"{curve.label} (recommended)" if curve.recommended else curve.label
    axes.plot(
        curve.epochs,
        curve.values,
        color=MORE_COLOURS[number % len(MORE_COLOURS)],
        linestyle=DASHES[number % len(DASHES)],
        linewidth=2.2 if curve.recommended else 1.2,
        marker="o",
        markersize=2.5,
        label=label,
    )
